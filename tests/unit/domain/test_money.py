"""R4, sentence by sentence (ADR 0001, items 10 to 20); H is hour(τ), instants count from `START` in hours."""

from __future__ import annotations

from itertools import count, permutations
from typing import Any

import pytest

from processors.domain.money import MAX_ORDERS, NEVER, Change, Ledger, Money, Statement, Turn, Version, turn
from processors.domain.rules import HOUR_MS, Rules

START = 490_000
RULES = Rules()
DAY = 24


class Book:
    """A ledger that is told facts; `at` and `time` are hours after START, fractions allowed."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self._ids = count()

    def say(self, kind: str, at: float, *, trusted: bool = True, time: float | None = None, **said: Any) -> bool:
        order_id, redemption_id = said.pop("order", "o1"), said.pop("part", None)
        matures = said.pop("matures", None)
        version = Version(
            occurred_at=ms(at),
            cancels=kind.endswith("_cancelled"),
            event_id=said.pop("id", f"e{next(self._ids):04}"),
            matures_at=None if matures is None else ms(matures),
            **said,
        )
        statement = Statement(order_id, kind.removesuffix("_cancelled"), redemption_id, version)
        return self.ledger.learn(statement, trusted=trusted, time=ms(at if time is None else time))

    def at(self, hour: float) -> Money:
        return self.ledger.settle(START + int(hour), RULES)

    def turn(self, hour: float) -> Turn:
        return turn(self.ledger, self.at(hour), START + int(hour), RULES)


def ms(hour: float) -> int:
    return int((START + hour) * HOUR_MS)


@pytest.fixture
def book() -> Book:
    return Book()


def test_nobody_has_money_before_a_fact(book: Book) -> None:
    assert book.at(0) == Money()


def test_a_purchase_opens_a_position(book: Book) -> None:
    book.say("purchase", 0.5)
    money = book.at(1)
    assert (money.funds, money.purchased, money.cut, money.open_confirmed) == ("held", True, ms(0.5), True)
    assert money.ever_confirmed
    assert money.until == NEVER


def test_a_redeem_closes_it(book: Book) -> None:
    book.say("purchase", 0)
    book.say("redeem", 5)
    money = book.at(5)
    assert (money.funds, money.cut, money.closings_confirmed) == ("redeemed", ms(5), True)


@pytest.mark.parametrize(
    ("remaining", "funds"),
    [
        (None, "redeemed"),
        ("0", "redeemed"),
        ("0.00", "redeemed"),
        ("-1", "redeemed"),
        (" -0.5", "redeemed"),
        ("0.01", "held"),
        ("1000", "held"),
        ("+5", "held"),
    ],
)
def test_a_partial_redemption_must_say_so(book: Book, remaining: str | None, funds: str) -> None:
    book.say("purchase", 0)
    book.say("redeem", 5, remaining=remaining)
    assert book.at(5).funds == funds
    assert book.at(5).cut == (ms(0) if funds == "held" else ms(5))


def test_redemptions_of_one_order_are_facts_of_their_own(book: Book) -> None:
    book.say("purchase", 0)
    book.say("redeem", 5, part="r1", remaining="500")
    book.say("redeem", 6, part="r2", remaining="0")
    assert book.at(6).funds == "redeemed"
    book.say("redeem_cancelled", 7, part="r2")
    assert book.at(7).funds == "held"
    book.say("redeem_cancelled", 8, part="r1")
    assert book.at(8).funds == "held"


def test_a_redemption_told_anew_is_a_version_of_the_same_fact(book: Book) -> None:
    book.say("purchase", 0)
    book.say("redeem", 5)
    book.say("redeem", 6, remaining="10")
    assert book.at(6).funds == "held"


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_order_of_arrival_does_not_matter(order: tuple[int, ...]) -> None:
    book = Book()
    facts: list[tuple[str, float, dict[str, Any]]] = [
        ("purchase", 0, {"id": "a"}),
        ("redeem", 5, {"id": "b"}),
        ("redeem_cancelled", 6, {"id": "c"}),
        ("redeem", 7, {"id": "d", "trusted": False, "part": "r2"}),
    ]
    for index in order:
        kind, at, said = facts[index]
        book.say(kind, at, time=8, **said)
    money = book.at(8)
    assert (money.funds, money.cut, money.closings_confirmed) == ("redeemed", ms(7), False)


def test_of_trusted_versions_the_latest_stands(book: Book) -> None:
    book.say("purchase_cancelled", 4)
    book.say("purchase", 2)
    assert book.at(5).funds == "none"
    book.say("purchase", 6)
    money = book.at(6)
    assert (money.funds, money.cut) == ("held", ms(6))


def test_on_a_tie_the_cancellation_stands(book: Book) -> None:
    book.say("purchase_cancelled", 4, id="a")
    book.say("purchase", 4, id="b")
    assert book.at(5).funds == "none"


def test_between_equal_versions_the_event_id_decides(book: Book) -> None:
    book.say("purchase", 4, id="b", matures=9)
    book.say("purchase", 4, id="a")
    position = book.at(5).positions["o1"]
    assert position.purchase is not None
    assert position.purchase.matures_at == ms(9)


def test_once_a_trusted_version_is_known_public_ones_change_nothing(book: Book) -> None:
    book.say("purchase", 0)
    book.say("purchase", 9, trusted=False)
    book.say("purchase_cancelled", 10, trusted=False)
    money = book.at(10)
    assert (money.funds, money.cut, money.until) == ("held", ms(0), NEVER)


def test_a_trusted_cancellation_ends_a_public_purchase(book: Book) -> None:
    book.say("purchase", 5, trusted=False)
    book.say("purchase_cancelled", 1)
    assert book.at(5).funds == "none"


def test_a_public_cancellation_takes_back_a_public_version(book: Book) -> None:
    book.say("purchase", 0, trusted=False)
    book.say("purchase_cancelled", 1, trusted=False)
    assert book.at(1).funds == "none"


def test_a_redemption_waits_for_its_purchase_and_cuts_nothing_meanwhile(book: Book) -> None:
    book.say("redeem", 5)
    assert (book.at(5).funds, book.at(5).purchased, book.at(5).cut) == ("none", False, None)
    book.say("purchase", 0, time=29 * DAY)
    money = book.at(29 * DAY)
    assert (money.funds, money.cut) == ("redeemed", ms(5))


def test_it_waits_thirty_days_after_its_own_record(book: Book) -> None:
    book.say("redeem", 5.25)
    book.at(30 * DAY + 5)
    assert "o1" in book.ledger.orders
    book.at(30 * DAY + 6)
    assert book.ledger.orders == {}
    book.say("purchase", 0)
    assert book.at(30 * DAY + 6).funds == "held"


def test_a_repeat_does_not_make_it_wait_longer(book: Book) -> None:
    book.say("redeem", 5, id="a")
    book.say("redeem", 6, time=20 * DAY, id="b")
    book.at(30 * DAY + 5)
    assert book.ledger.orders == {}


def test_a_public_fact_is_taken_back_three_days_after_its_first_record(book: Book) -> None:
    book.say("purchase", 0, trusted=False, time=0.5)
    book.say("purchase", 2, trusted=False, time=2 * DAY)
    money = book.at(3 * DAY)
    assert (money.funds, money.open_confirmed, money.until) == ("held", False, START + 3 * DAY + 1)
    assert book.at(3 * DAY + 1) == Money()


def test_unless_a_trusted_version_came(book: Book) -> None:
    book.say("purchase", 0, trusted=False)
    book.say("purchase", 0, time=2 * DAY)
    money = book.at(2 * DAY)
    assert (money.open_confirmed, money.until) == (True, NEVER)
    assert book.at(9 * DAY).funds == "held"


def test_a_trusted_version_may_come_after_it_was_taken_back(book: Book) -> None:
    book.say("purchase", 0, trusted=False)
    assert book.at(3 * DAY).funds == "none"
    book.say("purchase", 0, time=4 * DAY)
    assert book.at(4 * DAY).funds == "held"


def test_a_trusted_redeem_confirms_its_purchase(book: Book) -> None:
    book.say("purchase", 0, trusted=False)
    book.say("redeem", 5, remaining="100", time=2 * DAY)
    money = book.at(2 * DAY)
    assert (money.funds, money.open_confirmed) == ("held", True)
    assert book.at(9 * DAY).funds == "held"


def test_only_while_that_redeem_stands(book: Book) -> None:
    book.say("purchase", 0, trusted=False)
    book.say("redeem", 5, time=DAY)
    assert book.at(4 * DAY).funds == "redeemed"
    book.say("redeem_cancelled", 6, time=4 * DAY)
    assert book.at(4 * DAY).funds == "none"


def test_a_public_cancellation_is_not_undone_by_a_trusted_redeem(book: Book) -> None:
    book.say("purchase", 0, trusted=False)
    book.say("purchase_cancelled", 1, trusted=False)
    book.say("redeem", 5)
    assert book.at(5).funds == "none"


def test_a_public_redeem_of_a_trusted_purchase_is_provisional(book: Book) -> None:
    book.say("purchase", 0)
    book.say("redeem", 5, trusted=False)
    money = book.at(5)
    assert (money.funds, money.closings_confirmed, money.until) == ("redeemed", False, START + 3 * DAY + 5)
    assert book.at(3 * DAY + 5).funds == "held"
    assert book.at(3 * DAY + 5).cut == ms(0)


def test_maturity_closes_provisionally_from_its_due_hour(book: Book) -> None:
    book.say("purchase", 0, matures=10.5)
    assert (book.at(10).funds, book.at(10).until) == ("held", START + 11)
    money = book.at(11)
    assert (money.funds, money.closings_confirmed, money.cut, money.activity) == (
        "redeemed",
        False,
        ms(10.5),
        ms(10.5),
    )
    assert money.until == START + 3 * DAY + 11


def test_a_redeem_within_three_days_confirms_it_and_leaves_its_instant(book: Book) -> None:
    book.say("purchase", 0, matures=10)
    book.say("redeem", 40)
    money = book.at(40)
    assert (money.funds, money.closings_confirmed, money.cut) == ("redeemed", True, ms(10))
    assert book.at(3 * DAY + 10) == book.at(99 * DAY)
    assert book.at(99 * DAY).cut == ms(10)


def test_a_public_redeem_within_them_leaves_it_provisional(book: Book) -> None:
    book.say("purchase", 0, matures=10)
    book.say("redeem", 40, trusted=False)
    assert not book.at(40).closings_confirmed
    assert book.at(3 * DAY + 10).funds == "redeemed"
    assert book.at(3 * DAY + 40).funds == "held"


def test_without_one_it_is_rolled_over_and_a_later_redeem_is_ordinary(book: Book) -> None:
    book.say("purchase", 0, matures=10)
    money = book.at(3 * DAY + 10)
    assert (money.funds, money.cut, money.activity, money.until) == ("held", ms(0), 0, NEVER)
    book.say("redeem", 4 * DAY)
    money = book.at(4 * DAY)
    assert (money.funds, money.cut, money.closings_confirmed) == ("redeemed", ms(4 * DAY), True)


def test_what_was_redeemed_before_does_not_mature(book: Book) -> None:
    book.say("purchase", 0, matures=10)
    book.say("redeem", 8)
    money = book.at(12)
    assert (money.cut, money.activity, money.until) == (ms(8), 0, START + 3 * DAY + 10)


def test_funds_are_held_when_any_position_is_open(book: Book) -> None:
    book.say("purchase", 0, order="o1")
    book.say("redeem", 1, order="o1")
    book.say("purchase", 2, order="o2", trusted=False)
    money = book.at(3)
    assert (money.funds, money.open_confirmed) == ("held", False)
    book.say("redeem", 4, order="o2")
    assert book.at(4).funds == "redeemed"


def test_the_latest_cut_counts(book: Book) -> None:
    book.say("purchase", 2, order="o1")
    book.say("purchase", 9, order="o2")
    book.say("redeem", 5, order="o1")
    assert book.at(9).cut == ms(9)
    book.say("purchase_cancelled", 10, order="o2")
    assert book.at(10).cut == ms(5)


def test_closed_positions_of_400_days_are_kept_as_one_summary(book: Book) -> None:
    book.say("purchase", 0, order="o1")
    book.say("redeem", 5, order="o1")
    book.say("purchase", 1, order="o2")
    book.say("redeem", 6, order="o2")
    book.at(400 * DAY + 5)
    assert set(book.ledger.orders) == {"o1", "o2"}
    money = book.at(400 * DAY + 6)
    assert set(book.ledger.orders) == {"o2"}
    assert (money.funds, money.purchased, money.closings_confirmed) == ("redeemed", True, True)
    money = book.at(400 * DAY + 7)
    assert (book.ledger.orders, book.ledger.summarised) == ({}, 2)
    assert (money.funds, money.ever_confirmed) == ("redeemed", True)


def test_an_old_position_that_is_open_is_not(book: Book) -> None:
    book.say("purchase", 0)
    assert book.at(900 * DAY).funds == "held"


def test_a_later_record_of_a_summarised_order_is_a_new_orders(book: Book) -> None:
    book.say("purchase", 0)
    book.say("redeem", 5)
    book.at(401 * DAY)
    book.say("redeem_cancelled", 6, time=401 * DAY)
    assert book.at(401 * DAY).funds == "redeemed"


def test_what_is_provisional_is_not_summarised(book: Book) -> None:
    """A public key must not close a holding for good by a redemption that says it is 401 days old."""
    book.say("purchase", 0)
    book.say("redeem", 5, trusted=False, time=402 * DAY)
    assert book.at(402 * DAY).funds == "redeemed"
    assert book.at(405 * DAY).funds == "held"


def test_public_facts_of_more_orders_than_the_bound_are_kept_out(book: Book) -> None:
    for number in range(MAX_ORDERS):
        assert book.say("purchase", 0, trusted=False, order=f"o{number}")
    assert not book.say("purchase", 0, trusted=False, order="more")
    assert book.say("redeem", 0, trusted=False, order="o1")
    assert book.say("purchase", 0, order="more")


def test_what_stood_and_stands_no_longer_is_taken_back(book: Book) -> None:
    book.say("purchase", 0, trusted=False)
    assert book.turn(0).taken_back == []
    purchase = book.ledger.orders["o1"].purchase
    assert purchase is not None
    purchase.change = Change(4, "holding")
    turned = book.turn(3 * DAY)
    assert (turned.retracted, turned.order_id) == (Change(4, "holding"), "o1")
    assert book.turn(3 * DAY).taken_back == []


def test_of_several_the_one_with_the_earliest_change_is_named(book: Book) -> None:
    for order in ("o1", "o2", "o3"):
        book.say("purchase", 0, trusted=False, order=order)
    book.turn(0)
    for order, version in (("o1", 7), ("o2", 3)):
        purchase = book.ledger.orders[order].purchase
        assert purchase is not None
        purchase.change = Change(version, "holding")
    turned = book.turn(3 * DAY)
    assert (turned.retracted, turned.order_id) == (Change(3, "holding"), "o2")
    assert len(turned.taken_back) == 3


def test_two_facts_of_one_order_may_be_taken_back_at_once(book: Book) -> None:
    book.say("purchase", 0, trusted=False)
    book.say("redeem", 0, trusted=False)
    book.say("redeem", 0, trusted=False, part="r2")
    book.turn(0)
    turned = book.turn(3 * DAY)
    assert (len(turned.taken_back), turned.retracted, turned.order_id) == (3, None, "o1")


def test_a_rollover_takes_the_maturity_back(book: Book) -> None:
    book.say("purchase", 0, matures=10)
    book.turn(0)
    turned = book.turn(10)
    assert (list(turned.appeared), turned.order_id) == (["o1"], "o1")
    book.ledger.orders["o1"].maturity_change = Change(2, "post_redemption")
    assert book.turn(11).appeared == {}
    turned = book.turn(3 * DAY + 10)
    assert (turned.retracted, turned.order_id) == (Change(2, "post_redemption"), "o1")


def test_a_redemption_dropped_after_its_wait_is_not_taken_back(book: Book) -> None:
    book.say("redeem", 0)
    book.turn(0)
    assert book.turn(31 * DAY).taken_back == []
