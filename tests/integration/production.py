"""The production processes over a real Kafka and Redis: workers started, killed, stopped; what they read and wrote."""

from __future__ import annotations

import asyncio
import http
import json
import random
import signal
import subprocess
import time
import urllib.request
from collections import deque
from collections.abc import AsyncIterator, Container, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from collector.decode.decoded import RequestFacts
from collector.decode.native import decode_native
from collector.settings import Limits
from collector.wire.block import BlockBuilder
from collector.wire.record import HOUR_MS, Draft, Kind, Record
from phasewatch.backend import open_kafka_log, open_redis_store
from phasewatch.settings import Settings
from processors.adapters.kafka.log import KafkaLog
from processors.adapters.redis.store import RedisStore
from processors.engine.query import Query
from tests.harness import BLOCK_MS, _origin_taken
from tests.integration.collector_process import CollectorProcess, bare_environment
from tests.integration.embedded_process import COMMAND, free_ports, wait_until

SETTLE_SECONDS = 120

Message = tuple[int, bytes | None, bytes | None, dict[str, bytes]]
"""Partition, key, value and headers, as a subscriber reads them."""


class Deployment:
    """One deployment on a Kafka and a Redis that others may share: topics and keys have a prefix of their own."""

    def __init__(self, directory: Path, kafka: str, redis_url: str, *, partitions: int = 32) -> None:
        self.directory = directory
        self.name = f"t{random.randrange(1 << 40):x}"
        self.environment = {
            "PHASEWATCH_KAFKA__BROKERS": kafka,
            "PHASEWATCH_KAFKA__TOPIC_PREFIX": f"{self.name}.",
            "PHASEWATCH_KAFKA__REPLICATION_FACTOR": "1",
            "PHASEWATCH_KAFKA__MIN_INSYNC_REPLICAS": "1",
            "PHASEWATCH_REDIS__URL": redis_url,
            "PHASEWATCH_REDIS__PREFIX": self.name,
            "PHASEWATCH_LOG__PARTITIONS": str(partitions),
            "PHASEWATCH_STORE__DATA_DIR": str(directory / "data"),
        }
        self.partitions = partitions
        self.workers: dict[str, Worker] = {}
        self._collectors: list[CollectorProcess] = []
        self._consoles: list[Console] = []

    @property
    def settings(self) -> Settings:
        """What the processes are given."""
        given: dict[str, dict[str, Any]] = {}
        for name, value in self.environment.items():
            section, _, key = name.removeprefix("PHASEWATCH_").lower().partition("__")
            given.setdefault(section, {})[key] = json.loads(value) if value[:1] == "[" else value
        return Settings.model_validate(given)

    def run(self, *arguments: str | Path, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command of the product to its end."""
        return subprocess.run(
            [*COMMAND, *map(str, arguments)],
            cwd=self.directory,
            env=bare_environment() | self.environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def create_topics(self) -> None:
        done = self.run("topics")
        assert done.returncode == 0, done.stdout + done.stderr

    def worker(self, name: str, *command: str) -> Worker:
        """Start a worker, the product's own unless another command is given, and return it at once."""
        found = self.workers[name] = self.workers.get(name) or Worker(self, name)
        found.launch(*command)
        return found

    def collector(self, *, workers: int) -> CollectorProcess:
        """Return a collector that was not yet started."""
        found = CollectorProcess(self.directory, self.environment, workers=workers)
        self._collectors.append(found)
        return found

    def console(self) -> Console:
        """Return a console that was not yet started."""
        found = Console(self)
        self._consoles.append(found)
        return found

    def start_everything(self) -> tuple[CollectorProcess, Console]:
        """Create the topics and start two workers, a collector and a console; return when definitions are in force.

        What is collected before is folded without a meaning.
        """
        self.create_topics()
        collector, console = self.collector(workers=2), self.console()
        console.launch()
        for name in ("one", "two"):
            self.worker(name)
        collector.start()
        for process in (*self.workers.values(), console):
            process.wait_ready()
        self.settle()
        return collector, console

    def settle(self) -> None:
        """Wait until everything in the log is folded and published; inside of a test's loop take `Inside.settle`."""
        asyncio.run(self._settle())

    async def _settle(self) -> None:
        async with Inside.open(self) as inside:
            await inside.settle()

    def complaints(self) -> list[dict[str, Any]]:
        """Return the warnings and errors of workers and consoles so far, but the client's: it logs every rebalance."""
        found = [one for process in (*self.workers.values(), *self._consoles) for one in process.complaints()]
        return [one for one in found if not one.get("logger", "").startswith("aiokafka")]

    def close(self) -> None:
        for collector in self._collectors:
            collector.close()
        for process in (*self.workers.values(), *self._consoles):
            process.close()


class _Process:
    """One process of a deployment; started again it has the same name and port."""

    def __init__(self, deployment: Deployment, name: str) -> None:
        self._deployment = deployment
        self.name = name
        (self.port,) = free_ports(1)
        self._starts = 0
        self._process: subprocess.Popen[bytes] | None = None
        self.environment: dict[str, str] = {}
        """More settings of the next start."""

    @property
    def log(self) -> Path:
        return self._deployment.directory / f"{self.name}-{self._starts}.log"

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "it was never started"
        return self._process

    def _launch(self, *command: str) -> None:
        self._starts += 1
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                cwd=self._deployment.directory,
                env=bare_environment() | self._deployment.environment | self.environment,
                stdout=output,
                stderr=output,
            )

    def is_ready(self) -> bool:
        raise NotImplementedError

    def wait_ready(self, seconds: float = 30) -> None:
        def ready() -> bool:
            assert self.process.poll() is None, f"it ended by itself: {self.log.read_text('utf-8')[-3000:]}"
            return self.is_ready()

        wait_until(ready, f"{self.name} is ready", seconds)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(30)

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.resume()
            self.kill()

    def complaints(self) -> list[dict[str, Any]]:
        """Return the warnings and errors of every process so far."""
        found = []
        for start in range(1, self._starts + 1):
            for line in (self._deployment.directory / f"{self.name}-{start}.log").read_text("utf-8").splitlines():
                one = json.loads(line) if line[:1] == "{" else {"level": "error", "event": line}
                if one["level"] != "info":
                    found.append(one)
        return found


