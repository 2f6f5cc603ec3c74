"""The worker over Kafka and Redis: CPU an event, its own, Redis's and Kafka's, for busy and for sparse batches.

A backlog is written while the worker is idle; what is measured is the CPU of each process until all of it is folded.
Persons have their states already, so that each is loaded, changed and written back.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from bench.processes import cpu_seconds
from collector.wire.block import BlockBuilder
from collector.wire.event import Event, Page
from collector.wire.record import Draft
from deploy.local.process import free_ports
from deploy.local.services import KafkaBroker, RedisServer
from phasewatch.backend import open_kafka_log, open_redis_store, wait_for_fold
from phasewatch.settings import Settings
from processors.engine.query import Query

PARTITIONS: Final = 32
PEOPLE: Final = 20_000
BLOCK_BYTES: Final = 16 * 1024
"""Some 50 events: what a collector's linger gathers for one partition under load."""
ROUNDS: Final = 3
START_SECONDS: Final = 60


@dataclass(frozen=True, slots=True)
class Place:
    """A deployment to measure: its settings, and the processes whose CPU counts."""

    settings: Settings
    pids: dict[str, int]


def measure() -> dict[str, float]:
    """Return medians of the rounds, in µs of CPU an event."""
    with ExitStack() as stack:
        place = stack.enter_context(deployment())
        backlog(place, 10)  # states come into being, and caches warm
        sparse = [backlog(place, 1) for _ in range(ROUNDS)]
        busy = [backlog(place, 10) for _ in range(ROUNDS)]
    return summary("busy", busy) | summary("sparse", sparse)


def summary(name: str, rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the median of each figure over the rounds."""
    return {f"{name}_{figure}": median(one[figure] for one in rounds) for figure in rounds[0]}


@contextmanager
def deployment() -> Iterator[Place]:
    """Run Kafka, Redis and one worker on them."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        kafka, redis = KafkaBroker(folder / "kafka"), RedisServer(folder / "redis")
        for service in (kafka, redis):
            stack.callback(service.close)
            service.start()
        settings, environment = deployment_settings(kafka.address, redis.url)
        admin = free_ports(1)[0]
        command = [sys.executable, "-m", "phasewatch"]
        subprocess.run([*command, "topics"], env=environment, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - our own command
        worker = subprocess.Popen([*command, "worker", "--admin-port", str(admin)], env=environment)  # noqa: S603
        stack.callback(worker.wait)
        stack.callback(worker.terminate)
        wait_until_ready(admin)
        yield Place(settings, {"worker": worker.pid, "redis": redis.pid, "kafka": kafka.pid})


def deployment_settings(brokers: str, redis_url: str) -> tuple[Settings, dict[str, str]]:
    """Return settings with names of their own, and the environment that gives them to a process."""
    name = f"bench-{secrets.token_hex(4)}"
    given = {
        "kafka": {
            "brokers": brokers,
            "topic_prefix": f"{name}.",
            "replication_factor": "1",
            "min_insync_replicas": "1",
        },
        "redis": {"url": redis_url, "prefix": name},
        "log": {"partitions": str(PARTITIONS)},
        "spool": {"dir": str(Path(tempfile.gettempdir()) / name)},
        "logging": {"level": "warning"},
    }
    variables = {
        f"PHASEWATCH_{section}__{key}".upper(): value for section, keys in given.items() for key, value in keys.items()
    }
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PHASEWATCH_")}
    return Settings.model_validate(given), environment | variables


def wait_until_ready(admin_port: int) -> None:
    """Wait until the admin port says ready."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{admin_port}/readyz", timeout=1):
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def backlog(place: Place, events_a_person: int) -> dict[str, float]:
    """Write one backlog, in which everybody does so much, and return what folding it costs."""
    return asyncio.run(_backlog(place, events_a_person))


async def _backlog(place: Place, events_a_person: int) -> dict[str, float]:
    log, store = await open_kafka_log(place.settings), open_redis_store(place.settings)
    try:
        blocks = list(_blocks(events_a_person))
        before = {name: cpu_seconds(pid) for name, pid in place.pids.items()}
        begun = time.monotonic()
        await log.append(blocks)
        await wait_for_fold(log, store, Query(store, log.partitions))
        wall = time.monotonic() - begun
        taken = {name: cpu_seconds(pid) - before[name] for name, pid in place.pids.items()}
    finally:
        await store.close()
        await log.close()
    events = sum(draft.count for _, draft in blocks)
    return {f"{name}_cpu_us_per_event": seconds / events * 1e6 for name, seconds in taken.items()} | {
        "events_per_second": events / wall
    }


def _blocks(events_a_person: int) -> Iterator[tuple[int, Draft]]:
    """Yield blocks in which everybody's events stand together."""
    builder = BlockBuilder(PARTITIONS, max_bytes=BLOCK_BYTES)
    now = time.time_ns() // 1_000_000
    for person in range(PEOPLE):
        for step in range(events_a_person):
            path = f"/products/bond/b{step}"
            page = Page(
                f"https://shop.example{path}?utm_source=news", path, f"Bond fund {step}", "https://shop.example/"
            )
            event = Event(
                f"{secrets.token_hex(16)}", "page", now, now, now, anonymous_id=f"{person:032x}",
                session_id=f"s{person}-{now}", source="web", page=page,
            )  # fmt: skip
            builder.add(event, now)
    yield from builder.take()
