"""A collector without a network: requests go straight into the ASGI application, events into a real log file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from collector.http import make_app
from collector.settings import CollectorSettings, WriteKey
from collector.sinks.sqlite import SqliteSink
from tests.asgi_client import Client

NOW = 1_795_288_859_000
"""2026-11-21, the collector's clock in these tests, UTC milliseconds."""

KEYS = (
    WriteKey(name="web", key=SecretStr("pk")),
    WriteKey(name="ledger", key=SecretStr("sk"), trusted=True),
    WriteKey(name="shop", key=SecretStr("pk-shop"), origins=("https://shop.example",)),
    WriteKey(name="demo", key=SecretStr("demo"), demo=True),
)


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    path = tmp_path / "log.db"
    sink = SqliteSink.open(path, partitions=4, log_id="test", clock=lambda: NOW)
    registry = CollectorRegistry()
    app = make_app(CollectorSettings(keys=KEYS, linger_ms=0), sink, lambda: NOW, registry=registry)
    yield Client(app, path, registry)
    await app.close()
    await sink.close()
    assert registry.get_sample_value("phasewatch_collector_faults_total") == 0
