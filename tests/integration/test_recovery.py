"""The states are lost altogether: a snapshot that was written under load, and the log from there, give them back."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from bench.simulator import DEFAULT_START, simulate
from deploy.local.services import RedisServer
from processors.adapters.files.snapshots import newest, read_manifest, read_partition, snapshots, verify, write_snapshot
from processors.adapters.sqlite.store import SqliteStore
from processors.engine.query import Query
from tests.agreement import differences
from tests.harness import Deployment as Embedded
from tests.integration.collector_process import bare_environment
from tests.integration.production import Deployment
from tests.integration.test_worker_crashes import ready, under_load, until
from tests.oracle import run
from tests.services import StartService

SEED = 7
PARTITIONS = 8
ROOT = Path(__file__).parents[2]


class Lagging(Embedded):
    """A deployment whose workers now and then take a few records only, so that each partition stands elsewhere."""

    lags = False
    rng = random.Random(SEED)

    async def settle(self) -> None:
        """Fold everything, or a little of it."""
        if not self.lags:
            return await super().settle()
        for worker in self.workers:
            for _ in range(self.rng.randrange(3)):
                await worker.step()
        return None

    async def lose_states(self, snapshot: Path) -> int:
        """Begin with an empty store, and put a snapshot there; return how many records there are to be folded again."""
        self.store.close()
        self.store = SqliteStore(":memory:")
        self.query = Query(self.store, PARTITIONS)
        manifest = read_manifest(snapshot)
        verify(snapshot, manifest)
        again = 0
        for entry in manifest.files:
            header, parts = read_partition(snapshot / entry.name)
            await self.store.replace(entry.partition, header.position, header.state, parts)
            again += (await self.log.bounds(entry.partition))[1] - header.offset
        await self.start(batch_records=3)
        return again


def first_told(messages: Iterable[bytes]) -> tuple[dict[str, list[dict[str, Any]]], int]:
    """Return each person's changes without repeats, and how many of these there were, each equal byte by byte."""
    told: dict[str, bytes] = {}
    changes: dict[str, list[dict[str, Any]]] = {}
    repeats = 0
    for message in messages:
        change = json.loads(message)
        if change["id"] in told:
            assert told[change["id"]] == message, "a repeat with other bytes"
            repeats += 1
            continue
        told[change["id"]] = message
        changes.setdefault(change["person"], []).append(change)
    return changes, repeats


async def test_the_oracle_agrees_after_the_states_on_sqlite_were_lost(tmp_path: Path) -> None:
    events = simulate(SEED, 60, DEFAULT_START, 8)
    deployment = Lagging(start=DEFAULT_START, partitions=PARTITIONS)
    await deployment.start(batch_records=3)
    again = []
    for number in range(3):
        await deployment.feed(islice(events, 250))
        deployment.lags = True
        await deployment.feed(islice(events, 250))
        snapshot = await write_snapshot(tmp_path, deployment.store, deployment.log, deployment.now + number)
        deployment.lags = False
        await deployment.feed(islice(events, 100))
        again.append(await deployment.lose_states(snapshot))
    await deployment.feed(events)
    assert min(again) > 50
    expected = run(await deployment.records())
    changes, repeats = first_told(one for told in deployment.messages().values() for one in told)
    found = differences(changes, await deployment.states(), expected)
    assert not found, f"{len(found)} differences, of which\n" + "\n".join(found[:5])
    print(f"\n{again} records folded again, {sum(map(len, changes.values()))} changes, {repeats} repeats")  # noqa: T201
    deployment.close()


@pytest.mark.services
@pytest.mark.long
@pytest.mark.timeout(600)
async def test_redis_is_lost_altogether(tmp_path: Path, kafka: str, start_service: StartService) -> None:
    """Emptied while workers fold: one command, beside the running workers, and nobody can tell afterwards."""
    redis = start_service(RedisServer(tmp_path / "redis"))
    folder = tmp_path / "snapshots"
    async with under_load(tmp_path, kafka, redis.url) as (deployment, load):
        await until(lambda: load.hours >= 40, "the load has run for a while")
        await command(deployment, "snapshot", folder, "--keep", "2", expected=0)
        taken = newest(folder)
        await killed_half_way(deployment, folder)
        assert newest(folder) == taken
        await until(lambda: load.hours >= 80, "the load has gone on for a while")
        async with Redis.from_url(redis.url) as client:
            await client.flushall()
        refused = await asyncio.to_thread(deployment.run, "snapshot", folder)
        if refused.returncode:  # unless the workers have folded all of it again by now
            assert (refused.returncode, "has lost states" in refused.stderr) == (1, True), refused.stderr
        done = await command(deployment, "restore", folder, "--force", "--json", expected=0)
        print("\n", done)  # noqa: T201 - figures
        assert done["records_behind"] > 0
        for worker in deployment.workers.values():
            await ready(worker)
        await command(deployment, "snapshot", folder, "--keep", "2", expected=0)
        assert not unfinished(folder)
        assert len(snapshots(folder)) == 2
        refused = await asyncio.to_thread(deployment.run, "restore", folder)
        assert refused.returncode == 2
        assert "the store holds states of 8 partitions" in refused.stderr


async def command(deployment: Deployment, *arguments: str | Path, expected: int) -> dict[str, Any]:
    if "--json" not in arguments:
        arguments = (*arguments, "--json")
    done = await asyncio.to_thread(deployment.run, *arguments)
    assert done.returncode == expected, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


DIES = """
import os, signal, sys
from phasewatch.cli import app
from processors.adapters.files import snapshots
left, sync = int(sys.argv.pop(1)), snapshots._sync
def dying_sync(file):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    sync(file)
snapshots._sync = dying_sync
app()
"""


async def killed_half_way(deployment: Deployment, folder: Path) -> None:
    """Let a snapshot die after some of its files, and one with its manifest written, but not renamed."""
    environment = bare_environment() | deployment.environment
    for files in (3, PARTITIONS + 1):
        arguments = [sys.executable, "-c", DIES, str(files), "snapshot", str(folder)]
        done = await asyncio.to_thread(
            subprocess.run, arguments, env=environment, cwd=ROOT, capture_output=True, timeout=60, check=False
        )
        assert done.returncode == -9, done.stderr
    assert len(unfinished(folder)) == 2


def unfinished(folder: Path) -> list[Path]:
    return list(folder.glob(".unfinished-*"))
