"""The oracle itself, held against the rules' sentences one by one; every number is worked out by hand."""

import itertools
import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from collector.wire.block import encode_event
from collector.wire.event import Element, Event, Page
from collector.wire.record import Draft, Kind, Record
from tests.oracle import run

HOUR = 3_600_000
DAY = 24 * HOUR
START = 488_000 * HOUR
MINUTE = 60_000
SHOP = (Path(__file__).parents[2] / "processors" / "definitions" / "fund-shop.toml").read_text("utf-8")


class Log:
    """Records of partitions 0 (anonymous people) and 1 (users), written by hand; times count from `START`."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self._ids = itertools.count()
        for partition in (0, 1):
            self.control(partition, Kind.DEFINITIONS, 0, {"number": 1, "toml": SHOP})

    def append(self, partition: int, kind: Kind, at: int, value: bytes = b"", **draft: Any) -> str:
        offset = sum(record.partition == partition for record in self.records)
        self.records.append(Record(partition, offset, START + at, Draft(kind, START + at, value, **draft)))
        return f"{partition}-{offset}"

    def control(self, partition: int, kind: Kind, at: int, value: Any, **draft: Any) -> str:
        return self.append(partition, kind, at, json.dumps(value).encode(), **draft)

    def event(self, at: int, *, user: str | None = "42", record_at: int | None = None, **fields: Any) -> Event:
        """Append one event that occurred at `at`, in a block received at `record_at`."""
        event = self.make(at, user=user, **fields)
        alone = user is None or (event.type == "identify" and event.anonymous_id is not None)
        self.append(0 if alone else 1, Kind.EVENTS, at if record_at is None else record_at, encode_event(event) + b"\n")
        return event

    def make(self, at: int, *, user: str | None = "42", **fields: Any) -> Event:
        properties = msgspec.Raw(json.dumps(fields.pop("properties", {})).encode())
        fields = {"id": f"e{next(self._ids)}", "type": "custom"} | fields
        return Event(occurred_at=START + at, received_at=START + at, user_id=user, properties=properties, **fields)

    def view(self, at: int, **fields: Any) -> Event:
        """`product_viewed` of a bond fund: 0.5."""
        return self.event(at, type="page", page=Page(path="/products/bond/b1"), **fields)

    def submit(self, at: int, **fields: Any) -> Event:
        """`order_submitted`: 2.5."""
        return self.event(at, type="submit", page=Page(path="/orders/new/"), **fields)

    def money(self, kind: str, at: int, *, order: str = "o1", trusted: bool = True, **properties: Any) -> Event:
        record_at = properties.pop("record_at", None)
        properties |= {"order_id": order}
        return self.event(at, type=kind, trusted=trusted, properties=properties, record_at=record_at)

    def tick(self, at: int, partition: int = 1) -> None:
        self.append(partition, Kind.TICK, at)

    def decide(self, at: int, **fields: Any) -> None:
        """Three submits, a score of 7.5."""
        for minute in range(3):
            self.submit(at + minute * MINUTE, **fields)

    def changes(self, person: str = "u:42") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = run(self.records).changes.get(person, [])
        return found

    def stages(self, person: str = "u:42") -> list[tuple[str | None, bool]]:
        return [(change["to"], change["confirmed"]) for change in self.changes(person)]

    def state(self, person: str = "u:42") -> dict[str, Any]:
        return dict(run(self.records).states[person])


@pytest.fixture
def log() -> Log:
    return Log()


def hours_after_start(change: dict[str, Any]) -> float:
    return (datetime.fromisoformat(change["at"]).timestamp() * 1000 - START) / HOUR


def test_more_than_five_is_a_decision_and_five_is_not(log: Log) -> None:
    """R5: decision above 5; everybody starts as an unpublished prospect."""
    log.submit(0)
    log.submit(MINUTE)
    assert log.changes() == []
    log.view(2 * MINUTE)
    (change,) = log.changes()
    assert change["from"] == "prospect"
    assert change["to"] == "decision"
    assert change["id"] == "1-1.0/1"
    assert change["decision_score"] == 5.5
    assert change["intent"] == "strong"
    assert change["evidence"] == [
        {"behaviour": "order_submitted", "count": 2, "weight": 2.5},
        {"behaviour": "product_viewed", "count": 1, "weight": 0.5},
    ]
    assert change["cause"] == {"kind": "event", "event_id": "e2", "trusted": False}
    assert change["position"] == {"partition": 1, "offset": 3}


def test_a_decision_ends_by_a_timer_when_it_falls_below_four(log: Log) -> None:
    """R2, R5: an hour leaves the window 336 hours later; a decision is kept down to 4."""
    log.submit(10 * MINUTE)
    log.submit(HOUR)
    for minute in range(3):
        log.view(2 * HOUR + minute * MINUTE)
    log.tick(337 * HOUR - 1)
    assert log.stages() == [("decision", True)]
    log.tick(336 * HOUR + 2 * HOUR)
    assert log.stages() == [("decision", True), ("prospect", True)]
    change = log.changes()[-1]
    assert hours_after_start(change) == 337
    assert change["decision_score"] == 1.5


def test_a_purchase_cuts_the_decision_and_holds(log: Log) -> None:
    """R3, R4, R5: decision_score counts only hours later than the purchase's; score keeps all."""
    log.decide(0)
    log.money("purchase", 30 * MINUTE)
    assert log.stages() == [("decision", True), ("holding", True)]
    change = log.changes()[-1]
    assert (change["score"], change["decision_score"], change["evidence"]) == (7.5, 0, [])
    assert change["cause"]["order_id"] == "o1"
    assert (change["customer"], change["funds"]) == ("returning", "held")