class Worker(_Process):
    """One worker; it is started at once, and again by `launch`."""

    def launch(self, *command: str) -> None:
        """Start it without waiting, the product's own command unless another is given."""
        self._launch(*(command or (*COMMAND, "worker")), "--name", self.name, "--admin-port", str(self.port))

    def is_ready(self) -> bool:
        return bool(self.ready()["ready"])

    def ready(self) -> dict[str, Any]:
        """Return what /readyz says; what is wrong where it says nothing."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=2) as answer:
                found: dict[str, Any] = json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                found = json.load(error)
        except OSError as error:
            return {"ready": False, "not_ready": {"admin": str(error)}}
        return found

    def metric(self, name: str) -> float:
        """Return the sum over a metric's series."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=2) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0].split(" ")[0] == name)

    def metric_of(self, name: str, **labels: str) -> float:
        """Return one series of a metric."""
        told = ",".join(f'{key}="{value}"' for key, value in labels.items())
        wanted = f"{name}{{{told}}} "
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=2) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.removeprefix(wanted)) for line in lines if line.startswith(wanted))


class Console(_Process):
    """The query API and the live page."""

    def __init__(self, deployment: Deployment) -> None:
        super().__init__(deployment, "console")
        self.url = f"http://127.0.0.1:{self.port}"

    def launch(self) -> None:
        """Start it without waiting."""
        self._launch(*COMMAND, "console", "--port", str(self.port), "--admin-port", "0")

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/api/stages", timeout=2) as answer:
                return bool(answer.status == http.HTTPStatus.OK)
        except OSError:
            return False


