"""Everything together on one machine: Kafka, Redis, a collector, a worker, and the load on them.

First the most events a second that the whole sustains: as many clients as keep it busy, until the worker, too, is done.
Then, at half of that, how long it takes from a request to the change at a subscriber.
BENCH_WORKERS is the number of worker processes, 1 unless set.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from bench.processes import cpu_seconds
from bench.system_load import Connection
from bench.worker import deployment_settings, wait_until_ready
from collector.wire.record import Record
from deploy.local.process import free_ports
from deploy.local.services import KafkaBroker, RedisServer
from phasewatch.backend import open_kafka_log, open_redis_store
from phasewatch.settings import Settings
from processors.adapters.kafka.log import KafkaLog
from processors.engine.query import Query
from processors.wire import ENTERED, decode_change

WARM_SECONDS: Final = 5
SECONDS: Final = 6
ROUNDS: Final = 5
PATIENCE_SECONDS: Final = 60
AS_MUCH_AS_POSSIBLE: Final = 1e6
PROBE_SECONDS: Final = 32
PROBES_A_SECOND: Final = 20
BETWEEN_SECONDS: Final = 0.5
"""Between a probe's first two events and the third, which is the decision."""

Figures = dict[str, float]


def measure() -> dict[str, Any]:
    """Return the maximum, CPU µs an event of each process there and at half of it, and the way's times in ms."""
    with ExitStack() as stack:
        place = stack.enter_context(_deployment(int(os.environ.get("BENCH_WORKERS", "1"))))
        return asyncio.run(_measure(place))


@dataclass(frozen=True, slots=True)
class _Place:
    settings: Settings
    port: int
    """Of the collector."""
    pids: dict[str, list[int]]
    """By what each of them is."""

    def cpu(self) -> Figures:
        """Return the CPU seconds so far."""
        return {name: sum(map(cpu_seconds, pids)) for name, pids in self.pids.items()}


@contextmanager
def _deployment(workers: int) -> Iterator[_Place]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        kafka, redis = KafkaBroker(folder / "kafka"), RedisServer(folder / "redis")
        for service in (kafka, redis):
            stack.callback(service.close)
            service.start()
        settings, environment = deployment_settings(kafka.address, redis.url)
        command = [sys.executable, "-m", "phasewatch"]
        subprocess.run([*command, "topics"], env=environment, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - our own command
        port, *admin = free_ports(2 + workers)
        commands = [[*command, "collector", "--workers", "1", "--port", str(port)]]
        commands += [[*command, "worker", "--name", f"worker-{n}"] for n in range(workers)]
        pids = []
        for one, admin_port in zip(commands, admin, strict=True):
            process = subprocess.Popen([*one, "--admin-port", str(admin_port)], env=environment)  # noqa: S603
            stack.callback(process.wait)
            stack.callback(process.terminate)
            pids.append(process.pid)
        for admin_port in admin:
            wait_until_ready(admin_port)
        named = {"collector": pids[:1], "worker": pids[1:], "redis": [redis.pid], "kafka": [kafka.pid]}
        yield _Place(settings, port, named)


async def _measure(place: _Place) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        log, store = await open_kafka_log(place.settings), open_redis_store(place.settings)
        stack.push_async_callback(log.close)
        stack.push_async_callback(store.close)
        load = _Load(place, await stack.enter_async_context(_client(place.port)), log, Query(store, log.partitions))
        await load.run(AS_MUCH_AS_POSSIBLE, WARM_SECONDS)
        rounds = [await load.run(AS_MUCH_AS_POSSIBLE, SECONDS) for _ in range(ROUNDS)]
        busy = {name: median(one[name] for one in rounds) for name in rounds[0]}
        subscriber = await stack.enter_async_context(_subscriber(place.settings))
        probing = asyncio.create_task(_probe(place.port, log, subscriber))
        half = await load.run(busy["events_per_second"] / 2, PROBE_SECONDS + 2)
        way = await probing
    return {
        "system": {name: value for name, value in busy.items() if not name.endswith("_cpu")}
        | {"most_events_per_second": max(one["events_per_second"] for one in rounds)}
        | {"load_average": os.getloadavg()[0]},
        "cpu_us_per_event": _cpu_of(busy),
        "cpu_us_per_event_at_half": _cpu_of(half),
        "ms_at_half": way | {"events_per_second": half["posted_per_second"]},
    }


# The load and what it costs


@asynccontextmanager
async def _client(port: int) -> AsyncIterator[Process]:
    client = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.system_load", str(port), stdin=PIPE, stdout=PIPE
    )
    try:
        yield client
    finally:
        if client.stdin is not None:
            client.stdin.close()
        await client.wait()


