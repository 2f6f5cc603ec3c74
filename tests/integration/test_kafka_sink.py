"""The Kafka sink on three brokers: what the loss of one costs, and what is said when too few are left."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from aiokafka import TopicPartition

from collector.sinks.kafka import KafkaSink
from collector.sinks.port import SinkUnavailableError
from collector.wire.kafka_access import KafkaAccess
from collector.wire.record import Draft, Kind
from deploy.local.services import KafkaCluster
from processors.adapters.kafka.topics import TopicAdmin, topics
from tests.kafka_topics import read_topic
from tests.services import StartService

pytestmark = [pytest.mark.services, pytest.mark.long]

PARTITIONS = 6


class Writer:
    """Writes one block to each partition, again and again, and knows what was acknowledged."""

    def __init__(self, sink: KafkaSink) -> None:
        self._sink = sink
        self._number = 0
        self.acknowledged: list[bytes] = []
        self.slowest = 0.0

    async def write(self) -> None:
        self._number += 1
        value = b"%d\n" % self._number
        began = time.monotonic()
        block = Draft(kind=Kind.EVENTS, clock=1, value=value, count=1)
        await self._sink.write([(place, block) for place in range(PARTITIONS)])
        self.slowest = max(self.slowest, time.monotonic() - began)
        self.acknowledged.append(value)

    async def write_for(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            await self.write()


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("logged_errors")  # aiokafka logs one for each broker that does not answer
async def test_one_broker_of_three_may_die_and_two_are_named(start_service: StartService, tmp_path: Path) -> None:
    cluster = start_service(KafkaCluster(tmp_path / "cluster"))
    async with TopicAdmin(KafkaAccess(cluster.address)) as admin:
        found = await admin.create(
            topics(prefix="t.", partitions=PARTITIONS, retention_days=1, replication_factor=3, min_insync_replicas=2)
        )
    assert {one.state for one in found} == {"created"}
    sink = await KafkaSink.open(KafkaAccess(cluster.address), topic_prefix="t.", partitions=PARTITIONS)
    writer = Writer(sink)
    try:
        await writer.write_for(1)
        assert sink._producer is not None  # noqa: SLF001 - which broker leads is nobody's else to know
        leader = sink._producer.client.cluster.leader_for_partition(TopicPartition("t.events", 0))  # noqa: SLF001
        first = cluster.brokers[leader - 1]
        first.kill()
        await writer.write_for(3)
        print(f"\nslowest write with a dead leader: {writer.slowest:.2f} s")  # noqa: T201 - a figure
        await until_ready(sink)
        second = next(broker for broker in cluster.brokers if broker is not first)
        second.kill()
        began = time.monotonic()
        with pytest.raises(SinkUnavailableError):
            await writer.write_for(5)
        assert time.monotonic() - began < 5 + 11
        why = await sink.not_ready()
        print(why)  # noqa: T201 - what an operator reads
        assert why
        assert any(text in why for text in ("copies in sync", "without a leader", "does not answer"))
        await asyncio.gather(*(asyncio.to_thread(broker.start) for broker in (first, second)))
        await until_ready(sink)
        await writer.write_for(1)
    finally:
        await sink.close()
    for place in range(PARTITIONS):
        values = [one.value for one in await read_topic(cluster.address, "t.events", place)]
        assert [value for value in values if value in set(writer.acknowledged)] == writer.acknowledged


async def until_ready(sink: KafkaSink) -> None:
    async with asyncio.timeout(60):
        while await sink.not_ready():  # noqa: ASYNC110 - only asking tells
            await asyncio.sleep(0.1)