def test_a_public_purchase_is_taken_back_after_three_days(log: Log) -> None:
    """R4: provisional from a public key, taken back by a timer, which names the change it retracts."""
    log.decide(0)
    log.money("purchase", 30 * MINUTE, trusted=False)
    log.money("purchase", 2 * DAY, trusted=False)
    log.tick(3 * DAY + HOUR)
    assert log.stages() == [("decision", True), ("holding", False), ("decision", True)]
    purchase, back = log.changes()[1:]
    assert back["retracts"] == purchase["id"]
    assert back["cause"] == {"kind": "timer", "order_id": "o1"}
    assert hours_after_start(back) == 73
    assert back["customer"] == "new"


def test_a_trusted_version_confirms(log: Log) -> None:
    """R5: a change is published also when only `confirmed` differs."""
    log.money("purchase", 0, trusted=False)
    log.money("purchase", DAY)
    log.tick(5 * DAY)
    assert log.stages() == [("holding", False), ("holding", True)]


def test_a_trusted_redeem_confirms_its_purchase(log: Log) -> None:
    """R4: ... too: the purchase outlives its three days while the trusted redeem stands."""
    log.money("purchase", 0, trusted=False)
    log.money("redeem", DAY, remaining="10.00")
    log.tick(5 * DAY)
    assert log.stages() == [("holding", False), ("holding", True)]


@pytest.mark.parametrize(("remaining", "closes"), [("0.00", True), (None, True), ("0.01", False), ("-5", True)])
def test_a_partial_redemption_says_so(log: Log, remaining: str | None, closes: bool) -> None:  # noqa: FBT001 - a table
    """R4: closed unless the redeem says that something remains."""
    log.money("purchase", 0)
    log.money("redeem", HOUR, remaining=remaining)
    assert log.stages()[1:] == ([("post_redemption", True)] if closes else [])


def test_a_redeem_before_its_purchase_waits_thirty_days(log: Log) -> None:
    """R4: order of arrival does not matter, until 30 days after the redeem's record."""
    log.money("redeem", 0)
    log.money("purchase", -HOUR, record_at=29 * DAY)
    assert log.stages() == [("post_redemption", True)]


def test_a_redeem_that_waited_in_vain_is_dropped(log: Log) -> None:
    log.money("redeem", 0)
    log.money("purchase", -HOUR, record_at=30 * DAY + HOUR)
    assert log.stages() == [("holding", True)]


