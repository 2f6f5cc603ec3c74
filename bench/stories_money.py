"""What people do with money: one function a story, so that every case of R4 and every stage change of R5 happens.

A story counts days from its own first day. Days 0 to 29 are ordinary life; from day 30 on nearly everybody is silent.
"""

from __future__ import annotations

from typing import Final

from bench.visitors import ALMOST, DAY, HOUR, LIGHT, MEDIUM, MINUTE, ORDER, STRONG, Device, Visitor


def _known(v: Visitor, day: int = 0) -> Device:
    """Begin as somebody who browses a little anonymously, logs in and looks on."""
    device = v.any_device()
    t = v.visit(device, v.at(day), LIGHT)
    v.visit(device, v.login(device, t), LIGHT, user=v.user)
    return device


def confirmed_twice(v: Visitor) -> None:
    """Decide, buy, hold, redeem, decide again and buy again; the ledger confirms each step after the browser."""
    web = _known(v)
    for day in (2, 14):
        t = v.visit(web, v.at(day), ORDER, user=v.user)
        order = v.order()
        v.fact("purchase", order, t, device=web)
        v.fact("purchase", order, t + MINUTE, arrives=t + v.rng.randrange(HOUR, 30 * HOUR))
        v.check_returns(web, v.at(day + 3), user=v.user)
        v.check_returns(web, v.at(day + 6), user=v.user)
        t = v.at(day + 9)
        v.fact("redeem", order, t, device=web)
        v.fact("redeem", order, t + MINUTE, arrives=t + v.rng.randrange(HOUR, 30 * HOUR))
        v.visit(web, v.at(day + 11), STRONG, user=v.user)


def never_confirmed(v: Visitor) -> None:
    """Decide and buy in the browser, twice reported; the ledger never hears of it, so the decision goes on."""
    web = _known(v)
    t = v.visit(web, v.at(3), ORDER, user=v.user)
    order = v.order()
    first = v.fact("purchase", order, t, device=web)
    v.fact("purchase", order, v.at(4), device=web)  # another report of the order: does not prolong it
    v.again(first, t + 30 * MINUTE)
    v.visit(web, v.at(8), MEDIUM, user=v.user)


def cold_buyer(v: Visitor) -> None:
    """Buy without deciding, unconfirmed; leave for weeks; come back a little (most), or with a late confirmation."""
    web = _known(v)
    order = v.order()
    v.fact("purchase", order, v.at(1), device=web)
    v.visit(web, v.at(39), LIGHT, user=v.user)
    if v.rng.random() < 0.3:
        v.fact("purchase", order, v.at(40))


def confirmed_late(v: Visitor) -> None:
    """Have a purchase confirmed days after it was taken back, and checked by the browser once more after that."""
    web = _known(v)
    order = v.order()
    t = v.at(1)
    v.fact("purchase", order, t, device=web)
    v.fact("purchase", order, t + MINUTE, arrives=v.at(6))
    v.fact("purchase", order, v.at(8), device=web)  # the ledger has spoken: changes nothing
    v.check_returns(web, v.at(9), user=v.user)


def ledger_out_of_order(v: Visitor) -> None:
    """Be redeemed before the purchase is heard of; go to sleep, look in again, and lose the purchase at last."""
    web = _known(v)
    order = v.order()
    v.fact("redeem", order, v.at(3), arrives=v.at(5))
    v.fact("purchase", order, v.at(1), arrives=v.at(6))
    v.visit(web, v.at(40), LIGHT, user=v.user)
    v.fact("purchase_cancelled", order, v.at(42))


def decides_out_of_order(v: Visitor) -> None:
    """Be in a decision when the ledger tells of a redemption and only then of its purchase; decide again later."""
    web = _known(v)
    t = v.visit(web, v.at(2), STRONG, user=v.user)
    order = v.order()
    v.fact("redeem", order, t + 3 * HOUR, arrives=t + 4 * HOUR)
    v.fact("purchase", order, t + HOUR, arrives=t + 6 * HOUR)
    v.visit(web, v.at(5), STRONG, user=v.user)


def wait_expires(v: Visitor) -> None:
    """Have a redemption wait in vain: its purchase comes after the 30 days."""
    web = _known(v)
    order = v.order()
    v.fact("redeem", order, v.at(1))
    v.visit(web, v.at(20), LIGHT, user=v.user)
    v.fact("purchase", order, v.at(0), arrives=v.at(35))


def rolled_over(v: Visitor) -> None:
    """Hold to maturity, not redeem (the money is rolled over), and redeem days later after all."""
    web = _known(v)
    t = v.visit(web, v.at(1), ORDER, user=v.user)
    order = v.order()
    v.fact("purchase", order, t, matures_at=v.at(8))
    v.check_returns(web, v.at(5), user=v.user)
    v.fact("redeem", order, v.at(16))


