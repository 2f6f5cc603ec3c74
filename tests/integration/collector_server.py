"""A collector behind a real uvicorn on loopback, through ASGI or through the protocol class that does without."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from collector.admin import make_admin_app
from collector.http import make_app
from collector.protocol import ingest_protocol
from collector.settings import CollectorSettings, Limits, WriteKey
from collector.sinks.sqlite import SqliteSink

DEADLINE_SECONDS = 20


@dataclass
class Served:
    public: str
    admin: str
    port: int
    log: Path
    registry: CollectorRegistry
    server: uvicorn.Server

    def lines(self) -> list[bytes]:
        """Return the events that are in the log."""
        connection = sqlite3.connect(self.log)
        try:
            values = connection.execute("SELECT value FROM records WHERE topic = 'events' ORDER BY id").fetchall()
        finally:
            connection.close()
        return [line for (value,) in values for line in value.splitlines()]

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"phasewatch_collector_{name}", labels) or 0


@asynccontextmanager
async def serve_collector(
    folder: Path, *, direct: bool, limits: Limits | None = None, more: Mapping[str, Any] | None = None
) -> AsyncIterator[Served]:
    """Serve one; `direct` is without ASGI, `more` are settings.

    Checks at the end that nothing counted as a fault, and nothing is held.
    """

    def clock() -> int:
        return time.time_ns() // 1_000_000

    path = folder / "log.db"
    sink = SqliteSink.open(path, partitions=8, log_id="test", clock=clock)
    registry = CollectorRegistry()
    keys = (WriteKey(name="web", key=SecretStr("pk")), WriteKey(name="ledger", key=SecretStr("sk"), trusted=True))
    settings = CollectorSettings(keys=keys, limits=limits or Limits(), **(more or {}))
    app = make_app(settings, sink, clock, registry=registry)
    public, admin = _listen(), _listen()
    ports = public.getsockname()[1], admin.getsockname()[1]
    http = ingest_protocol(app) if direct else "auto"
    running = [await _started(app, public, http), await _started(make_admin_app(sink, registry), admin, "auto")]
    yield Served(
        f"http://127.0.0.1:{ports[0]}", f"http://127.0.0.1:{ports[1]}", ports[0], path, registry, running[0][0]
    )
    for server, _ in running:
        server.should_exit = True
    await asyncio.gather(*(task for _, task in running))
    await sink.close()
    public.close()
    admin.close()
    assert registry.get_sample_value("phasewatch_collector_faults_total") == 0
    assert registry.get_sample_value("phasewatch_collector_reading_bytes") == 0


def _listen() -> socket.socket:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    return listener


async def _started(app: Any, listener: socket.socket, http: Any) -> tuple[uvicorn.Server, asyncio.Task[None]]:
    config = uvicorn.Config(
        app,
        http=http,
        log_config=None,
        access_log=False,
        proxy_headers=False,
        ws="none",
        timeout_graceful_shutdown=DEADLINE_SECONDS,
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not server.started:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    return server, task
