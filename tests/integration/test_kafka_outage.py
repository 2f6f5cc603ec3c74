"""Kafka is away while a thousand events a second come in: nobody is refused, nothing is lost, and it is caught up.

OUTAGE_SECONDS=600 is the promise's ten minutes, and the default of the long run.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from prometheus_client import CollectorRegistry

from collector.metrics import SpoolMetrics
from collector.sinks.kafka import KafkaSink
from collector.sinks.spool import Spool, SpoolLimits
from collector.sinks.spool_sink import LIVE_SECONDS, SpoolingSink
from collector.wire.kafka_access import KafkaAccess
from collector.wire.record import Draft, Kind
from deploy.local.services import ROOT, KafkaBroker, KafkaCluster
from processors.adapters.kafka.topics import TopicAdmin, topics
from tests.integration.collector_process import CollectorProcess
from tests.integration.embedded_process import wait_until
from tests.integration.load import Poster, Tally
from tests.kafka_topics import read_topic
from tests.services import StartService

pytestmark = pytest.mark.services

RATE = 1000
LONG_SECONDS = float(os.environ.get("OUTAGE_SECONDS", "600"))
HEALTHY_SECONDS = 5.0
TICKS = os.sysconf("SC_CLK_TCK")


class Load:
    """The process that posts; its results once it has ended."""

    def __init__(self, process: subprocess.Popen[bytes], file: Path) -> None:
        self._process = process
        self._file = file
        self.results: list[tuple[float, float, int]] = []

    def end(self) -> None:
        self._process.terminate()
        assert self._process.wait(90) == 0
        self.results = [(due, ms, status) for due, ms, status in json.loads(self._file.read_text("utf-8"))]

    def latency(self, begin: float, end: float) -> str:
        """Return how long those took that were due in a time, as text."""
        found = sorted(ms for due, ms, _ in self.results if begin <= due < end)
        at = [found[int(len(found) * share)] for share in (0.5, 0.99)]
        return f"p50 {at[0]:.0f} ms, p99 {at[1]:.0f} ms, longest {found[-1]:.0f} ms"


@contextmanager
def load(port: int, directory: Path) -> Iterator[Load]:
    file = directory / "load.json"
    command = [sys.executable, "-m", "tests.integration.outage_load", str(port), str(RATE), str(file)]
    with subprocess.Popen(command, cwd=ROOT) as process:
        try:
            yield Load(process, file)
        finally:
            process.kill()


def cpu_seconds(pids: list[int]) -> float:
    """Return what processes have used of the processor so far."""
    found = [Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split() for pid in pids]
    return sum(int(one[11]) + int(one[12]) for one in found) / TICKS


def wait(seconds: float) -> None:
    """Let the load go on for a time."""
    until = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() >= until, "the time is over", seconds + 60)


def outage(collector: CollectorProcess, broker: KafkaBroker, directory: Path, seconds: float) -> None:
    collector.launch()
    wait_until(lambda: collector.readiness()["ready"], "the collector is ready", 120)
    with load(collector.port, directory) as clients:
        wait(HEALTHY_SECONDS)
        broker.kill()
        began, cpu = time.time(), cpu_seconds(collector.children())
        accepted = collector.metric("phasewatch_collector_events_accepted_total")
        wait(seconds)
        readiness = collector.readiness()
        assert readiness["ready"], readiness
        assert "wait in the spool for Kafka" in str(readiness["notes"])
        spooled = collector.metric("phasewatch_collector_spool_bytes")
        rows = collector.metric("phasewatch_collector_spool_rows")
        cpu = cpu_seconds(collector.children()) - cpu
        accepted = collector.metric("phasewatch_collector_events_accepted_total") - accepted
        broker.start()
        back = time.time()
        wait_until(lambda: drained(collector), "the spool is drained", 60 + seconds)
        caught_up = time.time()
        wait(HEALTHY_SECONDS)
        clients.end()
    errors = Counter(status for _, _, status in clients.results if status != 200)
    posted = 10 * len(clients.results)
    print(  # noqa: T201 - figures
        f"\nKafka away for {back - began:.0f} s; {posted} events posted, {errors.total()} requests without a 200\n"
        f"spool: {rows:.0f} rows, {spooled / 1e6:.1f} MB at its fullest; drained {caught_up - back:.1f} s after Kafka "
        f"was back\nbefore: {clients.latency(began - HEALTHY_SECONDS, began)}\n"
        f"while away: {clients.latency(began, back)}\n"
        f"the first 10 s of that: {clients.latency(began, began + 10)}; the rest: {clients.latency(began + 10, back)}\n"
        f"while draining: {clients.latency(back, caught_up)}\n"
        f"CPU while spooling: {cpu / accepted * 1e6:.0f} µs an event"
    )
    assert not errors, [(round(due - began, 1), ms, status) for due, ms, status in clients.results if status != 200]
    assert collector.stop() == 0
    found = collector.ids()
    missing = {f"e-{number}" for number in range(posted)} - set(found)
    print(f"in Kafka {len(found)} and {found.total() - len(found)} repeats")  # noqa: T201 - a figure
    assert not missing
    assert not list((directory / "data/spool").glob("*.spool"))


def drained(collector: CollectorProcess) -> bool:
    return collector.metric("phasewatch_collector_spool_rows") == 0


@pytest.mark.timeout(LONG_SECONDS * 3 + 300)
@pytest.mark.long
@pytest.mark.parametrize("seconds", [LONG_SECONDS])
def test_ten_minutes_without_kafka(start_service: StartService, tmp_path: Path, seconds: float) -> None:
    broker = start_service(KafkaBroker(tmp_path / "kafka"))
    collector = CollectorProcess.on_own_topics(tmp_path, broker.address, workers=2)
    try:
        outage(collector, broker, tmp_path, seconds)
    finally:
        collector.close()


@contextmanager
def visitors(collector: CollectorProcess, tally: Tally) -> Iterator[None]:
    """Post all the time; at the end every poster gets its last answer."""
    closing = threading.Event()
    posters = [Poster(number, 3, collector.port, tally, closing) for number in range(4)]
    for poster in posters:
        poster.start()
    try:
        yield
    finally:
        closing.set()
        for poster in posters:
            poster.join(60)
    assert not any(poster.is_alive() for poster in posters)


@pytest.mark.timeout(900)
@pytest.mark.long
def test_kills_in_mid_spooling_and_mid_drain_lose_nothing(start_service: StartService, tmp_path: Path) -> None:
    """Each start has another number of processes, the second one no Kafka; the drain is slow enough to be hit."""
    broker = start_service(KafkaBroker(tmp_path / "kafka"))
    collector = CollectorProcess.on_own_topics(tmp_path, broker.address, workers=2)
    collector.settings = dict(collector.settings) | {"PHASEWATCH_SPOOL__DRAIN_BYTES_PER_SECOND": "65536"}
    tally, drained_before_kills = Tally(), 0.0

    def again(workers: int) -> None:
        collector.kill_everything()
        collector._workers = workers  # noqa: SLF001 - another number on the same ports
        collector.launch()
        wait_until(lambda: collector.readiness()["ready"], "the collector is ready", 120)

    try:
        collector.launch()
        wait_until(lambda: collector.readiness()["ready"], "the collector is ready", 120)
        with visitors(collector, tally):
            tally.await_answers(50, 30)
            broker.kill()
            tally.await_answers(200, 60)
            again(workers=1)
            tally.await_answers(200, 60)
            again(workers=3)
            tally.await_answers(100, 60)
            broker.start()
            for workers in (1, 2, 3):
                wait_until(lambda: collector.metric("phasewatch_collector_spool_drained_total") > 5, "it drains", 60)
                drained_before_kills += collector.metric("phasewatch_collector_spool_drained_total")
                assert collector.metric("phasewatch_collector_spool_rows") > 0, "it was not in mid-drain"
                again(workers)
            tally.await_answers(50, 30)
        collector.kill_everything()
        collector.settings = dict(collector.settings) | {"PHASEWATCH_SPOOL__DRAIN_BYTES_PER_SECOND": "8388608"}
        collector.launch()
        wait_until(lambda: collector.readiness()["ready"], "the collector is ready", 120)
        wait_until(lambda: drained(collector), "the spool is drained", 120)
        assert collector.stop() == 0
    finally:
        collector.close()
    found = collector.ids()
    print(  # noqa: T201 - figures
        f"\nacknowledged {len(tally.acknowledged)}, {tally.failures} requests without an answer; in Kafka {len(found)} "
        f"and {found.total() - len(found)} repeats; {drained_before_kills:.0f} rows drained by those that were killed"
    )
    assert not tally.acknowledged - set(found)
    assert not list((tmp_path / "data/spool").glob("*.spool*"))


@pytest.mark.timeout(300)
@pytest.mark.long
def test_a_stop_while_kafka_stands_still_keeps_everything(start_service: StartService, tmp_path: Path) -> None:
    broker = start_service(KafkaBroker(tmp_path / "kafka"))
    collector = CollectorProcess.on_own_topics(tmp_path, broker.address, workers=2)
    tally = Tally()

    def start() -> None:
        collector.launch()
        wait_until(lambda: collector.readiness()["ready"], "the collector is ready", 120)

    try:
        start()
        with visitors(collector, tally):
            tally.await_answers(50, 30)
            broker.pause()
            tally.await_answers(50, 30)
            began = time.monotonic()
            assert collector.stop() == 0
            print(f"\nstopped after {time.monotonic() - began:.1f} s")  # noqa: T201 - a figure
            assert "collector_workers_killed" not in {line["event"] for line in collector.lines()}
            broker.resume()
            start()
            tally.await_answers(50, 30)
        wait_until(lambda: drained(collector), "the spool is drained", 60)
        assert collector.stop() == 0
    finally:
        collector.close()
    assert not tally.acknowledged - set(collector.ids())


PARTITIONS = 6


class Writer:
    """Writes numbers to partitions one by one, and notes how long the slowest took."""

    def __init__(self, sink: SpoolingSink) -> None:
        self._sink = sink
        self.counts = [0] * PARTITIONS
        self.slowest = 0.0

    async def write(self) -> None:
        began = time.monotonic()
        blocks = []
        for place in range(PARTITIONS):
            value = b"%d" % self.counts[place]
            blocks.append((place, Draft(kind=Kind.EVENTS, clock=1_700_000_000_000 + place, value=value, count=1)))
            self.counts[place] += 1
        await self._sink.write(blocks)
        self.slowest = max(self.slowest, time.monotonic() - began)


@pytest.mark.timeout(300)
@pytest.mark.long
@pytest.mark.usefixtures("logged_errors")  # aiokafka logs one for each broker that does not answer
async def test_partitions_without_a_leader_keep_the_others_waiting_once(
    start_service: StartService, tmp_path: Path
) -> None:
    cluster = start_service(KafkaCluster(tmp_path / "cluster"))
    wanted = topics(prefix="t.", partitions=PARTITIONS, retention_days=1, replication_factor=1, min_insync_replicas=1)
    async with TopicAdmin(KafkaAccess(cluster.address)) as admin:
        await admin.create([one for one in wanted if one.name in {"t.events", "t.rejected"}])
    live = KafkaSink(
        KafkaAccess(cluster.address), topic_prefix="t.", partitions=PARTITIONS, delivery_seconds=LIVE_SECONDS
    )
    draining = KafkaSink(KafkaAccess(cluster.address), topic_prefix="t.", partitions=PARTITIONS)
    metrics = SpoolMetrics(CollectorRegistry())
    spool = Spool(tmp_path / "spool", SpoolLimits(100_000_000, 0), lambda: time.time_ns() // 1_000_000, metrics)
    sink = SpoolingSink(spool, live, draining, drain_bytes_per_second=10_000_000)
    writer = Writer(sink)
    try:
        await writer.write()
        assert live._producer is not None  # noqa: SLF001 - which broker leads is nobody's else to know
        leader_of = live._producer.client.cluster.leader_for_partition  # noqa: SLF001
        leaders = [leader_of(TopicPartition("t.events", place)) for place in range(PARTITIONS)]
        led = leaders[0]
        sick = [place for place in range(PARTITIONS) if leaders[place] == led]
        broker = cluster.brokers[led - 1]
        broker.kill()
        await writer.write()
        first, writer.slowest = writer.slowest, 0.0
        assert first < 2 * LIVE_SECONDS
        until = time.monotonic() + 15
        while time.monotonic() < until:
            await writer.write()
            await asyncio.sleep(0.01)
        print(f"\n{len(sick)} of {PARTITIONS} sick: first {first:.2f} s, then at most {writer.slowest:.2f} s")  # noqa: T201
        assert await sink.not_ready() is None
        await asyncio.to_thread(broker.start)
        async with asyncio.timeout(60):
            while sink.note() is not None:
                await writer.write()
                await asyncio.sleep(0.01)
    finally:
        await sink.close()
    for place in range(PARTITIONS):
        records = await read_topic(cluster.address, "t.events", place)
        values = list(dict.fromkeys(int(one.value) for one in records))
        assert values == list(range(writer.counts[place])), place
        assert {dict(one.headers)["clock"] for one in records} == {b"%d" % (1_700_000_000_000 + place)}