def test_of_trusted_versions_the_latest_stands_and_a_tie_cancels(log: Log) -> None:
    """R4: a cancellation is a version of the fact; on a tie it wins; a public one takes nothing trusted back."""
    log.money("purchase", 0)
    log.money("purchase_cancelled", HOUR, trusted=False)
    assert log.stages() == [("holding", True)]
    log.money("purchase_cancelled", 0, record_at=2 * HOUR)
    assert log.stages() == [("holding", True), ("prospect", True)]
    assert log.changes()[1]["retracts"] == log.changes()[0]["id"]
    assert log.changes()[1]["customer"] == "returning"


def test_maturity_closes_for_three_days_then_rolls_over(log: Log) -> None:
    """R4: `matures_at` closes provisionally from its due hour, and is taken back without a redeem."""
    log.money("purchase", 0, matures_at=START + 72 * HOUR + 30 * MINUTE)
    log.tick(20 * DAY)
    assert log.stages() == [("holding", True), ("post_redemption", False), ("holding", True)]
    closed, back = log.changes()[1:]
    assert closed["at"] == "2025-09-05T09:00:00.000Z"
    assert closed["cause"] == {"kind": "timer", "order_id": "o1"}
    assert back["at"] == "2025-09-08T09:00:00.000Z"
    assert back["retracts"] == closed["id"]


def test_a_redeem_within_three_days_confirms_a_maturity(log: Log) -> None:
    """R4: ... and leaves its instant."""
    log.money("purchase", 0, matures_at=START + 5 * DAY)
    log.money("redeem", 6 * DAY)
    log.tick(20 * DAY)
    assert log.stages() == [("holding", True), ("post_redemption", False), ("post_redemption", True)]


def test_a_redeem_before_maturity_leaves_nothing_to_mature(log: Log) -> None:
    """ADR 14: its instant is earlier than m, so that the position was closed by it."""
    log.money("purchase", 0, matures_at=START + 5 * DAY)
    log.money("redeem", 4 * DAY)
    log.tick(20 * DAY)
    assert log.stages() == [("holding", True), ("post_redemption", True)]


def test_a_redeem_after_the_three_days_is_an_ordinary_one(log: Log) -> None:
    """R4: the maturity is taken back, and the later redeem closes at its own instant."""
    log.money("purchase", 0, matures_at=START + 5 * DAY)
    log.money("redeem", 9 * DAY)
    log.tick(20 * DAY)
    assert log.stages() == [("holding", True), ("post_redemption", False), ("holding", True), ("post_redemption", True)]
    assert log.changes()[-1]["cause"]["kind"] == "event"


def test_a_maturity_that_comes_again_is_another_closing(log: Log) -> None:
    """ADR 17: its first change is the one published by the evaluation at which it appeared."""
    log.money("purchase", 0, matures_at=START + 5 * DAY)
    log.money("redeem", 4 * DAY, record_at=5 * DAY + HOUR)
    log.money("redeem_cancelled", 4 * DAY, record_at=5 * DAY + 2 * HOUR)
    log.tick(9 * DAY)
    closed = [("post_redemption", False), ("post_redemption", True), ("post_redemption", False)]
    assert log.stages() == [("holding", True), *closed, ("holding", True)]
    assert log.changes()[-1]["retracts"] == log.changes()[3]["id"]


def test_old_money_makes_dormant_at_once(log: Log) -> None:
    """ADR 21: whoever is redeemed now was elsewhere than prospect, also when the redemption arrives first."""
    log.money("redeem", -60 * DAY, record_at=0)
    log.money("purchase", -61 * DAY, record_at=HOUR)
    assert log.stages() == [("dormant", True)]


