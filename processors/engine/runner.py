"""One assigned partition's work from assignment to revocation: own, fold what comes, flush, let time pass, own anew."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog

from collector.wire.record import Record
from processors.engine.metrics import TakeoverResult, WorkerMetrics
from processors.engine.ports import FencedError, LogMismatchError, StoreUnavailableError, Unreadable
from processors.engine.worker import PartitionWorker

QUEUE_BYTES: Final = 4 * 1024 * 1024
"""Record values that may wait for a partition: several commits' worth; 128 MiB for 32 partitions at the very most."""
FLUSH_SECONDS: Final = 1.0
"""How long topic `stages` and the outbox's end may lag behind what is published (architecture, section 6)."""
TICK_SECONDS: Final = 1.0
"""How often a partition is asked whether something is due; `tick_interval_seconds` bounds the ticks themselves."""
RETRY_SECONDS: Final = 1.0
RETRY_MOST_SECONDS: Final = 15.0
"""Waits between attempts to own a partition; not below a heartbeat, so that two owners don't take turns (measured)."""
STOP_SECONDS: Final = 3.0
"""How long the batch under way may take when the partition is taken away; half of the shortest session."""

_logger = structlog.get_logger(__name__)

Acquire = Callable[[], Awaitable[PartitionWorker]]
"""Takes the partition over in the store, and whatever else its owner needs; returns its worker."""
Release = Callable[[], Awaitable[None]]
"""Gives up what `Acquire` took beside the store."""
Seek = Callable[[int], Awaitable[None]]
"""Returns once records are fed from this offset on, and none of before will be."""


