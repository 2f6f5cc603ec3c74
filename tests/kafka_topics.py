"""Topics of a test's own on a shared Kafka, and what a plain consumer reads in them."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from collector.wire.kafka_access import KafkaAccess
from processors.adapters.kafka.topics import TopicAdmin, topics

PATIENCE_SECONDS = 20


async def create_topics(address: str, partitions: int, *names: str) -> str:
    """Create a deployment's topics, or those of these names, with a prefix of their own; return the prefix."""
    prefix = f"test-{uuid.uuid4().hex}."
    wanted = topics(
        prefix=prefix, partitions=partitions, retention_days=90, replication_factor=1, min_insync_replicas=1
    )
    async with TopicAdmin(KafkaAccess(address)) as admin:
        await admin.create([one for one in wanted if not names or one.name.removeprefix(prefix) in names])
    return prefix


async def read_topic(address: str, topic: str, partition: int, *, isolation: str = "read_committed") -> list[Any]:
    """Return aiokafka's records of one partition of a topic, up to what was its end at the call."""
    place = TopicPartition(topic, partition)
    found: list[Any] = []
    async with AIOKafkaConsumer(
        bootstrap_servers=address, enable_auto_commit=False, isolation_level=isolation
    ) as consumer:
        begin, end = (await consumer.beginning_offsets([place]))[place], (await consumer.end_offsets([place]))[place]
        consumer.assign([place])
        consumer.seek(place, begin)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await consumer.position(place) < end:
                found += (await consumer.getmany(place, timeout_ms=50)).get(place, [])
    return found
