"""Logging in and out: a form, and what follows from it."""

from __future__ import annotations

import asyncio
import hmac
import re
from collections.abc import Callable, Sequence
from html import escape
from http import HTTPStatus
from importlib.resources import files
from math import ceil
from typing import Final
from urllib.parse import parse_qs

import structlog
from fastapi import FastAPI, Request
from prometheus_client import CollectorRegistry
from starlette.requests import ClientDisconnect
from starlette.responses import HTMLResponse, RedirectResponse, Response

from console.door import LOGIN_PATH, VISIT, Visit, cookie_name
from console.metrics import LOGINS
from console.passwords import is_password, new_token
from console.sessions import Sessions
from console.settings import ConsoleUser
from console.throttle import Throttle

FORM_BYTES: Final = 8192
FORM_SECONDS: Final = 10
"""Until a form has arrived."""
TRIES: Final = 10
ADDRESS_REFILL_SECONDS: Final = 60.0
"""An address has 10 tries, then one a minute: 1,450 a day."""
USER_REFILL_SECONDS: Final = 30.0
"""A name has 10 tries, then one in 30 s from wherever: 2,900 a day, nothing beside what 12 characters can be."""
MOST_ADDRESSES: Final = 10_000
MOST_UNKNOWN_NAMES: Final = 10_000
NAME_CHARACTERS: Final = 64
"""As many as a user's name can have: more of what is typed are not remembered."""
MOST_WAITING: Final = 10
"""Tries that wait for the one that is hashed: 3 s; more are refused as throttled."""
_FORM_COOKIE: Final = "-form"
_FORM_COOKIE_SECONDS: Final = 3600
_FORM_TOKEN: Final = re.compile("[A-Za-z0-9_-]{43}")

_WRONG: Final = "Name or password is wrong."
_STALE: Final = "The form was too old. Try again."
_TOO_OFTEN: Final = "Too many attempts. Try again in {} s."

_logger = structlog.get_logger(__name__)


