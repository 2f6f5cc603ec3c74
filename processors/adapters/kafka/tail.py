"""The end of topic `stage-changes` in memory: one consumer follows all partitions, however many readers there are."""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from collector.wire.kafka_access import KafkaAccess, explained
from processors.adapters.kafka.sending import REQUEST_TIMEOUT_MS
from processors.adapters.kafka.topic_ids import identify_topic
from processors.engine.ports import StoreUnavailableError

MOST_CHANGES: Final = 10_000
"""Kept at most; a reader further behind is served by reading the topic again."""
MOST_BYTES: Final = 16_000_000
"""Of kept messages at most; a message is about 1 kB."""
_POLL_MS: Final = 1_000


class Entry(NamedTuple):
    """One stage change in its place."""

    partition: int
    offset: int
    timestamp: int
    value: bytes


def merge(lists: Iterable[Sequence[Entry]]) -> Iterable[Entry]:
    """Return entries by time, each list's own order kept whatever its times are."""
    return heapq.merge(*lists, key=lambda entry: entry.timestamp)


def entries_of(records: Iterable[Any]) -> list[Entry]:
    """Return aiokafka's records as entries."""
    return [Entry(one.partition, one.offset, one.timestamp, one.value or b"") for one in records]


class Tail:
    """What was published last, from `starts` (first offset kept) to `ends` (next offset) of each partition."""

    def __init__(self, consumer: AIOKafkaConsumer, topic: str, topic_id: str, starts: list[int]) -> None:
        self.topic_id = topic_id
        self.starts, self.ends = starts, list(starts)
        self._consumer, self._topic = consumer, topic
        self._entries: deque[Entry] = deque()
        self._bytes = 0
        self._following: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, kafka: KafkaAccess, topic: str) -> Self:
        """Take in the latest changes, oldest first, and follow what comes.

        Raises:
            StoreUnavailableError: if there is no such topic.
            KafkaError: if Kafka can't be read.
        """
        identity = await identify_topic(kafka, topic)
        consumer = AIOKafkaConsumer(
            **kafka.options,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            request_timeout_ms=REQUEST_TIMEOUT_MS,
        )
        try:
            async with explained(kafka):
                await consumer.start()
            places = [TopicPartition(topic, partition) for partition in range(identity.partitions)]
            first, end = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
            each = MOST_CHANGES // len(places) + 1
            starts = [max(first[place], end[place] - each) for place in places]
            tail = cls(consumer, topic, identity.topic_id, starts)
            consumer.assign(places)
            for place in places:  # before anything is awaited: aiokafka else looks for a place by itself
                consumer.seek(place, starts[place.partition])
            await tail._fill({place.partition: end[place] for place in places})
        except BaseException:
            await consumer.stop()
            raise
        tail._following = asyncio.create_task(tail._follow())
        return tail

    async def stop(self) -> None:
        """Give up the connections; whatever it ended of is raised here, but for what a new start may mend."""
        try:
            if self._following is not None:
                self._following.cancel()
                with suppress(asyncio.CancelledError, KafkaError, StoreUnavailableError):
                    await self._following
        finally:
            await self._consumer.stop()

    @property
    def ended(self) -> bool:
        """Whether it follows no more, as the topic was made anew or can't be read: start another one."""
        return self._following is None or self._following.done()

    def covers(self, offsets: Sequence[int]) -> bool:
        """Return whether everything from these offsets on is kept."""
        return all(offset >= start for offset, start in zip(offsets, self.starts, strict=True))

    def after(self, offsets: Sequence[int]) -> list[Entry]:
        """Return what is kept from these offsets on, oldest first; found from the end, where most readers are."""
        missing = sum(max(0, end - offset) for end, offset in zip(self.ends, offsets, strict=True))
        found: list[Entry] = []
        for entry in reversed(self._entries):
            if len(found) >= missing:
                break
            if entry.offset >= offsets[entry.partition]:
                found.append(entry)
        found.reverse()
        return found

    async def _fill(self, upto: dict[int, int]) -> None:
        lists: dict[int, list[Entry]] = {partition: [] for partition in upto}
        behind = {partition for partition, end in upto.items() if self.starts[partition] < end}
        async with asyncio.timeout(REQUEST_TIMEOUT_MS / 1000):
            while behind:
                for place, records in (await self._consumer.getmany(timeout_ms=_POLL_MS)).items():
                    lists[place.partition] += entries_of(records)
                    if records[-1].offset + 1 >= upto[place.partition]:
                        behind.discard(place.partition)
        self._take(lists.values())

    async def _follow(self) -> None:
        while True:
            found = await self._consumer.getmany(timeout_ms=_POLL_MS)
            self._take(map(entries_of, found.values()))

    def _take(self, lists: Iterable[Sequence[Entry]]) -> None:
        for entry in merge(lists):
            if entry.offset < self.ends[entry.partition]:
                msg = f"topic {self._topic} begins anew: its offset {entry.offset} comes a second time"
                raise StoreUnavailableError(msg)
            self._entries.append(entry)
            self._bytes += len(entry.value)
            self.ends[entry.partition] = entry.offset + 1
        while len(self._entries) > MOST_CHANGES or self._bytes > MOST_BYTES:
            gone = self._entries.popleft()
            self._bytes -= len(gone.value)
            self.starts[gone.partition] = gone.offset + 1
