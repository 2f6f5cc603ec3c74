"""R6 and D6: visits, last place, first touch, and when a person is forgotten."""

from __future__ import annotations

import pytest

from collector.wire.event import Context
from processors.domain.due import forgotten_at
from processors.domain.rules import DAY_MS, HOUR_MS
from processors.domain.visits import Days, recent_visits
from tests.unit.domain.folding import Folding

MINUTE = 60_000


def visits(folding: Folding) -> int:
    return sum(folding.person.visit_days.values())


def test_a_visit_is_a_session(folding: Folding) -> None:
    for session in ("s1", "s1", "s2", "s1", "s2"):
        folding.add(0, session_id=session)
    assert visits(folding) == 2


def test_the_last_64_sessions_are_remembered(folding: Folding) -> None:
    for number in range(64):
        folding.add(0, session_id=f"s{number}")
    folding.add(0, session_id="s0")
    assert visits(folding) == 64
    folding.add(0, session_id="s64")
    folding.add(0, session_id="s0")
    assert visits(folding) == 66


def test_without_a_session_half_an_hour_parts_visits(folding: Folding) -> None:
    for at in (0, 29 * MINUTE, 58 * MINUTE, 88 * MINUTE):
        folding.add(at)
    assert visits(folding) == 2


def test_in_order_of_arrival(folding: Folding) -> None:
    folding.add(60 * MINUTE)
    folding.add(31 * MINUTE, time=61 * MINUTE)
    folding.add(62 * MINUTE)
    assert visits(folding) == 2


def test_a_money_fact_is_no_visit(folding: Folding) -> None:
    folding.add(0, type="purchase", properties={"order_id": "o1"}, session_id="s1")
    assert (visits(folding), folding.person.last_visit) == (0, 0)


@pytest.mark.parametrize(("zone", "day_after"), [("Asia/Shanghai", 16), ("UTC", 0), ("America/New_York", 5)])
def test_a_day_is_a_day_of_the_time_zone(zone: str, day_after: int) -> None:
    """1 January 2026, hour by hour: the date changes in Shanghai at 16:00 UTC."""
    first = 490_896
    days = Days(zone)
    assert days.of(first + day_after) == days.of(first + day_after - 1) + 1
    assert days.of(first + day_after) == days.of(first + day_after + 23)


def test_visits_of_the_last_30_days(folding: Folding) -> None:
    for day in range(35):
        folding.add(day * DAY_MS, session_id=f"s{day}")
    today = folding.book.days.of((folding.start + 34 * DAY_MS) // HOUR_MS)
    assert recent_visits(folding.person, today) == 30
    assert recent_visits(folding.person, today + 10) == 20
    assert len(folding.person.visit_days) == 31


def test_the_earliest_first_touch_and_the_latest_place(folding: Folding) -> None:
    folding.add(HOUR_MS, context=Context(channel="search", place="Shanghai"))
    folding.add(0, time=HOUR_MS, context=Context(channel="mail"))
    folding.add(2 * HOUR_MS, context=Context(channel="ads", place="Beijing"))
    folding.add(3 * HOUR_MS)
    assert folding.person.first_touch == (folding.start, "mail")
    assert folding.person.place == "Beijing"


def test_activity_is_what_occurred_last(folding: Folding) -> None:
    folding.add(2 * HOUR_MS, time=2 * HOUR_MS)
    folding.add(HOUR_MS, time=3 * HOUR_MS)
    assert folding.person.activity == folding.start + 2 * HOUR_MS
    assert folding.person.last_record == folding.start + 3 * HOUR_MS


def test_forgotten_45_days_after_the_last_record(folding: Folding) -> None:
    folding.add(0, time=1)
    assert forgotten_at(folding.person, folding.book.rules) == folding.start // HOUR_MS + 45 * 24 + 1


def test_never_while_a_purchase_stands() -> None:
    folding = Folding("u:1")
    event = folding.event(0, type="purchase", trusted=True, properties={"order_id": "o1"})
    folding.fold(event, 0)
    folding.book.add_fact(folding.person, event, folding.start, folding.start // HOUR_MS)
    person = folding.refresh(0)
    assert forgotten_at(person, folding.book.rules) > 1 << 40
