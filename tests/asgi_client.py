"""Sends requests into the collector's ASGI application without a network, events into a real log file."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from collector.http import CollectorApp
from collector.wire.block import decode_events
from collector.wire.event import Event


@dataclass
class Response:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Client:
    """Sends requests to an ASGI application as a server would."""

    app: CollectorApp
    path: Path
    registry: CollectorRegistry
    default_headers: dict[str, str] = field(default_factory=lambda: {"authorization": "Bearer pk"})
    address: str | None = None

    async def send(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        headers: Mapping[str, str] | None = None,
        query: bytes = b"",
        chunks: int = 1,
    ) -> Response:
        given = self.default_headers if headers is None else headers
        size = max(1, -(-len(body) // chunks))
        parts = [body[at : at + size] for at in range(0, len(body), size)] or [b""]
        messages = [
            {"type": "http.request", "body": part, "more_body": at < len(parts) - 1} for at, part in enumerate(parts)
        ]
        sent: list[Any] = []

        async def receive() -> Any:
            return messages.pop(0) if messages else await asyncio.Future()

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query,
            "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in given.items()],
        }
        if self.address is not None:
            scope["client"] = (self.address, 50_000)
        await self.app(scope, receive, send)
        start, rest = sent
        found = {name.decode(): value.decode("latin-1") for name, value in start["headers"]}
        return Response(start["status"], found, rest["body"])

    async def post(self, events: Any, **request: Any) -> Response:
        body = events if isinstance(events, bytes) else json.dumps(events).encode()
        return await self.send("POST", "/v1/events", body, **request)

    def values(self, topic: str) -> list[bytes]:
        connection = sqlite3.connect(self.path)
        try:
            query = "SELECT value FROM records WHERE topic = ? ORDER BY id"
            return [value for (value,) in connection.execute(query, (topic,))]
        finally:
            connection.close()

    def events(self) -> list[Event]:
        return [event for value in self.values("events") for event in decode_events(value)]

    def rejected(self) -> list[Any]:
        return [json.loads(value) for value in self.values("rejected")]

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"phasewatch_collector_{name}", labels) or 0
