"""Small random logs, in which everything meets everything: product and oracle agree, however the commits are cut."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector.wire.block import BlockBuilder
from collector.wire.event import Element, Event, Page
from collector.wire.record import HOUR_MS, Draft, Kind
from phasewatch.embedded_worker import shipped_definitions
from tests.agreement import assert_agrees
from tests.harness import Deployment

MINUTE: Final = 60_000
DAY: Final = 24 * HOUR_MS
START: Final = 496_000 * HOUR_MS

GAPS: Final = (
    0,
    0,
    1000,
    10 * MINUTE,
    40 * MINUTE,
    HOUR_MS,
    7 * HOUR_MS,
    25 * HOUR_MS,
    3 * DAY,
    15 * DAY,
    31 * DAY,
    46 * DAY,
)
AGES: Final = (0, 0, 0, 1, MINUTE, 2 * HOUR_MS, DAY, 3 * DAY, 14 * DAY, 60 * DAY, 402 * DAY, -5 * HOUR_MS)
"""How long ago something occurred when it was received; the last one has a clock that runs ahead."""

SHIPPED: Final = shipped_definitions()
DOCUMENTS: Final = (
    SHIPPED,
    SHIPPED.replace("weight = 2.5", "weight = 6").replace("decision_keeps_at = 4", "decision_keeps_at = 3.25"),
    SHIPPED.replace("weight = 1.5", "weight = 0.001").replace("dormant_after_days = 30", "dormant_after_days = 2"),
    SHIPPED.replace("provisional_days = 3", "provisional_days = 1").replace("above_percent = 40", "above_percent = 5"),
    SHIPPED.replace('name = "order_submitted"', 'name = "submitted"').replace('"bond", "index"', '"index", "bond"'),
)
WINDOWS: Final = (SHIPPED, SHIPPED.replace("window_hours = 336", "window_hours = 30"))
LOOKS: Final = (
    {"type": "submit", "page": Page(path="/orders/new")},
    {"type": "submit", "page": Page(path="/orders/new/")},
    {"type": "click", "element": Element(text=" Invest ")},
    {"type": "click", "element": Element(href="https://shop.example/products/bond/b1?x=1"), "page": Page(path="/")},
    {"type": "page", "page": Page(path="/products/stock/s1")},
    {"type": "page", "page": Page(path="/products")},
    {"type": "custom", "name": "registered"},
    {"type": "dwell", "page": Page(path="/products/bond/b1"), "properties": {"ms": 50_000}},
    {"type": "dwell", "page": Page(path="/products/stock"), "properties": {"ms": 45_000.7}},
    {"type": "dwell", "page": Page(path="/"), "properties": {"ms": 10**8}},
    {"type": "identify"},
)
PEOPLE: Final = ((None, "x"), (None, "y"), ("1", None), ("1", "x"), ("2", None), ("2", "x"), ("2", "y"))

people = st.sampled_from(PEOPLE)
ages = st.sampled_from(AGES)


@st.composite
def interactions(draw: st.DrawFn) -> dict[str, Any]:
    user, anonymous = draw(people)
    seq = draw(st.none() | st.integers(0, 5) | st.sampled_from((70, 140))) if anonymous else None
    session = draw(st.sampled_from((None, None, "s1", "s2")))
    who = {"user_id": user, "anonymous_id": anonymous, "seq": seq, "session_id": session}
    return who | draw(st.sampled_from(LOOKS)) | {"age": draw(ages), "id": draw(ids)}


@st.composite
def facts(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(("purchase", "purchase", "redeem", "redeem", "purchase_cancelled", "redeem_cancelled")))
    properties: dict[str, Any] = {"order_id": draw(st.sampled_from(("o1", "o1", "o2")))}
    if kind == "purchase":
        properties["matures_in"] = draw(st.sampled_from((None, None, -2 * DAY, 5 * MINUTE, 4 * DAY, 20 * DAY)))
    if kind.startswith("redeem"):
        properties["redemption_id"] = draw(st.sampled_from((None, None, "r1", "r2")))
        properties["remaining"] = draw(st.sampled_from((None, None, "0.00", "0.50", "-1")))
    user, anonymous = draw(people)
    who = {"user_id": user, "anonymous_id": anonymous, "trusted": draw(st.booleans()), "session_id": None}
    return who | {"type": kind, "properties": properties, "age": draw(ages), "id": draw(ids)}


ids = st.integers(0, 400).map(lambda n: f"e{n}" if n < 10 else None)
"""One in forty events has one of ten ids that others may have, too; the others have one of their own."""

blocks = st.lists(interactions() | facts(), min_size=1, max_size=4)
cuts = st.sampled_from(({"top": 6000, "next": 2000}, {"top": 500, "next": 500}))


def histories(documents: Sequence[str]) -> st.SearchStrategy[list[Any]]:
    """Draw steps: (time since the one before, what happens, whether it is folded at once, how far its clock lags)."""
    published = st.builds(lambda document: {"definitions": document}, st.sampled_from(documents))
    actions = st.one_of(*[blocks] * 6, *[st.just("tick")] * 2, published, st.builds(lambda cut: {"tiers": cut}, cuts))
    lags = st.sampled_from((0, 0, 0, 0, 30 * MINUTE, 20 * DAY))
    steps = st.tuples(st.sampled_from(GAPS), actions, st.booleans(), lags)
    return st.sampled_from((1, 6, 20)).flatmap(lambda least: st.lists(steps, min_size=least, max_size=40))


async def live(deployment: Deployment, history: list[Any]) -> None:
    """Let a history happen: append its records, folding now and then, and let time pass at the end."""
    number = 0
    await deployment.start(batch_records=3)
    for gap, action, fold_now, behind in history:
        deployment.now += gap
        clock = deployment.now - behind
        if action == "tick":
            await deployment.log.append([(n, Draft(Kind.TICK, clock)) for n in range(deployment.log.partitions)])
        elif isinstance(action, dict):
            await deployment.log.append([(0, Draft(Kind.PUBLISH, clock, json.dumps(action).encode()))])
        else:
            builder = BlockBuilder(deployment.log.partitions, max_bytes=1000, imported=behind > DAY)
            for event in action:
                number += 1
                builder.add(made(event, clock, number), clock)
            await deployment.log.append(builder.take())
        if fold_now:
            await deployment.settle()
    await deployment.settle()
    for _ in range(2):
        deployment.now += 2 * DAY
        await deployment.tick()


def made(event: dict[str, Any], now: int, number: int) -> Event:
    properties = {name: value for name, value in event.get("properties", {}).items() if value is not None}
    if "matures_in" in properties:
        properties["matures_at"] = now + properties.pop("matures_in")
    fields = {name: value for name, value in event.items() if name != "age"}
    fields |= {"id": event["id"] or f"own{number}", "properties": msgspec.Raw(json.dumps(properties).encode())}
    return Event(occurred_at=now - event["age"], received_at=now, **fields)


async def check(
    history: list[Any], partitions: int, batch_records: int, slice_persons: int, *, with_oracle: bool = True
) -> None:
    deployment = Deployment(partitions=partitions, start=START)
    try:
        await live(deployment, history)
        if with_oracle:
            await assert_agrees(deployment, await deployment.records())
        kept, states = await deployment.fold_again(batch_records=batch_records, slice_persons=slice_persons)
        assert kept.changes() == deployment.messages()
        assert states == await deployment.states()
    finally:
        deployment.close()


quick = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
numbers = {"partitions": st.integers(1, 4), "batch_records": st.integers(1, 8), "slice_persons": st.integers(1, 3)}


@settings(quick, max_examples=80)
@given(history=histories(DOCUMENTS), **numbers)
def test_product_and_oracle_agree(history: list[Any], **cut: Any) -> None:
    asyncio.run(check(history, **cut))


@settings(quick, max_examples=30)
@given(history=histories(WINDOWS), **numbers)
def test_windows_that_change_do_not_show_how_commits_were_cut(history: list[Any], **cut: Any) -> None:
    """The oracle never forgets and would bring back what a shorter window had dropped; the product must not."""
    asyncio.run(check(history, **cut, with_oracle=False))
