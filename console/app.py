"""The console as an ASGI application: query API and live page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from fastapi import FastAPI

from console.api import Api, make_router
from console.changes import Feed
from console.errors import answer_errors
from console.pages import serve_pages
from console.security import SecurityHeaders
from processors.engine.query import ChangeReader, Query
from processors.wire import StageChange


class ConsoleApp(FastAPI):
    """FastAPI, and in its document the messages of topic `stage-changes`, whose schema their own module declares."""

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        document = super().openapi()
        _, messages = msgspec.json.schema_components([StageChange], ref_template="#/components/schemas/{name}")
        document["components"]["schemas"].update(messages)
        return document


def make_console_app(*, query: Query, changes: ChangeReader, clock: Callable[[], int]) -> FastAPI:
    """Return the console.

    Args:
        query: what can be asked about persons and stages.
        changes: reads stage changes back.
        clock: returns the time now, UTC milliseconds.
    """
    feed = Feed(changes)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        feed.close()

    # No /docs: FastAPI's pages for it fetch scripts from elsewhere.
    app = ConsoleApp(title="Phasewatch query API", version="1", docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.feed = feed
    app.add_middleware(SecurityHeaders)
    answer_errors(app)
    app.include_router(make_router(Api(query, changes, clock, feed)))
    serve_pages(app)
    return app


def end_streams(app: FastAPI) -> None:
    """End the open streams of changes: call it before the server's own stop, which waits for every response to end."""
    app.state.feed.close()
