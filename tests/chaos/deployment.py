"""What is to be broken: brokers, Redis with its replica and Sentinel, collectors, workers."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from deploy.local.process import Service, wait_until
from deploy.local.services import KafkaCluster, RedisSentinel, RedisServer
from tests.integration.collector_process import CollectorProcess
from tests.integration.production import Deployment, Worker

ROOT = Path(__file__).parents[2]
PROCESS = (sys.executable, "-m", "tests.chaos.process")
PATIENCE_SECONDS = 120.0
SUPERVISE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Size:
    """How many processes and partitions there are; `mutation` is what collectors and workers have in them."""

    collectors: int = 2
    workers: int = 2
    partitions: int = 8
    mutation: str = ""


class Services:
    """Brokers, a Redis, and perhaps its replica and a Sentinel."""

    def __init__(self, directory: Path, *, brokers: int, replica: bool) -> None:
        self.kafka = KafkaCluster(directory / "kafka", size=brokers, settings=_BROKER_SETTINGS)
        self.redis = RedisServer(directory / "redis-1", settings=_REDIS_SETTINGS)
        self.replicas: list[RedisServer] = []
        self.sentinel: RedisSentinel | None = None
        if replica:
            self.replicas.append(RedisServer(directory / "redis-2", replica_of=self.redis, settings=_REDIS_SETTINGS))
            self.sentinel = RedisSentinel(directory / "sentinel", master=self.redis)

    def start(self) -> None:
        """Start everything and wait until it is whole."""
        os.environ["JAVA_TOOL_OPTIONS"] = _JAVA_OPTIONS
        with ThreadPoolExecutor() as pool:
            brokers = pool.submit(self.kafka.start)
            for service in self._redis_services():
                service.start()
            brokers.result()
        if self.sentinel is not None:
            self.wait_for_replica()

    def _redis_services(self) -> Iterator[Service]:
        yield self.redis
        yield from self.replicas
        if self.sentinel is not None:
            yield self.sentinel

    def close(self) -> None:
        """End everything, however it is."""
        for service in self._redis_services():
            service.close()
        self.kafka.close()

    @property
    def settings(self) -> dict[str, str]:
        """What processes have to be told of them beyond the addresses."""
        copies = len(self.kafka.brokers)
        found = {
            "PHASEWATCH_KAFKA__REPLICATION_FACTOR": str(copies),
            "PHASEWATCH_KAFKA__MIN_INSYNC_REPLICAS": str(max(1, copies - 1)),
        }
        if self.sentinel is not None:
            found["PHASEWATCH_REDIS__SENTINELS"] = json.dumps([self.sentinel.address])
        return found

    def wait_for_replica(self, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until the Sentinel knows a master with a replica that is in step; raises ServiceError."""
        wait_until(self._has_replica, "the Redis has a replica in step", seconds)

    def _has_replica(self) -> bool:
        try:
            replication = self.master().ask("INFO replication")
        except OSError:
            return False
        assert self.sentinel is not None
        return (
            "role:master" in replication
            and "state=online" in replication
            and "slaves=1" in self.sentinel.ask("INFO sentinel")
        )

    def master(self) -> RedisServer:
        """Return the Redis that takes writes, as the Sentinel says; raises OSError while it does not answer."""
        if self.sentinel is None:
            return self.redis
        address = self.sentinel.master_address()
        return next(server for server in (self.redis, *self.replicas) if server.address == address)


