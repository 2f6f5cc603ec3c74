"""The console as an ASGI application: query API and live page."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from console.api import Api, make_router
from console.changes import Feed
from console.door import Door, cookie_name
from console.errors import answer_errors
from console.login import Login, serve_login
from console.pages import serve_pages
from console.security import SecurityHeaders
from console.sessions import Sessions
from console.settings import ConsoleSettings
from processors.engine.query import ChangeReader, Query
from processors.wire import StageChange

SECURITY_SCHEMES: Final[dict[str, Any]] = {
    "token": {"type": "http", "scheme": "bearer", "description": "A token of console.api_tokens, for programs."},
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": cookie_name(is_secure=True),
        "description": "What a browser has after logging in; without TLS its name is without `__Host-`.",
    },
}
"""What the API asks for where there are console.users; without, nothing, and it answers on loopback alone."""


class ConsoleApp(FastAPI):
    """FastAPI, and in its document the door, and the messages of topic `stage-changes`, which their module declares."""

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        document = super().openapi()
        document["components"]["securitySchemes"] = SECURITY_SCHEMES
        document["security"] = [{}, *({name: []} for name in SECURITY_SCHEMES)]
        _, messages = msgspec.json.schema_components([StageChange], ref_template="#/components/schemas/{name}")
        document["components"]["schemas"].update(messages)
        return document


def make_console_app(
    *,
    query: Query,
    changes: ChangeReader,
    clock: Callable[[], int],
    settings: ConsoleSettings | None = None,
    seconds: Callable[[], float] = time.monotonic,
    registry: CollectorRegistry | None = None,
) -> FastAPI:
    """Return the console.

    Args:
        query: what can be asked about persons and stages.
        changes: reads stage changes back.
        clock: returns the time now, UTC milliseconds.
        settings: who may enter; without, everybody on this machine.
        seconds: returns a time that only goes on, for sessions.
        registry: where its metrics are shown.
    """
    settings = settings or ConsoleSettings()
    registry = registry or CollectorRegistry()
    feed = Feed(changes)
    sessions = Sessions(seconds, settings.session_idle_minutes * 60, settings.session_hours * 3600, registry)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        feed.close()

    # No /docs: FastAPI's pages for it fetch scripts from elsewhere.
    app = ConsoleApp(title="Phasewatch query API", version="1", docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.feed = feed
    app.add_middleware(Door, settings=settings, sessions=sessions, registry=registry)
    app.add_middleware(SecurityHeaders, is_encrypted=settings.is_encrypted)  # the last is outermost
    answer_errors(app)
    app.include_router(make_router(Api(query, changes, clock, feed)))
    if settings.users:
        serve_login(app, Login(settings.users, sessions, seconds, registry))
    serve_pages(app)
    return app


def end_streams(app: FastAPI) -> None:
    """End the open streams of changes: call it before the server's own stop, which waits for every response to end."""
    app.state.feed.close()
