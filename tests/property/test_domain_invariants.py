"""What holds of every log: evaluating more often changes nothing, nothing due is missed, cuts leave no trace."""

from __future__ import annotations

import asyncio
import copy
from typing import Any, Final

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector.wire.event import Event
from collector.wire.record import HOUR_MS, Draft, Kind, Record
from processors.domain.due import forgotten_at, next_due
from processors.domain.money import Ledger, Statement, Version
from processors.domain.person import FAR_FUTURE, Person
from processors.domain.rules import Rules
from processors.domain.window import evidence, expire, rescore
from processors.engine.codec import decode_person, encode_person
from processors.engine.fold import PartitionFold
from processors.engine.outputs import EVENTS
from processors.engine.ports import Unreadable
from processors.engine.records import keys_of, read_block
from processors.engine.state import PartitionState
from tests.harness import Deployment
from tests.unit.engine.partition import DAY, SHIPPED, START, PartitionLog, fold

MINUTE: Final = 60_000
GAPS: Final = (0, 0, 1000, 20 * MINUTE, HOUR_MS, 7 * HOUR_MS, 2 * DAY, 3 * DAY, 10 * DAY, 14 * DAY, 31 * DAY, 46 * DAY)
AGES: Final = (0, 0, 0, 0, MINUTE, HOUR_MS, DAY, 3 * DAY, 13 * DAY, 14 * DAY, 40 * DAY, -2 * HOUR_MS)
LOOSER: Final = SHIPPED.replace("weight = 2.5", "weight = 4.5").replace(
    "decision_keeps_at = 4 ", "decision_keeps_at = 3 "
)

gaps, ages = st.sampled_from(GAPS), st.sampled_from(AGES)
interactions = st.fixed_dictionaries(
    {"look": st.sampled_from(("view", "invest", "submit", "submit", "submit", None)), "age": ages}
)
facts = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(("purchase", "purchase", "redeem", "redeem", "purchase_cancelled", "redeem_cancelled")),
        "order": st.sampled_from(("o1", "o1", "o2")),
        "trusted": st.booleans(),
        "age": ages,
        "matures": st.sampled_from((None, None, -DAY, 5 * MINUTE, 4 * DAY, 20 * DAY)),
        "remaining": st.sampled_from((None, None, "0", "5")),
        "part": st.sampled_from((None, None, "r1")),
    }
)
histories = st.lists(st.tuples(gaps, interactions | facts | st.none()), min_size=1, max_size=25)
"""(time since the step before, what happens to user 1, None: only time passes)."""


def written(history: list[tuple[int, dict[str, Any] | None]]) -> PartitionLog:
    log, now = PartitionLog(), 0
    for gap, what in history:
        now += gap
        if what is None:
            log.tick(now)
        elif "look" in what:
            log.event(now - what["age"], what["look"], received=now)
        else:
            said = {"remaining": what["remaining"], "redemption_id": what["part"]}
            if what["kind"] == "purchase":
                said = {} if what["matures"] is None else {"matures_at": START + now + what["matures"]}
            log.money(
                what["kind"], now - what["age"], order=what["order"], trusted=what["trusted"], received=now, **said
            )
    return log