@dataclass(frozen=True, slots=True)
class _Load:
    place: _Place
    client: Process
    log: KafkaLog
    query: Query

    async def run(self, rate: float, seconds: float) -> Figures:
        """Post at a rate, wait until all is folded, and return what it took, CPU in µs an event."""
        if self.client.stdin is None or self.client.stdout is None:
            msg = "the load's process has no pipes"
            raise RuntimeError(msg)
        before, begun = self.place.cpu(), time.monotonic()
        self.client.stdin.write(f"{rate} {seconds}\n".encode())
        line = await self.client.stdout.readline()
        if not line:
            msg = "the load's process has ended; what it wrote says why"
            raise RuntimeError(msg)
        found = json.loads(line)
        posted = time.monotonic()
        await self._folded()
        ended = time.monotonic()
        after, events = self.place.cpu(), found["events"]
        cpu = {f"{name}_cpu": (after[name] - before[name]) / events * 1e6 for name in before}
        return {
            "posted_per_second": events / found["seconds"],
            "events_per_second": events / (ended - begun),
            "done_after_seconds": ended - posted,
            **cpu,
            "all_cpu": sum(cpu.values()),
            "load_cpu": found["cpu_seconds"] / events * 1e6,
        }

    async def _folded(self) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await self._behind():  # noqa: ASYNC110 - another process does it
                await asyncio.sleep(0.05)

    async def _behind(self) -> bool:
        ends = [end for _, end in await self.log.all_bounds()]
        states = await asyncio.gather(*map(self.query.state, range(len(ends))))
        return any(end > (state.position.offset if state else 0) for end, state in zip(ends, states, strict=True))


def _cpu_of(found: Figures) -> Figures:
    return {name.removesuffix("_cpu"): value for name, value in found.items() if name.endswith("_cpu")}


# The way from a request to a subscriber


@asynccontextmanager
async def _subscriber(settings: Settings) -> AsyncIterator[AIOKafkaConsumer]:
    topic = settings.kafka.topic_prefix + ENTERED["decision"]
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka.brokers, enable_auto_commit=False, isolation_level="read_committed"
    )
    await consumer.start()
    try:
        places = [TopicPartition(topic, n) for n in range(settings.log.partitions)]
        consumer.assign(places)
        await consumer.seek_to_end(*places)
        yield consumer
    finally:
        await consumer.stop()


@dataclass(slots=True)
class _Probe:
    sent: float = 0.0
    """When the deciding request left, UTC seconds, as all of these."""
    answered: float = 0.0
    arrived: float = 0.0
    published: float = 0.0
    place: tuple[int, int] = (0, 0)
    """Partition and offset of the deciding record."""


async def _probe(port: int, log: KafkaLog, subscriber: AIOKafkaConsumer) -> Figures:
    """Let people decide at a steady rate, and return how long each part of the way took."""
    probes = {f"a:probe-{number}": _Probe() for number in range(PROBE_SECONDS * PROBES_A_SECOND)}
    listening = asyncio.create_task(_listen(subscriber, probes))
    async with asyncio.TaskGroup() as group:
        begun = time.monotonic()
        for number, (person, probe) in enumerate(probes.items()):
            await asyncio.sleep(max(0, begun + number / PROBES_A_SECOND - time.monotonic()))
            group.create_task(_decide(port, person.removeprefix("a:"), probe))
    async with asyncio.timeout(PATIENCE_SECONDS):
        await listening
    return await _way(list(probes.values()), log)


async def _decide(port: int, device: str, probe: _Probe) -> None:
    connection = await Connection.open(port)
    await connection.post(_submits(device, 0, 1))
    await asyncio.sleep(BETWEEN_SECONDS)
    probe.sent = time.time()
    await connection.post(_submits(device, 2))
    probe.answered = time.time()
    connection.close()


def _submits(device: str, *numbers: int) -> bytes:
    events = [
        {"id": f"{device}-{n}", "type": "submit", "anonymous_id": device, "page": {"path": "/orders/new"}}
        for n in numbers
    ]
    return json.dumps(events).encode()


async def _listen(subscriber: AIOKafkaConsumer, probes: dict[str, _Probe]) -> None:
    missing = set(probes)
    while missing:
        record = await subscriber.getone()
        arrived = time.time()
        change = decode_change(record.value)
        if change.person in missing:
            missing.remove(change.person)
            probe = probes[change.person]
            probe.arrived, probe.published = arrived, record.timestamp / 1000
            probe.place = change.position.partition, change.position.offset


async def _way(probes: Sequence[_Probe], log: KafkaLog) -> Figures:
    """Return median and 99th percentile of each part, ms; Kafka's own times are whole milliseconds."""
    appended = []
    for probe in probes:
        (record,) = await log.read(*probe.place, 1)
        if not isinstance(record, Record):
            msg = f"the record at {probe.place} is unreadable"
            raise TypeError(msg)
        appended.append(record.append_time / 1000)
    parts = {
        "post_to_subscriber": [one.arrived - one.sent for one in probes],
        "post_to_answer": [one.answered - one.sent for one in probes],
        "post_to_log": [at - one.sent for one, at in zip(probes, appended, strict=True)],
        "log_to_published": [one.published - at for one, at in zip(probes, appended, strict=True)],
        "published_to_subscriber": [one.arrived - one.published for one in probes],
    }
    found: Figures = {"probes": len(probes)}
    for name, seconds in parts.items():
        cuts = quantiles(seconds, n=100)
        found |= {f"{name}_p50": cuts[49] * 1000, f"{name}_p99": cuts[98] * 1000}
    return found
