"""Merges what arrives within a short linger into one write, and tells each request when it is durable."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import NamedTuple, Self

from collector.errors import OverloadedError
from collector.metrics import CollectorMetrics
from collector.sinks.port import Sink, SinkUnavailableError
from collector.wire.block import BlockBuilder, encode_events
from collector.wire.event import Event, routing_key


@dataclass(slots=True)
class _Batch:
    """What is written together, and who waits for it."""

    blocks: BlockBuilder
    rejected: list[tuple[str, bytes]] = field(default_factory=list)
    waiting: list[asyncio.Future[None]] = field(default_factory=list)
    events: int = 0
    size: int = 0

    def finish(self, error: Exception | None) -> None:
        for done in self.waiting:
            if done.done():  # the request was cancelled meanwhile
                continue
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)


class _Run(NamedTuple):
    """Encoded events of one person and one request, for one block; `last` ends it."""

    key: str
    lines: bytes
    events: int
    clock: int
    last: bool

    @classmethod
    def of(cls, together: Sequence[Event]) -> Self:
        """Encode them in one go: less than half of the cost of one by one."""
        first = together[0]
        return cls(
            routing_key(first), encode_events(together), len(together), first.received_at, first.type == "identify"
        )


def _of_one_person(events: Sequence[Event]) -> Iterator[Sequence[Event]]:
    """Yield the events in order, in as few parts as have one person each and no `identify` but alone."""
    start = 0
    before = None
    for at, event in enumerate(events):
        if before is None or (
            event.user_id == before.user_id
            and event.anonymous_id == before.anonymous_id
            and event.type != "identify" != before.type
        ):
            before = event
            continue
        yield events[start:at]
        start, before = at, event
    if before is not None:
        yield events[start:] if start else events


class Ingest:
    """Stands above one sink; used from one event loop.

    Args:
        sink: where everything goes.
        linger_ms: how long the first of a batch waits for others.
        queue_bytes: how much may wait, written or not, before requests are refused.
        block_bytes: the size of one block's value.
        metrics: observes the sink's writes.
    """

    def __init__(
        self, sink: Sink, *, linger_ms: float, queue_bytes: int, block_bytes: int, metrics: CollectorMetrics
    ) -> None:
        self._sink = sink
        self._linger = linger_ms / 1000
        self._queue_bytes = queue_bytes
        self._block_bytes = block_bytes
        self._metrics = metrics
        self._batch: _Batch | None = None
        self._waiting_bytes = 0
        self._writes: set[asyncio.Task[None]] = set()

    def put(self, events: Sequence[Event], rejected: Sequence[tuple[str, bytes]]) -> asyncio.Future[None]:
        """Take over events and rejected records, (write key's name, JSON) pairs; needs them no longer when it returns.

        The future is done when all are durable; it raises SinkUnavailableError if the sink failed, where a part may be
        durable all the same.

        Raises:
            OverloadedError: if too much waits already; nothing was taken.
        """
        done = asyncio.get_running_loop().create_future()
        runs = self._encode(events)
        size = sum(len(run.lines) for run in runs) + sum(len(value) for _, value in rejected)
        if not size:
            done.set_result(None)
            return done
        if self._waiting_bytes and self._waiting_bytes + size > self._queue_bytes:
            msg = f"{self._waiting_bytes} bytes wait for the log already; the limit is {self._queue_bytes}"
            raise OverloadedError(msg)
        batch = self._batch or self._open()
        for run in runs:
            batch.blocks.add_lines(run.key, run.lines, run.events, run.clock, last=run.last)
        batch.events += len(events)
        batch.rejected += rejected
        batch.size += size
        self._waiting_bytes += size
        batch.waiting.append(done)
        return done

    def _encode(self, events: Sequence[Event]) -> list[_Run]:
        runs: list[_Run] = []
        for together in _of_one_person(events):
            run = _Run.of(together)
            cut = len(run.lines) > self._block_bytes  # a block is cut between runs alone
            runs += [_Run.of((event,)) for event in together] if cut else (run,)
        return runs

    def _open(self) -> _Batch:
        self._batch = _Batch(BlockBuilder(self._sink.partitions, max_bytes=self._block_bytes))
        asyncio.get_running_loop().call_later(self._linger, self._flush)
        return self._batch

    def _flush(self) -> None:
        batch, self._batch = self._batch, None
        if batch is not None:
            task = asyncio.get_running_loop().create_task(self._write(batch))
            self._writes.add(task)
            task.add_done_callback(self._writes.discard)

    async def _write(self, batch: _Batch) -> None:
        started = perf_counter()
        writes = [self._sink.write(batch.blocks.take())] if batch.events else []
        if batch.rejected:
            writes.append(self._sink.write_rejected(batch.rejected))
        try:
            results = await asyncio.gather(*writes, return_exceptions=True)
            error = next((result for result in results if isinstance(result, Exception)), None)
        except asyncio.CancelledError:
            batch.finish(SinkUnavailableError("the collector is stopping"))
            raise
        finally:
            self._waiting_bytes -= batch.size
        self._metrics.sink_write_seconds.labels("error" if error else "ok").observe(perf_counter() - started)
        batch.finish(error)

    async def close(self) -> None:
        """Write what waits; the sink stays open."""
        self._flush()
        if self._writes:
            await asyncio.gather(*self._writes)
