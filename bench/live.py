"""Simulated visitors who live a month in the past and go on in real time, faster than people do: the demo's."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Iterator
from typing import Final

from bench.simulator import repeat, simulate
from bench.visitors import DAY, HOUR, LIGHT, MEDIUM, MINUTE, ORDER, SECOND, STRONG, Device, Event, Order, Visitor

LATENCY: Final = 5 * SECOND
"""Delays up to here are the network's and stay as they are; longer ones pass as fast as everything else."""

PAUSE: Final = MINUTE
"""After a silence of the caller this long, the visitors go on from now instead of catching up."""

OPENING: Final = 8
"""Visitors who set out at once, so that something happens in the first seconds."""


class LiveVisitors:
    """Visitors of a fund shop, due as time passes.

    Args:
        seed: of everything random.
        people: how many live in the past month; live newcomers add to them.
        start_ms: where the past ends and live begins, UTC milliseconds.
        speed: how many times faster than people they act: at 60, an hour takes a minute.
        every_ms: mean milliseconds between two visitors who set out.
    """

    def __init__(self, seed: int, people: int, start_ms: int, *, speed: int = 60, every_ms: int = 1_500) -> None:
        self._seed = seed
        self.people = people
        self._start = start_ms
        self._speed = speed
        self._every = every_ms
        self._rng = random.Random(f"live/{seed}")
        self._scenes = 0
        self._next_scene = start_ms
        self._last = start_ms
        self._queue: list[tuple[int, int, Event]] = []
        self._ordinal = itertools.count()
        self._holders: list[tuple[str, Order]] = []

    def history(self, days: int = 30) -> Iterator[Event]:
        """Yield what the people did in the `days` before the start, in the order of `ts`, for `phasewatch import`."""
        begin = self._start - days * DAY
        past = [
            event
            for event in simulate(self._seed, self.people, begin, days, tail_days=1)
            if begin <= event["ts"] <= event["arrives"] < self._start
        ]
        past.sort(key=lambda event: event["ts"])
        self._holders = _open_orders(past)
        self._rng.shuffle(self._holders)
        for event in past:
            del event["arrives"]
            yield event

    def due(self, now_ms: int) -> list[Event]:
        """Return what visitors have sent since the last call, in the order of arrival.

        `trusted` says which key an event is to be posted with; it is no field of a native event.
        """
        if now_ms - self._last > PAUSE:
            self._next_scene = now_ms
        self._last = now_ms
        if self._scenes == 0:
            for _ in range(OPENING):
                self._begin(now_ms)
        while self._next_scene <= now_ms:
            self._begin(self._next_scene)
            self._next_scene += 1 + int(self._rng.expovariate(1 / self._every))
        sent: list[Event] = []
        while self._queue and self._queue[0][0] <= now_ms:
            sent.append(heapq.heappop(self._queue)[2])
        return sent

    def _begin(self, now: int) -> None:
        """Let the next visitor set out at `now`."""
        self._scenes += 1
        kind = self._rng.random()
        newcomer = kind < 0.6 or self.people == 0
        number = self.people + self._scenes if newcomer else self._rng.randrange(self.people)
        # The scene's own seed: a person of the past month must not draw the ids of that month again.
        visitor = Visitor(seed=self._seed * 1_000_003 + self._scenes, number=number, midnight=now)
        visitor.orders = 1_000 * self._scenes
        if newcomer:
            _first_order(visitor, now)
        elif kind < 0.8 and self._holders:
            user, order = self._holders.pop()
            visitor.fact("redeem", order, now, user=user)
        else:
            _return(visitor, now)
        repeat(visitor.rng, visitor.events)
        for event in visitor.events:
            late = event["arrives"] - event["ts"]
            event["ts"] = now + (event["ts"] - now) // self._speed
            arrives = event["ts"] + (late if late <= LATENCY else late // self._speed)
            del event["arrives"]
            heapq.heappush(self._queue, (arrives, next(self._ordinal), event))


def _first_order(v: Visitor, t: int) -> None:
    """Arrive anonymously, decide, log in, and buy (most), hold for a while and redeem (half), or cancel (a few)."""
    device = v.any_device()
    t = v.visit(device, t, v.rng.choice((LIGHT, STRONG, STRONG)))
    if v.rng.random() < 0.25:
        return
    t = v.visit(device, v.login(device, t + MINUTE), ORDER, user=v.user)
    order = v.order()
    v.fact("purchase", order, t, device=device)
    fate = v.rng.random()
    if fate < 0.1:
        v.fact("purchase_cancelled", order, t + 8 * MINUTE, device=device)
    elif fate < 0.8:
        v.fact("purchase", order, t + MINUTE, arrives=t + v.rng.randrange(3, 12) * MINUTE)
        t = v.check_returns(device, t + 15 * MINUTE, user=v.user)
        if fate < 0.5:
            _redeem(v, device, order, t + 10 * MINUTE)


def _redeem(v: Visitor, device: Device, order: Order, t: int) -> None:
    """Redeem in the browser; the ledger confirms it soon."""
    v.fact("redeem", order, t, device=device)
    v.fact("redeem", order, t + MINUTE, arrives=t + v.rng.randrange(3, 12) * MINUTE)


def _return(v: Visitor, t: int) -> None:
    """Come back as one who is known from the past month, to look around or to decide anew."""
    device = v.any_device()
    for plan in (LIGHT, v.rng.choice((LIGHT, MEDIUM, STRONG, STRONG))):
        t = v.visit(device, t, plan, user=v.user) + v.rng.randrange(HOUR // 6)


def _open_orders(past: list[Event]) -> list[tuple[str, Order]]:
    """Return (user, order) of every purchase that the ledger knows of and that nothing has ended."""
    held: dict[str, tuple[str, Order]] = {}
    for event in past:
        about = event.get("properties", {})
        if event["type"] == "purchase" and event["trusted"] and "matures_at" not in about:
            order = Order(about["order_id"], about["product_id"], about["category"], about["amount"])
            held[order.order_id] = (event["user_id"], order)
        elif event["type"] in {"redeem", "purchase_cancelled"}:
            held.pop(about["order_id"], None)
    return list(held.values())
