"""R2, R3 and D4: what counts when, and what follows from the counts."""

from __future__ import annotations

import pytest

from processors.domain.rules import HOUR_MS, Rules
from processors.domain.window import (
    add_count,
    decision_ends,
    evidence,
    hour_of,
    intent,
    number_of,
    place,
    preference,
    rescore,
)
from tests.unit.domain.folding import Folding

MINUTE = 60_000


def test_a_place_is_an_hour_and_a_number() -> None:
    for hour, number in ((0, 0), (490_123, 4095), (1, 1)):
        assert (hour_of(place(hour, number)), number_of(place(hour, number))) == (hour, number)


def test_counts_stay_in_the_order_of_hours() -> None:
    counts: dict[int, int] = {}
    for hour in (5, 3, 9, 3, 5, 1):
        add_count(counts, place(hour, 7), 1)
    assert [(hour_of(key), count) for key, count in counts.items()] == [(1, 1), (3, 2), (5, 2), (9, 1)]


def test_the_window_is_336_hours_and_the_current_one_is_the_last(folding: Folding) -> None:
    folding.submit(0)
    assert folding.refresh(335 * HOUR_MS).score == 2500
    assert folding.refresh(336 * HOUR_MS).score == 0


def test_an_event_counts_in_the_hour_it_occurred_in(folding: Folding) -> None:
    folding.submit(0, time=100 * HOUR_MS)
    assert folding.refresh(335 * HOUR_MS).score == 2500
    assert folding.refresh(336 * HOUR_MS).score == 0


def test_but_not_in_one_later_than_its_record(folding: Folding) -> None:
    folding.submit(50 * HOUR_MS, time=0)
    assert folding.refresh(335 * HOUR_MS).score == 2500
    assert folding.refresh(336 * HOUR_MS).score == 0


def test_older_events_do_not_count_but_are_milestones_and_first_touch(folding: Folding) -> None:
    folding.submit(0, time=336 * HOUR_MS)
    folding.dwell("bond", 70_000, 0, time=336 * HOUR_MS)
    folding.add(0, time=336 * HOUR_MS, name="registered")
    person = folding.person
    assert (person.score, person.buckets, person.dwell) == (0, {}, {})
    assert person.milestones == {0: folding.start}
    assert person.first_touch == (folding.start, None)


def test_weights_are_summed_as_thousandths(folding: Folding) -> None:
    for _ in range(3):
        folding.view()
    folding.invest()
    assert folding.person.score == folding.person.decision_score == 3000


@pytest.mark.parametrize(
    ("score", "found"), [(0, "weak"), (1000, "weak"), (1001, "medium"), (5000, "medium"), (5001, "strong")]
)
def test_intent_is_strong_above_five_and_medium_above_one(score: int, found: str) -> None:
    assert intent(score, Rules()) == found


def test_the_decision_score_counts_hours_later_than_the_cuts(folding: Folding) -> None:
    folding.submit(0)
    folding.submit(HOUR_MS)
    folding.submit(2 * HOUR_MS)
    hour = (folding.start + 2 * HOUR_MS) // HOUR_MS
    rescore(folding.person, hour, hour - 1, folding.book.weights, folding.book.rules)
    assert (folding.person.score, folding.person.decision_score) == (7500, 2500)


def test_the_evidence_lists_what_is_behind_the_decision_score(folding: Folding) -> None:
    folding.submit(0)
    folding.view(HOUR_MS)
    folding.view(2 * HOUR_MS)
    folding.add(2 * HOUR_MS, type="page", page=None)
    hour = (folding.start + 2 * HOUR_MS) // HOUR_MS
    rescore(folding.person, hour, hour - 2, folding.book.weights, folding.book.rules)
    viewed = folding.book.names.behaviours.index("product_viewed")
    assert evidence(folding.person, folding.book.weights) == [(viewed, 2, 500)]


def test_a_decision_ends_when_what_leaves_the_window_brings_it_below_four(folding: Folding) -> None:
    folding.submit(0)
    folding.submit(3 * HOUR_MS)
    folding.invest(5 * HOUR_MS)
    first = folding.start // HOUR_MS
    assert folding.person.decision_score == 6500
    assert decision_ends(folding.person, folding.book.weights, folding.book.rules) == first + 3 + 336
    folding.refresh(337 * HOUR_MS)
    assert folding.person.decision_score == 4000


def shares(folding: Folding) -> tuple[str, int, int] | None:
    return preference(folding.person, folding.book.names.categories, folding.book.rules)


def test_a_preference_is_a_share_above_forty_per_cent(folding: Folding) -> None:
    folding.dwell("bond", 40_000)
    folding.dwell("stock", 30_000)
    folding.dwell("mixed", 30_000)
    assert shares(folding) is None
    folding.dwell("bond", 1)
    assert shares(folding) == ("bond", 40_001, 100_001)


def test_all_dwell_is_at_least_a_minute(folding: Folding) -> None:
    folding.dwell("bond", 59_999)
    assert shares(folding) is None
    folding.dwell("bond", 1)
    assert shares(folding) == ("bond", 60_000, 60_000)


def test_on_equal_dwell_the_first_of_the_alphabet(folding: Folding) -> None:
    folding.dwell("stock", 40_000)
    folding.dwell("bond", 40_000)
    assert shares(folding) == ("bond", 40_000, 80_000)


def test_dwell_on_pages_of_no_category_is_in_the_total(folding: Folding) -> None:
    folding.dwell("bond", 40_000)
    folding.dwell("nothing-we-sell", 60_000)
    assert shares(folding) is None


@pytest.mark.parametrize(
    ("said", "counted"), [(45_000.9, 45_000), (-5, 0), (31 * MINUTE, 30 * MINUTE), (1e300, 30 * MINUTE)]
)
def test_dwell_is_truncated_and_at_most_half_an_hour(folding: Folding, said: float, counted: int) -> None:
    folding.dwell("bond", said)
    assert sum(folding.person.dwell.values()) == counted


@pytest.mark.parametrize("properties", [{}, {"ms": None}, {"ms": "60000"}, {"ms": True}, {"ms": []}])
def test_dwell_that_is_no_number_is_none(folding: Folding, properties: dict[str, object]) -> None:
    folding.add(type="dwell", properties=properties)
    assert sum(folding.person.dwell.values()) == 0
