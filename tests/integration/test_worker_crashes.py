"""Workers that die at named points, sleep beyond their session, or lose the store's last second: the oracle agrees."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bench.simulator import DEFAULT_START, simulate
from deploy.local.services import RedisServer
from tests.agreement import differences
from tests.integration.faulty_worker import POINTS
from tests.integration.production import Deployment, Inside, Worker, once
from tests.integration.redis_loss import lose_a_second
from tests.oracle import run
from tests.services import StartService

pytestmark = [pytest.mark.services, pytest.mark.timeout(1800)]

SEED = 4
PEOPLE = 120
PACE_SECONDS = 0.2
DAYS = 500
HOURS_AT_LEAST = 150
"""Simulated before what was written is held against the oracle: enough for some tens of changes."""
"""Between two simulated hours: enough load that every point is passed many times a second."""
ROOT = Path(__file__).parents[2]
TIMES = pytest.mark.parametrize("times", [1, pytest.param(10, marks=pytest.mark.long)])


class Load:
    """Writes simulated life into the log, hour after hour, until told to stop."""

    def __init__(self, inside: Inside, pace_seconds: float = PACE_SECONDS) -> None:
        self._inside, self._pace_seconds = inside, pace_seconds
        self.hours = 0
        self._stop = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        events = simulate(SEED, PEOPLE, DEFAULT_START - DAYS * 86_400_000, DAYS)
        hour: list[dict[str, Any]] = []
        for event in events:
            if hour and event["arrives"] // 3_600_000 != hour[0]["arrives"] // 3_600_000:
                await self._inside.feed(hour, settle_every=0)
                hour = []
                self.hours += 1
                if self._stop.is_set():
                    return
                await asyncio.sleep(self._pace_seconds)
            hour.append(event)

    def check(self) -> None:
        """Fail where the load has ended before its time."""
        if self._task.done():
            self._task.result()
            pytest.fail(f"the load ended after {self.hours} hours")

    async def end(self) -> None:
        """Finish the hour under way."""
        self._stop.set()
        await self._task


@asynccontextmanager
async def under_load(directory: Path, kafka: str, redis_url: str) -> AsyncIterator[tuple[Deployment, Load]]:
    """Run two workers under load; at the end hold all that was written against the oracle."""
    deployment = Deployment(directory, kafka, redis_url, partitions=8)
    deployment.create_topics()
    try:
        for name in ("one", "two"):
            deployment.worker(name)
        for worker in deployment.workers.values():
            worker.wait_ready()
        async with Inside.open(deployment) as inside:
            await inside.settle()
            load = Load(inside)
            yield deployment, load
            await until(lambda: load.hours >= HOURS_AT_LEAST, "the load has run for a while", 120)
            await load.end()
            await inside.settle()
            for worker in deployment.workers.values():
                worker.kill()  # else its ticks, of this year, would come into what is compared
            await agrees(inside)
    finally:
        deployment.close()


async def agrees(inside: Inside) -> None:
    """Assert that states, changes and latest stages are what the oracle makes of the log, repeats byte-equal."""
    records = await inside.records()
    expected = await asyncio.to_thread(run, records)
    changes, repeats = once(await inside.messages("stage-changes"))
    states = await inside.states()
    found = differences(changes, states, expected)
    assert not found, f"{len(found)} differences, of which\n" + "\n".join(found[:5])
    latest: dict[str, Any] = {}
    for _, key, value, _ in await inside.messages("stages"):
        latest[(key or b"").decode()] = None if value is None else json.loads(value)
    for person, told in changes.items():
        assert latest[person] == (told[-1] if told[-1]["to"] is not None else None)
    number = sum(map(len, changes.values()))
    print(f"\n{len(records)} records, {number} changes, {repeats} repeats, {len(states)} states: as the oracle's")  # noqa: T201
    assert number > 20


def faulty(point: str, after: int) -> dict[str, str]:
    return {"FAULT_POINT": point, "FAULT_AFTER": str(after), "PYTHONPATH": str(ROOT)}


async def dies(worker: Worker, load: Load, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while worker.process.poll() is None:
        load.check()
        assert time.monotonic() < deadline, f"{worker.name} never came to its end; {load.hours} hours"
        await asyncio.sleep(0.02)
    assert worker.process.returncode == -9, worker.log.read_text("utf-8")[-3000:]


@TIMES
async def test_a_worker_dies_at_each_point(tmp_path: Path, kafka: str, redis_server: RedisServer, times: int) -> None:
    rng = random.Random(SEED)
    takeovers = []
    async with under_load(tmp_path, kafka, redis_server.url) as (deployment, load):
        victim = deployment.workers["one"]
        for point in [point for point in POINTS for _ in range(times)]:
            victim.kill()
            victim.environment = faulty(point, rng.randrange(1, 12))
            victim.launch(sys.executable, "-m", "tests.integration.faulty_worker", "worker")
            await dies(victim, load)
            victim.environment = {}
            began = time.monotonic()
            victim.launch()
            await ready(victim)
            takeovers.append(time.monotonic() - began)
    print(f"takeover after kill -9 with restart: {sorted(takeovers)[len(takeovers) // 2]:.1f} s median")  # noqa: T201


async def ready(worker: Worker) -> None:
    await asyncio.to_thread(worker.wait_ready)


@TIMES
async def test_a_worker_sleeps_beyond_its_session(
    tmp_path: Path, kafka: str, redis_server: RedisServer, times: int
) -> None:
    async with under_load(tmp_path, kafka, redis_server.url) as (deployment, _):
        sleeper, other = deployment.workers["one"], deployment.workers["two"]
        for _ in range(times):
            sleeper.pause()
            await until(lambda: other.metric("phasewatch_worker_partitions_owned") == 8, "the other has all of them")
            sleeper.resume()
            await ready(sleeper)
            await until(lambda: other.metric("phasewatch_worker_partitions_owned") == 4, "they share again")


async def until(condition: Callable[[], object], what: str, seconds: float = 40) -> None:
    deadline = time.monotonic() + seconds
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(0.05)


@TIMES
async def test_redis_comes_back_without_its_last_second(
    tmp_path: Path, kafka: str, start_service: StartService, times: int
) -> None:
    redis = start_service(RedisServer(tmp_path / "redis"))
    async with under_load(tmp_path, kafka, redis.url) as (deployment, _):
        for _ in range(times):
            await lose_a_second(redis)
            for worker in deployment.workers.values():
                await ready(worker)