class Folding:
    """One partition folded in memory, record by record."""

    def __init__(self) -> None:
        self.fold = PartitionFold(PartitionState(0, 1), "shop")

    def take(self, record: Record | Unreadable) -> None:
        assert isinstance(record, Record)
        if record.draft.kind is Kind.DEFINITIONS:
            self.fold.begin_definitions(record)
            return
        self.fold.fire(record.time // HOUR_MS, record)
        self.fold.fold(record, read_block(record))

    @property
    def hour(self) -> int:
        return self.fold.state.tau // HOUR_MS

    def people(self) -> list[Person]:
        return [person for person in self.fold.people.values() if person is not None]


def folded(log: PartitionLog, *, evaluations: int) -> list[Any]:
    """Fold a log, evaluating everybody so many times more after each record, and return its outputs."""
    folding = Folding()
    for record in log.records:
        folding.take(record)
        for person in folding.people():
            for _ in range(evaluations):
                extra = folding.fold.book.evaluate(person, folding.hour)
                assert not extra.publish
                assert extra.turn.taken_back == []
    return folding.fold.outputs


@settings(max_examples=150, deadline=None)
@given(histories)
def test_evaluating_more_often_changes_nothing(history: list[tuple[int, dict[str, Any] | None]]) -> None:
    log = written(history)
    assert folded(log, evaluations=2) == folded(log, evaluations=0)


@settings(max_examples=120, deadline=None)
@given(histories, st.lists(st.integers(0, 1100), max_size=6))
def test_nothing_changes_before_it_is_due(history: list[tuple[int, dict[str, Any] | None]], later: list[int]) -> None:
    """Nor is anybody listed later than that."""
    folding = Folding()
    for record in written(history).records:
        folding.take(record)
        book = folding.fold.book
        for person in folding.people():
            listed = person.listed or FAR_FUTURE
            for hour in (
                folding.hour + 1,
                *(folding.hour + one for one in later),
                min(listed, folding.hour + 1200) - 1,
            ):
                if folding.hour < hour < listed:
                    # As the store would give it back: nothing that is only derived helps.
                    clone = decode_person(person.key, encode_person(copy.deepcopy(person)))
                    book.refresh(clone, hour)
                    assert forgotten_at(clone, book.rules) > hour
                    assert not book.evaluate(clone, hour).publish


@settings(max_examples=120, deadline=None)
@given(histories)
def test_an_evaluated_person_is_due_after_its_hour(history: list[tuple[int, dict[str, Any] | None]]) -> None:
    folding = Folding()
    for record in written(history).records:
        folding.take(record)
        for person in folding.people():
            assert folding.fold.book.evaluate(person, folding.hour)
            due = next_due(person, folding.hour, folding.fold.book.weights, folding.fold.book.rules)
            assert due > folding.hour
            assert person.listed <= due


@settings(max_examples=100, deadline=None)
@given(histories)
def test_ticking_every_hour_finds_no_more_changes(history: list[tuple[int, dict[str, Any] | None]]) -> None:
    log, hourly = written(history), Folding()
    plain = Folding()
    for record in log.records:
        assert isinstance(record, Record)
        # An hour with nothing due costs nothing, so only every seventh of a silence is looked at.
        for hour in range(hourly.hour + 1, record.time // HOUR_MS + 1, 7) if hourly.hour else ():
            instant = hour * HOUR_MS
            hourly.take(Record(0, record.offset, instant, Draft(Kind.TICK, instant)))
        hourly.take(record)
        plain.take(record)
    assert [one.value for one in hourly.fold.outputs] == [one.value for one in plain.fold.outputs]


@settings(max_examples=100, deadline=None)
@given(histories, st.integers(0, 400))
def test_the_evidence_and_the_sums_are_exact(history: list[tuple[int, dict[str, Any] | None]], later: int) -> None:
    folding = Folding()
    for record in written(history).records:
        folding.take(record)
        weights, rules = folding.fold.book.weights, folding.fold.book.rules
        for person in folding.people():
            folding.fold.book.refresh(person, folding.hour)
            assert sum(count * weight for _, count, weight in evidence(person, weights)) == person.decision_score
            one, other = copy.deepcopy(person), copy.deepcopy(person)
            expire(one, folding.hour + later, weights, rules)
            rescore(other, folding.hour + later, person.cut_hour, weights, rules)
            assert (one.score, one.decision_score, one.buckets) == (other.score, other.decision_score, other.buckets)
            assert one.dwell == other.dwell


@settings(max_examples=120, deadline=None)
@given(histories, st.integers(0, 30))
def test_a_person_goes_on_from_its_bytes_as_it_was(history: list[tuple[int, dict[str, Any] | None]], at: int) -> None:
    whole, parts = Folding(), Folding()
    for number, record in enumerate(written(history).records):
        whole.take(record)
        parts.take(record)
        if number >= at:
            for key, person in parts.fold.people.items():
                if person is not None:
                    parts.fold.people[key] = decode_person(key, encode_person(person))
    assert parts.fold.outputs == whole.fold.outputs
    for key, person in whole.fold.people.items():
        other = parts.fold.people[key]
        assert (person is None) == (other is None)
        if person is not None and other is not None:
            assert encode_person(other) == encode_person(person)


versions = st.builds(
    Version,
    occurred_at=st.integers(0, 6).map(lambda n: START - n * DAY),
    cancels=st.booleans(),
    event_id=st.sampled_from(("a", "b", "c", "d")),
    matures_at=st.sampled_from((None, START - DAY, START + DAY)),
    remaining=st.sampled_from((None, "0", "5")),
)
statements = st.builds(
    Statement, st.sampled_from(("o1", "o2")), st.sampled_from(("purchase", "redeem")), st.none(), versions
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(statements, st.booleans()), max_size=7, unique_by=lambda one: (one[0].version.event_id, one[1])),
    st.randoms(use_true_random=False),
    st.integers(0, 100),
)
def test_the_order_in_which_facts_arrive_does_not_matter(
    said: list[tuple[Statement, bool]], random: Any, later: int
) -> None:
    shuffled, hour = list(said), START // HOUR_MS
    random.shuffle(shuffled)
    ledgers = []
    for order in (said, shuffled):
        ledger = Ledger()
        for statement, trusted in order:
            ledger.settle(hour, Rules())
            ledger.learn(statement, trusted=trusted, time=START)
        ledgers.append(ledger)
    assert ledgers[0].settle(hour, Rules()) == ledgers[1].settle(hour, Rules())
    assert ledgers[0].settle(hour + later, Rules()) == ledgers[1].settle(hour + later, Rules())


crowds = st.lists(
    st.tuples(
        gaps,
        st.one_of(
            st.lists(
                st.tuples(
                    st.sampled_from(
                        ((None, "x"), (None, "y"), ("1", None), ("1", "x"), ("2", "x"), ("2", "y"), ("3", None))
                    ),
                    st.sampled_from(("submit", "submit", "view", "identify", "purchase", "redeem")),
                    ages,
                    st.booleans(),
                ),
                min_size=1,
                max_size=4,
            ),
            st.sampled_from(("tick", SHIPPED, LOOSER)),
        ),
        st.sampled_from((0, 0, 0, 2 * HOUR_MS, 20 * DAY)),
    ),
    min_size=1,
    max_size=20,
)
"""(time since the step before, a block of (ids, look, age, trusted) or a document or a tick,
by how much its clock is behind)."""


async def lived(history: list[Any]) -> list[Record]:
    """Let a history happen in one partition and return its log, what the fold derived included."""
    deployment, log, now = Deployment(partitions=1, start=START), PartitionLog(None), 0
    try:
        await deployment.start(batch_records=3)
        for gap, what, behind in history:
            now += gap
            deployment.now, at = START + now, now - behind
            if what == "tick":
                log.tick(at)
            elif isinstance(what, str):
                log.control(Kind.PUBLISH, at, {"definitions": what})
            else:
                log.block(at, *(made(log, at, one) for one in what))
            drafts = [(0, one.draft) for one in log.records if isinstance(one, Record)]
            await deployment.log.append(drafts)
            log.records.clear()
            await deployment.settle()
        deployment.now += 50 * DAY
        await deployment.tick()
        return await deployment.records()
    finally:
        deployment.close()


def made(log: PartitionLog, at: int, one: tuple[tuple[str | None, str | None], str, int, bool]) -> Event:
    (user, anonymous_id), look, age, trusted = one
    who = (user, anonymous_id)
    if look in ("submit", "view"):
        return log.make(at - age, look, user=user, anonymous_id=anonymous_id)
    kind = "custom" if look == "identify" and None in who else look
    properties = {"order_id": "o1"} if look in ("purchase", "redeem") else {}
    return log.make(at - age, user=user, anonymous_id=anonymous_id, type=kind, trusted=trusted, properties=properties)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    history=crowds,
    sizes=st.lists(st.integers(1, 5), min_size=2, max_size=2),
    cuts=st.lists(st.integers(1, 6), min_size=2, max_size=2),
    anew=st.booleans(),
)
def test_commits_cut_differently_send_the_same_bytes_in_the_same_order(
    history: list[Any], sizes: list[int], cuts: list[int], *, anew: bool
) -> None:
    async def check() -> None:
        records = await lived(history)
        whole = await fold(records)
        for size, cut in zip(sizes, cuts, strict=True):
            other = await fold(records, size=size, cut=cut, anew=anew)
            assert [one for _, one in other.outputs] == [one for _, one in whole.outputs]
            assert other.people == whole.people
            assert other.due == whole.due

    asyncio.run(check())


@settings(max_examples=30, deadline=None)
@given(history=crowds)
def test_what_is_derived_is_routed_and_numbered(history: list[Any]) -> None:
    """Every derived record names its source once, in order, and can be read by who folds it."""

    async def check() -> None:
        outputs = (await fold(await lived(history))).outputs
        assert [number for number, _ in outputs] == list(range(len(outputs)))
        sources = [dict(one.headers)["source"] for _, one in outputs if one.topic == EVENTS]
        places = [tuple(map(int, source.decode().replace("/", "-").split("-"))) for source in sources]
        assert places == sorted(set(places))
        for _, one in outputs:
            if one.topic == EVENTS:
                found = dict(one.headers)
                draft = Draft(Kind(found["kind"].decode()), int(found["clock"]), one.value or b"", int(found["count"]))
                draft.person = found["person"].decode() if "person" in found else None
                record = Record(0, 0, draft.clock, draft)
                assert isinstance(keys_of(record, read_block(record)), set)

    asyncio.run(check())
