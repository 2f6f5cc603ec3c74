"""How long a worker's partitions wait for another one: after kill -9 with and without a restart, and after a stop.

Two workers fold a trickle of blocks, one for each partition every tenth of a second. A partition is folded again when
a block appended after the fault is; the stall of the other worker's partitions is the longest that one of their blocks
waited from its appending to its commit.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any, Final

from bench.worker import deployment_settings, wait_until_ready
from collector.wire.block import BlockBuilder
from collector.wire.event import Event, Page
from collector.wire.partition import partition_of
from collector.wire.record import Draft
from deploy.local.process import free_ports
from deploy.local.services import KafkaBroker, RedisServer
from phasewatch.access import kafka_access
from phasewatch.backend import group_of, open_kafka_log, open_redis_store
from phasewatch.settings import Settings
from processors.adapters.kafka.group import group_members
from processors.adapters.kafka.log import KafkaLog
from processors.engine.query import Query

ROUNDS: Final = 5
EVERY_SECONDS: Final = 0.1
LOOK_SECONDS: Final = 0.02
QUIET_SECONDS: Final = 1.0
"""How long after the last rebalance a fault comes."""
PATIENCE_SECONDS: Final = 60
NAMES: Final = ("one", "two")

Figures = dict[str, float]


def measure() -> dict[str, Any]:
    """Return medians and maxima of the rounds, in seconds."""
    with ExitStack() as stack:
        return asyncio.run(_measure(stack.enter_context(_deployment())))


@dataclass(slots=True)
class _Worker:
    name: str
    admin: int
    environment: Mapping[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def launch(self) -> None:
        """Start it without waiting."""
        command = [sys.executable, "-m", "phasewatch", "worker", "--name", self.name, "--admin-port", str(self.admin)]
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(command, env=self.environment, stderr=output)  # noqa: S603 - our own command

    def send(self, number: signal.Signals) -> None:
        """Send it a signal that ends it, if it is there."""
        if self.process is not None:
            self.process.send_signal(number)

    def end(self) -> None:
        """End it in whatever way it can."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait()

    def first(self, event: str) -> float | None:
        """Return when it first logged this since its start, UTC seconds."""
        for line in self.log.read_text("utf-8").splitlines():
            told = json.loads(line) if line[:1] == "{" else {}
            if told.get("event") == event:
                return datetime.fromisoformat(told["timestamp"]).timestamp()
        return None


@dataclass(frozen=True, slots=True)
class _Place:
    settings: Settings
    workers: dict[str, _Worker]


@contextmanager
def _deployment() -> Iterator[_Place]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        kafka, redis = KafkaBroker(folder / "kafka"), RedisServer(folder / "redis")
        for service in (kafka, redis):
            stack.callback(service.close)
            service.start()
        settings, environment = deployment_settings(kafka.address, redis.url)
        environment["PHASEWATCH_LOGGING__LEVEL"] = "info"
        # As an installation by pip has it: Python reads compiled code, which the workers' first start leaves here.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        environment["PYTHONPYCACHEPREFIX"] = str(folder / "compiled")
        command = [sys.executable, "-m", "phasewatch", "topics"]
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - our own command
        ports = free_ports(len(NAMES))
        workers = {
            name: _Worker(name, port, environment, folder / f"{name}.log")
            for name, port in zip(NAMES, ports, strict=True)
        }
        for worker in workers.values():
            stack.callback(worker.end)
            worker.launch()
        for worker in workers.values():
            wait_until_ready(worker.admin)
        yield _Place(settings, workers)


# What is watched


