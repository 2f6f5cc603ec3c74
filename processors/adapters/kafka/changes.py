"""Reading stage changes back from Kafka: for the console, whose every process gives out the same cursors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from aiokafka.errors import KafkaError

from collector.wire.kafka_access import KafkaAccess
from processors.adapters.kafka.cursors import CursorCodec
from processors.adapters.kafka.past import Past
from processors.adapters.kafka.tail import Entry, Tail
from processors.engine.ports import StoreUnavailableError
from processors.engine.query import BadCursorError
from processors.wire import STAGE_CHANGES


class KafkaChanges:
    """The engine's `ChangeReader` on Kafka; it connects when it is first asked.

    The latest changes are kept in memory (`tail.MOST_CHANGES`, `tail.MOST_BYTES`), where most readers find theirs.
    Order is each partition's own; between partitions it is the time of publication as far as that is known.

    Args:
        kafka: where it is and how it is reached.
        prefix: begin of every topic's name.
    """

    def __init__(self, kafka: KafkaAccess, prefix: str) -> None:
        self._kafka, self._topic = kafka, prefix + STAGE_CHANGES
        self._starting = asyncio.Lock()
        self._tail: Tail | None = None
        self._past = Past(kafka, self._topic)

    async def close(self) -> None:
        """Give up the connections."""
        if self._tail is not None:
            tail, self._tail = self._tail, None
            await tail.stop()
        await self._past.stop()

    async def changes(self, after: str, most: int) -> list[tuple[str, bytes]]:
        """Return at most `most` (cursor, message) pairs after a cursor; none only when nothing follows it.

        Raises:
            BadCursorError: if `after` is no cursor of this topic.
            StoreUnavailableError: if Kafka can't be read.
        """
        async with self._reading() as (tail, codec):
            offsets = codec.decode(after)
            return _with_cursors(codec, offsets, await self._after(tail, offsets, most))

    async def newest(self, after: str, most: int) -> list[tuple[str, bytes]]:
        """Return the last `most` of all that follows a cursor, oldest first; raises as `changes`."""
        async with self._reading() as (tail, codec):
            offsets = codec.decode(after)
            ends = list(tail.ends)
            entries = tail.after(offsets)[-most:]
            if len(entries) < most and not tail.covers(offsets):
                latest = [max(offset, end - most) for offset, end in zip(offsets, ends, strict=True)]
                entries = (await self._past.read(latest, ends, most * len(ends)))[-most:]
            begin = list(map(max, offsets, ends))
            for entry in reversed(entries):
                begin[entry.partition] = entry.offset
            return _with_cursors(codec, begin, entries)

    async def cursor_at(self, instant: int) -> str:
        """Return the cursor after which everything published since `instant` (UTC ms) follows.

        Raises:
            StoreUnavailableError: if Kafka can't be read.
        """
        async with self._reading() as (tail, codec):
            offsets = await self._past.offsets_at(instant, len(tail.ends))
            # Not beyond what `changes` shows already: who waits there for more would never hear of what is between.
            return codec.encode(list(map(min, offsets, tail.ends)))

    async def check(self, after: str) -> None:
        """Return if a text is a cursor of this topic.

        Raises:
            BadCursorError: if it is malformed, another topic's, or lies beyond the end.
            StoreUnavailableError: if Kafka can't be read.
        """
        async with self._reading() as (tail, codec):
            offsets = codec.decode(after)
            if _beyond(offsets, tail.ends) and _beyond(offsets, await self._past.ends(len(offsets))):
                msg = f"{after} lies beyond the end of the log, so it is another log's"
                raise BadCursorError(msg)

    async def _after(self, tail: Tail, offsets: Sequence[int], most: int) -> list[Entry]:
        if tail.covers(offsets):
            return tail.after(offsets)[:most]
        return await self._past.read(offsets, tail.ends, most)

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[tuple[Tail, CursorCodec]]:
        try:
            async with self._starting:
                if self._tail is not None and self._tail.ended:
                    await self.close()
                if self._tail is None:
                    self._tail = await Tail.start(self._kafka, self._topic)
                tail = self._tail
            yield tail, CursorCodec(tail.topic_id, len(tail.ends))
        except (KafkaError, TimeoutError) as error:
            reason = str(error) or type(error).__name__
            msg = f"topic {self._topic} of Kafka at {self._kafka} can't be read: {reason}"
            raise StoreUnavailableError(msg) from error


def _beyond(offsets: Sequence[int], ends: Sequence[int]) -> bool:
    return any(offset > end for offset, end in zip(offsets, ends, strict=True))


def _with_cursors(codec: CursorCodec, offsets: Sequence[int], entries: Sequence[Entry]) -> list[tuple[str, bytes]]:
    """Return each entry's message and the cursor that follows it for a reader who has come from `offsets`."""
    at = list(offsets)
    found = []
    for entry in entries:
        at[entry.partition] = entry.offset + 1
        found.append((codec.encode(at), entry.value))
    return found
