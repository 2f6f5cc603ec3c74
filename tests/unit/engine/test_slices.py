"""Work that moves many persons is committed in slices; a crash after any of them changes nothing."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from collector.wire.record import HOUR_MS
from processors.adapters.sqlite.store import SqliteStore
from processors.engine.codec import decode_state
from processors.engine.outputs import Output
from processors.engine.ports import Commit
from processors.engine.unit import PartitionUnit
from tests.unit.engine.partition import DAY, SHIPPED, Folded, PartitionLog, acquire, contents, fold

PERSONS = 7
SIZES = (1, 2, 3, 7, 1000)
STRICTER = SHIPPED.replace("weight = 2.5", "weight = 1.1").replace("decision_keeps_at = 4 ", "decision_keeps_at = 3.5 ")


class CrashError(Exception):
    """The process is gone: what was committed is all there is."""


class CrashingStore(SqliteStore):
    """A store whose owner is gone right after its commit number `after` (counted from 0)."""

    def __init__(self) -> None:
        super().__init__(":memory:")
        self.after: int | None = None
        self.commits = 0

    async def commit(self, commit: Commit) -> int:
        last = await super().commit(commit)
        self.commits += 1
        if self.after is not None and self.commits > self.after:
            self.after = None
            raise CrashError
        return last


def silent_week() -> PartitionLog:
    """Several persons whose decisions end within one silence, some in one hour, and an event that ends it."""
    log = PartitionLog()
    for person in range(PERSONS):
        log.decide(person // 3 * HOUR_MS + person, user=f"{person}")
    log.money("purchase", 3 * HOUR_MS, user="2", trusted=False)
    log.event(30 * DAY + 5 * HOUR_MS, "view", user="3")
    return log


def sweep() -> PartitionLog:
    """Several persons who are re-evaluated by a document, with others due at the same place, and what follows."""
    log = PartitionLog()
    for person in range(PERSONS):
        log.decide(person * HOUR_MS, user=f"{person}")
    log.event(PERSONS * HOUR_MS, "submit", user="0")
    log.definitions(337 * HOUR_MS, 2, STRICTER)
    log.event(338 * HOUR_MS, "submit", user="4")
    log.tick(60 * DAY)
    return log


LOGS = pytest.mark.parametrize("log", [silent_week(), sweep()], ids=["silent week", "sweep"])


def visible(folded: Folded) -> tuple[object, ...]:
    """All but the state's own bytes: they tell the same, with dicts in another order."""
    return folded.outputs, folded.people, folded.due


@LOGS
@pytest.mark.parametrize("cut", [None, 1, 2, 5])
async def test_slices_and_batches_change_nothing(log: PartitionLog, cut: int | None) -> None:
    whole = await fold(log.records)
    assert len(whole.changes()) > 2 * PERSONS
    for size in SIZES:
        assert visible(await fold(log.records, size=size, cut=cut)) == visible(whole)


@LOGS
@pytest.mark.parametrize("size", SIZES[:-1])
async def test_a_crash_after_any_commit_changes_nothing(log: PartitionLog, size: int) -> None:
    whole = await fold(log.records, size=size)
    commits = await count_commits(log, size)
    assert commits > PERSONS // size
    for after in range(commits):
        store = CrashingStore()
        store.after = after
        unit = await acquire(store, size)
        with pytest.raises(CrashError):
            await unit.take(log.records)
        again = await acquire(store, size)
        await again.take(log.records[again.position.offset :])
        assert visible(await contents(store)) == visible(whole)
        store.close()


async def count_commits(log: PartitionLog, size: int) -> int:
    store = CrashingStore()
    try:
        await (await acquire(store, size)).take(log.records)
        return store.commits
    finally:
        store.close()


async def test_every_slice_counts_in_the_position() -> None:
    """Else two owners could both believe that they are at the place of the commit before."""
    log = sweep()
    store = SqliteStore(":memory:")
    unit = await acquire(store, 2)
    positions = []
    for record in log.records:
        await unit.take([record])
        positions.append(unit.position)
    assert positions == sorted(set(positions))
    assert positions[-1].offset == len(log.records)
    state = await store.state(0)
    assert state is not None
    assert decode_state(0, 1, state).position == unit.position
    store.close()


