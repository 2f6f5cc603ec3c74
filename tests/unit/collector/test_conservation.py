"""received = accepted + duplicate + rejected + failed, for every source and whatever happens to a request."""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from collector.http import make_app
from collector.settings import CollectorSettings
from collector.sinks.sqlite import SqliteSink
from tests.asgi_client import Client
from tests.unit.collector.conftest import KEYS, NOW

NAMES = {"pk": "web", "sk": "ledger"}
KINDS = ("accepted", "duplicate", "rejected", "failed")


@contextmanager
def without_a_log(path: Path) -> Iterator[None]:
    """Let every write fail as long as the block runs: its table is elsewhere."""
    with closing(sqlite3.connect(path)) as other:
        other.execute("ALTER TABLE records RENAME TO elsewhere")
        yield
        other.execute("ALTER TABLE elsewhere RENAME TO records")


def counted(client: Client, source: str) -> Counter[str]:
    """Return the source's counters, the rejected ones of all reasons together."""
    found: Counter[str] = Counter()
    for metric in client.registry.collect():
        for one in metric.samples:
            kind = one.name.removeprefix("phasewatch_collector_events_").removesuffix("_total")
            if one.labels.get("source") == source and kind in (*KINDS, "received"):
                found[kind] += int(one.value)
    return found


def request(rng: random.Random, known: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return new events, repeats, some twice in one request, and some that are none."""
    events = []
    for _ in range(rng.randrange(1, 8)):
        good = {"id": str(rng.getrandbits(64)), "type": "page", "user_id": str(rng.randrange(5))}
        known.append(good)
        events.append(rng.choice([good, good, rng.choice(known), {"type": "page"}]))
    return events


@pytest.mark.parametrize("seed", range(5))
async def test_every_event_is_counted_once(client: Client, seed: int) -> None:
    rng = random.Random(seed)
    sent: Counter[str] = Counter()
    answered: dict[str, Counter[str]] = {name: Counter() for name in NAMES.values()}
    known: list[dict[str, Any]] = []
    for _ in range(40):
        key, events = rng.choice(list(NAMES)), request(rng, known)
        name, headers = NAMES[key], {"authorization": f"Bearer {key}"}
        sent[name] += len(events)
        with without_a_log(client.path) if rng.random() < 0.3 else nullcontext():
            answer = await client.post(events, headers=headers)
        told = answer.json if answer.status == HTTPStatus.OK else {"failed": len(events)}
        answered[name].update({kind: told.get(kind, 0) for kind in KINDS})
    for name, found in answered.items():
        counts = counted(client, name)
        assert counts["received"] == sent[name] == sum(counts[kind] for kind in KINDS)
        assert {kind: counts[kind] for kind in KINDS} == {kind: found[kind] for kind in KINDS}
        assert all(found[kind] for kind in KINDS)
    assert len(client.events()) == sum(found["accepted"] for found in answered.values())


async def test_what_finds_no_room_has_failed(tmp_path: Path) -> None:
    """Requests that wait for the log have filled the room; nothing of the one that comes next was taken."""
    path = tmp_path / "log.db"
    sink = SqliteSink.open(path, partitions=4, log_id="test", clock=lambda: NOW)
    registry = CollectorRegistry()
    settings = CollectorSettings(keys=KEYS, linger_ms=50, queue_bytes=1 << 20)
    client = Client(make_app(settings, sink, lambda: NOW, registry=registry), path, registry)
    large = [{"type": "page", "user_id": "1", "properties": {"text": "x" * 60_000}}] * 10 + [{"type": "page"}]
    body = json.dumps(large).encode()
    answers = await asyncio.gather(*(client.post(body) for _ in range(3)))
    await client.app.close()
    await sink.close()
    assert sorted(answer.status for answer in answers) == [200, 503, 503]
    assert +counted(client, "web") == {"received": 33, "accepted": 10, "rejected": 1, "failed": 22}


async def test_a_request_that_is_not_waited_for_any_longer_has_failed(client: Client) -> None:
    """Its events may be durable; whoever sent them was not told so."""
    with closing(sqlite3.connect(client.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # a write waits for this
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await client.post([{"type": "page", "user_id": "1"}] * 3)
        other.execute("ROLLBACK")
    assert +counted(client, "web") == {"received": 3, "failed": 3}