def test_an_old_closing_that_is_not_confirmed_is_taken_back(log: Log) -> None:
    """ADR 18: a summary holds what is confirmed, so that being evaluated more often changes nothing."""
    log.view(0)
    log.money("purchase", -500 * DAY, record_at=0)
    log.money("redeem", -450 * DAY, record_at=HOUR, trusted=False)
    log.view(5 * HOUR)
    log.tick(4 * DAY)
    assert log.stages() == [("holding", True), ("post_redemption", False), ("holding", True)]


def test_forgetting_that_was_due_in_the_past_is_told_at_that_instant(log: Log) -> None:
    """ADR 5: history beside a live log; it fires before the next record whose time reaches it."""
    log.tick(100 * DAY)
    log.decide(-500 * HOUR, record_at=0)
    log.money("purchase", 0)
    log.money("purchase_cancelled", 0)
    log.tick(101 * DAY)
    assert log.stages()[-1] == (None, True)
    assert hours_after_start(log.changes()[-1]) == 45 * 24


def test_dormant_thirty_days_after_the_last_activity(log: Log) -> None:
    """R5: only who was ever elsewhere than prospect becomes dormant; then forgotten 45 days after the last record."""
    log.decide(0)
    log.view(0, user="prospect")
    log.tick(46 * DAY)
    assert log.stages() == [("decision", True), ("prospect", True), ("dormant", True), (None, True)]
    assert hours_after_start(log.changes()[2]) == 30 * 24 + 1
    assert hours_after_start(log.changes()[3]) == 45 * 24 + 1
    assert log.changes()[3]["cause"] == {"kind": "timer"}
    assert log.stages("u:prospect") == []
    assert "u:prospect" not in run(log.records).states


def test_coming_back_is_a_new_life(log: Log) -> None:
    """R6: state goes; a later event begins a new life with version 1."""
    log.decide(0)
    log.decide(50 * DAY)
    lives = [(change["life"], change["version"]) for change in log.changes()]
    assert lives == [("1-1", 1), ("1-1", 2), ("1-1", 3), ("1-1", 4), ("1-4", 1)]


def test_a_holder_is_not_forgotten(log: Log) -> None:
    """R6: only a person without a standing purchase is."""
    log.money("purchase", 0)
    log.tick(300 * DAY)
    assert log.stages() == [("holding", True)]


def test_old_closed_orders_become_a_summary(log: Log) -> None:
    """R4: older than 400 days, can no longer be taken back, and still counts as bought."""
    log.money("purchase", 0)
    log.money("redeem", DAY)
    log.money("purchase_cancelled", 2 * DAY, record_at=402 * DAY)
    assert log.stages() == [("holding", True), ("post_redemption", True), ("dormant", True)]
    assert log.state()["funds"] == "redeemed"


def test_an_event_counts_once_by_id(log: Log) -> None:
    """R7: the same id within 24 hours is dropped; later it counts."""
    for at in (0, 23 * HOUR, 25 * HOUR):
        log.view(at, id="same")
    assert log.state()["score"] == 1.0


def test_numbered_events_count_once_for_ever(log: Log) -> None:
    """R7: a number is seen up to the highest but its gaps, of which 64 are kept."""
    for at, seq in enumerate([0, 1, 70, 70, 1, 2, 6, 6, 5]):
        log.view(at * DAY, seq=seq, anonymous_id="x")
    assert log.state()["score"] == 0.5 * 4


def test_a_late_event_counts_in_its_own_hour(log: Log) -> None:
    """R2: beyond the window not at all, but it began the person; a future one counts at its record."""
    log.view(-336 * HOUR, record_at=0)
    log.view(-335 * HOUR, record_at=0)
    log.view(5 * HOUR, record_at=0)
    state = log.state()
    assert state["score"] == 1.0
    assert state["last_activity"] == START


def test_preference_is_above_forty_percent_of_a_minute(log: Log) -> None:
    """R3: the share of dwell in one category in all dwell, no event above 30 minutes."""
    log.event(0, type="dwell", page=Page(path="/products/bond/b1/"), properties={"ms": 3_600_000})
    log.event(0, type="dwell", page=Page(path="/about"), properties={"ms": 1_800_000.9})
    log.event(0, type="dwell", page=Page(path="/products/nonsense"), properties={"ms": -5})
    assert log.state()["preference"] == {"category": "bond", "share": 0.5}