def matured(v: Visitor) -> None:
    """Hold to maturity and redeem within its three days; the next order is redeemed before it would mature."""
    web, sofa = _known(v), v.any_device()
    order = v.order()
    v.fact("purchase", order, v.at(1), matures_at=v.at(8))
    v.visit(sofa, v.at(4), STRONG)
    v.login(sofa, v.at(5))  # somebody who decides turns out to hold already
    v.fact("redeem", order, v.at(10))
    early = v.order()
    v.fact("purchase", early, v.at(12), matures_at=v.at(24))
    v.check_returns(web, v.at(15), user=v.user)
    v.fact("redeem", early, v.at(18))


def in_parts(v: Visitor) -> None:
    """Redeem in two parts: once under two redemption ids, once as one fact that is told anew."""
    web, sofa = _known(v), v.any_device()
    named, plain = v.order(), v.order()
    v.fact("purchase", named, v.at(1))
    v.fact("redeem", named, v.at(5), redemption_id="r1", remaining="500.00")
    v.check_returns(web, v.at(6), user=v.user)
    v.fact("redeem", named, v.at(9), redemption_id="r2", remaining="0.00")
    v.visit(sofa, v.at(10), STRONG)
    v.login(sofa, v.at(11))  # somebody who decides turns out to have redeemed
    v.fact("purchase", plain, v.at(12))
    v.fact("redeem", plain, v.at(15), remaining="120.50")
    v.fact("redeem", plain, v.at(19), remaining="0")


def cancelled_by_ledger(v: Visitor) -> None:
    """Decide, buy, have it cancelled by the ledger, and at last reinstated."""
    web = _known(v)
    t = v.visit(web, v.at(2), ORDER, user=v.user)
    order = v.order()
    v.fact("purchase", order, t, device=web)
    v.fact("purchase", order, t + MINUTE)
    v.fact("purchase_cancelled", order, v.at(4))
    v.check_returns(web, v.at(5), user=v.user)
    v.fact("purchase", order, v.at(9))


def cancelled_in_browser(v: Visitor) -> None:
    """Cancel an unconfirmed order in the browser, which works; then one that the ledger knows, which does not."""
    web = _known(v)
    t = v.visit(web, v.at(2), ORDER, user=v.user)
    first, second = v.order(), v.order()
    v.fact("purchase", first, t, device=web)
    v.fact("purchase_cancelled", first, t + 2 * HOUR, device=web)
    v.fact("purchase", second, v.at(5), device=web)
    v.fact("purchase", second, v.at(6))
    v.fact("purchase_cancelled", second, v.at(8), device=web)
    t = v.at(12)
    v.fact("redeem", second, t, device=web)
    v.fact("redeem_cancelled", second, t + 3 * HOUR, device=web)
    v.fact("redeem", second, v.at(15))
    v.fact("redeem_cancelled", second, v.at(17), device=web)


def cancelled_first(v: Visitor) -> None:
    """Have cancellations that arrive before what they cancel, and one of the same instant."""
    _known(v)
    early, tie, held = v.order(), v.order(), v.order()
    t = v.at(2)
    v.fact("purchase_cancelled", early, t + HOUR, arrives=t + 2 * HOUR)
    v.fact("purchase", early, t, arrives=t + 5 * HOUR)
    t = v.at(5)
    v.fact("purchase_cancelled", tie, t, arrives=t + v.rng.choice((HOUR, 5 * HOUR)))
    v.fact("purchase", tie, t, arrives=t + 3 * HOUR)
    v.fact("purchase", held, v.at(8))
    t = v.at(11)
    v.fact("redeem_cancelled", held, t + HOUR, arrives=t + 2 * HOUR)
    v.fact("redeem", held, t, arrives=t + 5 * HOUR)


def redeem_cancelled(v: Visitor) -> None:
    """Redeem, have the ledger cancel that, and redeem again."""
    web = _known(v)
    order = v.order()
    v.fact("purchase", order, v.at(1))
    v.fact("redeem", order, v.at(6))
    v.fact("redeem_cancelled", order, v.at(8))
    v.check_returns(web, v.at(10), user=v.user)
    v.fact("redeem", order, v.at(13))
    v.visit(web, v.at(15), LIGHT, user=v.user)


