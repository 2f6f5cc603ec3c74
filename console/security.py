"""Headers that every answer carries: the page runs its own files only, in no frame, and tells nobody where it was."""

from __future__ import annotations

from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_POLICY: Final = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'self'",  # to log in and out
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",  # person ids are other people's input: no text may ever become markup
)

HEADERS: Final = {
    "Content-Security-Policy": "; ".join(_POLICY),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",  # for browsers older than frame-ancestors
    # Not no-referrer, with which browsers send `Origin: null` with a form (Fetch, "append a request Origin header").
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
}
STRICT_TRANSPORT: Final = {"Strict-Transport-Security": "max-age=31536000"}
"""For a year by TLS alone (RFC 6797); over plain HTTP browsers ignore it. Subdomains are others' affair."""


class SecurityHeaders:
    """Adds `HEADERS` to every response of an application, and where it is reached by TLS `STRICT_TRANSPORT`."""

    def __init__(self, app: ASGIApp, *, is_encrypted: bool) -> None:
        self._app = app
        self._headers = HEADERS | (STRICT_TRANSPORT if is_encrypted else {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection's scope, as the ASGI specification (version 3) says."""

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(self._headers)
                headers.setdefault("Cache-Control", "no-store")  # answers are about people
            await send(message)

        await self._app(scope, receive, send_guarded)
