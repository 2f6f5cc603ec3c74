"""The many who follow no script: they browse for a month, few buy, and hardly one comes back in the silent weeks."""

from __future__ import annotations

from typing import Final

from bench.visitors import (
    DAY,
    HOUR,
    LIGHT,
    MEDIUM,
    MINUTE,
    ORDER,
    SHANGHAI,
    STRONG,
    WEEKDAY_WEIGHTS,
    Device,
    Order,
    Visitor,
)

PLANS: Final = (LIGHT, MEDIUM, STRONG, ORDER)
PLAN_WEIGHTS: Final = (60, 28, 9, 3)
MILESTONES: Final = ("registered", "identity_verified", "card_bound", "friend_invited")


def _weekday(v: Visitor, day: int) -> int:
    """Return the local weekday, 0 = Monday, of the visitor's day (1970-01-01 was a Thursday)."""
    return ((v.midnight + SHANGHAI) // DAY + v.first_day + day + 3) % 7


def _buy(v: Visitor, device: Device, t: int) -> Order:
    """Buy as most do: in the browser, confirmed by the ledger within the day, or two days, or never."""
    order = v.order()
    v.fact("purchase", order, t, device=device)
    fate = v.rng.random()
    if fate < 0.85:
        v.fact("purchase", order, t + MINUTE, arrives=t + v.rng.randrange(MINUTE, DAY if fate < 0.7 else 2 * DAY))
    return order


def everyday(v: Visitor) -> None:
    """Browse on one to three devices, log in some day, now and then buy, hold quietly and redeem."""
    days = [d for d in range(v.days) if v.rng.random() < 0.11 * WEEKDAY_WEIGHTS[_weekday(v, d)]]
    devices = [v.device("web"), *(v.any_device() for _ in range(v.rng.randrange(3)))]
    known_from = v.rng.choice((0, 3, 8, 15, 99))
    known: dict[str, bool] = {}
    held: Order | None = None
    for day in days:
        device = v.rng.choice(devices)
        t = v.at(day)
        if v.first_day + day < known_from:
            v.visit(device, t, v.rng.choices(PLANS, PLAN_WEIGHTS)[0], away=_offline(v))
            continue
        if device.anonymous_id not in known and v.rng.random() < 0.7:
            t = v.login(device, t)
            v.act(device, "custom", t, user=v.user, name=v.rng.choice(MILESTONES))
        known[device.anonymous_id] = True
        if held is not None and v.rng.random() < 0.75:
            v.check_returns(device, t, user=v.user)
        elif held is not None:
            v.fact("redeem", held, t)
            held = None
        else:
            plan = v.rng.choices(PLANS, PLAN_WEIGHTS)[0]
            t = v.visit(device, t, plan, user=v.user if v.rng.random() < 0.9 else None, away=_offline(v))
            held = _buy(v, device, t) if plan is ORDER else None
    if v.rng.random() < 0.2:
        v.visit(devices[0], v.at(v.days + v.rng.randrange(1, 45)), LIGHT)


def _offline(v: Visitor) -> int:
    """Return for how long the device keeps a visit to itself: mostly not at all (milliseconds)."""
    return v.rng.randrange(10 * MINUTE, 20 * HOUR) if v.rng.random() < 0.04 else 0
