"""Requests recorded from real SDKs, sent through the public port at a fixed clock, against what must become of them.

A file of `recorded/` holds the requests of one SDK and version. Each says its own clock (`now`, when it was received),
and its events as they stand in the log, the reasons of rejected ones, and the answer.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from collector.http import make_app
from collector.settings import CollectorSettings, WriteKey
from collector.sinks.sqlite import SqliteSink
from collector.wire.block import encode_event
from tests.asgi_client import Client

RECORDED = sorted((Path(__file__).parent / "recorded").glob("*.json"))


def requests() -> Iterator[Any]:
    for file in RECORDED:
        recorded = json.loads(file.read_text("utf-8"))
        for number, one in enumerate(recorded["requests"], start=1):
            yield pytest.param(recorded["key"], one, id=f"{file.stem}-{number:02}")


def body_of(request: dict[str, Any]) -> bytes:
    return request["text"].encode() if "text" in request else base64.b64decode(request.get("base64", ""))


@pytest.mark.parametrize(("key", "one"), list(requests()))
async def test_a_recorded_request(tmp_path: Path, key: str, one: dict[str, Any]) -> None:
    now, request = one["now"], one["request"]
    sink = SqliteSink.open(tmp_path / "log.db", partitions=1, log_id="test", clock=lambda: now)
    settings = CollectorSettings(keys=(WriteKey(name="web", key=SecretStr(key)),), linger_ms=0)
    registry = CollectorRegistry()
    client = Client(make_app(settings, sink, lambda: now, registry=registry), tmp_path / "log.db", registry)
    answer = await client.send(
        request["method"],
        request["path"],
        body_of(request),
        headers=request["headers"],
        query=request.get("query", "").encode(),
    )
    await client.app.close()
    await sink.close()
    assert [json.loads(encode_event(event)) for event in client.events()] == one.get("events", [])
    rejected = [{"index": found["index"], "reason": found["reason"]} for found in client.rejected()]
    assert rejected == one.get("rejected", [])
    expected = one["answer"]
    assert answer.status == expected["status"]
    assert {name: answer.headers.get(name) for name in expected.get("headers", {})} == expected.get("headers", {})
    if "json" in expected:
        assert answer.json == expected["json"]
    elif "base64" in expected:
        assert answer.body == base64.b64decode(expected["base64"])
