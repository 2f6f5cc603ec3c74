"""Counts the cases of R4 in a log: what is said of money, in which order, and by whom."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import orjson

from collector.wire.event import MONEY_TYPES, Event
from collector.wire.record import Record
from tests.property.coverage_log import DAY, Changes, ceil_hour, events_of


@dataclass(slots=True, frozen=True)
class _Said:
    """One version of a money fact, in the order of the log; `time` is record time, `at` the version's instant."""

    time: int
    fact: str
    redemption: str | None
    at: int
    cancels: bool
    trusted: bool
    properties: dict[str, Any]

    @property
    def closes(self) -> bool:
        return not any(digit in "123456789" for digit in str(self.properties.get("remaining") or ""))


def money_cases(log: Sequence[Record], changes: Changes) -> Iterator[str]:
    orders: dict[tuple[str, str], list[_Said]] = defaultdict(list)
    seen: set[tuple[str, str, str]] = set()
    for record, event in events_of(log):
        if event.type in MONEY_TYPES and event.user_id is not None:
            about = orjson.loads(bytes(event.properties))
            fact = (event.user_id, about["order_id"], event.id)
            if fact not in seen:
                seen.add(fact)
                orders[fact[:2]].append(_said(record, event, about))
    for (user, order), said in orders.items():
        timers = _timers(changes.get(f"u:{user}", ()), order)
        buys = [s for s in said if s.fact == "purchase"]
        redeems = [s for s in said if s.fact == "redeem"]
        yield from _fact("purchase", buys, timers)
        yield from _fact("redeem", redeems, timers)
        yield from _purchase_and_redeem(buys, redeems)
        yield from _parts(redeems)
        yield from _maturity(buys, redeems, timers)
        yield from _age(said, buys, redeems)
    yield from _side_by_side(orders)


def _said(record: Record, event: Event, about: dict[str, Any]) -> _Said:
    return _Said(
        time=record.time,
        fact=event.type.removesuffix("_cancelled"),
        redemption=about.get("redemption_id"),
        at=event.occurred_at,
        cancels=event.type.endswith("_cancelled"),
        trusted=event.trusted,
        properties=about,
    )


def _timers(told: Sequence[Mapping[str, Any]], order: str) -> dict[int, Mapping[str, Any]]:
    """Return the changes by timer about an order, by their instant in UTC milliseconds."""
    return {
        _ms(change["at"]): change
        for change in told
        if change["cause"]["kind"] == "timer" and change["cause"].get("order_id") == order
    }


def _fact(name: str, said: list[_Said], timers: Mapping[int, Any]) -> Iterator[str]:
    """Yield what becomes of the versions of one fact (the parts of a redemption are taken together)."""
    states = [s for s in said if not s.cancels]
    public = [s for s in states if not s.trusted]
    trusted = [s for s in states if s.trusted]
    if trusted and not public:
        yield f"{name}_trusted_only"
    if public:
        yield from _provisional(name, public, trusted, timers)
    known = min((s.time for s in said if s.trusted), default=2**62)  # from here on public versions change nothing
    if any(s.time > known for s in public):
        yield f"{name}_public_after_trusted_ignored"
    for cancel in (s for s in said if s.cancels and not s.trusted):
        if known < cancel.time:
            yield f"{name}_public_cancel_of_trusted_ignored"
        elif any(s.time < cancel.time for s in public):
            yield f"{name}_cancelled_public"
    for cancel in (s for s in said if s.cancels and s.trusted):
        yield from _cancelled(name, cancel, trusted)


def _provisional(name: str, public: list[_Said], trusted: list[_Said], timers: Mapping[int, Any]) -> Iterator[str]:
    first, lapses = public[0].time, ceil_hour(public[0].time + 3 * DAY)
    if trusted and first < trusted[0].time < lapses:
        yield f"{name}_provisional_then_confirmed"
    if trusted and trusted[0].time >= lapses:
        yield f"{name}_confirmed_after_taken_back"
    if lapses in timers:
        yield f"{name}_taken_back_by_timer"
        if any(first < s.time < lapses for s in public[1:]):
            yield f"{name}_repeat_does_not_prolong"


