"""Takeovers with a hitch: an acquisition that comes late, a commit whose answer is lost, a worker that stood still."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from pathlib import Path

import pytest

from deploy.local.services import RedisServer
from processors.adapters.redis.store import ACQUIRE, COMMIT
from processors.engine.runner import RETRY_SECONDS
from processors.engine.state import Position
from tests.integration.production import Inside, Worker
from tests.integration.redis_faults import PARTITIONS, RedisProxy, folding
from tests.integration.test_worker_crashes import ready, until

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]

OWNED = "phasewatch_worker_partitions_owned"
TAKEOVERS = "phasewatch_worker_takeovers_total"
LOST = 3
BUSY_SECONDS = 5.0
"""What a machine that has other work may add to a stall."""


async def owns(worker: Worker, partitions: int) -> None:
    await until(lambda: worker.metric(OWNED) == partitions, f"{worker.name} has {partitions} partitions")


@pytest.mark.long
async def test_a_lost_answer_to_a_commit_is_found_out_by_position(
    tmp_path: Path, kafka: str, redis_server: RedisServer
) -> None:
    async with RedisProxy.open(redis_server.port) as proxy:
        through = {"one": {"PHASEWATCH_REDIS__URL": proxy.url}}
        async with folding(tmp_path, kafka, redis_server.url, through) as (deployment, _, load):
            while proxy.lost < LOST:
                lost = proxy.lost
                proxy.lose = COMMIT.digest.encode()
                await until(partial(lambda before: proxy.lost > before, lost), "an answer was lost")
                load.check()
                await owns(deployment.workers["one"], PARTITIONS)
            retried = [one for one in deployment.complaints() if one["event"] == "partition_retries"]
            assert LOST <= len(retried) <= LOST * PARTITIONS, (
                "each loss is that of partitions that were asked for at once"
            )
            assert all("can't be reached" in one["reason"] for one in retried), retried


@pytest.mark.long
async def test_an_acquisition_that_comes_late_disturbs_the_new_owner_for_one_retry(
    tmp_path: Path, kafka: str, redis_server: RedisServer
) -> None:
    async with RedisProxy.open(redis_server.port) as proxy:
        workers = {"one": {"PHASEWATCH_REDIS__URL": proxy.url}, "two": {}}
        async with folding(tmp_path, kafka, redis_server.url, workers) as (deployment, inside, _):
            former, owner = deployment.workers["one"], deployment.workers["two"]
            former.kill()
            await owns(owner, PARTITIONS)
            proxy.hold(ACQUIRE.digest.encode())
            former.launch()
            await until(lambda: proxy.holding > 1, "the former owner's acquisitions are held up")
            former.kill()
            await owns(owner, PARTITIONS)
            before = owner.metric(TAKEOVERS)
            proxy.release()
            stall = await longest_stall(inside, seconds=4 * RETRY_SECONDS)
            await owns(owner, PARTITIONS)
            again = owner.metric(TAKEOVERS) - before
            print(f"\nlongest stall of a partition {stall:.1f} s, {again:g} takeovers begun and ended")  # noqa: T201
            assert 2 <= again <= PARTITIONS, "what came late of the former owner's half was fenced once, acquired once"
            assert stall < RETRY_SECONDS + BUSY_SECONDS


async def longest_stall(inside: Inside, seconds: float) -> float:
    """Return for how long a partition that has records to fold stood where it was, at most."""
    begun = time.monotonic()
    at: dict[int, tuple[Position, float]] = {}
    longest = 0.0
    while (now := time.monotonic()) < begun + seconds:
        ends = [end for _, end in await inside.log.all_bounds()]
        states = await asyncio.gather(*(inside.query.state(n) for n in range(PARTITIONS)))
        for partition, (state, end) in enumerate(zip(states, ends, strict=True)):
            position = Position() if state is None else state.position
            before, since = at.get(partition, (position, now))
            if before != position or position.offset >= end:
                since = now
            at[partition] = position, since
            longest = max(longest, now - since)
    return longest


@pytest.mark.long
async def test_a_worker_that_stood_still_takes_nothing_from_the_new_owner(
    tmp_path: Path, kafka: str, redis_server: RedisServer
) -> None:
    async with folding(tmp_path, kafka, redis_server.url, {"one": {}, "two": {}}, hours=200) as (deployment, inside, _):
        sleeper, owner = deployment.workers["one"], deployment.workers["two"]
        for _ in range(3):
            sleeper.pause()
            await owns(owner, PARTITIONS)
            sleeper.resume()
            stall = await longest_stall(inside, seconds=6)
            print(f"\nlongest stall of a partition {stall:.1f} s")  # noqa: T201
            assert stall < RETRY_SECONDS + BUSY_SECONDS
            await ready(sleeper)
            await owns(sleeper, PARTITIONS // 2)
