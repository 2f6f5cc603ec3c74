"""Three brokers that die, stand still, restart or are all away under load: nothing acknowledged is lost or doubled."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from collector.wire.block import decode_events
from collector.wire.record import Kind
from deploy.local.services import KafkaBroker, KafkaCluster, RedisServer
from phasewatch.backend import group_of
from processors.wire import STAGES
from tests.integration.collector_process import CollectorProcess
from tests.integration.load import Poster, Tally
from tests.integration.production import Deployment, Inside, once
from tests.integration.test_worker_crashes import agrees, until
from tests.services import running

pytestmark = [pytest.mark.services, pytest.mark.long, pytest.mark.timeout(1800)]

SEED = 7
PARTITIONS = 6
POSTERS = 3
PAUSE_SECONDS = 0.3
"""Modest: what is looked at is what a fault does, not what the machine can do."""
CALM_SECONDS = 3.0
"""Of load before and after a fault."""
GOES_ON_SECONDS = 90.0
"""After which a fault of one broker must be over for everybody: sessions, requests and waits of 6 to 15 s one after
the other, and as much again on a busy machine; what it took is printed."""
_OF_GROUPS, _OF_TRANSACTIONS = 0, 1
"""Kinds of coordinators (Kafka protocol guide, FindCoordinator)."""
OUTAGE_SECONDS = float(os.environ.get("PHASEWATCH_OUTAGE_SECONDS", "20"))
"""How long all brokers are away; 600 shows the ten minutes that the docs speak of."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    # Longer than for other tests: on a busy machine a broker that is only slow would be taken for dead.
    settings = {"broker.session.timeout.ms": "6000"}
    with running(KafkaCluster(tmp_path_factory.mktemp("cluster"), settings=settings)) as found:
        yield found


class Running(NamedTuple):
    """Everything under load."""

    deployment: Deployment
    cluster: KafkaCluster
    collector: CollectorProcess
    tally: Tally

    def broker(self, number: int) -> KafkaBroker:
        """Return the broker with a node id."""
        return self.cluster.brokers[number - 1]

    async def answered(self, count: int, seconds: float = GOES_ON_SECONDS) -> None:
        """Wait until `count` more requests were answered with 200."""
        wanted = self.tally.requests + count
        await until(lambda: self.tally.requests >= wanted, f"{count} more requests are acknowledged", seconds)

    async def ready(self, seconds: float = GOES_ON_SECONDS) -> None:
        """Wait until workers and collector say that all is well, by themselves."""
        deadline = time.monotonic() + seconds
        while trouble := await asyncio.to_thread(self.trouble):
            assert time.monotonic() < deadline, f"after {seconds:g} s not ready: {trouble}"
            await asyncio.sleep(0.05)

    def trouble(self) -> str:
        """Return what workers and collector say that is wrong; every worker has to run."""
        for worker in self.deployment.workers.values():
            assert worker.process.poll() is None, worker.log.read_text("utf-8")[-3000:]
        assert self.collector.process.poll() is None
        said = {name: worker.ready() for name, worker in self.deployment.workers.items()}
        said["collector"] = self.collector.readiness()
        return "; ".join(f"{name}: {one['not_ready']}" for name, one in said.items() if not one["ready"])


@asynccontextmanager
async def under_load(directory: Path, cluster: KafkaCluster, redis: RedisServer) -> AsyncIterator[Running]:
    """Run a collector and two workers under load; at the end compare what clients, log, oracle and readers have."""
    deployment = Deployment(directory, cluster.address, redis.url, partitions=PARTITIONS)
    deployment.environment |= {
        "PHASEWATCH_KAFKA__REPLICATION_FACTOR": "3",
        "PHASEWATCH_KAFKA__MIN_INSYNC_REPLICAS": "2",
    }
    tally, closing = Tally(), threading.Event()
    posters: list[Poster] = []
    try:
        deployment.create_topics()
        collector = deployment.collector(workers=1)
        for name in ("one", "two"):
            deployment.worker(name)
        collector.start()
        found = Running(deployment, cluster, collector, tally)
        await found.ready(60)
        posters += [
            Poster(number, SEED, collector.port, tally, closing, pause_seconds=PAUSE_SECONDS)
            for number in range(POSTERS)
        ]
        for poster in posters:
            poster.start()
        await asyncio.sleep(CALM_SECONDS)
        yield found
        await asyncio.to_thread(cluster.wait_until_whole)
        await found.answered(20)
        await asyncio.sleep(CALM_SECONDS)
        closing.set()
        for poster in posters:
            await asyncio.to_thread(poster.join, 60)
            assert not poster.is_alive()
        await found.ready()
        async with Inside.open(deployment) as inside:
            await inside.settle()
            await conserved(inside, tally)
            await agrees(inside)
            await without_gaps(inside)
    finally:
        closing.set()
        for poster in posters:
            poster.join(30)  # while there is a collector that answers it
        deployment.close()
        for broker in cluster.brokers:
            if not broker.is_ready():
                broker.close()
                broker.start()


async def conserved(inside: Inside, tally: Tally) -> None:
    """Assert that everything acknowledged is in the log; what is there beyond it was sent and not answered."""
    blocks = [one for one in await inside.records() if one.draft.kind is Kind.EVENTS]
    ids = {event.id for block in blocks for event in decode_events(block.draft.value)}
    lost = tally.acknowledged - ids
    print(f"\n{len(tally.acknowledged)} acknowledged, {len(lost)} lost; {tally.failures} requests unanswered")  # noqa: T201 - figures
    assert not lost


