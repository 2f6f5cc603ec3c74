"""The commit protocol under crashes and takeovers: outputs go out in order, repeats are byte-equal, nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from prometheus_client import CollectorRegistry

from collector.wire.record import HOUR_MS, Draft, Kind, Record
from processors.adapters.sqlite.log import SqliteLog
from processors.adapters.sqlite.store import SqliteStore
from processors.engine.metrics import WorkerMetrics
from processors.engine.outputs import Output
from processors.engine.ports import Commit, FencedError, Unreadable
from processors.engine.worker import PartitionWorker, WorkerOptions
from tests.unit.engine.partition import DAY, START, PartitionLog, fold

POINTS = (
    "after read",
    "before commit",
    "after commit",
    "before publish",
    "amid publish",
    "after publish",
    "before trim",
)


class CrashError(Exception):
    """The process is gone."""


class Faults:
    """Crashes once, when the point it is set to is reached."""

    def __init__(self) -> None:
        self.point: str | None = None

    def at(self, point: str) -> None:
        if self.point == point:
            self.point = None
            raise CrashError


class FaultyStore(SqliteStore):
    def __init__(self, faults: Faults) -> None:
        super().__init__(":memory:")
        self._faults = faults

    async def commit(self, commit: Commit) -> int:
        self._faults.at("before commit")
        last = await super().commit(commit)
        self._faults.at("after commit")
        return last

    async def trim(self, partition: int, token: str, upto: int) -> None:
        self._faults.at("before trim")
        await super().trim(partition, token, upto)


class FaultyLog(SqliteLog):
    """A log that notes what was published, in its order."""

    def __init__(self, faults: Faults) -> None:
        self.now = START
        super().__init__(":memory:", partitions=1, log_id="log", clock=lambda: self.now)
        self._faults = faults
        self.published: list[Output] = []

    async def read(self, partition: int, offset: int, most: int) -> list[Record | Unreadable]:
        found = await super().read(partition, offset, most)
        self._faults.at("after read")
        return found

    async def publish(self, outputs: Sequence[Output]) -> None:
        self._faults.at("before publish")
        try:
            self._faults.at("amid publish")
        except CrashError:
            await self._send(outputs[: len(outputs) // 2])
            raise
        await self._send(outputs)
        self._faults.at("after publish")

    async def _send(self, outputs: Sequence[Output]) -> None:
        await super().publish(outputs)
        self.published.extend(outputs)


class CommitProtocol(RuleBasedStateMachine):
    """Events arrive, time passes, owners crash and are replaced; at the end the log is folded undisturbed."""

    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self._faults = Faults()
        self._log, self._store = FaultyLog(self._faults), FaultyStore(self._faults)
        self._written = PartitionLog()
        self._owner: PartitionWorker | None = None
        self._flush()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(work)

    def _flush(self) -> None:
        """Append what was written by hand; the log gives it its own offsets, after what was derived meanwhile."""
        drafts = [(0, one.draft) for one in self._written.records if isinstance(one, Record)]
        self._run(self._log.append(drafts))
        self._written.records.clear()

    def _worker(self, size: int) -> PartitionWorker:
        return PartitionWorker(
            0,
            log=self._log,
            store=self._store,
            publisher=self._log,
            clock=lambda: self._log.now,
            metrics=WorkerMetrics(CollectorRegistry()),
            options=WorkerOptions("shop", batch_records=3, slice_persons=size),
        )

    @rule(
        who=st.lists(st.sampled_from(((None, "x"), ("1", "x"), ("1", None), ("2", None), ("3", "y"))), max_size=4),
        gap=st.sampled_from((0, 1000, HOUR_MS, 15 * DAY, 46 * DAY)),
    )
    def events_arrive(self, who: list[tuple[str | None, str | None]], gap: int) -> None:
        self._log.now += gap
        for user, anonymous_id in who:
            self._written.decide(self._log.now - START, user=user, anonymous_id=anonymous_id)
        self._flush()

    @rule(trusted=st.booleans(), gap=st.sampled_from((0, HOUR_MS)))
    def money_moves(self, trusted: bool, gap: int) -> None:  # noqa: FBT001 - hypothesis passes by name
        self._log.now += gap
        self._written.money("purchase", self._log.now - START, trusted=trusted)
        self._flush()

    @rule(gap=st.sampled_from((HOUR_MS, 4 * DAY, 15 * DAY, 46 * DAY)))
    def time_passes(self, gap: int) -> None:
        self._log.now += gap
        self._run(self._log.append([(0, Draft(Kind.TICK, self._log.now))]))

    @rule(size=st.integers(1, 4))
    def an_owner_takes_over(self, size: int) -> None:
        """Whoever owned it is refused from now on; what is not committed goes with it."""
        former, self._owner = self._owner, self._worker(size)
        self._run(self._owner.acquire())
        if former is not None:
            before = self._run(self._store.state(0))
            with suppress(FencedError):
                assert self._run(former.step()) == 0
            assert self._run(self._store.state(0)) == before

    @precondition(lambda self: self._owner is not None)
    @rule()
    def the_owner_steps(self) -> None:
        assert self._owner is not None
        self._run(self._owner.step())

    @precondition(lambda self: self._owner is not None)
    @rule(point=st.sampled_from(POINTS), size=st.integers(1, 4))
    def the_owner_crashes(self, point: str, size: int) -> None:
        assert self._owner is not None
        self._faults.point = point
        try:
            while self._run(self._owner.step()):
                pass
        except CrashError:
            self._owner = None
        self._faults.point = None
        if self._owner is None:
            self.an_owner_takes_over(size)

    def teardown(self) -> None:
        try:
            owner = self._worker(2)
            self._run(owner.acquire())
            while self._run(owner.step()):
                pass
            self._compare()
        finally:
            self._store.close()
            self._log.close()
            self._runner.close()

    def _compare(self) -> None:
        records = self._run(self._log.read(0, 0, 1 << 40))
        expected = [one for _, one in self._run(fold(records)).outputs]
        following = 0
        for one in self._log.published:
            if following < len(expected) and one == expected[following]:
                following += 1
            else:
                assert one in expected[:following], "sent before what precedes it, or with other bytes than before"
        assert following == len(expected), "lost"
        assert self._run(self._store.outbox(0, 1)) == []


TestCommitProtocol = CommitProtocol.TestCase
TestCommitProtocol.settings = settings(
    max_examples=40, stateful_step_count=12, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