def test_clicks_are_matched_by_text_and_href(log: Log) -> None:
    log.event(0, type="click", element=Element(text="  Invest\n", href="https://shop.example/products/bond/b1/?q=1#x"))
    assert log.state()["score"] == 1.8


def test_visits_are_sessions_or_half_hours(log: Log) -> None:
    """R6: a session id is one visit; without one, less than 30 minutes apart in order of arrival."""
    for at, session in ((0, "s"), (DAY, "s"), (DAY, None), (DAY + 29 * MINUTE, None), (DAY + 59 * MINUTE, None)):
        log.event(at, session_id=session)
    assert log.state()["visits_30_days"] == 3


def linked(log: Log, before: Callable[[], object]) -> None:
    """Let the anonymous `x` do something, then identify as 42; with the records that the product derives."""
    before()
    identify = log.event(HOUR, type="identify", anonymous_id="x")
    where = f"0-{log.records[-1].offset}"
    log.append(1, Kind.TRANSFER, HOUR, b"{}", source=f"{where}/0")
    log.append(1, Kind.FORWARD, HOUR, encode_event(identify) + b"\n", source=f"{where}/1", person="u:42")


def test_identify_moves_the_anonymous_person_to_the_user(log: Log) -> None:
    """R8: everything is added to the user's; not actionable, as the same stage was just published."""
    linked(log, lambda: log.decide(0, user=None, anonymous_id="x"))
    (begun, ended) = log.changes("a:x")
    assert (ended["from"], ended["to"], ended["merged_into"]) == ("decision", None, "u:42")
    (merged,) = log.changes()
    assert merged["cause"] == {"kind": "transfer"}
    assert merged["score"] == begun["score"] == 7.5
    assert merged["actionable"] is False
    assert merged["life"] == "1-1"
    assert "a:x" not in run(log.records).states
    assert log.state()["last_activity"] == START + HOUR


def test_later_events_follow_the_link_until_another_user_claims(log: Log) -> None:
    """R8: a second user is refused; from then on the events are a fresh anonymous person's."""
    linked(log, lambda: None)
    log.records.pop(-2)
    log.records[-1].offset -= 1
    log.submit(2 * HOUR, user=None, anonymous_id="x")
    log.control(0, Kind.CLAIM, 3 * HOUR, {"anonymous_id": "x", "user_id": "43"}, source="2-7/0")
    log.submit(4 * HOUR, user=None, anonymous_id="x")
    log.control(0, Kind.CLAIM, 5 * HOUR, {"anonymous_id": "x", "user_id": "42"}, source="2-8/0")
    log.submit(6 * HOUR, user=None, anonymous_id="x")
    assert log.state("a:x")["score"] == 5.0


def test_a_repeated_derived_record_changes_nothing(log: Log) -> None:
    linked(log, lambda: log.decide(0, user=None, anonymous_id="x"))
    log.append(1, Kind.TRANSFER, HOUR, b"{}", source=log.records[-1].draft.source)
    assert len(log.changes()) == 1


def test_a_transfer_from_nowhere_is_refused(log: Log) -> None:
    log.append(1, Kind.TRANSFER, HOUR, b"{}", source="0-0/0")
    with pytest.raises(KeyError, match="0-0"):
        run(log.records)


def test_an_event_of_both_counts_once(log: Log) -> None:
    """R7, R8: what is remembered moves with the person; sent anonymously and as the user it counts once."""
    log.view(0, id="same")
    linked(log, lambda: log.view(0, user=None, anonymous_id="x", id="same"))
    assert log.state()["score"] == 0.5


def test_numbers_seen_on_either_side_are_seen(log: Log) -> None:
    """ADR 27: of the numbers 0 to 3 the user lacks 1 and 3."""
    log.view(0, anonymous_id="x", seq=0)
    log.view(0, anonymous_id="x", seq=2)
    linked(log, lambda: log.view(0, user=None, anonymous_id="x", seq=1))
    for seq in (0, 1, 2, 3, 3):
        log.view(2 * HOUR, anonymous_id="x", seq=seq)
    assert log.state()["score"] == 4 * 0.5


