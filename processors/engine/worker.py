"""Owning a partition: take it over, fold what comes, publish what was committed, let time pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from collector.wire.record import HOUR_MS, Draft, Kind, Record
from processors.engine.metrics import WorkerMetrics
from processors.engine.outputs import Output
from processors.engine.ports import (
    Clock,
    EventLog,
    LogMismatchError,
    Publisher,
    StateStore,
    StoreUnavailableError,
    Unreadable,
)
from processors.engine.state import Position
from processors.engine.unit import SLICE, PartitionUnit

_OUTBOX_BATCH: Final = 500
_UNFLUSHED_MOST: Final = 5_000
"""Outputs that may stand in the outbox after they were published; some 10 MB at most."""
_LAGS_FROM_MS: Final = 120_000
"""A block appended more than 2 minutes after its clock says that others of its time may follow it: a spool is drained,
or a clock is wrong."""
_PROBE_EVERY_MS: Final = 10_000
_CALM_LASTS_MS: Final = 300_000
"""How long after a partition was seen to take records that is believed without asking again."""


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How a worker works; nothing here changes a result."""

    deployment: str
    """`ce_source` of what is published."""
    batch_records: int = 200
    """Records read and committed at once."""
    tick_interval_ms: int = 10_000
    """At most one tick in this time (architecture, section 4)."""
    tick_settle_ms: int = 2_000
    """How long after a whole hour its timers wait for blocks still under way."""
    tick_calm_ms: int = 0
    """How long a partition has to have taken records, none of them late, before time passes in it: whoever could not
    write while the log was away writes first. 0 where the log can't be away from its writers."""
    slice_persons: int = SLICE
    """Persons committed at once where a silent week or new definitions move many."""


