"""Merges what arrives within a short linger into one write, and tells each request when it is durable."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter

from collector.errors import OverloadedError
from collector.metrics import CollectorMetrics
from collector.sinks.port import Sink, SinkUnavailableError
from collector.wire.block import BlockBuilder, encode_event
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

    async def put(self, events: Sequence[Event], rejected: Sequence[tuple[str, bytes]]) -> None:
        """Return when all events and rejected records, (write key's name, JSON) pairs, are durable.

        Raises:
            OverloadedError: if too much waits already; nothing was taken.
            SinkUnavailableError: if the sink failed; a part may be durable all the same.
        """
        lines = [encode_event(event) for event in events]
        size = sum(map(len, lines)) + sum(len(value) for _, value in rejected)
        if not size:
            return
        if self._waiting_bytes and self._waiting_bytes + size > self._queue_bytes:
            msg = f"{self._waiting_bytes} bytes wait for the log already; the limit is {self._queue_bytes}"
            raise OverloadedError(msg)
        batch = self._batch or self._open()
        for event, line in zip(events, lines, strict=True):
            batch.blocks.add_line(routing_key(event), line, event.received_at, last=event.type == "identify")
        batch.events += len(lines)
        batch.rejected += rejected
        batch.size += size
        self._waiting_bytes += size
        done = asyncio.get_running_loop().create_future()
        batch.waiting.append(done)
        await done

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
