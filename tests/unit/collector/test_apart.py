"""Large bodies are read beside the event loop: whoever sends a slow one waits for it alone."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from collector.apart import APART_BYTES, Apart
from collector.errors import OverloadedError
from collector.http import make_app
from collector.settings import CollectorSettings, WriteKey
from collector.sinks.sqlite import SqliteSink
from tests.asgi_client import Client

SLOW_TEXT = "+1" * 4_000
"""Every second character may begin a phone number."""


def slow(number: int) -> dict[str, object]:
    return {"type": "page", "anonymous_id": "slow", "id": f"slow-{number}", "properties": {f"t{number}": SLOW_TEXT}}


async def test_others_are_answered_while_a_slow_body_is_read(tmp_path: Path) -> None:
    path, registry = tmp_path / "log.db", CollectorRegistry()
    sink = SqliteSink.open(path, partitions=2, log_id="test", clock=lambda: 1)
    settings = CollectorSettings(keys=(WriteKey(name="web", key=SecretStr("pk")),), linger_ms=0)
    client = Client(make_app(settings, sink, lambda: 1, registry=registry), path, registry)
    answered = 0
    body = json.dumps([slow(number) for number in range(200)]).encode()
    assert len(body) > APART_BYTES

    async def others() -> None:
        nonlocal answered
        while not large.done():
            answer = await client.post([{"type": "page", "anonymous_id": "quick", "id": f"quick-{answered}"}])
            answered += answer.status == 200

    large = asyncio.create_task(client.post(body))
    await asyncio.wait_for(others(), 60)
    assert large.result().json["accepted"] == 200
    assert answered > 20, "in the time of one that takes a second"
    assert len(client.events()) == 200 + answered
    await client.app.close()
    await sink.close()


async def test_what_waits_is_bounded_and_one_may_always_wait() -> None:
    apart = Apart(10)
    first = asyncio.create_task(apart.run(1000, lambda: time.sleep(0.05)))
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError, match="1000 bytes of large bodies wait to be read; the limit is 10"):
        await apart.run(1, lambda: None)
    await first
    await apart.run(1, lambda: None)
    with pytest.raises(ZeroDivisionError):
        await apart.run(1, lambda: 1 // 0)
    await apart.run(1, lambda: None)
    apart.close()