async def without_gaps(inside: Inside) -> None:
    """Assert that each life's versions are 1, 2, 3 and so on."""
    changes, _ = once(await inside.messages("stage-changes"))
    lives: dict[tuple[str, str], list[int]] = {}
    for person, told in changes.items():
        for change in told:
            lives.setdefault((person, change["id"].split("/")[0]), []).append(change["version"])
    assert all(versions == list(range(1, len(versions) + 1)) for versions in lives.values())


async def asked(running_: Running, question: Callable[[AIOKafkaAdminClient], Any]) -> Any:
    """Return what the cluster answers to an administrator."""
    client = AIOKafkaAdminClient(bootstrap_servers=running_.cluster.address)
    await client.start()
    try:
        return await question(client)
    finally:
        await client.close()


async def leader_of(everything: Running, topic: str, partition: int) -> KafkaBroker:
    name = everything.deployment.settings.kafka.topic_prefix + topic
    (found,) = await asked(everything, lambda client: client.describe_topics([name]))
    (leader,) = [one["leader"] for one in found["partitions"] if one["partition"] == partition]
    return everything.broker(leader)


async def coordinator_of(everything: Running, name: str, kind: int) -> KafkaBroker:
    return everything.broker(await asked(everything, lambda client: client.find_coordinator(name, kind)))


async def timed(everything: Running, what: str) -> None:
    """Wait until requests are acknowledged and everybody is ready again; print how long that took."""
    began = time.monotonic()
    await everything.answered(10)
    answered = time.monotonic() - began
    await everything.ready()
    print(f"\n{what}: acknowledged again after {answered:.1f} s, all ready after {time.monotonic() - began:.1f} s")  # noqa: T201


async def test_a_leader_is_killed_and_comes_back(
    tmp_path: Path, cluster: KafkaCluster, redis_server: RedisServer
) -> None:
    async with under_load(tmp_path, cluster, redis_server) as everything:
        leader = await leader_of(everything, "events", 0)
        leader.kill()
        await timed(everything, "kill -9 of a leader")
        await asyncio.to_thread(leader.start)
        await timed(everything, "it is back")


async def test_two_of_three_are_down(tmp_path: Path, cluster: KafkaCluster, redis_server: RedisServer) -> None:
    """Fewer copies than min.insync.replicas: nothing is folded or published that could be lost, until one is back."""
    async with under_load(tmp_path, cluster, redis_server) as everything:
        first, second, _ = cluster.brokers
        first.kill()
        second.kill()
        await until(everything.trouble, "somebody says that something is wrong", 20)
        await asyncio.sleep(OUTAGE_SECONDS)
        print("\n" + everything.trouble())  # noqa: T201 - what an operator reads
        await both(first, second)
        await timed(everything, "two of three were down")


async def both(*brokers: KafkaBroker) -> None:
    """Start brokers at once: one alone may have no majority to join."""
    await asyncio.gather(*(asyncio.to_thread(broker.start) for broker in brokers))


async def test_a_rolling_restart(tmp_path: Path, cluster: KafkaCluster, redis_server: RedisServer) -> None:
    async with under_load(tmp_path, cluster, redis_server) as everything:
        for broker in cluster.brokers:
            await asyncio.to_thread(broker.restart)
            await asyncio.to_thread(cluster.wait_until_whole)
        await timed(everything, "rolling restart")


async def test_all_are_down(tmp_path: Path, cluster: KafkaCluster, redis_server: RedisServer) -> None:
    async with under_load(tmp_path, cluster, redis_server) as everything:
        for broker in cluster.brokers:
            broker.kill()
        await until(everything.trouble, "somebody says that something is wrong", 20)
        await asyncio.sleep(OUTAGE_SECONDS)
        print("\n" + everything.trouble())  # noqa: T201 - what an operator reads
        await both(*cluster.brokers)
        await timed(everything, f"all were down for {OUTAGE_SECONDS:g} s")


async def test_a_broker_stands_still(tmp_path: Path, cluster: KafkaCluster, redis_server: RedisServer) -> None:
    async with under_load(tmp_path, cluster, redis_server) as everything:
        leader = await leader_of(everything, "events", 0)
        await asyncio.to_thread(leader.pause)
        await timed(everything, "a leader stands still")
        await asyncio.sleep(15)  # beyond every session and request timeout
        leader.resume()
        await timed(everything, "it goes on")


async def test_the_groups_coordinator_is_killed(
    tmp_path: Path, cluster: KafkaCluster, redis_server: RedisServer
) -> None:
    async with under_load(tmp_path, cluster, redis_server) as everything:
        group = group_of(everything.deployment.settings)
        broker = await coordinator_of(everything, group, _OF_GROUPS)
        broker.kill()
        await timed(everything, "kill -9 of the group's coordinator")
        await asyncio.to_thread(broker.start)


async def test_transaction_coordinators_are_killed(
    tmp_path: Path, cluster: KafkaCluster, redis_server: RedisServer
) -> None:
    """Each in turn, in the middle of the flushes of topic `stages` that are always under way."""
    async with under_load(tmp_path, cluster, redis_server) as everything:
        prefix = everything.deployment.settings.kafka.topic_prefix
        for partition in (0, 3, 5):
            name = f"{prefix}{STAGES}-{partition}"
            broker = await coordinator_of(everything, name, _OF_TRANSACTIONS)
            broker.kill()
            await timed(everything, f"kill -9 of the coordinator of {name}")
            await asyncio.to_thread(broker.start)
            await asyncio.to_thread(cluster.wait_until_whole)
