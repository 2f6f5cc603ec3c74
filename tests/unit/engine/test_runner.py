"""A partition's runner over SQLite: fed as a consumer feeds it, fenced, cut off, stopped."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from itertools import count

import pytest
from prometheus_client import CollectorRegistry

from collector.wire.record import Draft, Kind, Record
from processors.adapters.sqlite.log import SqliteLog
from processors.adapters.sqlite.store import SqliteStore
from processors.engine import runner as module
from processors.engine.metrics import WorkerMetrics
from processors.engine.ports import FencedError, LogMismatchError, StoreUnavailableError
from processors.engine.runner import PartitionRunner
from processors.engine.worker import PartitionWorker, WorkerOptions
from tests.unit.engine.partition import START, PartitionLog


class Consumer:
    """Feeds one runner from a log, as the group's consumer does, from wherever it was told to seek."""

    def __init__(self) -> None:
        clock = count(START)
        self.log = SqliteLog(":memory:", partitions=1, log_id="log", clock=lambda: next(clock))
        self.store = SqliteStore(":memory:")
        self.metrics = WorkerMetrics(CollectorRegistry())
        self.next: int | None = None
        self.seeks: list[int] = []
        self.released = 0
        self.failures: list[Exception] = []
        """Raised by the next attempts to own the partition."""
        self.runner = PartitionRunner(
            0,
            acquire=self.acquire,
            release=self._release,
            seek=self._seek,
            batch_records=7,
            metrics=self.metrics,
        )

    async def acquire(self) -> PartitionWorker:
        if self.failures:
            raise self.failures.pop(0)
        worker = PartitionWorker(
            0,
            log=self.log,
            store=self.store,
            publisher=self.log,
            clock=lambda: START,
            metrics=self.metrics,
            options=WorkerOptions("shop"),
        )
        await worker.acquire()
        return worker

    async def _release(self) -> None:
        self.released += 1

    async def _seek(self, offset: int) -> None:
        self.next = offset
        self.seeks.append(offset)

    async def feed(self, *, skip: int = 0) -> None:
        """Feed all that the log has, but not the next `skip` records."""
        assert self.next is not None
        records = await self.log.read(0, self.next + skip, 1 << 30)
        self.runner.feed(records)
        self.next += skip + len(records)

    async def decide(self, people: int) -> int:
        """Append blocks of people who enter a decision; return the log's end."""
        written = PartitionLog()
        for person in range(people):
            written.decide(person, user=f"{(await self.log.bounds(0))[1]}-{person}")
        drafts = [(0, one.draft) for one in written.records if isinstance(one, Record)]
        await self.log.append(drafts)
        return (await self.log.bounds(0))[1]


@pytest.fixture
async def consumer(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Consumer]:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(module, "FLUSH_SECONDS", 0.01)
    found = Consumer()
    yield found
    await found.runner.stop()
    found.store.close()
    found.log.close()


async def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, f"not within 10 s: {what}"
        await asyncio.sleep(0.002)


async def folded(consumer: Consumer, end: int) -> None:
    await until(lambda: consumer.runner.position == end, f"folded to {end}")


async def test_what_is_fed_is_folded_from_where_the_store_stands(consumer: Consumer) -> None:
    end = await consumer.decide(20)
    consumer.runner.start()
    await until(lambda: consumer.runner.wants, "owned")
    assert consumer.runner.why_not_ready is None
    assert consumer.seeks == [0]
    await consumer.feed()
    await folded(consumer, end)
    await consumer.runner.stop()
    assert await consumer.store.outbox(0, 1) == []
    assert consumer.released == 1
    assert not consumer.runner.wants


async def test_a_gap_makes_it_own_the_partition_anew_from_the_stores_position(consumer: Consumer) -> None:
    consumer.runner.start()
    await until(lambda: consumer.runner.wants, "owned")
    end = await consumer.decide(3)
    await consumer.feed(skip=2)
    await until(lambda: consumer.seeks == [0, 0], "sought again")
    await until(lambda: consumer.runner.wants, "owned again")
    await consumer.feed()
    await folded(consumer, end)


