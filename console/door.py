"""The door: every request passes it, and where there are users none gets further without a session or a token."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from prometheus_client import CollectorRegistry
from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from console.callers import Callers, Headers
from console.errors import STATUS, DoorError, LoginNeededError, error_answer
from console.metrics import REFUSED
from console.passwords import hash_token
from console.sessions import Session, Sessions
from console.settings import ConsoleSettings

LOGIN_PATH: Final = "/login"
OPEN_PATHS: Final = frozenset({LOGIN_PATH, "/page/login.css", "/page/icon.svg"})
"""What whoever is to log in has to see."""
_FOR_PROGRAMS: Final = ("/api/", "/openapi.json")
VISIT: Final = "visit"
"""Under which name a request's state has its visit."""


@dataclass(frozen=True, slots=True)
class Visit:
    """What the door knows of one request."""

    address: str
    is_secure: bool
    token: str
    """The session's, as the cookie has it; empty where there is none."""
    session: Session | None
    sessions: Sessions


def cookie_name(*, is_secure: bool) -> str:
    """Return the session cookie's name: with `__Host-` it is taken by TLS and for this host alone (RFC 6265bis)."""
    return "__Host-phasewatch" if is_secure else "phasewatch"


class Door:
    """Lets requests through to an application, each with its `Visit` as `state`.

    Args:
        app: what is behind the door.
        settings: who may enter.
        sessions: who is logged in.
        registry: where refusals are counted.
    """

    def __init__(
        self, app: ASGIApp, *, settings: ConsoleSettings, sessions: Sessions, registry: CollectorRegistry
    ) -> None:
        self._app, self._sessions, self._callers = app, sessions, Callers(settings)
        self._has_users = bool(settings.users)
        self._token_hashes = [one.token_hash.get_secret_value() for one in settings.api_tokens]
        self._refused = REFUSED.counter(registry)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection's scope, as the ASGI specification (version 3) says."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        elif scope["type"] != "http":
            await self._app(scope, receive, send)
        else:
            refusal = self._refusal(scope)
            await (self._app if refusal is None else refusal)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        """Return the answer to a request that does not pass; the others get their visit."""
        try:
            caller = self._callers.check(scope)
            headers: Headers = dict(scope["headers"])
            token = _cookie(scope, cookie_name(is_secure=caller.is_secure)) if self._has_users else ""
            session = self._sessions.find(token) if token else None
            if self._has_users and session is None and not self._may_enter(scope["path"], headers):
                if headers.get(b"sec-fetch-mode") == b"navigate" or b"text/html" in headers.get(b"accept", b""):
                    return RedirectResponse(LOGIN_PATH, HTTPStatus.SEE_OTHER)
                msg = "there is no session, or it is over; programs send Authorization: Bearer TOKEN"
                raise LoginNeededError(msg)
        except DoorError as error:
            status, code, message = STATUS[type(error)]
            self._refused.labels(code).inc()
            return error_answer(status, code, message, str(error))
        visit = Visit(caller.address, caller.is_secure, token, session, self._sessions)
        scope["state"] = {**scope.get("state", {}), VISIT: visit}
        return None

    def _may_enter(self, path: str, headers: Headers) -> bool:
        if path in OPEN_PATHS:
            return True
        scheme, _, sent = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        if scheme.lower() != "bearer" or not path.startswith(_FOR_PROGRAMS):
            return False
        sent_hash = hash_token(sent.strip())
        return any(hmac.compare_digest(sent_hash, known) for known in self._token_hashes)


def _cookie(scope: Scope, name: str) -> str:
    """Return a cookie's value; empty where there is none."""
    return HTTPConnection(scope).cookies.get(name, "")