def redeem_confirmed_late(v: Visitor) -> None:
    """Redeem in the browser; the ledger is silent, so the position opens again, and confirms it days later."""
    web = _known(v)
    order = v.order()
    v.fact("purchase", order, v.at(1))
    t = v.at(6)
    v.fact("redeem", order, t, device=web)
    v.check_returns(web, v.at(12), user=v.user)
    v.fact("redeem", order, t + MINUTE, arrives=v.at(14))


def redeem_confirms_purchase(v: Visitor) -> None:
    """Buy in the browser, be redeemed by the ledger: so it was bought. A cancelled purchase is not brought back so."""
    web = _known(v)
    order, cancelled = v.order(), v.order()
    t = v.at(1)
    v.fact("purchase", order, t, device=web)
    v.fact("redeem", order, t + 30 * HOUR)
    t = v.at(8)
    v.fact("purchase", cancelled, t, device=web)
    v.fact("purchase_cancelled", cancelled, t + HOUR, device=web)
    v.fact("redeem", cancelled, v.at(9))


def redeemed_in_the_past(v: Visitor) -> None:
    """Look for the next product while the ledger still owes the news that the last one is redeemed."""
    web = _known(v)
    order = v.order()
    v.fact("purchase", order, v.at(1))
    v.visit(web, v.at(6), STRONG, user=v.user)
    v.fact("redeem", order, v.at(4), arrives=v.at(8))


def old_customer(v: Visitor) -> None:
    """Be known from the ledger's old books alone: bought and redeemed over 400 days ago; then come to the shop."""
    order = v.order()
    start = v.at(1)
    v.fact("purchase", order, start - v.rng.randrange(500, 600) * DAY, arrives=start)
    redeem = v.fact("redeem", order, start - v.rng.randrange(410, 480) * DAY, arrives=start + HOUR)
    v.fact("redeem", order, redeem["ts"] + DAY, arrives=v.at(3))  # the books say it again, of an order now summed up
    web = v.any_device()
    v.visit(web, v.login(web, v.at(6)), LIGHT, user=v.user)
    v.visit(web, v.at(9), STRONG, user=v.user)


def old_holder(v: Visitor) -> None:
    """Hold since 410 to 600 days, as the imported books say, and redeem now; wake up from a long sleep to buy."""
    order = v.order()
    v.fact("purchase", order, v.at(0) - v.rng.randrange(410, 600) * DAY, arrives=v.at(0))
    web = v.any_device()
    v.check_returns(web, v.login(web, v.at(4)), user=v.user)
    v.fact("redeem", order, v.at(7))
    following = v.order()
    v.fact("purchase", following, v.at(39))


def second_product(v: Visitor) -> None:
    """Buy a second product while holding the first; redeem the first before the second is confirmed."""
    web = _known(v)
    first, second = v.order(), v.order()
    v.fact("purchase", first, v.at(1))
    t = v.visit(web, v.at(5), ORDER, user=v.user)
    v.fact("purchase", second, t, device=web)
    v.fact("redeem", first, t + 12 * HOUR)
    v.fact("purchase", second, t + MINUTE, arrives=t + 36 * HOUR)
    v.fact("redeem", second, v.at(14))


def redeemed_and_rumours(v: Visitor) -> None:
    """Have all redeemed, then hear of a redemption and its purchase from the browser alone, which both lapse."""
    web = _known(v)
    order, rumour = v.order(), v.order()
    v.fact("purchase", order, v.at(1))
    v.fact("redeem", order, v.at(5))
    t = v.at(8)
    v.fact("redeem", rumour, t + HOUR, device=web, arrives=t + HOUR)
    v.fact("purchase", rumour, t, device=web, arrives=t + 3 * HOUR)
    v.visit(web, v.at(14), ALMOST, user=v.user)


def loses_purchase(v: Visitor) -> None:
    """Decide after a redemption, let the decision pass, and have the purchase cancelled late by the ledger."""
    web = _known(v)
    order = v.order()
    v.fact("purchase", order, v.at(0))
    v.fact("redeem", order, v.at(2))
    v.visit(web, v.at(4), STRONG, user=v.user)
    v.fact("purchase_cancelled", order, v.at(22))
    v.visit(web, v.at(24), LIGHT, user=v.user)


STORIES: Final = (
    confirmed_twice,
    never_confirmed,
    cold_buyer,
    confirmed_late,
    ledger_out_of_order,
    decides_out_of_order,
    wait_expires,
    rolled_over,
    matured,
    in_parts,
    cancelled_by_ledger,
    cancelled_in_browser,
    cancelled_first,
    redeem_cancelled,
    redeem_confirmed_late,
    redeem_confirms_purchase,
    redeemed_in_the_past,
    old_customer,
    old_holder,
    second_product,
    redeemed_and_rumours,
    loses_purchase,
)