async def test_an_owner_that_was_fenced_goes_on_from_where_the_other_one_came_to(consumer: Consumer) -> None:
    await consumer.decide(1)
    consumer.runner.start()
    await until(lambda: consumer.runner.wants, "owned")
    other = await consumer.acquire()
    while await other.step():
        pass
    middle = other.position.offset
    await consumer.decide(1)
    await consumer.feed()
    await until(lambda: consumer.seeks == [0, middle], "sought where the other one came to")
    await until(lambda: consumer.runner.wants, "owned again")
    await consumer.feed()
    await folded(consumer, (await consumer.log.bounds(0))[1])


@pytest.mark.parametrize("failure", [FencedError("another owner"), StoreUnavailableError("the store is away")])
async def test_what_passes_is_tried_again_and_said(consumer: Consumer, failure: Exception) -> None:
    consumer.failures = [failure] * 3
    consumer.runner.start()
    await until(lambda: consumer.runner.why_not_ready == str(failure), "says why")
    await until(lambda: consumer.runner.wants, "owned")
    assert consumer.runner.why_not_ready is None


async def test_a_log_that_is_another_one_stops_it(consumer: Consumer, logged_errors: list[str]) -> None:
    consumer.failures = [LogMismatchError("records are missing")]
    consumer.runner.start()
    await until(lambda: logged_errors, "said")
    await consumer.runner.stop()
    assert consumer.runner.why_not_ready == "stopped: records are missing"
    assert consumer.seeks == []


async def test_until_somebody_has_mended_that(
    consumer: Consumer, logged_errors: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_MOST_SECONDS", 0.01)
    consumer.failures = [LogMismatchError("records are missing")] * 5
    consumer.runner.start()
    await until(lambda: consumer.runner.wants, "owned, without a restart")
    assert len(logged_errors) == 1, "said once, not at each look"


async def test_what_a_reader_doubts_is_looked_at_again(consumer: Consumer) -> None:
    consumer.runner.start()
    await until(lambda: consumer.runner.wants, "owned")
    middle = await consumer.decide(2)
    await consumer.feed()
    await folded(consumer, middle)
    consumer.runner.doubt("it can't be read")
    await until(lambda: consumer.runner.why_not_ready == "it can't be read", "says why")
    await until(lambda: consumer.runner.wants, "owned again")
    assert consumer.seeks == [0, middle]


async def test_what_ends_ownership_again_and_again_is_tried_less_and_less_often(
    consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_MOST_SECONDS", 5)
    consumer.runner.start()
    waited = []
    for _ in range(5):
        began = time.monotonic()
        await until(lambda: consumer.runner.wants, "owned")
        waited.append(time.monotonic() - began)
        consumer.runner.doubt("it can't be read")
        await until(lambda: not consumer.runner.wants, "given up")
    assert waited[4] > 0.06, waited  # of 0.08, the fourth


async def test_a_fault_of_ours_is_said_and_tried_again(consumer: Consumer, logged_errors: list[str]) -> None:
    consumer.failures = [ZeroDivisionError("by zero")]
    consumer.runner.start()
    await until(lambda: consumer.runner.wants, "owned")
    assert any("partition_failed" in error for error in logged_errors)


async def test_records_beyond_the_bound_are_not_wanted_until_some_are_folded(
    consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUEUE_BYTES", 100)
    consumer.runner.start()
    await until(lambda: consumer.runner.wants, "owned")
    end = await consumer.decide(10)
    await consumer.feed()
    assert not consumer.runner.wants
    await folded(consumer, end)
    assert consumer.runner.wants


async def test_it_lets_time_pass_where_nothing_comes(consumer: Consumer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TICK_SECONDS", 0.01)
    await consumer.log.append([(0, Draft(Kind.LIVE, START))])
    asked = []

    async def tick(self: PartitionWorker) -> bool:
        asked.append(self.partition)
        return False

    monkeypatch.setattr(PartitionWorker, "tick", tick)
    consumer.runner.start()
    await until(lambda: len(asked) > 2, "asked")