class Chaos:
    """The processes of one deployment; whatever ends by itself is started again, as a supervisor does."""

    def __init__(self, directory: Path, size: Size, services: Services) -> None:
        self.directory, self.size, self.services = directory, size, services
        kafka, redis = services.kafka.address, services.redis.url
        self.deployment = Deployment(directory, kafka, redis, partitions=size.partitions)
        self.deployment.environment |= services.settings
        self._surroundings = {"PYTHONPATH": str(ROOT), "CHAOS_MUTATION": size.mutation}
        self.collectors = [self._collector(number) for number in range(1, size.collectors + 1)]
        self.workers = [Worker(self.deployment, f"worker-{number}") for number in range(1, size.workers + 2)]
        """One more than there are at first: it joins and leaves."""
        self.wanted: set[str] = set()
        """Names of the collectors and workers that should be running."""
        self.busy: dict[str, asyncio.Lock] = {}
        self.ended_by_themselves: list[str] = []

    def _collector(self, number: int) -> CollectorProcess:
        directory = self.directory / f"collector-{number}"
        directory.mkdir(parents=True)
        settings = (
            self.deployment.environment | self._surroundings | {"PHASEWATCH_STORE__DATA_DIR": str(directory / "data")}
        )
        command = (*PROCESS, "collector") if self.size.mutation else ()
        return CollectorProcess(directory, settings, workers=1, command=command)

    # Names

    def collector_name(self, collector: CollectorProcess) -> str:
        """Return what the schedule's report calls a collector."""
        return f"collector-{self.collectors.index(collector) + 1}"

    def lock(self, name: str) -> asyncio.Lock:
        """Return the lock that whoever does something to a process or a group of them holds."""
        return self.busy.setdefault(name, asyncio.Lock())

    def point_file(self, worker: Worker) -> Path:
        """Return the file that arms a named point of a worker."""
        return self.directory / f"{worker.name}.point"

    # Start and end

    def start(self) -> None:
        """Create the topics, start every process and wait until it can do its work."""
        self.deployment.create_topics()
        for worker in self.workers[: self.size.workers]:
            self.launch_worker(worker)
        for collector in self.collectors:
            self.launch_collector(collector)
        self.wait_until_ready()

    def launch_worker(self, worker: Worker) -> None:
        """Start a worker without waiting; an armed point is disarmed."""
        self.point_file(worker).unlink(missing_ok=True)
        worker.environment = self._surroundings | {"CHAOS_POINT": str(self.point_file(worker))}
        worker.launch(*PROCESS, "worker")
        self.deployment.workers[worker.name] = worker
        self.wanted.add(worker.name)

    def launch_collector(self, collector: CollectorProcess) -> None:
        """Start a collector without waiting."""
        collector.launch()
        self.wanted.add(self.collector_name(collector))

    def wait_until_ready(self, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until every wanted process can do its work; raises ServiceError with the one that can't."""
        for worker in self.workers:
            if worker.name in self.wanted:
                wait_until(worker.is_ready, f"{worker.name} is ready", seconds)
        for collector in self.collectors:
            name = self.collector_name(collector)
            if name in self.wanted:
                wait_until(partial(_is_ready, collector), f"{name} is ready", seconds)

    def wait_until_drained(self, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until all that collectors have kept while Kafka was away is in the log; raises ServiceError."""
        wait_until(lambda: not any(map(_spooled, self.collectors)), "what was spooled is in the log", seconds)

    async def supervise(self) -> None:
        """Start again what has ended by itself, until cancelled."""
        while True:
            for worker in self.workers:
                if self._has_ended(worker.name, worker):
                    self.launch_worker(worker)
            for collector in self.collectors:
                if self._has_ended(self.collector_name(collector), collector):
                    self.launch_collector(collector)
            await asyncio.sleep(SUPERVISE_SECONDS)

    def _has_ended(self, name: str, process: Worker | CollectorProcess) -> bool:
        if name not in self.wanted or self.lock(name).locked() or process.process.poll() is None:
            return False
        self.ended_by_themselves.append(f"{name} ended with {process.process.returncode}")
        return True

    def close(self) -> None:
        """End every process, however it is."""
        for collector in self.collectors:
            collector.close()
        for worker in self.workers:
            worker.close()


def _is_ready(collector: CollectorProcess) -> bool:
    return bool(collector.readiness()["ready"])


def _spooled(collector: CollectorProcess) -> float:
    try:
        return collector.metric("phasewatch_collector_spool_rows")
    except OSError:  # nobody knows
        return 1


_JAVA_OPTIONS = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:CICompilerCount=1 -Xshare:auto"
"""Of brokers that do little for some minutes, next to everything else on a small machine."""
_BROKER_SETTINGS = {
    "replica.lag.time.max.ms": "10000",  # a broker that stands still holds writes up so long at most, not 30 s
}
_REDIS_SETTINGS = {
    "auto-aof-rewrite-percentage": "0",  # a second is taken from files that nobody replaces meanwhile
    "repl-ping-replica-period": "1",
    "repl-timeout": "5",
}
