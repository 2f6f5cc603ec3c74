"""Topic `stage-changes` at any place: where something is, and changes of long ago, the partitions merged by time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from collector.wire.kafka_access import KafkaAccess, explained
from processors.adapters.kafka.sending import DELIVERY_SECONDS, REQUEST_TIMEOUT_MS
from processors.adapters.kafka.tail import Entry, entries_of

_FETCH_WAIT_MS: Final = 20
"""What is read is there already; a fetch that waits holds up the next one."""
_FETCH_BYTES: Final = 128 * 1024
"""Of a partition at once; as much waits in memory for each of them."""


class Past:
    """One reader for all who are that far behind, by turns; who goes on where the last page ended costs the least.

    Questions about offsets are asked here, too: a broker answers a connection's requests one after the other, and on
    that of a consumer at the end of a topic each would wait behind a fetch.
    """

    def __init__(self, kafka: KafkaAccess, topic: str) -> None:
        self._kafka, self._topic = kafka, topic
        self._consumer: AIOKafkaConsumer | None = None
        self._starting, self._turn = asyncio.Lock(), asyncio.Lock()
        self._at: list[int] = []
        """Where the last page ended: the next offset of each partition."""
        self._ends: list[int] = []
        self._heads: dict[int, deque[Entry]] = {}
        """What was read and not yet given out, of the partitions that have more before `_ends`."""

    async def stop(self) -> None:
        """Give up the connections."""
        if self._consumer is not None:
            consumer, self._consumer = self._consumer, None
            await consumer.stop()

    async def ends(self, partitions: int) -> list[int]:
        """Return the next offset of each partition.

        Raises:
            KafkaError: if Kafka can't be asked.
        """
        found = await (await self._started()).end_offsets(self._places(partitions))
        return [found[place] for place in self._places(partitions)]

    async def offsets_at(self, instant: int, partitions: int) -> list[int]:
        """Return the first offset appended at an instant (UTC ms) or later, of each partition; raises as `ends`."""
        ends = await self.ends(partitions)
        places = self._places(partitions)
        found = await (await self._started()).offsets_for_times(dict.fromkeys(places, instant))
        return [ends[place.partition] if found[place] is None else found[place].offset for place in places]

    async def read(self, offsets: Sequence[int], ends: Sequence[int], most: int) -> list[Entry]:
        """Return at most `most` entries from `offsets` on and before `ends`, by time; none when there are none.

        Raises:
            KafkaError: if Kafka can't be read.
            TimeoutError: if it does not answer in time.
        """
        async with self._turn, asyncio.timeout(DELIVERY_SECONDS):
            consumer = await self._started()
            if self._at == list(offsets):
                await self._fill(consumer)
            if self._at != list(offsets) or not self._heads:
                self._seek(consumer, offsets, ends)
            at, self._at = list(offsets), []  # empty until the page is whole: a turn that breaks off leaves no place
            found: list[Entry] = []
            while len(found) < most:
                await self._fill(consumer)
                if not self._heads:
                    break
                heads = min(self._heads.values(), key=lambda waiting: waiting[0].timestamp)
                entry = heads.popleft()
                at[entry.partition] = entry.offset + 1
                found.append(entry)
            self._at = at
            return found

    def _places(self, partitions: int) -> list[TopicPartition]:
        return [TopicPartition(self._topic, partition) for partition in range(partitions)]

    async def _started(self) -> AIOKafkaConsumer:
        async with self._starting:
            if self._consumer is None:
                consumer = AIOKafkaConsumer(
                    **self._kafka.options,
                    enable_auto_commit=False,
                    auto_offset_reset="earliest",
                    fetch_max_wait_ms=_FETCH_WAIT_MS,
                    max_partition_fetch_bytes=_FETCH_BYTES,
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

    def _seek(self, consumer: AIOKafkaConsumer, offsets: Sequence[int], ends: Sequence[int]) -> None:
        self._ends = list(ends)
        self._heads = {n: deque() for n, (at, end) in enumerate(zip(offsets, ends, strict=True)) if at < end}
        consumer.assign([TopicPartition(self._topic, partition) for partition in self._heads])
        for partition in self._heads:
            consumer.seek(TopicPartition(self._topic, partition), offsets[partition])

    async def _fill(self, consumer: AIOKafkaConsumer) -> None:
        """Wait until the next entry of every partition is known that has one; forget the partitions that have none."""
        while True:
            for partition in [partition for partition, waiting in self._heads.items() if not waiting]:
                place = TopicPartition(self._topic, partition)
                if await consumer.position(place) >= self._ends[partition]:
                    del self._heads[partition]
                    consumer.pause(place)  # else it would wait for more there
            lacking = [TopicPartition(self._topic, n) for n, waiting in self._heads.items() if not waiting]
            if not lacking:
                return
            for place, records in (await consumer.getmany(*lacking, timeout_ms=_FETCH_WAIT_MS * 5)).items():
                self._heads[place.partition].extend(entries_of(records))
