"""Snapshot and restore of 100,000 people on a Redis of the benchmark's own, while an owner of all partitions commits.

The states are those of some people that workers have folded (bench/redis_memory.py), each under many keys.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final

from redis.asyncio import Redis

from bench.redis_memory import PARTITIONS, Log, fold, own_redis
from collector.wire.partition import partition_of
from processors.adapters.files.snapshots import read_manifest, read_partition, verify, write_snapshot
from processors.adapters.redis.store import RedisStore
from processors.engine.codec import decode_state, encode_state
from processors.engine.ports import Commit, Part
from processors.engine.state import Position

PEOPLE: Final = 100_000
SAMPLE: Final = 1_000
PERSONS_A_COMMIT: Final = 50
COMMITS_A_SECOND: Final = 100
PART: Final = 1_000
CALM_SECONDS: Final = 5.0
READS: Final = (b" HGETALL", b" ZRANGE", b" LRANGE")
"""By which a copy's calls are told from commits in Redis' slow log; during each of them Redis does nothing else."""


async def fill(url: str, people: int, folded: int) -> None:
    """Put so many people into the store, with their due lists; so many of them are folded."""
    sample, store = RedisStore.open(url, prefix="sample"), RedisStore.open(url)
    await fold(sample, folded)
    pools: list[Part] = [Part() for _ in range(PARTITIONS)]
    states = []
    for partition in range(PARTITIONS):
        copy = await sample.copy(partition)
        states.append(copy)
        values: dict[str, bytes] = {}
        hours: dict[str, int] = {}
        async for part in copy.parts:
            values |= part.people
            hours |= {key: hour for hour, key in part.listings}
        for key, value in values.items():
            for number in range(people // folded):
                clone = f"{key}{number:03}"
                pool = pools[partition_of(clone, PARTITIONS)]
                pool.people.append((clone, value))
                if key in hours:
                    pool.listings.append((hours[key], clone))
    for partition, (copy, pool) in enumerate(zip(states, pools, strict=True)):
        await store.replace(partition, copy.position, copy.state, _parts(pool))
    await store.bind(Log.log_id, PARTITIONS)
    async with Redis.from_url(url) as client:
        async for key in client.scan_iter("sample:*", count=1000):
            await client.unlink(key)
    await sample.close()
    await store.close()


def _parts(pool: Part) -> Iterator[Part]:
    for at in range(0, len(pool.people), PART):
        yield Part(pool.people[at : at + PART], pool.listings[at : at + PART])


async def commit_until_told(url: str) -> None:
    """Load and commit persons of partitions in turn; at the end print when each commit began and what it took."""
    store, rng = RedisStore.open(url), random.Random(1)
    owners = []
    for partition in range(PARTITIONS):
        acquired = await store.acquire(partition)
        state = decode_state(partition, PARTITIONS, acquired.state or b"")
        owners.append((partition, acquired.token, state, await store.scan(partition, "", 1_000)))
    took: list[tuple[float, float]] = []
    told = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    print("ready", flush=True)
    while not told.done():
        partition, token, state, keys = owners[len(took) % PARTITIONS]
        began = time.time()
        found = await store.load(partition, rng.sample(keys, min(PERSONS_A_COMMIT, len(keys))))
        expected, state.position = state.position, Position(state.position.offset + 1)
        unit = Commit(partition, token, expected, state.position, encode_state(state), {**found})
        await store.commit(unit)
        ended = time.time()
        took.append((began, ended - began))
        await asyncio.sleep(max(0.0, 1 / COMMITS_A_SECOND - (ended - began)))
    print(json.dumps(took))
    await store.close()


async def _server_cpu(client: Redis) -> float:
    found: dict[str, Any] = await client.info("cpu")
    return float(found["used_cpu_sys"]) + float(found["used_cpu_user"])


def _own_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def _snapshot(url: str, folder: Path) -> tuple[dict[str, float], Path]:
    store = RedisStore.open(url)
    async with Redis.from_url(url) as client:
        await client.config_set("slowlog-log-slower-than", 0)
        await client.config_set("slowlog-max-len", 100_000)
        await client.slowlog_reset()
        own, server, began = _own_cpu(), await _server_cpu(client), time.time()
        snapshot = await write_snapshot(folder, store, Log(), time.time_ns() // 1_000_000)
        ended = time.time()
        own, server = _own_cpu() - own, await _server_cpu(client) - server
        slow: list[dict[str, Any]] = await client.slowlog_get(100_000)
    await store.close()
    reads = [one["duration"] / 1000 for one in slow if any(word in one["command"] for word in READS)]
    manifest = read_manifest(snapshot)
    return {
        "persons_and_links": manifest.people,
        "snapshot_seconds": ended - began,
        "snapshot_cpu_seconds": own,
        "snapshot_redis_cpu_seconds": server,
        "bytes_on_disk_a_person": manifest.bytes / manifest.people,
        "slowest_partition_seconds": max(entry.seconds for entry in manifest.files),
        "redis_reads": len(reads),
        "redis_read_p50_ms": median(reads),
        "redis_read_p99_ms": quantiles(reads, n=100)[98],
        "redis_read_max_ms": max(reads),
        "began": began,
        "ended": ended,
    }, snapshot


async def _restore(url: str, snapshot: Path) -> dict[str, float]:
    store = RedisStore.open(url)
    async with Redis.from_url(url) as client:
        await client.flushall()
        own, server, began = _own_cpu(), await _server_cpu(client), time.time()
        manifest = read_manifest(snapshot)
        verify(snapshot, manifest)
        for entry in manifest.files:
            header, parts = read_partition(snapshot / entry.name)
            await store.replace(entry.partition, header.position, header.state, parts)
        found = {
            "restore_seconds": time.time() - began,
            "restore_cpu_seconds": _own_cpu() - own,
            "restore_redis_cpu_seconds": await _server_cpu(client) - server,
        }
    await store.close()
    return found


def _figures(took: list[tuple[float, float]], name: str) -> dict[str, float]:
    ms = [1000 * seconds for _, seconds in took]
    return {
        f"commits_{name}": len(ms),
        f"commit_{name}_p50_ms": median(ms),
        f"commit_{name}_p99_ms": quantiles(ms, n=100)[98],
        f"commit_{name}_max_ms": max(ms),
    }


def measure(people: int = PEOPLE, folded: int = SAMPLE) -> dict[str, float]:
    """Return the figures of one run."""
    with own_redis() as server, tempfile.TemporaryDirectory() as folder:
        asyncio.run(fill(server.url, people, folded))
        arguments = [sys.executable, "-m", "bench.snapshot", "--commit", server.url]
        with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:  # noqa: S603 - this very program
            assert owner.stdin is not None  # noqa: S101 - for the type checker
            assert owner.stdout is not None  # noqa: S101 - for the type checker
            owner.stdout.readline()
            time.sleep(CALM_SECONDS)
            found, snapshot = asyncio.run(_snapshot(server.url, Path(folder)))
            time.sleep(1)
            owner.stdin.close()
            took = json.loads(owner.stdout.read())
        began, ended = found.pop("began"), found.pop("ended")
        found |= _figures([one for one in took if one[0] < began - 0.5], "calm")
        found |= _figures([one for one in took if began <= one[0] <= ended], "meanwhile")
        return found | asyncio.run(_restore(server.url, snapshot))


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.snapshot", description=__doc__)
    parser.add_argument("--people", type=int, default=PEOPLE)
    parser.add_argument("--folded", type=int, default=SAMPLE, help="of them; the others are copies of these")
    parser.add_argument("--commit", metavar="URL", help="be the owner that commits meanwhile")
    options = parser.parse_args()
    if options.commit:
        asyncio.run(commit_until_told(options.commit))
    else:
        print(json.dumps(measure(options.people, options.folded), indent=1))


if __name__ == "__main__":
    main()