async def test_what_is_listed_within_a_slice_waits_for_those_before_it() -> None:
    """History beside a live log: `z` is listed for a past hour, but forgotten only after `a`, `b` and `c`."""
    log = PartitionLog()
    log.tick(200 * DAY)
    for user, received in (("z", 0), ("a", DAY), ("b", DAY), ("c", DAY)):
        log.money("purchase", 0, user=user, received=received)
        log.money("purchase_cancelled", 1, user=user, received=received)
    log.event(0, user="z", received=DAY)
    log.tick(201 * DAY)
    whole = await fold(log.records)
    assert whole.people == {}
    assert [one["person"] for one in whole.changes() if one["to"] is None] == ["u:a", "u:b", "u:c", "u:z"]
    for size in SIZES:
        assert (await fold(log.records, size=size)).outputs == whole.outputs


async def test_a_person_is_evaluated_once_by_a_document() -> None:
    log = sweep()
    changes = [one for one in (await fold(log.records, size=2)).changes() if one["cause"]["kind"] == "definitions"]
    persons = [one["person"] for one in changes]
    assert persons == sorted(set(persons))
    assert {one["definitions"] for one in changes} == {2}
    assert not any(one["actionable"] for one in changes)


async def test_everything_due_fires_before_a_document_and_under_the_old_one() -> None:
    changes = (await fold(sweep().records, size=2)).changes("u:1")
    kinds = [(one["cause"]["kind"], one["to"], one["definitions"]) for one in changes]
    assert kinds[:2] == [("event", "decision", 1), ("timer", "prospect", 1)]


async def test_timers_fire_at_their_hours_in_order() -> None:
    changes = (await fold(silent_week().records, size=3)).changes()
    timers = [(one["at"], one["person"]) for one in changes if one["cause"]["kind"] == "timer"]
    assert timers == sorted(timers)
    assert len(timers) > PERSONS


@pytest.mark.parametrize("cut", [None, 1, 2, 5])
async def test_a_rule_that_keeps_more_finds_the_same_however_commits_were_cut(cut: int | None) -> None:
    """What the old rule let go is gone: at its hour, not at the next commit."""
    log = PartitionLog()
    log.event(HOUR_MS // 2, "submit", id="same")
    log.money("purchase", 0, user="2")
    log.money("redeem", HOUR_MS, user="2")
    log.event(24 * HOUR_MS + 1, "view")
    log.event(25 * HOUR_MS - 1, "view", user="3")
    log.definitions(25 * HOUR_MS - 1, 2, SHIPPED.replace("duplicate_hours = 24", "duplicate_hours = 48"))
    log.event(25 * HOUR_MS, "submit", id="same")
    log.event(400 * DAY, "view", user="2")
    log.event(401 * DAY, "view", user="2")
    log.definitions(401 * DAY, 3, SHIPPED.replace("summary_after_days = 400", "summary_after_days = 4000"))
    log.money("redeem_cancelled", 2 * HOUR_MS, user="2", received=402 * DAY)
    found, whole = await fold(log.records, cut=cut), await fold(log.records)
    assert visible(found) == visible(whole)
    assert [one["to"] for one in found.changes("u:2")][-1] == "post_redemption"


@LOGS
async def test_outputs_leave_after_each_commit(log: PartitionLog) -> None:
    """What one record makes of a partition full of persons is never all held at once."""
    handed: list[int] = []

    async def publish(outputs: Sequence[tuple[int, Output]]) -> None:
        handed.append(len(outputs))

    store = SqliteStore(":memory:")
    try:
        unit = PartitionUnit(0, 1, store, await store.acquire(0), "shop", size=1, publish=publish)
        await unit.take(log.records)
        assert sum(handed) == len(await store.outbox(0, 1 << 30))
        assert len(handed) > PERSONS
        assert max(handed) < sum(handed) / 2
    finally:
        store.close()