class PartitionRunner:
    """Owns one partition again and again until it is stopped; records are fed to it as the log gives them."""

    def __init__(
        self,
        partition: int,
        *,
        acquire: Acquire,
        release: Release,
        seek: Seek,
        batch_records: int,
        metrics: WorkerMetrics,
    ) -> None:
        self.partition = partition
        self._acquire, self._release, self._seek = acquire, release, seek
        self._batch_records = batch_records
        self._metrics = metrics
        self._queue: deque[Record | Unreadable] = deque()
        self._queued_bytes = 0
        self._ready = False
        self._doubt: str | None = None
        self._wait = RETRY_SECONDS
        """Until the next attempt to own it, in case this one fails."""
        self._stopping = False
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._flushing: asyncio.Task[None] | None = None
        self._flushed = 0.0
        """When the last flush began (monotonic seconds)."""
        self.outbox_since: float | None = None
        """Since when (monotonic seconds) something has been committed and not flushed."""
        self.worker: PartitionWorker | None = None
        """The worker while the partition is owned."""
        self.why_not_ready: str | None = "it is being taken over"

    @property
    def wants(self) -> bool:
        """Whether records may be fed now."""
        return self._ready and self._queued_bytes < QUEUE_BYTES

    @property
    def position(self) -> int | None:
        """Offset of the next record to fold, while the partition is owned."""
        return None if self.worker is None else self.worker.position.offset

    def feed(self, records: Sequence[Record | Unreadable]) -> None:
        """Take records that follow the ones before; dropped where the partition is just being taken over."""
        if self._ready:
            self._queue.extend(records)
            self._queued_bytes += sum(map(_size, records))
            self._news.set()

    def doubt(self, why: str) -> None:
        """Own the partition anew, which looks at the log again: whoever reads it has seen something that can't be.

        Args:
            why: what was seen, as an operator reads it until the partition is owned again.
        """
        if self._ready:
            self._doubt = why
            self._news.set()

    def start(self) -> None:
        """Begin to work."""
        self._task = asyncio.create_task(self._run(), name=f"partition-{self.partition}")
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Say so where the work has ended in a way that nobody foresaw: it would be waited for in vain."""
        error = None if task.cancelled() else task.exception()
        if error is not None or (task.cancelled() and not self._stopping):
            self.why_not_ready = f"ended by itself: {error!r}; start this worker again"
            self._metrics.taken_over(TakeoverResult.FAILED)
            _logger.error("partition_ended", partition=self.partition, reason=repr(error))

    async def stop(self) -> None:
        """Finish the batch under way, flush, and give the partition up; what takes too long is cut off."""
        self._stopping = True
        self._news.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=STOP_SECONDS)
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        while not self._stopping:
            try:
                await self._own()
            except (FencedError, StoreUnavailableError) as error:
                self.why_not_ready = str(error)
                fenced = isinstance(error, FencedError)
                self._metrics.taken_over(TakeoverResult.FENCED if fenced else TakeoverResult.UNAVAILABLE)
                _logger.warning("partition_retries", partition=self.partition, reason=str(error), seconds=self._wait)
            except LogMismatchError as error:
                self._wait = RETRY_MOST_SECONDS  # it does not pass by itself; whoever mends it need not start us again
                self._metrics.taken_over(TakeoverResult.MISMATCH)
                if self.why_not_ready != f"stopped: {error}":
                    self.why_not_ready = f"stopped: {error}"
                    _logger.error("partition_stopped", partition=self.partition, reason=str(error))  # noqa: TRY400 - its text says all
            except Exception as error:  # a bug: others go on, this one is tried again and says why until it is mended
                self.why_not_ready = f"failed: {error!r}"
                self._metrics.taken_over(TakeoverResult.FAILED)
                _logger.exception("partition_failed", partition=self.partition, seconds=self._wait)
            finally:
                await self._give_up()
            if not self._stopping:
                await self._pause(self._wait)
                self._wait = min(2 * self._wait, RETRY_MOST_SECONDS)

    async def _own(self) -> None:
        self.worker = await self._take_over()
        self.why_not_ready = None
        self._metrics.taken_over(TakeoverResult.OWNED)
        now = asyncio.get_running_loop().time
        began = now()
        try:
            await self._work(self.worker)
        finally:
            if now() - began > RETRY_MOST_SECONDS:  # what ends it is no repetition of what did before
                self._wait = RETRY_SECONDS

    async def _take_over(self) -> PartitionWorker:
        worker = await self._acquire()
        self.outbox_since = None
        self._doubt = None
        self._forget()
        await self._seek(worker.position.offset)
        self._ready = True
        return worker

    async def _give_up(self) -> None:
        self._ready = False
        if self.worker is not None:
            self._metrics.forget(self.partition)
        self.worker = None
        self._forget()
        await self._release()

    def _forget(self) -> None:
        self._queue.clear()
        self._queued_bytes = 0

    async def _work(self, worker: PartitionWorker) -> None:
        now = asyncio.get_running_loop().time
        self._flushed = ticked = now()
        try:
            while not self._stopping:
                if self._doubt is not None:
                    raise StoreUnavailableError(self._doubt)
                records = self._next()
                if records:
                    self.outbox_since = self.outbox_since or now()  # before: what is committed waits while it is sent
                    await worker.take(records)
                flush_at = self._see_to_flush(worker)
                if now() - ticked >= TICK_SECONDS:
                    await worker.tick()
                    self._tell_of_ticks(worker.tick_failed)
                    ticked = now()
                if not self._queue:
                    await self._pause(min(flush_at, ticked + TICK_SECONDS) - now())
            if self._flushing is not None:
                await self._flushing
            await worker.flush()
        finally:
            await self._end_flush()

    def _tell_of_ticks(self, failed: str | None) -> None:
        why = f"no tick can be appended, so nobody who does nothing leaves a phase: {failed}" if failed else None
        if why is not None and why != self.why_not_ready:
            _logger.warning("tick_failed", partition=self.partition, reason=failed)
        self.why_not_ready = why

    def _see_to_flush(self, worker: PartitionWorker) -> float:
        """Begin to flush where it is time, beside the fold; return when to come again (monotonic seconds).

        A transaction takes longer than the fold of what comes meanwhile: nobody's change should wait for it.
        """
        now = asyncio.get_running_loop().time()
        if self._flushing is not None:
            if not self._flushing.done():
                return math.inf
            self._flushing.result()
            self._flushing, self.outbox_since = None, self._flushed
        if not worker.waiting:
            self.outbox_since = None
            return math.inf
        if now - self._flushed < FLUSH_SECONDS and not (worker.importing and not self._queue):
            return self._flushed + FLUSH_SECONDS
        self._flushed = now
        self._flushing = asyncio.create_task(worker.flush(), name=f"flush-{self.partition}")
        self._flushing.add_done_callback(lambda _: self._news.set())
        return math.inf

    async def _end_flush(self) -> None:
        flushing, self._flushing = self._flushing, None
        if flushing is not None:
            flushing.cancel()
            await asyncio.wait({flushing})
            if not flushing.cancelled():
                flushing.exception()  # seen: whatever ended the work is told of, this came with it

    def _next(self) -> list[Record | Unreadable]:
        records = [self._queue.popleft() for _ in range(min(len(self._queue), self._batch_records))]
        self._queued_bytes -= sum(map(_size, records))
        return records

    async def _pause(self, seconds: float) -> None:
        """Wait for news, so long at most."""
        self._news.clear()
        flushed = self._flushing is not None and self._flushing.done()
        if not (self._stopping or self._queue or flushed):
            try:
                async with asyncio.timeout(max(0.0, seconds)):
                    await self._news.wait()
            except TimeoutError:
                return


def _size(record: Record | Unreadable) -> int:
    return len(record.value if isinstance(record, Unreadable) else record.draft.value)