class PartitionWorker:
    """One acquired partition; whoever is refused by the store throws it away and acquires anew."""

    def __init__(
        self,
        partition: int,
        *,
        log: EventLog,
        store: StateStore,
        publisher: Publisher,
        clock: Clock,
        metrics: WorkerMetrics,
        options: WorkerOptions,
    ) -> None:
        self.partition = partition
        self._log, self._store, self._publisher = log, store, publisher
        self._clock, self._metrics, self._options = clock, metrics, options
        self._unit: PartitionUnit | None = None
        self._token = ""
        self._ticked = self._probed = 0
        self._probe: int | None = None
        """The clock of a tick that was appended to move nothing, and has not come back through the log."""
        self._calm_since: int | None = None
        """Since when the partition is known to take records, and has brought none that came late."""
        self._published: int | None = None
        self._unflushed = 0
        self.importing = False
        """Whether the last record was history: an importer waits until what followed from it is done."""
        self.overdue_ms = 0
        self.tick_failed: str | None = None
        """Why the latest tick could not be appended; time goes on passing by events alone until one can."""
        """How long ago something was due that the last look at the due list still found (live partitions only)."""

    async def acquire(self) -> None:
        """Take the partition over: token, position, bounds, and what an earlier owner left unpublished.

        Raises:
            LogMismatchError: if the log no longer has, or does not yet have, the store's position.
        """
        acquired = await self._store.acquire(self.partition)
        unit = PartitionUnit(
            self.partition,
            self._log.partitions,
            self._store,
            acquired,
            self._options.deployment,
            size=self._options.slice_persons,
            commit_seconds=self._metrics.commit_seconds.time,
            publish=self._publish,
        )
        first, end = await self._log.bounds(self.partition)
        if why := log_lacks(self.partition, unit.position.offset, first, end):
            raise LogMismatchError(why)
        if unit.position.offset > first and unit.fold.state.appended:
            await self._check_last(unit)
        self._unit, self._token = unit, acquired.token
        while waiting := await self._store.outbox(self.partition, _OUTBOX_BATCH):
            await self._publish(waiting)
            await self.flush()
        self._metrics.observe(self.partition, unit.fold)

    async def _check_last(self, unit: PartitionUnit) -> None:
        offset = unit.position.offset - 1
        last = next(iter(await self._log.read(self.partition, offset, 1)), None)
        if last is not None and last.offset == offset and last.append_time != unit.fold.state.appended:
            msg = (
                f"record {offset} of partition {self.partition} is not the one that was folded: the log was cut or "
                "made anew under the same name. Bring the old log back, or restore states that match this one"
            )
            raise LogMismatchError(msg)

    @property
    def last_folded(self) -> int:
        """When the last folded record was appended (UTC ms); 0 where none was."""
        return self._owned().fold.state.appended

    @property
    def waiting(self) -> bool:
        """Whether anything is committed and not yet durable in its topic."""
        return self._published is not None

    @property
    def position(self) -> Position:
        """The place in the log up to which everything is folded and committed."""
        return self._owned().position

    async def step(self) -> int:
        """Fold, commit, publish and flush the next records; return how many there were.

        Raises:
            FencedError: if the partition has another owner by now.
        """
        records = await self._log.read(self.partition, self.position.offset, self._options.batch_records)
        if records:
            await self.take(records)
            await self.flush()
        return len(records)

    async def take(self, records: Sequence[Record | Unreadable]) -> None:
        """Fold, commit and publish records, of which the first has to be the next one.

        Raises:
            FencedError: if the partition has another owner by now, or the first record is another one.
        """
        unit = self._owned()
        with self._metrics.batch_seconds.time():
            await unit.take(records)
        self._metrics.observe(self.partition, unit.fold)
        self._look_for_calm(records)
        last = records[-1]
        self.importing = isinstance(last, Record) and last.draft.imported

    async def _publish(self, waiting: Sequence[tuple[int, Output]]) -> None:
        """Send what is committed; sent again after a crash, with the same bytes and ids."""
        with self._metrics.publish_seconds.time():
            await self._publisher.publish([output for _, output in waiting])
        self._published = waiting[-1][0]
        self._unflushed += len(waiting)
        self._metrics.published.inc(len(waiting))
        if self._unflushed >= _UNFLUSHED_MOST:
            await self.flush()

    async def flush(self) -> None:
        """Make what was published so far durable in topic `stages`, too, then forget it; the fold may go on meanwhile.

        Raises:
            FencedError: if the partition has another owner by now.
        """
        published, unflushed = self._published, self._unflushed
        if published is None:
            return
        await self._publisher.flush(self.partition)
        await self._store.trim(self.partition, self._token, published)
        self._unflushed -= unflushed
        if self._published == published:
            self._published = None

    def _look_for_calm(self, records: Sequence[Record | Unreadable]) -> None:
        for record in records:
            if not isinstance(record, Record):
                continue
            if record.draft.kind is Kind.EVENTS and record.append_time - record.draft.clock > _LAGS_FROM_MS:
                self._calm_since = None
            elif record.draft.kind is Kind.TICK and record.draft.clock == self._probe:
                self._calm_since, self._probe = self._clock(), None

    async def tick(self) -> bool:
        """Append a tick where something is due, unless history is imported; return whether time passes by it.

        Before that, a tick that moves nothing has to come back through the log, and a while has to pass then without
        late blocks: after an outage of the log, the spools of collectors come before the timers of the meantime.
        """
        now, state = self._clock(), self._owned().fold.state
        self.overdue_ms = 0
        if not state.live:
            return False
        due = await self._store.first_due(self.partition)
        if due is None:
            return False
        self.overdue_ms = max(0, now - due * HOUR_MS)
        settled, calm_ms = now - self._options.tick_settle_ms, self._options.tick_calm_ms
        if due * HOUR_MS > settled + calm_ms or state.tau >= now:
            return False
        if calm_ms and not await self._is_calm(now, calm_ms):
            return False
        ticked_just_now = 0 <= now - self._ticked < self._options.tick_interval_ms  # below 0: the clock was set back
        if due * HOUR_MS > settled or ticked_just_now:
            return False
        self._ticked = now
        return await self._append_tick(now)

    async def _append_tick(self, clock: int) -> bool:
        """Return whether a tick could be appended: where not, events can be folded all the same."""
        try:
            await self._log.append([(self.partition, Draft(Kind.TICK, clock))])
        except StoreUnavailableError as error:
            self.tick_failed = str(error)
        else:
            self.tick_failed = None
        return self.tick_failed is None

    async def _is_calm(self, now: int, calm_ms: int) -> bool:
        """Return whether the partition has been calm for so long; where that is not known, begin to find out."""
        if self._calm_since is not None and 0 <= now - self._calm_since <= _CALM_LASTS_MS:
            return now - self._calm_since >= calm_ms
        self._calm_since = None
        if not 0 <= now - self._probed < _PROBE_EVERY_MS:
            self._probed, self._probe = now, self._owned().fold.state.tau
            await self._append_tick(self._probe)
        return False

    def _owned(self) -> PartitionUnit:
        if self._unit is None:
            msg = f"partition {self.partition} was not acquired"
            raise RuntimeError(msg)
        return self._unit


def log_lacks(partition: int, position: int, first: int, end: int) -> str | None:
    """Return what of a partition's log is missing and what to do, None where nothing is.

    Args:
        partition: its number.
        position: offset of the next record to fold.
        first: first offset that the log still has.
        end: offset that its next record will get.
    """
    if first <= position <= end:
        return None
    held = f"partition {partition} of the log holds offsets {first} to {end}, but its states stand at {position}"
    if position < first:
        return (
            f"{held}: {first - position} records are missing, deleted before they were folded. Bring them back from a "
            f"copy of the log, or go on without them for good: `phasewatch accept-loss {partition}`"
        )
    return (
        f"{held}: {position - end} records are missing that were folded, so the log was cut or made anew. Bring it "
        "back, or restore states that match it"
    )


async def settle(workers: Sequence[PartitionWorker]) -> None:
    """Fold until no partition has anything left, what one partition derives for another included."""
    while any([await worker.step() for worker in workers]):
        pass