def _cancelled(name: str, cancel: _Said, trusted: list[_Said]) -> Iterator[str]:
    before = [s for s in trusted if s.at < cancel.at]
    if any(s.time < cancel.time for s in before):
        yield f"{name}_cancelled_trusted"
    if before and all(s.time > cancel.time for s in trusted):
        yield f"{name}_cancellation_arrives_first"
    if any(s.at == cancel.at for s in trusted):
        yield f"{name}_tie_cancellation_stands"
    if before and any(s.at > cancel.at and s.time > cancel.time for s in trusted):
        yield f"{name}_reinstated"


def _purchase_and_redeem(buys: list[_Said], redeems: list[_Said]) -> Iterator[str]:
    bought = [s for s in buys if not s.cancels]
    redeemed = [s for s in redeems if not s.cancels]
    if not bought or not redeemed:
        return
    first, redeem = bought[0], redeemed[0]
    if redeem.time < first.time < redeem.time + 30 * DAY:
        yield "redeem_waited_for_purchase"
    if first.time >= ceil_hour(redeem.time + 30 * DAY):
        yield "redeem_wait_expired"
    vouched = [s.time for s in redeemed if s.trusted]
    if vouched and not any(s.trusted for s in buys):
        if any(s.cancels for s in buys):
            yield "cancelled_public_purchase_not_undone_by_redeem"
        elif first.time < vouched[0] < ceil_hour(first.time + 3 * DAY):
            yield "trusted_redeem_confirms_public_purchase"


def _parts(redeems: list[_Said]) -> Iterator[str]:
    redeemed = [s for s in redeems if not s.cancels]
    if any(not s.closes for s in redeemed):
        yield "partial_redeem"
    if any(s.closes and s.properties.get("remaining") is not None for s in redeemed):
        yield "remaining_zero_closes"
    parts = {s.redemption for s in redeemed if s.redemption is not None}
    if len(parts) > 1:
        yield "redemption_id_two_parts"
    if not parts and redeemed and not redeemed[0].closes and redeemed[-1].closes:
        yield "partial_redeem_told_anew"


def _maturity(buys: list[_Said], redeems: list[_Said], timers: Mapping[int, Mapping[str, Any]]) -> Iterator[str]:
    matures_at = next((s.properties["matures_at"] for s in buys if "matures_at" in s.properties), None)
    if matures_at is None:
        return
    due, ends = ceil_hour(matures_at), ceil_hour(matures_at + 3 * DAY)
    closings = [s.at for s in redeems if not s.cancels and s.closes]
    if due in timers and not timers[due]["confirmed"]:
        yield "maturity_closes_provisionally"
    if ends in timers:
        yield "maturity_rolled_over"
        if any(at >= ends for at in closings):
            yield "late_redeem_after_rollover"
    if any(matures_at <= at < ends for at in closings):
        yield "maturity_confirmed_by_redeem"
    if any(at < matures_at for at in closings):
        yield "redeemed_before_maturity"


def _age(said: list[_Said], buys: list[_Said], redeems: list[_Said]) -> Iterator[str]:
    yield from ["late_money_fact"] * any(s.at < s.time - DAY for s in said)
    old = [s for s in buys if s.at < s.time - 400 * DAY]
    if not old:
        return
    closed = [s for s in redeems if s.at < s.time - 400 * DAY]
    yield "summary_after_400_days" if closed else "held_for_over_400_days"
    if any(s.time > closed[0].time for s in closed):
        yield "record_of_summed_up_order"


def _side_by_side(orders: Mapping[tuple[str, str], list[_Said]]) -> Iterator[str]:
    held: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for (user, _), said in orders.items():
        bought = [s.time for s in said if s.fact == "purchase" and s.trusted and not s.cancels]
        if bought:
            closed = [s.time for s in said if s.fact == "redeem" and not s.cancels and s.closes]
            held[user].append((bought[0], max(closed, default=2**62)))
    for spans in held.values():
        spans.sort()
        if any(later[0] < earlier[1] for earlier, later in pairwise(spans)):
            yield "second_product_while_held"


def _ms(text: str) -> int:
    return (datetime.fromisoformat(text) - datetime.fromisoformat("1970-01-01T00:00:00Z")) // timedelta(milliseconds=1)
