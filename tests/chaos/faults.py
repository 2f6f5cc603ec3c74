"""Doing to a deployment what a schedule says."""

from __future__ import annotations

import asyncio
import os
import signal
import time
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence

from aiokafka.admin import AIOKafkaAdminClient

from deploy.local.process import Service, ServiceError, wait_until
from deploy.local.services import KafkaBroker, RedisServer
from tests.chaos.deployment import Chaos
from tests.chaos.process import arm
from tests.chaos.schedule import Fault
from tests.integration.collector_process import CollectorProcess
from tests.integration.production import Worker
from tests.integration.redis_loss import lose_a_second

POINT_SECONDS = 8.0
"""How long a worker may take to come to a named point; one that owns nothing never does."""
ROLL_SECONDS = 15.0
FAILOVER_SECONDS = 60.0
RECOVERY_SECONDS = 240.0
"""A broker reads its log again after a kill -9, and a busy machine is ten times slower than an idle one."""
NO_ROOM = {"PHASEWATCH_SPOOL__MIN_FREE_BYTES": str(10**15)}
"""So much is free on no disk."""
BROKERS, REDIS = "brokers", "redis"
"""Locks: the brokers break one at a time but for `all brokers down`, and so does Redis."""


class Faults:
    """Inflicts faults, each in a task of its own, at most one at a time upon the same process."""

    def __init__(self, chaos: Chaos, tell: Callable[[str], None]) -> None:
        self._chaos, self._tell = chaos, tell
        self._running: set[asyncio.Task[None]] = set()
        self._began = time.monotonic()
        self.problems: list[str] = []
        self.done: Counter[str] = Counter()
        """Faults that took place, by kind."""
        self._how: dict[str, Callable[[Fault], Awaitable[None]]] = {
            "kill collector": self._kill_collector,
            "kill collector process": self._kill_collector_process,
            "pause collector": self._pause_collector,
            "restart collector": self._restart_collector,
            "kill worker": self._kill_worker,
            "pause worker": self._pause_worker,
            "worker dies at point": self._worker_dies,
            "worker sleeps at point": self._worker_sleeps,
            "restart worker": self._restart_worker,
            "worker joins or leaves": self._join_or_leave,
            "rolling restart of workers": self._roll_workers,
            "kill leader": self._kill_leader,
            "pause broker": self._pause_broker,
            "all brokers down": self._all_brokers,
            "all brokers down, spool full": self._no_room,
            "rolling restart of brokers": self._roll_brokers,
            "kill redis": self._kill_redis,
            "pause redis": self._pause_redis,
            "redis loses a second": self._lose_a_second,
            "redis fails over": self._fail_over,
        }

    async def run(self, schedule: Sequence[Fault]) -> None:
        """Inflict a schedule; return when everything that broke was put right again."""
        for number, fault in enumerate(schedule, 1):
            await asyncio.sleep(fault.after)  # the schedule's own gap
            task = asyncio.create_task(self._inflict(number, fault))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        while self._running:
            await asyncio.wait(set(self._running))

    async def _inflict(self, number: int, fault: Fault) -> None:
        try:
            await self._how[fault.kind](fault)
        except Exception:  # noqa: BLE001 - not swallowed: a fault that could not be inflicted or healed is a finding
            self.problems.append(f"fault {number}, {fault.kind}: {traceback.format_exc()}")

    def _note(self, fault: Fault, what: str) -> None:
        self.done[fault.kind] += 1
        self._tell(f"{time.monotonic() - self._began:7.1f} s  {fault.kind}: {what}")

    # Collectors

    def _a_collector(self, fault: Fault) -> tuple[str, CollectorProcess]:
        collector = self._chaos.collectors[fault.target % len(self._chaos.collectors)]
        return self._chaos.collector_name(collector), collector

    async def _kill_collector(self, fault: Fault) -> None:
        name, collector = self._a_collector(fault)
        async with self._chaos.lock(name):
            self._note(fault, f"{name} for {fault.seconds} s")
            if collector.process.poll() is None:
                await asyncio.to_thread(collector.kill_everything)
            await asyncio.sleep(fault.seconds)
            self._chaos.launch_collector(collector)

    async def _kill_collector_process(self, fault: Fault) -> None:
        name, collector = self._a_collector(fault)
        async with self._chaos.lock(name):
            if collector.process.poll() is None and (children := collector.children()):
                self._note(fault, f"one of {name}")
                os.kill(children[0], signal.SIGKILL)

    async def _pause_collector(self, fault: Fault) -> None:
        name, collector = self._a_collector(fault)
        async with self._chaos.lock(name):
            if collector.process.poll() is None:
                self._note(fault, f"{name} for {fault.seconds} s")
                os.killpg(collector.process.pid, signal.SIGSTOP)
                await asyncio.sleep(fault.seconds)
                os.killpg(collector.process.pid, signal.SIGCONT)

    async def _restart_collector(self, fault: Fault) -> None:
        name, collector = self._a_collector(fault)
        async with self._chaos.lock(name):
            self._note(fault, name)
            await self._launch_anew(collector, collector.settings)

    # Workers

    def _a_worker(self, fault: Fault) -> Worker:
        running = [worker for worker in self._chaos.workers if worker.name in self._chaos.wanted]
        return running[fault.target % len(running)]

    async def _kill_worker(self, fault: Fault) -> None:
        worker = self._a_worker(fault)
        async with self._chaos.lock(worker.name):
            self._note(fault, f"{worker.name} for {fault.seconds} s")
            worker.kill()
            await asyncio.sleep(fault.seconds)
            self._again(worker)

    def _again(self, worker: Worker) -> None:
        """Start a worker again, but for one that has left meanwhile."""
        if worker.name in self._chaos.wanted:
            self._chaos.launch_worker(worker)

    async def _pause_worker(self, fault: Fault) -> None:
        worker = self._a_worker(fault)
        async with self._chaos.lock(worker.name):
            self._note(fault, f"{worker.name} for {fault.seconds} s")
            worker.pause()
            await asyncio.sleep(fault.seconds)
            worker.resume()

    async def _worker_dies(self, fault: Fault) -> None:
        worker = self._a_worker(fault)
        async with self._chaos.lock(worker.name):
            if await self._reaches(worker, fault, signal.SIGKILL):
                self._note(fault, f"{worker.name} {fault.point}")
                await asyncio.sleep(fault.seconds)
            if worker.process.poll() is not None:
                self._again(worker)

    async def _worker_sleeps(self, fault: Fault) -> None:
        worker = self._a_worker(fault)
        async with self._chaos.lock(worker.name):
            if await self._reaches(worker, fault, signal.SIGSTOP):
                self._note(fault, f"{worker.name} {fault.point} for {fault.seconds} s")
                await asyncio.sleep(fault.seconds)
                worker.resume()

    async def _reaches(self, worker: Worker, fault: Fault, number: signal.Signals) -> bool:
        """Arm a point of a worker and wait for it to come there; false where it does not."""
        path = self._chaos.point_file(worker)
        arm(path, fault.point, number)
        deadline = time.monotonic() + POINT_SECONDS
        while path.exists():
            if time.monotonic() > deadline:
                path.unlink(missing_ok=True)
                return False
            await asyncio.sleep(0.02)  # polled
        return True

    async def _restart_worker(self, fault: Fault) -> None:
        worker = self._a_worker(fault)
        async with self._chaos.lock(worker.name):
            self._note(fault, worker.name)
            await self._stop_worker(worker)
            await asyncio.sleep(fault.seconds)
            self._again(worker)

    async def _stop_worker(self, worker: Worker) -> None:
        if worker.process.poll() is None:
            await asyncio.to_thread(worker.stop)

    async def _join_or_leave(self, fault: Fault) -> None:
        worker = self._chaos.workers[-1]
        async with self._chaos.lock(worker.name):
            if worker.name not in self._chaos.wanted:
                self._note(fault, f"{worker.name} joins")
                self._chaos.launch_worker(worker)
            else:
                self._note(fault, f"{worker.name} leaves")
                self._chaos.wanted.discard(worker.name)
                await self._stop_worker(worker)

    async def _roll_workers(self, fault: Fault) -> None:
        self._note(fault, "one after the other")
        for worker in self._chaos.workers:
            async with self._chaos.lock(worker.name):
                if worker.name in self._chaos.wanted:
                    await self._stop_worker(worker)
                    self._chaos.launch_worker(worker)
                    await asyncio.to_thread(_wait_a_little, worker)

    # Kafka

    async def _kill_leader(self, fault: Fault) -> None:
        async with self._chaos.lock(BROKERS):
            broker = await leader(self._chaos, fault.target % self._chaos.size.partitions)
            self._note(fault, f"broker {broker.node_id} for {fault.seconds} s")
            broker.kill()
            await asyncio.sleep(fault.seconds)
            broker.launch()
            await asyncio.to_thread(_wait_back, broker)

    async def _pause_broker(self, fault: Fault) -> None:
        async with self._chaos.lock(BROKERS):
            broker = self._chaos.services.kafka.brokers[fault.target % len(self._chaos.services.kafka.brokers)]
            self._note(fault, f"broker {broker.node_id} for {fault.seconds} s")
            await asyncio.to_thread(broker.pause)
            await asyncio.sleep(fault.seconds)
            broker.resume()

    async def _all_brokers(self, fault: Fault) -> None:
        async with self._chaos.lock(BROKERS):
            self._note(fault, f"for {fault.seconds} s")
            await self._without_brokers(fault.seconds)

    async def _no_room(self, fault: Fault) -> None:
        """All brokers are away, and one collector has no room to keep anything meanwhile: it has to refuse."""
        name, collector = self._a_collector(fault)
        async with self._chaos.lock(name), self._chaos.lock(BROKERS):
            self._note(fault, f"for {fault.seconds} s, {name} without room")
            settings = collector.settings
            await self._launch_anew(collector, dict(settings) | NO_ROOM)
            await self._without_brokers(fault.seconds)
            await self._launch_anew(collector, settings)

    async def _launch_anew(self, collector: CollectorProcess, settings: Mapping[str, str]) -> None:
        if collector.process.poll() is None:
            await asyncio.to_thread(collector.stop)
        collector.settings = settings
        self._chaos.launch_collector(collector)

    async def _without_brokers(self, seconds: float) -> None:
        brokers = self._chaos.services.kafka.brokers
        for broker in brokers:
            broker.kill()
        await asyncio.sleep(seconds)
        for broker in brokers:
            broker.launch()
        for broker in brokers:
            await asyncio.to_thread(_wait_back, broker)

    async def _roll_brokers(self, fault: Fault) -> None:
        async with self._chaos.lock(BROKERS):
            self._note(fault, "one after the other")
            for broker in self._chaos.services.kafka.brokers:
                await asyncio.to_thread(broker.stop)
                broker.launch()
                await asyncio.to_thread(_wait_back, broker)

    # Redis

    async def _kill_redis(self, fault: Fault) -> None:
        async with self._chaos.lock(REDIS):
            redis = await self._master()
            self._note(fault, f"the master for {fault.seconds} s")
            redis.kill()
            await asyncio.sleep(fault.seconds)
            redis.launch()
            await asyncio.to_thread(_wait_back, redis)

    async def _pause_redis(self, fault: Fault) -> None:
        async with self._chaos.lock(REDIS):
            redis = await self._master()
            self._note(fault, f"the master for {fault.seconds} s")
            await asyncio.to_thread(redis.pause)
            await asyncio.sleep(fault.seconds)
            redis.resume()

    async def _lose_a_second(self, fault: Fault) -> None:
        async with self._chaos.lock(REDIS):
            self._note(fault, "the master")
            await lose_a_second(await self._master())

    async def _fail_over(self, fault: Fault) -> None:
        """Let the replica take over without what the master was told lately."""
        async with self._chaos.lock(REDIS):
            services, master = self._chaos.services, await self._master()
            replica = next(one for one in (services.redis, *services.replicas) if one is not master)
            await asyncio.to_thread(replica.ask, "REPLICAOF 127.0.0.1 1")
            await asyncio.sleep(fault.seconds)
            master.kill()
            self._note(fault, f"without the last {fault.seconds} s")
            await asyncio.to_thread(wait_until, lambda: self._takes_writes(replica), "failed over", FAILOVER_SECONDS)
            master.launch()
            await asyncio.to_thread(_wait_back, master)

    def _takes_writes(self, redis: RedisServer) -> bool:
        try:
            return "role:master" in redis.ask("INFO replication") and self._chaos.services.master() is redis
        except OSError:
            return False

    async def _master(self) -> RedisServer:
        """Return the master, once it has a replica to lose it to."""
        if self._chaos.services.sentinel is not None:
            await asyncio.to_thread(self._chaos.services.wait_for_replica)
        return self._chaos.services.master()


def _wait_back(service: Service) -> None:
    """Wait until a service answers; raises ServiceError."""
    wait_until(service.is_ready, f"{service} answers again", RECOVERY_SECONDS)


def _wait_a_little(worker: Worker) -> None:
    """Wait until a worker is ready, but not for long: something else may be broken meanwhile."""
    deadline = time.monotonic() + ROLL_SECONDS
    while not worker.is_ready() and time.monotonic() < deadline:
        time.sleep(0.1)  # polled


async def leader(chaos: Chaos, partition: int) -> KafkaBroker:
    """Return the broker that leads a partition of topic `events`; raises ServiceError where none does."""
    topic = chaos.deployment.settings.kafka.topic_prefix + "events"
    client = AIOKafkaAdminClient(bootstrap_servers=chaos.services.kafka.address)
    await client.start()
    try:
        (described,) = await client.describe_topics([topic])
    finally:
        await client.close()
    leads = next(one["leader"] for one in described["partitions"] if one["partition"] == partition)
    found = next((broker for broker in chaos.services.kafka.brokers if broker.node_id == leads), None)
    if found is None:
        message = f"partition {partition} of {topic} has no leader"
        raise ServiceError(message)
    return found