class Login:
    """The routes' functions.

    Args:
        users: who may log in.
        sessions: where a login is kept.
        seconds: returns a time that only goes on.
        registry: where attempts are counted.
    """

    def __init__(
        self,
        users: Sequence[ConsoleUser],
        sessions: Sessions,
        seconds: Callable[[], float],
        registry: CollectorRegistry,
    ) -> None:
        self._hashes = {user.name: user.password_hash.get_secret_value() for user in users}
        self._sessions = sessions
        self._page = files("console").joinpath("page/login.html").read_text("utf-8")
        self._attempts = LOGINS.counter(registry)
        self._addresses = Throttle(
            seconds, burst=TRIES, refill_seconds=ADDRESS_REFILL_SECONDS, most_keys=MOST_ADDRESSES
        )
        # Names that nobody has are throttled like those of users, so that it tells nothing, and push none of them out.
        self._known, self._unknown = (
            Throttle(seconds, burst=TRIES, refill_seconds=USER_REFILL_SECONDS, most_keys=most)
            for most in (len(self._hashes), MOST_UNKNOWN_NAMES)
        )
        self._hashing = asyncio.Lock()
        self._waiting = 0

    async def form(self, request: Request) -> Response:
        """Return the form, or the page itself to whoever is logged in."""
        visit = _visit(request)
        if visit.session is not None:
            return RedirectResponse("/", HTTPStatus.SEE_OTHER)
        return self._answer(request)

    async def log_in(self, request: Request) -> Response:
        """Open a session for the right name and password."""
        visit, sent = _visit(request), await _fields(request)
        expected = _form_token(request)
        if not expected or not hmac.compare_digest(expected.encode(), sent.get("form", "").encode()):
            return self._answer(request, HTTPStatus.FORBIDDEN, _STALE)
        name, password = sent.get("name", ""), sent.get("password", "")
        names, key = self._known if name in self._hashes else self._unknown, name[:NAME_CHARACTERS]
        wait = max(self._addresses.wait_seconds(visit.address), names.wait_seconds(key))
        if wait or self._waiting >= MOST_WAITING:
            self._attempts.labels("throttled").inc()
            answer = self._answer(request, HTTPStatus.TOO_MANY_REQUESTS, _TOO_OFTEN.format(ceil(wait) or 5))
            answer.headers["Retry-After"] = str(ceil(wait) or 5)
            return answer
        self._addresses.take(visit.address)
        names.take(key)
        if not await self._is_right(name, password):
            self._attempts.labels("wrong").inc()
            # What is typed for a name may be a password: only a user's name is logged.
            shown = name if name in self._hashes else None
            _logger.warning("console_login_wrong", user=shown, address=visit.address)
            return self._answer(request, HTTPStatus.FORBIDDEN, _WRONG)
        self._addresses.give_back(visit.address)
        names.give_back(key)
        return self._enter(visit, name)

    async def log_out(self, request: Request) -> Response:
        """End the session, and with it its streams."""
        visit, sent = _visit(request), await _fields(request)
        if visit.session is not None:
            if not hmac.compare_digest(visit.session.form_token.encode(), sent.get("form", "").encode()):
                return self._answer(request, HTTPStatus.FORBIDDEN, _STALE)
            self._sessions.end(visit.token)
            _logger.info("console_logout", user=visit.session.user, address=visit.address)
        answer = RedirectResponse(LOGIN_PATH, HTTPStatus.SEE_OTHER)
        _set_cookie(answer, visit, "", "", seconds=0)
        return answer

    async def _is_right(self, name: str, password: str) -> bool:
        """Hash one password at a time, off the event loop; for a name that nobody has another user's, in vain."""
        hashed = self._hashes.get(name) or next(iter(self._hashes.values()))
        self._waiting += 1
        try:
            async with self._hashing:
                found = await asyncio.to_thread(is_password, password, hashed)
        finally:
            self._waiting -= 1
        return found and name in self._hashes

    def _enter(self, visit: Visit, name: str) -> Response:
        if visit.token:
            self._sessions.end(visit.token)
        answer = RedirectResponse("/", HTTPStatus.SEE_OTHER)
        _set_cookie(answer, visit, "", self._sessions.open(name))
        _set_cookie(answer, visit, _FORM_COOKIE, "", seconds=0)
        self._attempts.labels("ok").inc()
        _logger.info("console_login", user=name, address=visit.address)
        return answer

    def _answer(self, request: Request, status: HTTPStatus = HTTPStatus.OK, message: str = "") -> Response:
        token = _form_token(request) or new_token()  # the same in all tabs
        page = self._page.replace("<!--message-->", escape(message)).replace("<!--form-->", token)
        answer = HTMLResponse(page, status)
        _set_cookie(answer, _visit(request), _FORM_COOKIE, token, seconds=_FORM_COOKIE_SECONDS)
        return answer


def serve_login(app: FastAPI, login: Login) -> None:
    """Serve the form at `/login`, where it is sent, too, and the way out at `/logout`."""
    app.add_api_route(LOGIN_PATH, login.form, include_in_schema=False)
    app.add_api_route(LOGIN_PATH, login.log_in, methods=["POST"], include_in_schema=False)
    app.add_api_route("/logout", login.log_out, methods=["POST"], include_in_schema=False)


def _visit(request: Request) -> Visit:
    visit: Visit = getattr(request.state, VISIT)
    return visit


def _form_token(request: Request) -> str:
    """Return what the form of a login has to bring back, as its cookie says; empty where there is none."""
    found = request.cookies.get(cookie_name(is_secure=_visit(request).is_secure) + _FORM_COOKIE, "")
    return found if _FORM_TOKEN.fullmatch(found) else ""


async def _fields(request: Request) -> dict[str, str]:
    """Return a form's fields; none where it is larger or slower than a form of ours can be."""
    body = b""
    try:
        async with asyncio.timeout(FORM_SECONDS):
            async for part in request.stream():
                body += part
                if len(body) > FORM_BYTES:
                    return {}
    except (TimeoutError, ClientDisconnect):
        return {}
    try:
        found = parse_qs(body.decode("ascii"), max_num_fields=10, keep_blank_values=True)
    except ValueError:
        return {}
    return {name: values[-1] for name, values in found.items()}


def _set_cookie(answer: Response, visit: Visit, suffix: str, value: str, *, seconds: int | None = None) -> None:
    """Set a cookie that no script reads; without `seconds` the browser forgets it when it is closed."""
    # Lax: who follows a link to the console is still logged in, and a form of another site is not sent with it.
    answer.set_cookie(
        cookie_name(is_secure=visit.is_secure) + suffix,
        value,
        max_age=seconds,
        path="/",
        secure=visit.is_secure,
        httponly=True,
        samesite="lax",
    )
