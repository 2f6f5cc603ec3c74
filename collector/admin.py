"""The admin port: metrics and readiness, for operators on the inside."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from http import HTTPStatus
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from collector.answer import JSON, Answer, refusal
from collector.asgi import Receive, Scope, Send, run_lifespan, send_answer
from collector.debug_routes import DebugRoutes
from collector.errors import UnknownPathError, WrongMethodError
from collector.metrics import SINK_READY
from collector.sinks.port import Sink

NotReady = Callable[[], Awaitable[str | None]]
"""Returns why a part is not ready, or None."""

NO_STORE: Final = (b"cache-control", b"no-store")


class AdminApp:
    """`GET /metrics` and `GET /readyz` as an ASGI application.

    Args:
        registry: the metrics to show.
        parts: what has to be ready, by name.
        sink_parts: names of those parts that tell whether events can be made durable, for the metric of that.
        notes: what an operator should know of a part that is ready all the same, asked after the parts.
        debug: answers `/debug`, where there is one.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        parts: Mapping[str, NotReady],
        sink_parts: Collection[str] = (),
        notes: Mapping[str, NotReady] | None = None,
        debug: DebugRoutes | None = None,
    ) -> None:
        self._registry = registry
        self._parts = parts
        self._sink_parts = sink_parts
        self._notes = notes or {}
        self._debug = debug
        self._sink_ready = SINK_READY.gauge(registry) if sink_parts else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection's scope, as the ASGI specification (version 3) says."""
        if scope["type"] == "lifespan":
            await run_lifespan(receive, send, _nothing)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        else:
            path = scope["path"]
            if self._debug is not None and path.startswith("/debug"):
                headers = dict(scope["headers"])
                answer = self._debug.answer(scope["method"], path, scope["query_string"], headers)
            else:
                answer = await self._answer(scope["method"], path)
            await send_answer(send, answer)

    async def _answer(self, method: str, path: str) -> Answer:
        if path not in {"/metrics", "/readyz"}:
            return refusal(UnknownPathError("served here: /metrics and /readyz"))
        if method not in {"GET", "HEAD"}:
            answer = refusal(WrongMethodError("allowed: GET, HEAD"))
            answer.headers.append((b"allow", b"GET, HEAD"))
            return answer
        if path == "/metrics":
            if self._sink_ready is not None:
                self._sink_ready.set(not await self._not_ready(self._sink_parts))
            kind = (b"content-type", CONTENT_TYPE_LATEST.encode())
            return Answer(HTTPStatus.OK, generate_latest(self._registry), [kind, NO_STORE])
        return await self._readiness()

    async def _readiness(self) -> Answer:
        not_ready = await self._not_ready(self._parts)
        status = HTTPStatus.SERVICE_UNAVAILABLE if not_ready else HTTPStatus.OK
        body: dict[str, object] = {"ready": not not_ready, "not_ready": not_ready}
        if notes := await _told(self._notes):
            body["notes"] = notes
        return Answer(status, msgspec.json.encode(body), [JSON, NO_STORE])

    async def _not_ready(self, names: Collection[str]) -> dict[str, str]:
        """Return why, for each of these parts that is not ready."""
        return await _told({name: self._parts[name] for name in names})


async def _told(parts: Mapping[str, NotReady]) -> dict[str, str]:
    """Return what those say that say something; all are asked at once, each may take its time."""
    found = await asyncio.gather(*(part() for part in parts.values()))
    return {name: why for name, why in zip(parts, found, strict=True) if why is not None}


async def _nothing() -> None:
    """Nothing is open here."""


def make_admin_app(
    sink: Sink,
    registry: CollectorRegistry,
    parts: Mapping[str, NotReady] | None = None,
    debug: DebugRoutes | None = None,
    notes: Mapping[str, NotReady] | None = None,
) -> AdminApp:
    """Return the admin port's application.

    Args:
        sink: asked whether it can make something durable right now.
        registry: the metrics to show.
        parts: what else must be ready, by name; the answer names what is not.
        debug: answers `/debug`, where there is one.
        notes: what an operator should know of a part that is ready all the same, by name.
    """
    return AdminApp(registry, {"sink": sink.not_ready, **(parts or {})}, sink_parts=["sink"], notes=notes, debug=debug)
