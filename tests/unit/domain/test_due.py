"""R5 and R6: the next due instant, an hour at which something may change without an event."""

from __future__ import annotations

import pytest

from processors.domain.due import last_activity, next_due
from processors.domain.person import FAR_FUTURE, Person
from processors.domain.rules import DAY_MS, HOUR_MS
from tests.unit.domain.folding import START, Folding

FIRST = START // HOUR_MS
DAY = 24


def due(folding: Folding, at: int = 0) -> int:
    """Evaluate at `at` and return the due hour, counted from START."""
    hour = max(folding.tau, START + at) // HOUR_MS
    folding.book.evaluate(folding.person, hour)
    return next_due(folding.person, hour, folding.book.weights, folding.book.rules) - FIRST


def money(folding: Folding, kind: str, at: int, *, trusted: bool = True, **properties: object) -> Person:
    event = folding.event(at, type=kind, trusted=trusted, properties={"order_id": "o1"} | properties)
    folding.fold(event, at)
    folding.book.add_fact(folding.person, event, START + at, folding.tau // HOUR_MS)
    return folding.person


def test_a_prospect_is_due_when_it_is_forgotten(folding: Folding) -> None:
    folding.view(1)
    assert due(folding) == 45 * DAY + 1


def test_a_decision_when_it_falls_below_four(folding: Folding) -> None:
    for _ in range(3):
        folding.submit(30 * 60_000)
    assert due(folding) == 336


def test_who_was_in_another_stage_when_the_last_activity_is_30_days_old(folding: Folding) -> None:
    for _ in range(3):
        folding.submit(1)
    due(folding)
    folding.refresh(400 * HOUR_MS)
    assert due(folding) == 30 * DAY + 1
    assert folding.person.stage == "prospect"
    assert due(folding, 30 * DAY_MS + HOUR_MS) == 45 * DAY + 1
    assert folding.person.stage == "dormant"


def test_a_trusted_holding_never() -> None:
    folding = Folding("u:1")
    money(folding, "purchase", 0)
    assert due(folding) == FAR_FUTURE - FIRST


def test_a_provisional_one_when_it_is_taken_back() -> None:
    folding = Folding("u:1")
    money(folding, "purchase", 1, trusted=False)
    assert due(folding) == 3 * DAY + 1


def test_a_maturing_one_at_its_maturity_and_three_days_later() -> None:
    folding = Folding("u:1")
    money(folding, "purchase", 0, matures_at=START + 10 * HOUR_MS + 1)
    assert due(folding) == 11
    assert due(folding, 11 * HOUR_MS) == 3 * DAY + 11
    assert folding.person.stage == "post_redemption"
    assert last_activity(folding.person) == START + 10 * HOUR_MS + 1
    assert due(folding, (3 * DAY + 11) * HOUR_MS) == FAR_FUTURE - FIRST
    assert folding.person.stage == "holding"


@pytest.mark.parametrize("trusted", [True, False])
def test_a_redeemed_one_when_it_goes_dormant_or_comes_back(*, trusted: bool) -> None:
    folding = Folding("u:1")
    money(folding, "purchase", 0)
    money(folding, "redeem", HOUR_MS, trusted=trusted)
    assert due(folding) == (30 * DAY + 1 if trusted else 3 * DAY + 1)


def test_nobody_with_a_purchase_is_forgotten() -> None:
    folding = Folding("u:1")
    money(folding, "purchase", 0)
    money(folding, "redeem", HOUR_MS)
    assert due(folding, 31 * DAY_MS) == FAR_FUTURE - FIRST
    assert folding.person.stage == "dormant"
