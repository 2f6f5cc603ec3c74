"""A month of simulated people over a real Kafka and Redis, workers joining and leaving: product and oracle agree."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from bench.simulator import DEFAULT_START, simulate
from deploy.local.services import RedisServer
from tests.agreement import differences
from tests.integration.production import Deployment, Inside, once
from tests.oracle import run

pytestmark = [pytest.mark.services, pytest.mark.timeout(3600)]

SEED = 1
SIZES = pytest.mark.parametrize(
    "size", [(200, 6, 20), pytest.param((2_000, 30, 50), marks=pytest.mark.long)], ids=["short", "long"]
)
"""People, days of ordinary life, days of near-silence after them."""
SETTLE_EVERY = 6
"""Hours fed before the workers may catch up: what is derived arrives up to that much later, as it does in life."""


def in_parts(events: Iterator[dict[str, Any]], count: int) -> Iterator[list[dict[str, Any]]]:
    """Yield the events in so many parts of whole hours."""
    every = list(events)
    size = -(-len(every) // count)
    part: list[dict[str, Any]] = []
    for event in every:
        if len(part) >= size and event["arrives"] // 3_600_000 != part[-1]["arrives"] // 3_600_000:
            yield part
            part = []
        part.append(event)
    yield part


@SIZES
async def test_workers_that_come_and_go(
    tmp_path: Path, kafka: str, redis_server: RedisServer, size: tuple[int, int, int]
) -> None:
    people, days, tail_days = size
    deployment = Deployment(tmp_path, kafka, redis_server.url)
    deployment.create_topics()
    try:
        for name in ("one", "two"):
            deployment.worker(name)
        for worker in deployment.workers.values():
            await asyncio.to_thread(worker.wait_ready)
        async with Inside.open(deployment) as inside:
            await inside.settle()
            first, second, third = in_parts(simulate(SEED, people, DEFAULT_START, days, tail_days), 3)
            await inside.feed(first, settle_every=SETTLE_EVERY)
            deployment.worker("three")
            await inside.feed(second, settle_every=SETTLE_EVERY)
            assert await asyncio.to_thread(deployment.workers["one"].stop) == 0
            await inside.feed(third, settle_every=SETTLE_EVERY)
            for name in ("two", "three"):
                deployment.workers[name].kill()  # else its ticks, of this year, would come into what is compared
            await agrees(inside)
        complaints = [one for worker in deployment.workers.values() for one in worker.complaints()]
        unexpected = [one for one in complaints if not one.get("logger", "").startswith("aiokafka")]
        assert unexpected == []
    finally:
        deployment.close()


async def agrees(inside: Inside) -> None:
    """Assert that changes, latest stages and states are what the oracle makes of the log."""
    records = await inside.records()
    expected = await asyncio.to_thread(run, records)
    messages = await inside.messages("stage-changes")
    changes, repeats = once(messages)
    states = await inside.states()
    found = differences(changes, states, expected)
    assert not found, f"{len(found)} differences, of which\n" + "\n".join(found[:5])
    assert latest(await inside.messages("stages")) == {
        person: told[-1] if told[-1]["to"] is not None else None for person, told in changes.items()
    }
    number = sum(map(len, changes.values()))
    print(f"\n{len(records)} records, {number} changes, {repeats} repeats, {len(states)} states")  # noqa: T201 - figures


def latest(messages: Sequence[tuple[int, bytes | None, bytes | None, dict[str, bytes]]]) -> dict[str, Any]:
    """Return the last message of each key."""
    return {(key or b"").decode(): None if value is None else json.loads(value) for _, key, value, _ in messages}
