"""Topic `events` on Kafka: read at any place, and appended to durably."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from collector.wire.kafka_access import KafkaAccess, explained
from collector.wire.record import Draft, Record
from processors.adapters.kafka.records import record_of
from processors.adapters.kafka.sending import DELIVERY_SECONDS, REQUEST_TIMEOUT_MS, Sender
from processors.adapters.kafka.topic_ids import identify_topic
from processors.engine.outputs import EVENTS, Output
from processors.engine.ports import StoreUnavailableError, Unreadable

_FETCH_WAIT_MS: Final = 20
"""What is read is there already; a fetch that waits at the end of one partition holds up the next one's."""
_FETCH_MS: Final = 1_000
"""How long one wait for records that are known to be there takes before the time is looked at."""


class KafkaLog:
    """The engine's `EventLog` on Kafka; made by `open`.

    For whoever reads here and there: checks on acquisition, commands, imports, replays. A worker's stream of records
    comes through its group membership.
    """

    def __init__(self, kafka: KafkaAccess, prefix: str, *, partitions: int, log_id: str) -> None:
        self.partitions = partitions
        self.log_id = log_id
        self._kafka, self._topic = kafka, prefix + EVENTS
        self._sender = Sender(kafka, prefix)
        self._consumer: AIOKafkaConsumer | None = None
        self._starting, self._reading = asyncio.Lock(), asyncio.Lock()
        self._at: tuple[int, int] | None = None
        self._end = 0

    @classmethod
    async def open(cls, kafka: KafkaAccess, prefix: str) -> Self:
        """Connect to a log.

        Args:
            kafka: where it is and how it is reached.
            prefix: begin of every topic's name.

        Raises:
            StoreUnavailableError: if Kafka can't be reached or has no such topic.
        """
        topic = await identify_topic(kafka, prefix + EVENTS)
        return cls(kafka, prefix, partitions=topic.partitions, log_id=topic.topic_id)

    async def _reader(self) -> AIOKafkaConsumer:
        """Return the consumer, connected when it is first asked for: who only appends needs none."""
        async with self._starting:
            if self._consumer is None:
                consumer = AIOKafkaConsumer(
                    **self._kafka.options,
                    enable_auto_commit=False,
                    auto_offset_reset="none",
                    fetch_max_wait_ms=_FETCH_WAIT_MS,
                    request_timeout_ms=REQUEST_TIMEOUT_MS,
                )
                try:
                    async with explained(self._kafka):
                        await consumer.start()
                except BaseException:
                    await consumer.stop()
                    raise
                self._consumer = consumer
        return self._consumer

    async def close(self) -> None:
        """Give up the connections."""
        if self._consumer is not None:
            await self._consumer.stop()
        await self._sender.close()

    async def read(self, partition: int, offset: int, most: int) -> list[Record | Unreadable]:
        """Return at most `most` records from `offset` on, in order; an empty list at the end.

        Raises:
            StoreUnavailableError: if Kafka can't be reached or does not answer in time.
        """
        try:
            async with self._reading, asyncio.timeout(DELIVERY_SECONDS):
                return await self._read(TopicPartition(self._topic, partition), offset, most)
        except (KafkaError, TimeoutError) as error:
            self._at = None
            raise _unreadable(self._kafka, self._topic, error) from error

    async def _read(self, place: TopicPartition, offset: int, most: int) -> list[Record | Unreadable]:
        if self._at != (place.partition, offset) or offset >= self._end:
            first, self._end = await self.bounds(place.partition)
            offset = max(offset, first)
        consumer = await self._reader()
        records: list[Record | Unreadable] = []
        while offset < self._end and len(records) < most:
            if self._at == (place.partition, offset):
                consumer.resume(place)
            else:
                consumer.assign([place])
                consumer.seek(place, offset)
            self._at = None
            try:
                found: dict[TopicPartition, list[Any]] = await consumer.getmany(
                    place, timeout_ms=_FETCH_MS, max_records=min(most - len(records), 100_000)
                )
            except OffsetOutOfRangeError:  # the oldest were deleted just now
                offset = max(offset, (await self.bounds(place.partition))[0])
                continue
            records += [record_of(one) for one in found.get(place, ())]
            offset = records[-1].offset + 1 if records else offset
            self._at = (place.partition, offset)
        if self._at is not None:
            consumer.pause(*consumer.assignment())  # else it would ask for more until the next read
        return records

    async def bounds(self, partition: int) -> tuple[int, int]:
        """Return (first offset still there, offset that the next record will get).

        Raises:
            StoreUnavailableError: if Kafka can't be reached or does not answer in time.
        """
        return (await self._bounds([partition]))[0]

    async def all_bounds(self) -> list[tuple[int, int]]:
        """Return the bounds of every partition, asked for at once; raises as `bounds`."""
        return await self._bounds(range(self.partitions))

    async def _bounds(self, partitions: Sequence[int]) -> list[tuple[int, int]]:
        places = [TopicPartition(self._topic, partition) for partition in partitions]
        try:
            consumer = await self._reader()
            first, end = await asyncio.gather(consumer.beginning_offsets(places), consumer.end_offsets(places))
        except KafkaError as error:
            raise _unreadable(self._kafka, self._topic, error) from error
        return [(first[place], end[place]) for place in places]

    async def append(self, drafts: Sequence[tuple[int, Draft]]) -> None:
        """Append (partition, draft) pairs; return when all in-sync replicas have them.

        Raises:
            StoreUnavailableError: if that could not be achieved; a part may be durable all the same.
        """
        await self._sender.send(
            Output(EVENTS, partition, None, tuple(draft.headers()), draft.value) for partition, draft in drafts
        )


def _unreadable(kafka: KafkaAccess, topic: str, error: BaseException) -> StoreUnavailableError:
    return StoreUnavailableError(f"topic {topic} of Kafka at {kafka} can't be read: {error or type(error).__name__}")