class Inside:
    """A look at a deployment's log, states and topics, and a hand that writes to its log."""

    def __init__(self, deployment: Deployment, log: KafkaLog, store: RedisStore) -> None:
        self.deployment, self.log, self.store = deployment, log, store
        self.query = Query(store, log.partitions)
        self.hours = 0

    @classmethod
    @asynccontextmanager
    async def open(cls, deployment: Deployment) -> AsyncIterator[Inside]:
        log, store = await open_kafka_log(deployment.settings), open_redis_store(deployment.settings)
        try:
            yield cls(deployment, log, store)
        finally:
            await store.close()
            await log.close()

    async def feed(self, events: Iterable[dict[str, Any]], *, settle_every: int = 1, imported: bool = False) -> None:
        """Append events as a collector receives them at their `arrives`, and a tick everywhere each hour.

        After so many hours, and at the end, wait until all is folded; 0: never. Imported ones are history.
        """
        builder = BlockBuilder(self.log.partitions, max_bytes=256 * 1024, imported=imported)
        blocks: list[tuple[int, Draft]] = []
        block_from = hour = None
        for event in events:
            arrives = event["arrives"]
            if block_from is not None and (arrives - block_from > BLOCK_MS or arrives // HOUR_MS != hour):
                blocks += builder.take()
                block_from = None
            if arrives // HOUR_MS != hour:
                hour = arrives // HOUR_MS
                ticks = [(n, Draft(Kind.TICK, arrives, imported=True)) for n in range(self.log.partitions)]
                await self.log.append([*blocks, *ticks])
                blocks = []
                self.hours += 1
                if settle_every and self.hours % settle_every == 0:
                    await self.settle()
            block_from = arrives if block_from is None else block_from
            raw = msgspec.json.encode({k: v for k, v in event.items() if k not in ("arrives", "trusted")})
            facts = RequestFacts("ledger" if event["trusted"] else "web", event["trusted"], arrives)
            decoded = decode_native([raw], facts, limits=Limits())
            assert not decoded.rejections, decoded.rejections
            builder.add(decoded.events[0][1], arrives)
        await self.log.append([*blocks, *builder.take()])
        if settle_every:
            await self.settle()

    async def settle(self, seconds: float = SETTLE_SECONDS) -> None:
        """Wait until everything in the log is folded, and all that follows from it published and folded."""
        deadline = time.monotonic() + seconds
        ends: list[int] = []
        while True:
            before, ends = ends, [end for _, end in await self.log.all_bounds()]
            quiet = await asyncio.gather(*(self._quiet(partition, end) for partition, end in enumerate(ends)))
            if all(quiet) and ends == before:
                return
            assert time.monotonic() < deadline, f"not folded within {seconds:g} s: {self._why(quiet)}"
            await asyncio.sleep(0.005)

    async def _quiet(self, partition: int, end: int) -> bool:
        state = await self.query.state(partition)
        folded = 0 if state is None else state.position.offset
        return folded >= end and not await self.store.outbox(partition, 1)

    def _why(self, quiet: Iterable[bool]) -> str:
        busy = [partition for partition, one in enumerate(quiet) if not one]
        return f"partitions {busy}; " + json.dumps({w.name: w.ready() for w in self.deployment.workers.values()})

    async def records(self, *, without: Container[tuple[int, int]] = ()) -> list[Record]:
        """Return every record of the log, each partition's in order of offset, and each after what it follows from.

        Those at the places (partition, offset) of `without` are left out.
        """
        waiting = [
            deque(one for one in await self.log.read(n, 0, 1 << 40) if (n, one.offset) not in without)
            for n in range(self.log.partitions)
        ]
        found: list[Record] = []
        taken = [0] * len(waiting)
        while any(waiting):
            for partition, queue in enumerate(waiting):
                while queue and _origin_taken(queue[0], taken):
                    record = queue.popleft()
                    assert isinstance(record, Record)
                    found.append(record)
                    taken[partition] = record.offset + 1
        return found

    async def states(self) -> dict[str, dict[str, Any]]:
        """Return what the query shows of every person there is, by key."""
        found: dict[str, dict[str, Any]] = {}
        for partition in range(self.log.partitions):
            async for key, _ in self.store.people(partition):
                found[key] = await self.query.person(key) or {}
        return found

    async def messages(self, topic: str) -> list[Message]:
        """Return (partition, key, value, headers) of all that a plain subscriber reads, each partition's in order."""
        settings = self.deployment.settings.kafka
        name = settings.topic_prefix + topic
        consumer = AIOKafkaConsumer(
            bootstrap_servers=settings.brokers, isolation_level="read_committed", enable_auto_commit=False
        )
        await consumer.start()
        try:
            places = [TopicPartition(name, n) for n in range(self.log.partitions)]
            consumer.assign(places)
            await consumer.seek_to_beginning(*places)
            ends: Mapping[TopicPartition, int] = await consumer.end_offsets(places)
            found = []
            while any([await consumer.position(place) < ends[place] for place in places]):
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    found += [(one.partition, one.key, one.value, dict(one.headers)) for one in records]
            return found
        finally:
            await consumer.stop()


def once(
    messages: Iterable[tuple[int, bytes | None, bytes | None, dict[str, bytes]]],
) -> tuple[dict[str, list[dict[str, Any]]], int]:
    """Return each person's changes without repeats, in order, and how many repeats there were, all byte-equal."""
    first: dict[str, bytes] = {}
    changes: dict[str, list[dict[str, Any]]] = {}
    repeats = 0
    for _, _, value, _ in messages:
        assert value is not None
        change = json.loads(value)
        if change["id"] in first:
            assert first[change["id"]] == value, "a repeat with other bytes"
            repeats += 1
            continue
        first[change["id"]] = value
        changes.setdefault(change["person"], []).append(change)
    return changes, repeats
