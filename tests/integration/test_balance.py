"""`phasewatch balance` beside real processes: nothing is missing when workers are killed; what is missing is found."""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.local.services import RedisServer
from processors.engine.codec import decode_state, encode_state
from processors.engine.ports import Commit
from processors.engine.state import Position
from tests.integration.embedded_process import wait_until
from tests.integration.production import Deployment, Inside

pytestmark = [pytest.mark.services, pytest.mark.long]

KEYS = ("demo", "demo-secret")
KILLS = 3
EVENTS_BETWEEN = 400
"""Accepted between two kills at least."""


@pytest.fixture
def deployment(tmp_path: Path, kafka: str, redis_server: RedisServer) -> Iterator[Deployment]:
    deployment = Deployment(tmp_path, kafka, redis_server.url, partitions=4)
    deployment.create_topics()
    yield deployment
    deployment.close()


class Visitors:
    """Send events of two sources: new ones, repeats, some that cannot be used; and count what was answered."""

    def __init__(self, url: str) -> None:
        self.answered: dict[str, Counter[str]] = {key: Counter() for key in KEYS}
        self._url, self._random = url, random.Random(1)
        self._sent: list[dict[str, Any]] = []

    @property
    def accepted(self) -> int:
        return sum(found["accepted"] for found in self.answered.values())

    def _event(self) -> dict[str, Any]:
        rng = self._random
        who = rng.randrange(40)
        if rng.random() < 0.1:
            return {"type": "page"}
        if self._sent and rng.random() < 0.1:
            return rng.choice(self._sent)
        kind = rng.choice(("page", "click", "identify"))
        names = {"user_id": f"u{who}"} if kind == "identify" or rng.random() < 0.5 else {}
        event = {"id": str(rng.getrandbits(64)), "type": kind, "anonymous_id": f"a{who}"} | names
        self._sent.append(event)
        return event

    def send(self, client: httpx.Client) -> None:
        key = self._random.choice(KEYS)
        events = [self._event() for _ in range(20)]
        headers = {"authorization": f"Bearer {key}"}
        answer = client.post(f"{self._url}/v1/events", content=json.dumps(events), headers=headers).json()
        self.answered[key].update({kind: answer[kind] for kind in ("accepted", "duplicate", "rejected")})


@contextmanager
def visited(visitors: Visitors) -> Iterator[None]:
    """Let visitors come as long as the block runs."""
    stop = threading.Event()

    def send() -> None:
        with httpx.Client(trust_env=False, timeout=60) as client:
            while not stop.is_set():
                visitors.send(client)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def balance(deployment: Deployment, expected: int) -> dict[str, Any]:
    done = deployment.run("balance", "--json")
    assert done.returncode == expected, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["balanced"] == (expected == 0)
    return found


async def test_nothing_is_missing_when_workers_are_killed(deployment: Deployment) -> None:
    collector = deployment.collector(workers=2)
    collector.start()
    worker = deployment.worker("one")
    worker.wait_ready()
    visitors = Visitors(collector.url)
    with visited(visitors):
        for _ in range(KILLS):
            before = visitors.accepted
            wait_until(lambda: visitors.accepted > before + EVENTS_BETWEEN, "events are accepted", 60)  # noqa: B023
            worker.kill()
            found = balance(deployment, 0)
            worker.launch()
            worker.wait_ready(60)
    accepted = visitors.accepted
    async with Inside.open(deployment) as inside:
        await inside.settle()
    found = balance(deployment, 0)
    sources = found["sources"]
    assert sum(one["in_log"] for one in sources.values()) == accepted
    assert sum(one["behind"] for one in sources.values()) == 0
    assert found["on_the_way"] == 0
    ended = [one["since_beginning"] for one in sources.values()]
    assert sum(one["folded"] + one["repeated"] for one in ended) == accepted
    assert sum(one["sent_on"] for one in ended) > 0
    kinds = ("received", "accepted", "duplicate", "rejected", "failed")
    counted = {kind: collector.metric(f"phasewatch_collector_events_{kind}_total") for kind in kinds}
    assert counted["accepted"] == accepted
    assert counted["received"] == sum(counted[kind] for kind in kinds[1:])
    assert worker.metric("phasewatch_worker_unaccounted_events") == 0
    print(f"\n{accepted} events, {KILLS} kills: {json.dumps(sources)}")  # noqa: T201 - a figure to report
    table = deployment.run("balance")
    assert table.returncode == 0, table.stderr
    assert "balanced" in table.stdout

    worker.kill()
    with httpx.Client(trust_env=False) as client:
        visitors.send(client)
    skipped = await _skip_one(deployment)
    found = balance(deployment, 1)
    assert [text.split(",")[0] for text in found["differences"]] == [f"partition {skipped}"] * len(found["differences"])
    assert "difference: partition" in deployment.run("balance").stdout
    deployment.environment["PHASEWATCH_REDIS__URL"] = "redis://127.0.0.1:1/0"
    assert deployment.run("balance").returncode == 3


async def _skip_one(deployment: Deployment) -> int:
    """Set the position of some partition behind a record that was not folded; return the partition."""
    async with Inside.open(deployment) as inside:
        for partition, (_, end) in enumerate(await inside.log.all_bounds()):
            acquired = await inside.store.acquire(partition)
            state = decode_state(partition, deployment.partitions, acquired.state or b"")
            before = state.position
            if before.offset < end:
                state.position = Position(end)
                await inside.store.commit(
                    Commit(partition, acquired.token, before, state.position, encode_state(state))
                )
                return partition
    pytest.fail("there is no record that was not folded")
