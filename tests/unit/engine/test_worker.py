"""Owning a partition: taking it over, publishing what is left, and letting time pass."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from collector.wire.record import HOUR_MS, Draft, Kind, Record
from processors.adapters.sqlite.log import SqliteLog
from processors.adapters.sqlite.store import SqliteStore
from processors.engine.metrics import WorkerMetrics
from processors.engine.ports import FencedError, LogMismatchError
from processors.engine.worker import PartitionWorker, WorkerOptions
from tests.unit.engine.partition import DAY, START, PartitionLog

MINUTE = 60_000
SETTLE_MS = 2_000


class Place:
    """A log and a store of one partition under a clock of their own."""

    def __init__(self) -> None:
        self.now = START
        self.log = SqliteLog(":memory:", partitions=1, log_id="log", clock=lambda: self.now)
        self.store = SqliteStore(":memory:")

    def worker(self) -> PartitionWorker:
        return PartitionWorker(
            0,
            log=self.log,
            store=self.store,
            publisher=self.log,
            clock=lambda: self.now,
            metrics=WorkerMetrics(CollectorRegistry()),
            options=WorkerOptions("shop", tick_settle_ms=SETTLE_MS),
        )

    async def append(self, log: PartitionLog) -> None:
        await self.log.append([(0, one.draft) for one in log.records if isinstance(one, Record)])

    async def decided(self) -> PartitionWorker:
        """Return a worker that has folded a decision taken just now: something is due in 336 hours."""
        log = PartitionLog()
        log.decide(0)
        await self.append(log)
        worker = self.worker()
        await worker.acquire()
        while await worker.step():
            pass
        return worker

    async def ticks(self) -> list[int]:
        records = [one for one in await self.log.read(0, 0, 1000) if isinstance(one, Record)]
        return [one.draft.clock - START for one in records if one.draft.kind is Kind.TICK]


@pytest.fixture
def place() -> Iterator[Place]:
    found = Place()
    yield found
    found.log.close()
    found.store.close()


async def test_a_tick_comes_when_something_is_due_and_has_settled(place: Place) -> None:
    worker = await place.decided()
    place.now = START + 336 * HOUR_MS + SETTLE_MS - 1
    assert not await worker.tick()
    place.now += 1
    assert await worker.tick()
    assert await place.ticks() == [336 * HOUR_MS + SETTLE_MS]
    await worker.step()
    assert (await place.log.changes("0", 10))[-1][1].count(b'"to":"prospect"') == 1
    place.now += MINUTE
    assert not await worker.tick()


async def test_at_most_one_tick_in_ten_seconds(place: Place) -> None:
    worker = await place.decided()
    place.now = START + 337 * HOUR_MS
    assert await worker.tick()
    place.now += 9_999
    assert not await worker.tick()
    place.now += 1
    assert await worker.tick()


async def test_none_when_nothing_was_ever_received(place: Place) -> None:
    worker = place.worker()
    await worker.acquire()
    place.now += 400 * DAY
    assert not await worker.tick()


@pytest.mark.parametrize(
    ("late", "imported", "ticks"),
    [(0, False, True), (HOUR_MS, False, True), (0, True, False)],
)
async def test_none_while_history_is_imported(place: Place, *, late: int, imported: bool, ticks: bool) -> None:
    worker = await place.decided()
    log = PartitionLog(None)
    log.block(HOUR_MS, log.make(HOUR_MS), imported=imported)
    place.now = START + HOUR_MS + late
    await place.append(log)
    await worker.step()
    place.now = START + 337 * HOUR_MS
    assert await worker.tick() is ticks
    if not ticks:
        await place.log.append([(0, Draft(Kind.LIVE, START + HOUR_MS))])
        await worker.step()
        assert await worker.tick()


async def test_none_before_stream_time_is_past(place: Place) -> None:
    """A clock that was set back must not write ticks that move nothing."""
    worker = await place.decided()
    await place.log.append([(0, Draft(Kind.TICK, START))])
    place.now = START - 1
    assert not await worker.tick()


async def test_what_an_owner_left_unpublished_goes_out_first(place: Place) -> None:
    log = PartitionLog()
    log.decide(0)
    await place.append(log)
    worker = place.worker()
    await worker.acquire()

    class Gone:
        async def publish(self, _: object) -> None:
            raise ConnectionResetError

        async def flush(self, _: int) -> None:
            """Return: nothing waits."""

    broken = PartitionWorker(
        0,
        log=place.log,
        store=place.store,
        publisher=Gone(),
        clock=lambda: place.now,
        metrics=WorkerMetrics(CollectorRegistry()),
        options=WorkerOptions("shop"),
    )
    await broken.acquire()
    with pytest.raises(ConnectionResetError):
        await broken.step()
    assert await place.log.changes("0", 10) == []
    with pytest.raises(FencedError):
        await worker.step()
    again = place.worker()
    await again.acquire()
    assert len(await place.log.changes("0", 10)) == 1
    assert await place.store.outbox(0, 10) == []
    assert await again.step() == 0


async def test_a_log_that_is_behind_the_store_stops_it(place: Place, tmp_path: Path) -> None:
    worker = await place.decided()
    assert worker.position.offset == 4
    other = Place()
    short = SqliteLog(tmp_path / "log.db", partitions=1, log_id="log", clock=lambda: START)
    other.log, full = short, other.log
    full.close()
    other.store.close()
    other.store = place.store
    with pytest.raises(LogMismatchError, match="records are missing"):
        await other.worker().acquire()
    short.close()


async def test_a_log_that_has_forgotten_what_is_not_folded_stops_it(place: Place) -> None:
    worker = await place.decided()
    await place.append(PartitionLog())
    await place.log.forget_before(START + 1, [5])
    assert await place.log.bounds(0) == (4, 5)
    await place.worker().acquire()
    await place.append(PartitionLog())
    await place.append(PartitionLog())
    await place.log.forget_before(START + 1, [7])
    with pytest.raises(LogMismatchError, match="offsets 6 to 7"):
        await place.worker().acquire()
    assert worker.position.offset == 4


async def test_what_was_not_acquired_does_not_step(place: Place) -> None:
    with pytest.raises(RuntimeError, match="not acquired"):
        await place.worker().step()
