"""An ordinary subscriber of the output topics, who reads committed messages all the time that things break."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from processors.wire import ENTERED, STAGE_CHANGES, STAGES

TOPICS = (STAGE_CHANGES, STAGES, *ENTERED.values())
POLL_MS = 300
CATCH_UP_SECONDS = 60
START_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Read:
    """One message as it was read; `at` is when its broker appended it (UTC ms)."""

    partition: int
    offset: int
    at: int
    key: bytes
    value: bytes | None


class Subscriber:
    """Reads from the beginning on; `messages` holds what it has read, by topic, each partition's in order."""

    def __init__(self, brokers: str, prefix: str, partitions: int) -> None:
        self._brokers = brokers
        self._prefix = prefix
        self._places = [TopicPartition(prefix + topic, number) for topic in TOPICS for number in range(partitions)]
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=brokers,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            request_timeout_ms=10_000,
        )
        self.messages: dict[str, list[Read]] = defaultdict(list)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to read."""
        async with asyncio.timeout(START_SECONDS):
            await self._consumer.start()
        self._consumer.assign(self._places)
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            try:
                await self._poll()
            except KafkaError:  # a broker is away: that is what this is about
                await asyncio.sleep(POLL_MS / 1000)

    async def _poll(self) -> None:
        for place, records in (await self._consumer.getmany(timeout_ms=POLL_MS)).items():
            topic = self.messages[place.topic.removeprefix(self._prefix)]
            topic += [Read(one.partition, one.offset, one.timestamp, one.key, one.value) for one in records]

    async def finish(self) -> None:
        """Read what there is up to now; raises TimeoutError where that does not come."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        async with asyncio.timeout(CATCH_UP_SECONDS):
            ends = await self._written()
            while any([await self._consumer.position(place) < end for place, end in ends.items()]):
                await self._poll()

    async def _written(self) -> dict[TopicPartition, int]:
        # A reader of committed messages is told the end of what is decided: messages of a transaction whose marker
        # is still on its way (brokers just back) lie after it.
        everything = AIOKafkaConsumer(bootstrap_servers=self._brokers, enable_auto_commit=False)
        await everything.start()
        try:
            ends: dict[TopicPartition, int] = await everything.end_offsets(self._places)
            return ends
        finally:
            await everything.stop()

    async def close(self) -> None:
        """Give up the connections."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        await self._consumer.stop()