@dataclass(slots=True)
class _Watch:
    """Appends a block to every partition again and again, and notes when each is folded."""

    log: KafkaLog
    query: Query
    people: list[Event] = field(default_factory=list)
    """One of each partition."""
    waiting: dict[int, deque[tuple[int, float]]] = field(default_factory=dict)
    """Blocks not yet folded: offset, and when they were appended, by partition."""
    folded_from: dict[int, float] = field(default_factory=dict)
    """When the last folded block of a partition was appended."""
    longest: dict[int, float] = field(default_factory=dict)
    """The longest wait of a block, seconds."""

    def __post_init__(self) -> None:
        found: dict[int, str] = {}
        number = 0
        while len(found) < self.log.partitions:
            found.setdefault(partition_of(f"a:{number}", self.log.partitions), str(number))
            number += 1
        page = Page("https://shop.example/products", "/products", "Funds", "")
        self.people = [
            Event("", "page", 0, 0, 0, anonymous_id=found[n], source="web", page=page)
            for n in range(self.log.partitions)
        ]
        self.waiting = {n: deque() for n in found}
        self.forget()

    def forget(self) -> None:
        """Begin a round."""
        self.longest = dict.fromkeys(self.waiting, 0.0)

    async def append(self) -> None:
        """Append for ever."""
        number = 0
        while True:
            number += 1
            begun = time.time()
            await self.log.append(self._blocks(number))
            for partition, (_, end) in enumerate(await self.log.all_bounds()):
                self.waiting[partition].append((end - 1, begun))
            await asyncio.sleep(max(0.0, begun + EVERY_SECONDS - time.time()))

    def _blocks(self, number: int) -> list[tuple[int, Draft]]:
        builder = BlockBuilder(self.log.partitions, max_bytes=1024)
        now = time.time_ns() // 1_000_000
        for person in self.people:
            device, page = person.anonymous_id, person.page
            builder.add(
                Event(f"{number}-{now}", "page", now, now, now, anonymous_id=device, source="web", page=page), now
            )
        return list(builder.take())

    async def look(self) -> None:
        """Look for ever at what is folded."""
        while True:
            states = await asyncio.gather(*map(self.query.state, self.waiting))
            now = time.time()
            for partition, state in zip(self.waiting, states, strict=True):
                queue, offset = self.waiting[partition], 0 if state is None else state.position.offset
                while queue and queue[0][0] < offset:
                    self.folded_from[partition] = queue.popleft()[1]
                    self.longest[partition] = max(self.longest[partition], now - self.folded_from[partition])
            await asyncio.sleep(LOOK_SECONDS)

    async def folded_again(self, partitions: Collection[int], since: float) -> float:
        """Return when blocks appended after `since` (UTC seconds) are folded in all of the partitions."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while any(self.folded_from.get(partition, 0) < since for partition in partitions):  # noqa: ASYNC110 - another process does it
                await asyncio.sleep(LOOK_SECONDS)
        return time.time()


# The faults


async def _measure(place: _Place) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        log, store = await open_kafka_log(place.settings), open_redis_store(place.settings)
        stack.push_async_callback(log.close)
        stack.push_async_callback(store.close)
        watch = _Watch(log, Query(store, log.partitions))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(watch.append()), group.create_task(watch.look())]
            rounds: dict[str, list[Figures]] = {"kill_and_restart": [], "kill": [], "stop": []}
            for number in range(ROUNDS):
                victim = NAMES[number % 2]
                for fault, found in rounds.items():
                    found.append(await _fault(place, watch, victim, fault))
            for task in tasks:
                task.cancel()
    return {
        "takeover": {"rounds": ROUNDS, "load_average": os.getloadavg()[0]},
        **{f"after_{fault}": _summary(found) for fault, found in rounds.items()},
    }


def _summary(rounds: list[Figures]) -> Figures:
    found: Figures = {}
    for name in rounds[0]:
        values = [one[name] for one in rounds]
        found |= {f"{name}_median": median(values), f"{name}_max": max(values)}
    return found


async def _fault(place: _Place, watch: _Watch, name: str, fault: str) -> Figures:
    """Let one worker end, and return how long its partitions, and the other worker's, waited."""
    assigned = await _balanced(place, watch)
    victim = place.workers[name]
    watch.forget()
    begun = time.time()
    victim.send(signal.SIGTERM if fault == "stop" else signal.SIGKILL)
    if fault == "kill_and_restart":
        await asyncio.to_thread(victim.end)
        victim.launch()
    again = await watch.folded_again(assigned[name], begun)
    others = max(watch.longest[n] for n in range(watch.log.partitions) if n not in assigned[name])
    found = {"seconds": again - begun, "others_stall_seconds": others}
    if fault == "kill_and_restart":
        started, joined = victim.first("worker_starts"), victim.first("partitions_assigned")
        if started is not None and joined is not None:
            found |= {
                "start_seconds": started - begun,
                "join_seconds": joined - started,
                "acquire_seconds": again - joined,
            }
    else:
        await asyncio.to_thread(victim.end)
        victim.launch()
    return found


async def _balanced(place: _Place, watch: _Watch) -> dict[str, list[int]]:
    """Return which partitions each worker has, once all have some and each is folded."""
    kafka, group = kafka_access(place.settings), group_of(place.settings)
    share = watch.log.partitions // len(NAMES)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            members = {one.name: one.partitions for one in await group_members(kafka, group)}
            if members.keys() == set(NAMES) and all(len(some) >= share for some in members.values()):
                break
            await asyncio.sleep(EVERY_SECONDS)
    await watch.folded_again(range(watch.log.partitions), time.time() + QUIET_SECONDS)
    return members