def test_sessions_on_both_sides_are_one_visit(log: Log) -> None:
    """ADR 33: other visits are added."""
    log.event(0, session_id="s")

    def before() -> None:
        for session in ("s", "t"):
            log.event(0, user=None, anonymous_id="x", session_id=session)

    linked(log, before)
    assert log.state()["visits_30_days"] == 3  # s, t, and the identify without a session


def test_a_decision_is_kept_at_four_through_a_transfer(log: Log) -> None:
    """R8: a decision score of 4 suffices when the anonymous stage was `decision`."""
    log.submit(-334 * HOUR, user=None, anonymous_id="x", record_at=0)
    log.submit(0, user=None, anonymous_id="x")
    for _ in range(4):
        log.view(0, user=None, anonymous_id="x")
    log.tick(2 * HOUR, partition=0)
    assert log.stages("a:x") == [("decision", True)]
    identify = log.event(2 * HOUR, type="identify", anonymous_id="x")
    where = f"0-{log.records[-1].offset}"
    log.append(1, Kind.TRANSFER, 2 * HOUR, b"{}", source=f"{where}/0")
    log.append(1, Kind.FORWARD, 2 * HOUR, encode_event(identify) + b"\n", source=f"{where}/1", person="u:42")
    (change,) = log.changes()
    assert (change["to"], change["decision_score"]) == ("decision", 4.5)


def test_a_transfer_of_somebody_who_was_never_published_is_actionable(log: Log) -> None:
    """ADR 32: silent only where the anonymous person's last published stage was the same."""
    log.submit(0)
    log.submit(0)
    linked(log, lambda: log.view(0, user=None, anonymous_id="x"))
    (change,) = log.changes()
    assert (change["cause"]["kind"], change["to"], change["actionable"]) == ("transfer", "decision", True)


def test_a_link_is_forgotten_after_forty_five_days(log: Log) -> None:
    """R8: from then on the anonymous id is a fresh anonymous person's."""
    linked(log, lambda: log.view(0, user=None, anonymous_id="x"))
    log.view(46 * DAY, user=None, anonymous_id="x")
    assert log.state("a:x")["score"] == 0.5


def test_imported_history_is_not_actionable(log: Log) -> None:
    """Contract: nobody is contacted for history, nor for the timers that it fires."""
    block = b"".join(encode_event(log.make(0, type="submit", page=Page(path="/orders/new"))) + b"\n" for _ in range(3))
    log.append(1, Kind.EVENTS, 0, block, imported=True)
    log.append(1, Kind.TICK, 15 * DAY, imported=True)
    assert [change["actionable"] for change in log.changes()] == [False, False]


def test_tiers_follow_the_cut(log: Log) -> None:
    """R3: null until there is a cut, then the place at the score."""
    log.submit(0)
    assert log.state()["tier"] is None
    log.control(1, Kind.TIERS, HOUR, {"top": 6000, "next": 2500}, source="0-1/1")
    assert log.state()["tier"] == "next"


def test_new_definitions_weigh_old_counts_anew(log: Log) -> None:
    """R5 and definitions: everybody is evaluated at its place; not actionable."""
    log.submit(0)
    toml = SHOP.replace("weight = 2.5", "weight = 5.001")
    log.control(1, Kind.DEFINITIONS, HOUR, {"number": 2, "toml": toml}, source="0-1/1")
    (change,) = log.changes()
    assert (change["to"], change["decision_score"], change["definitions"]) == ("decision", 5.001, 2)
    assert (change["cause"], change["actionable"]) == ({"kind": "definitions"}, False)


def test_before_the_first_definitions_nothing_is_matched() -> None:
    log = Log()
    log.submit(0)
    del log.records[:2]
    assert log.state()["score"] == 0
