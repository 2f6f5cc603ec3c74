"""Each alert, fired by its real fault: real processes, a real Prometheus, and the shipped rules in quick motion.

Quick motion (`hastened`) is all that differs from production: every duration of the rules, which is `for`, windows and
offsets, is divided by 60, every limit of a metric in seconds by 10, and Prometheus scrapes twice a second. Where the
log is the fault, the admin port asks it in vain for up to 3 s before it answers: there time is divided by 8 alone.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from collector.wire.record import HOUR_MS, Draft, Kind
from deploy.local.process import Service, free_ports, wait_until
from deploy.local.services import Prometheus, RedisServer
from processors.adapters.kafka.topics import topics
from tests.integration.embedded_process import COMMAND, EmbeddedProcess
from tests.integration.production import Deployment, Inside, Worker
from tests.services import StartService

pytestmark = pytest.mark.services

RULES = Path(__file__).parents[2] / "deploy/prometheus/alerts.yml"
FASTER = 60
FASTER_WITHOUT_LOG = 8
LOWER = 10
SCRAPE_MS = 30_000
"""How often Prometheus scrapes, before it is divided."""
PATIENCE_SECONDS = 60.0
POLL_SECONDS = 0.1
MILLISECONDS = {"s": 1000, "m": 60_000, "h": 3_600_000}
DURATION = re.compile(r"\b(\d+)([smh])\b")
LIMIT_IN_SECONDS = re.compile(r"(_seconds(?:\[\w+\]\))?\) [<>] )(\d+)")
PARTITIONS = 4
DAYS_AGO = 30
"""Longer than anybody stays in the decision phase without doing anything."""
DECIDING = [{"type": "submit", "page": {"path": "/orders/new"}}] * 2 + [
    {"type": "click", "element": {"text": "Invest"}}
]
"""What makes somebody decide."""


def shorter(duration: str, faster: int) -> str:
    return DURATION.sub(lambda found: f"{int(found[1]) * MILLISECONDS[found[2]] // faster}ms", duration)


def hastened(faster: int = FASTER) -> dict[str, Any]:
    """Return the rules in quick motion."""
    rules: dict[str, Any] = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    for group in rules["groups"]:
        for rule in group["rules"]:
            limits = LIMIT_IN_SECONDS.sub(lambda found: f"{found[1]}{int(found[2]) / LOWER}", rule["expr"])
            rule["expr"] = shorter(limits, faster)
            rule["for"] = shorter(rule.get("for", "0s"), faster)
    return rules


def test_quick_motion_is_thought_of_everywhere() -> None:
    text = json.dumps(hastened())
    assert "[2000ms]" in text
    assert "offset 60000ms" in text
    assert "_seconds[2000ms])) > 6.0" in text
    assert not DURATION.search("".join(rule["expr"] for group in hastened()["groups"] for rule in group["rules"]))


class Watch:
    """A Prometheus over the rules in quick motion."""

    def __init__(self, prometheus: Prometheus) -> None:
        self._prometheus = prometheus

    def firing(self) -> list[dict[str, str]]:
        """Return the labels of every alert that fires."""
        answer = httpx.get(f"{self._prometheus.url}/api/v1/alerts", trust_env=False).json()
        return [one["labels"] for one in answer["data"]["alerts"] if one["state"] == "firing"]

    def sees(self, targets: int) -> bool:
        """Say whether it has scraped so many targets a few times; it begins only seconds after its start."""
        query = {"query": "count(sum_over_time(up[1m]) >= 4)"}
        answer = httpx.get(f"{self._prometheus.url}/api/v1/query", params=query, trust_env=False).json()
        return [int(one["value"][1]) for one in answer["data"]["result"]] == [targets]

    def fires(self, alert: str, **labels: str) -> bool:
        wanted = ({"alertname": alert} | labels).items()
        return any(wanted <= found.items() for found in self.firing())

    def wait_for(self, alert: str, seconds: float = PATIENCE_SECONDS, **labels: str) -> None:
        """Wait until the alert fires."""
        deadline = time.monotonic() + seconds
        while not self.fires(alert, **labels):
            assert time.monotonic() < deadline, f"{alert} does not fire within {seconds:g} s, but: {self.firing()}"
            time.sleep(POLL_SECONDS)

    def keeps_firing(self, alert: str, seconds: float) -> None:
        """Wait for some seconds; fail unless the alert fires then."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(POLL_SECONDS)
        assert self.fires(alert), self.firing()

    def stays_silent(self, alert: str, seconds: float) -> None:
        """Fail if the alert fires within some seconds."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert not self.fires(alert), f"{alert} fires without its fault: {self.firing()}"
            time.sleep(POLL_SECONDS)


StartWatch = Callable[..., Watch]


@pytest.fixture
def start_watch(start_service: StartService, tmp_path: Path) -> StartWatch:
    """Return a function that watches collectors and workers by the ports of their admin pages."""

    def start(*, collectors: list[int] | None = None, workers: list[int] | None = None, faster: int = FASTER) -> Watch:
        scrape = f"{SCRAPE_MS // faster}ms"
        jobs = {"phasewatch-collector": collectors or [], "phasewatch-worker": workers or []}
        (tmp_path / "alerts.yml").write_text(yaml.safe_dump(hastened(faster)), encoding="utf-8")
        configuration = {
            "global": {"scrape_interval": scrape, "scrape_timeout": scrape, "evaluation_interval": scrape},
            "rule_files": ["alerts.yml"],
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in ports]}]}
                for job, ports in jobs.items()
            ],
        }
        (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(configuration), encoding="utf-8")
        watch = Watch(start_service(Prometheus(tmp_path / "prometheus", tmp_path / "prometheus.yml")))
        wait_until(lambda: watch.sees(sum(map(len, jobs.values()))), "Prometheus sees all targets", PATIENCE_SECONDS)
        return watch

    return start


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[EmbeddedProcess]:
    process = EmbeddedProcess(tmp_path)
    try:
        process.start()
        yield process
    finally:
        process.close()


def admin_port(process: EmbeddedProcess) -> int:
    return int(process.admin.rsplit(":", 1)[1])


@contextmanager
def traffic(url: str, events: list[dict[str, Any]], *, key: str = "demo") -> Iterator[None]:
    """Post the events again and again, each time as new ones, as long as the block runs."""
    stop = threading.Event()

    def send() -> None:
        with httpx.Client(trust_env=False, timeout=30) as client:
            while not stop.wait(POLL_SECONDS):
                client.post(f"{url}/v1/events?key={key}", content=json.dumps(events))

    threads = [threading.Thread(target=send) for _ in range(3)]  # one alone would wait for an answer that is late
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.mark.long
def test_a_source_that_sends_what_nobody_can_use(embedded: EmbeddedProcess, start_watch: StartWatch) -> None:
    watch = start_watch(collectors=[admin_port(embedded)])
    good, bad = {"user_id": "somebody", "type": "page"}, {"type": "page"}
    with traffic(embedded.collector, [good] * 20):
        watch.stays_silent("EventsRejected", 8)
    with traffic(embedded.collector, [good, bad]):
        watch.wait_for("EventsRejected", source="demo")


@pytest.mark.long
def test_a_key_that_nobody_knows(embedded: EmbeddedProcess, start_watch: StartWatch) -> None:
    watch = start_watch(collectors=[admin_port(embedded)])
    with traffic(embedded.collector, [{"user_id": "somebody", "type": "page"}], key="of-last-year"):
        watch.wait_for("RequestsRefused", code="wrong_key")


@pytest.mark.long
def test_events_that_stop(embedded: EmbeddedProcess, start_watch: StartWatch) -> None:
    with traffic(embedded.collector, [{"user_id": "somebody", "type": "page"}]):
        watch = start_watch(collectors=[admin_port(embedded)])
        wait_until(lambda: not watch.fires("NoEvents"), "events are seen", PATIENCE_SECONDS)
        watch.stays_silent("NoEvents", 7)
    watch.wait_for("NoEvents", 90)


@pytest.mark.long
def test_a_log_that_somebody_locks(embedded: EmbeddedProcess, start_watch: StartWatch) -> None:
    watch = start_watch(collectors=[admin_port(embedded)], faster=FASTER_WITHOUT_LOG)
    with traffic(embedded.collector, [{"user_id": "somebody", "type": "page"}]):
        watch.stays_silent("CollectorCannotWrite", 4)
        with closing(sqlite3.connect(embedded.data / "log.sqlite", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            watch.wait_for("CollectorCannotWrite")
            other.execute("ROLLBACK")


class Collector(Service):
    """One `phasewatch collector` of a deployment."""

    name = "collector"
    programs = ()

    def __init__(self, data: Path, deployment: Deployment) -> None:
        super().__init__(data, 0)
        (self.admin_port,) = free_ports(1)
        foreign = [f"--unset={name}" for name in os.environ if name.startswith("PHASEWATCH_")]
        self._environment = [*foreign, *(f"{name}={value}" for name, value in deployment.environment.items())]

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def prepare(self) -> None:
        """Do nothing: all settings come with the command."""

    def command(self) -> list[str]:
        ports = ["--port", str(self.port), "--admin-port", str(self.admin_port)]
        return ["env", *self._environment, *COMMAND, "collector", *ports]

    def answers(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.admin_port}/readyz", trust_env=False).is_success
        except httpx.HTTPError:
            return False

    def kill_accepting_processes(self) -> None:
        for child in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)


@pytest.fixture
def deployment(tmp_path: Path, kafka: str, redis_server: RedisServer) -> Iterator[Deployment]:
    """A deployment with its topics, of which nothing runs."""
    deployment = Deployment(tmp_path, kafka, redis_server.url, partitions=PARTITIONS)
    deployment.create_topics()
    yield deployment
    deployment.close()


@contextmanager
def refusing(deployment: Deployment, names: list[str]) -> Iterator[None]:
    """Let Kafka take no record in these topics as long as the block runs: any is too large."""
    prefix = deployment.settings.kafka.topic_prefix
    every = topics(prefix=prefix, partitions=PARTITIONS, retention_days=90, replication_factor=1, min_insync_replicas=1)
    found = {one.name: {name: each.value for name, each in one.settings.items()} for one in every}
    hit = {name: settings for name, settings in found.items() if name.removeprefix(prefix) in names}
    brokers = deployment.settings.kafka.brokers
    asyncio.run(_alter(brokers, {name: settings | {"max.message.bytes": "1"} for name, settings in hit.items()}))
    try:
        yield
    finally:
        asyncio.run(_alter(brokers, hit))


async def _alter(kafka: str, settings: dict[str, dict[str, str]]) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, *one) for one in settings.items()])
    finally:
        await admin.close()


async def _append(deployment: Deployment, records: list[tuple[int, Draft]]) -> None:
    async with Inside.open(deployment) as inside:
        await inside.log.append(records)


async def _begin(deployment: Deployment, days_ago: int | None = None) -> None:
    """Wait for the definitions; some people decided `days_ago`."""
    async with Inside.open(deployment) as inside:
        await inside.settle()
        if days_ago is not None:
            then = int(time.time() * 1000) - days_ago * 24 * HOUR_MS
            history = (
                {"id": f"{n}-{m}", "user_id": f"u{n}", "ts": then, "arrives": then + m, "trusted": False, **event}
                for m, event in enumerate(DECIDING)
                for n in range(20)
            )
            await inside.feed(history, imported=True)


def blocks(count: int, partition: int) -> list[tuple[int, Draft]]:
    now = int(time.time() * 1000)
    return [(partition, Draft(Kind.TICK, now)) for _ in range(count)]


@pytest.mark.long
def test_a_process_of_the_collector_that_dies(
    deployment: Deployment, start_service: StartService, start_watch: StartWatch
) -> None:
    collector = start_service(Collector(deployment.directory / "collector", deployment))
    watch = start_watch(collectors=[collector.admin_port])
    watch.stays_silent("CollectorFaults", 3)
    collector.kill_accepting_processes()
    watch.wait_for("CollectorFaults")


@pytest.mark.long
def test_a_kafka_that_takes_nothing(
    deployment: Deployment, start_service: StartService, start_watch: StartWatch
) -> None:
    collector = start_service(Collector(deployment.directory / "collector", deployment))
    watch = start_watch(collectors=[collector.admin_port], faster=FASTER_WITHOUT_LOG)
    with traffic(collector.url, [{"user_id": "somebody", "type": "page"}]):
        watch.stays_silent("CollectorSpooling", 4)
        with refusing(deployment, ["events"]):
            watch.wait_for("CollectorSpooling")
        assert not watch.fires("CollectorCannotWrite"), "the spool takes all"


def test_a_worker_that_is_killed(deployment: Deployment, start_watch: StartWatch) -> None:
    worker = deployment.worker("one")
    worker.wait_ready()
    watch = start_watch(workers=[worker.port])
    watch.stays_silent("InstanceDown", 3)
    worker.kill()
    watch.wait_for("InstanceDown", job="phasewatch-worker")
    watch.wait_for("PartitionsNotFolded")


@pytest.mark.long
def test_a_log_that_has_lost_records(deployment: Deployment, start_watch: StartWatch) -> None:
    worker = deployment.worker("one")
    worker.wait_ready()
    watch = start_watch(workers=[worker.port])
    asyncio.run(_append(deployment, blocks(3, 2)))
    watch.stays_silent("PartitionsNotFolded", 4)
    worker.kill()
    asyncio.run(_append(deployment, blocks(3, 2)))
    asyncio.run(_delete_all(deployment, 2))
    worker.launch()
    wait_until(
        lambda: "stopped" in worker.ready()["not_ready"].get("partitions", ""), "it has stopped", PATIENCE_SECONDS
    )
    watch.keeps_firing("PartitionsNotFolded", 4)  # not only as long as no worker answered


async def _delete_all(deployment: Deployment, partition: int) -> None:
    kafka = deployment.settings.kafka
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.brokers)
    await admin.start()
    try:
        place = TopicPartition(f"{kafka.topic_prefix}events", partition)
        await admin.delete_records({place: RecordsToDelete(before_offset=-1)})
    finally:
        await admin.close()


@pytest.mark.long
def test_a_record_of_somebody_elses(deployment: Deployment, start_watch: StartWatch) -> None:
    worker = deployment.worker("one")
    worker.wait_ready()
    watch = start_watch(workers=[worker.port])
    watch.stays_silent("RecordsSetAside", 3)
    asyncio.run(_send(deployment, b"\x00 no block"))
    watch.wait_for("RecordsSetAside")


async def _send(deployment: Deployment, value: bytes) -> None:
    kafka = deployment.settings.kafka
    async with AIOKafkaProducer(bootstrap_servers=kafka.brokers) as producer:
        await producer.send_and_wait(f"{kafka.topic_prefix}events", value, partition=1)


@pytest.mark.long
def test_subscribers_topics_that_take_nothing(deployment: Deployment, start_watch: StartWatch) -> None:
    worker = deployment.worker("one")
    worker.wait_ready()
    asyncio.run(_begin(deployment))
    watch = start_watch(workers=[worker.port])
    watch.stays_silent("OutboxNotDraining", 4)
    with refusing(deployment, ["stage-changes"]):
        asyncio.run(_decide_now(deployment))
        watch.wait_for("OutboxNotDraining")


async def _decide_now(deployment: Deployment) -> None:
    now = int(time.time() * 1000)
    async with Inside.open(deployment) as inside:
        await inside.feed(
            (
                {"id": f"now-{m}", "user_id": "now", "ts": now, "arrives": now, "trusted": False, **event}
                for m, event in enumerate(DECIDING)
            ),
            settle_every=0,
        )


@pytest.mark.long
def test_ticks_that_cannot_be_written(deployment: Deployment, start_watch: StartWatch) -> None:
    worker = deployment.worker("one")
    worker.wait_ready()
    asyncio.run(_begin(deployment, DAYS_AGO))
    watch = start_watch(workers=[worker.port])
    watch.stays_silent("PersonOverdue", 4)
    worker.stop()
    then = int(time.time() * 1000) - DAYS_AGO * 24 * HOUR_MS
    asyncio.run(_append(deployment, [(n, Draft(Kind.LIVE, then)) for n in range(PARTITIONS)]))
    with refusing(deployment, ["events"]):
        worker.launch()
        watch.wait_for("PersonOverdue")


@pytest.mark.long
def test_more_than_a_worker_can_fold(deployment: Deployment, start_watch: StartWatch) -> None:
    worker = deployment.worker("one")
    worker.wait_ready()
    watch = start_watch(workers=[worker.port])
    watch.stays_silent("WorkerBehind", 4)
    worker.stop()
    asyncio.run(_append(deployment, blocks(20_000, 0)))
    worker.environment["PHASEWATCH_WORKER__BATCH_RECORDS"] = "1"  # a commit for each: slower than any worker should be
    began = time.monotonic()
    while time.monotonic() < began + 8:  # what is not yet folded has to have waited for some time
        time.sleep(POLL_SECONDS)
    worker.launch()
    watch.wait_for("WorkerBehind")


@pytest.mark.long
def test_a_redis_that_is_set_up_as_a_cache(
    tmp_path: Path, kafka: str, start_service: StartService, start_watch: StartWatch
) -> None:
    redis = start_service(RedisServer(tmp_path / "redis", settings={"maxmemory": "100mb"}))
    deployment = Deployment(tmp_path, kafka, redis.url, partitions=PARTITIONS)
    deployment.create_topics()
    with closing(deployment):
        worker = deployment.worker("one")
        worker.wait_ready()
        watch = start_watch(workers=[worker.port])
        for alert in ("RedisNotPersistent", "RedisMayEvict", "RedisNearlyFull"):
            watch.stays_silent(alert, 3)
        used = int(re.search(r"used_memory:(\d+)", redis.ask("INFO memory"))[1])  # type: ignore[index] # it is there
        for name, value in (("appendonly", "no"), ("maxmemory-policy", "allkeys-lru"), ("maxmemory", used * 11 // 10)):
            assert redis.ask(f"CONFIG SET {name} {value}") == "+OK"
        for alert in ("RedisNotPersistent", "RedisMayEvict", "RedisNearlyFull"):
            watch.wait_for(alert, 90)


@pytest.mark.long
def test_collectors_and_workers_of_different_topics(
    deployment: Deployment, start_service: StartService, start_watch: StartWatch, redis_server: RedisServer
) -> None:
    worker = deployment.worker("one")
    worker.wait_ready()
    others = Deployment(deployment.directory, deployment.settings.kafka.brokers, redis_server.url, partitions=4)
    others.create_topics()
    collector = start_service(Collector(deployment.directory / "collector", others))
    watch = start_watch(collectors=[collector.admin_port], workers=[worker.port])
    with traffic(collector.url, [{"user_id": "somebody", "type": "page"}] * 5):
        watch.wait_for("Imbalance", 180)


@pytest.mark.long
def test_a_worker_with_a_bug_that_drops_events(deployment: Deployment, start_watch: StartWatch) -> None:
    worker = deployment.workers["one"] = Worker(deployment, "one")
    worker.environment["PYTHONPATH"] = str(RULES.parents[2])
    worker.launch(sys.executable, "-m", "tests.integration.forgetful_worker", "worker")
    worker.wait_ready()
    watch = start_watch(workers=[worker.port])
    asyncio.run(_write(deployment, "page"))
    watch.stays_silent("EventsUnaccounted", 5)
    asyncio.run(_write(deployment, "click"))
    watch.wait_for("EventsUnaccounted")


async def _write(deployment: Deployment, kind: str) -> None:
    now = int(time.time() * 1000)
    async with Inside.open(deployment) as inside:
        await inside.feed([{"user_id": "1", "type": kind, "ts": now, "arrives": now, "trusted": False}])
