"""Clocks that jump or run ahead, an outage of three days, a silent week: who leaves a stage, and when, stays the same.

Each test lives the same lives twice, once with every clock right and once with a fault, and holds the faulty one
against the oracle besides.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from collector.decode.decoded import RequestFacts
from collector.decode.native import decode_native
from collector.settings import Limits
from collector.wire.block import BlockBuilder
from collector.wire.record import HOUR_MS, Draft
from processors.adapters.sqlite.store import SqliteStore
from processors.engine.metrics import WorkerMetrics
from processors.engine.ports import Commit
from processors.engine.worker import PartitionWorker, WorkerOptions
from tests.agreement import assert_agrees
from tests.harness import Deployment
from tests.unit.engine.partition import SHIPPED, PartitionLog, acquire, contents, fold
from tests.unit.engine.partition import START as PARTITION_START

DAY: Final = 24 * HOUR_MS
MINUTE: Final = 60_000
START: Final = 496_000 * HOUR_MS
PARTITIONS: Final = 2
DAYS: Final = 52
"""Long enough for the last one to be forgotten."""
LOOKED_AFTER_MS: Final = 20_000
"""How long after a whole hour the workers look for what is due."""

CALM_MS: Final = 30_000
"""As production workers have it."""

Clock = Callable[[int], int]
"""What a machine takes for the time, by the true one (both UTC ms)."""


def right(now: int) -> int:
    return now


def off_by(ms: int, first: int = 0, last: int = DAYS * DAY) -> Clock:
    """Return a clock that is off between two instants after the start."""
    return lambda now: now + ms if START + first <= now < START + last else now


def in_year(year: int, first: int, last: int) -> Clock:
    """Return a clock that is in another year between two instants after the start."""
    begins = int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * 1000
    return lambda now: begins + now - START - first if START + first <= now < START + last else now


class Story(NamedTuple):
    """What one kind of person does: (hours after its begin, fields of the event)."""

    does: tuple[tuple[float, dict[str, Any]], ...]


SUBMIT: Final = {"type": "submit", "page": {"path": "/orders/new"}}
INVEST: Final = {"type": "click", "element": {"text": "Invest"}}
DECIDES: Final = tuple((0.01 * n, SUBMIT) for n in range(3))


def money(kind: str, order: str, *, trusted: bool = True, **said: Any) -> dict[str, Any]:
    return {"type": kind, "trusted": trusted, "properties": {"order_id": order} | said}


STORIES: Final = {
    "decides": Story(DECIDES),
    "comes back": Story((*DECIDES, (200, INVEST), (331.5, SUBMIT), (345, SUBMIT))),
    "says it bought": Story((*DECIDES, (5, money("purchase", "o", trusted=False)))),
    "rolls over": Story(((0, money("purchase", "o", matures_in=9 * DAY)), (260, SUBMIT))),
    "redeems": Story((*DECIDES, (2, money("purchase", "o")), (120, money("redeem", "o")), *((150, SUBMIT),) * 3)),
}


def lives(each: int = 3) -> list[dict[str, Any]]:
    """Return the events of some persons of each kind, some hours apart, in the order they happen at `arrives`."""
    events = []
    for number in range(each * len(STORIES)):
        name = sorted(STORIES)[number % len(STORIES)]
        begin = START + int((1.3 + 7.7 * number) * HOUR_MS)
        for place, (hours, does) in enumerate(STORIES[name].does):
            at = begin + int(hours * HOUR_MS)
            event: dict[str, Any] = {
                "user_id": f"{name} {number}",
                "id": f"{number}-{place}",
                "arrives": at,
                "trusted": False,
            } | does
            if "matures_in" in (said := event.get("properties", {})):
                event["properties"] = {"order_id": "o", "matures_at": at + said["matures_in"]}
            events.append(event)
    return sorted(events, key=lambda event: event["arrives"])


class World:
    """A deployment whose collector, broker and worker have clocks of their own."""

    def __init__(self, collector: Clock = right, broker: Clock = right, worker: Clock = right) -> None:
        self.now = START
        """The true time."""
        self._collector, self._broker, self._worker = collector, broker, worker
        self.deployment = Deployment(partitions=PARTITIONS, start=START)

    async def start(self) -> None:
        deployment, metrics = self.deployment, WorkerMetrics(CollectorRegistry())
        await deployment.store.bind(deployment.log.log_id, PARTITIONS)
        deployment.workers = [
            PartitionWorker(
                partition,
                log=deployment.log,
                store=deployment.store,
                publisher=deployment.log,
                clock=lambda: self._worker(self.now),
                metrics=metrics,
                options=WorkerOptions("test", tick_calm_ms=CALM_MS),
            )
            for partition in range(PARTITIONS)
        ]
        for worker in deployment.workers:
            await worker.acquire()
        await deployment.publish(SHIPPED)

    def block(self, event: dict[str, Any]) -> list[tuple[int, Draft]]:
        """Return the block that the collector makes of an event it receives now."""
        clock = self._collector(self.now)
        raw = msgspec.json.encode({name: value for name, value in event.items() if name not in ("arrives", "trusted")})
        facts = RequestFacts("ledger" if event["trusted"] else "web", event["trusted"], clock)
        decoded = decode_native([raw], facts, sent_at=self.now, limits=Limits())
        assert not decoded.rejections, decoded.rejections
        builder = BlockBuilder(PARTITIONS, max_bytes=1 << 16)
        builder.add(decoded.events[0][1], clock)
        return builder.take()

    async def append(self, blocks: Sequence[tuple[int, Draft]]) -> None:
        self.deployment.now = self._broker(self.now)
        await self.deployment.log.append(blocks)
        await self.deployment.settle()

    async def look(self) -> None:
        """Let the workers look for what is due, as they do all the time."""
        self.deployment.now = self._broker(self.now)
        for worker in self.deployment.workers:
            await worker.tick()
        await self.deployment.settle()

    async def pass_until(self, then: int) -> None:
        """Let time pass; the workers look about each whole hour at which anything may be due."""
        listed = [await self.deployment.store.first_due(partition) for partition in range(PARTITIONS)]
        first = min((hour for hour in listed if hour is not None), default=then // HOUR_MS) - 1
        self.now = max(self.now, min(then, first * HOUR_MS))
        while (hour := -(-self.now // HOUR_MS) * HOUR_MS) + LOOKED_AFTER_MS < then:
            for self.now in (hour - 30_000, hour - 15_000, hour, hour + LOOKED_AFTER_MS):
                await self.look()
        self.now = then

    async def live(self, events: Sequence[dict[str, Any]]) -> None:
        """Live through events as they arrive, and to the end."""
        for event in events:
            await self.pass_until(event["arrives"])
            await self.append(self.block(event))
        await self.pass_until(START + DAYS * DAY)


class Told(NamedTuple):
    """What a subscriber is told in a change, without its place in the log."""

    version: int
    old: str
    new: str | None
    confirmed: bool
    cause: str
    at: int


def told(world: World) -> dict[str, list[Told]]:
    return {
        person: [
            Told(one["version"], one["from"], one["to"], one["confirmed"], one["cause"]["kind"], _ms(one["at"]))
            for one in changes
        ]
        for person, changes in world.deployment.changes().items()
    }


def _ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def stages(changes: dict[str, list[Told]]) -> dict[str, list[tuple[str | None, bool]]]:
    return {person: [(one.new, one.confirmed) for one in found] for person, found in changes.items()}


@asynccontextmanager
async def world(collector: Clock = right, broker: Clock = right, worker: Clock = right) -> AsyncIterator[World]:
    found = World(collector, broker, worker)
    try:
        await found.start()
        yield found
    finally:
        found.deployment.close()


async def lived(collector: Clock = right, broker: Clock = right, worker: Clock = right) -> dict[str, list[Told]]:
    """Return what was told of the lives under these clocks, which is what the oracle says."""
    async with world(collector, broker, worker) as found:
        await found.live(lives())
        await assert_agrees(found.deployment, await found.deployment.records())
        return told(found)


@pytest.fixture(scope="module")
def expected() -> dict[str, list[Told]]:
    """What is told of the lives where every clock is right."""
    return asyncio.run(lived())


def test_the_lives_meet_every_kind_of_timer(expected: dict[str, list[Told]]) -> None:
    """Else that they are undisturbed would say nothing."""
    timers = {(one.old, one.new) for changes in expected.values() for one in changes if one.cause == "timer"}
    assert timers >= {
        ("decision", "prospect"),
        ("decision", "post_redemption"),
        ("holding", "decision"),
        ("holding", "post_redemption"),
        ("post_redemption", "holding"),
        ("post_redemption", "dormant"),
        ("prospect", "dormant"),
        ("dormant", None),
    }


HOUR_OFF: Final = {
    "back": off_by(-HOUR_MS, DAY, 20 * DAY),
    "ahead": off_by(HOUR_MS, DAY, 20 * DAY),
    "always behind": off_by(-HOUR_MS),
    "always ahead": off_by(HOUR_MS),
}
MOST_MS: Final = {"collector": HOUR_MS, "broker": HOUR_MS, "worker": 0}
"""How early or late a timer may be: what an event's hour is goes by the collector's clock and the broker's."""


@pytest.mark.parametrize("machine", MOST_MS)
@pytest.mark.parametrize(
    "clock",
    [
        pytest.param("back", marks=pytest.mark.long),
        pytest.param("ahead", marks=pytest.mark.long),
        "always behind",
        "always ahead",
    ],
)
async def test_an_hour_off(expected: dict[str, list[Told]], machine: str, clock: str) -> None:
    """Everybody goes through the same stages, once, and leaves within the error of the clock."""
    found = await lived(**{machine: HOUR_OFF[clock]})
    assert stages(found) == stages(expected)
    for person, changes in expected.items():
        for one, other in zip(changes, found[person], strict=True):
            assert abs(one.at - other.at) <= MOST_MS[machine], (person, one, other)


@pytest.mark.parametrize("machine", ["broker", "worker", "collector"])
async def test_in_2030(expected: dict[str, list[Told]], machine: str) -> None:
    """Nothing at all changes: record time is the collector's clock, and a tick's is no later than its append."""
    assert await lived(**{machine: in_year(2030, 2 * DAY, 4 * DAY)}) == expected


@pytest.mark.parametrize(("machine", "year"), [("broker", 2020), ("collector", 2020)])
async def test_years_off(expected: dict[str, list[Told]], machine: str, year: int) -> None:
    """Nobody leaves for that or enters who would not; but who was seen then may miss a stage (docs/time.md)."""
    found = stages(await lived(**{machine: in_year(year, 2 * DAY, 4 * DAY)}))
    for person, changes in found.items():
        rest = iter(stages(expected).get(person, ()))
        assert all(one in rest for one in changes), (person, changes)


class Outage:
    """Kafka is away for three days; the collector keeps what comes, and then sends it in order.

    Args:
        world: what it happens in; its workers are the first to find out that Kafka is back.
        noticed: whether the workers wanted to write meanwhile, and so take their partitions over afterwards.
    """

    BEGINS, ENDS = START + 13 * DAY, START + 16 * DAY
    PACE_MS: Final = 4_000
    """Between two blocks, which is far slower than any drain: the worst case for what ticks in between."""

    def __init__(self, world: World, *, noticed: bool) -> None:
        self._world, self._noticed = world, noticed

    async def live(self, events: Sequence[dict[str, Any]], *, fresh: Sequence[dict[str, Any]] = ()) -> None:
        """Live through events, and through those that another collector process has, which has nothing to drain."""
        world = self._world
        before = [event for event in events if event["arrives"] < self.BEGINS]
        kept: deque[list[tuple[int, Draft]]] = deque()
        for event in before:
            await world.pass_until(event["arrives"])
            await world.append(world.block(event))
        await world.pass_until(self.BEGINS)
        for event in events[len(before) :]:
            if event["arrives"] < self.ENDS:
                world.now = event["arrives"]
                kept.append(world.block(event))
        world.now = self.ENDS
        if self._noticed:
            for worker in world.deployment.workers:
                await worker.acquire()
        await world.look()
        for event in fresh:
            await world.append(world.block(event | {"arrives": world.now}))
        await self._drain(kept)
        for event in events:
            if event["arrives"] >= self.ENDS:
                assert event["arrives"] > world.now, "the drain has to be over"
                await world.pass_until(event["arrives"])
                await world.append(world.block(event))
        await world.pass_until(START + DAYS * DAY)

    async def _drain(self, kept: deque[list[tuple[int, Draft]]]) -> None:
        """Begin as late as a collector may find out that Kafka is back."""
        assert len(kept) > 3
        for second in range(1, 6):
            self._world.now = self.ENDS + second * 1000
            await self._world.look()
        while kept:
            await self._world.append(kept.popleft())
            for _ in range(self.PACE_MS // 1000):
                self._world.now += 1000
                await self._world.look()


@pytest.mark.parametrize("noticed", [True, False])
async def test_a_spool_is_drained_after_three_days(expected: dict[str, list[Told]], *, noticed: bool) -> None:
    """Everything is told as if nothing had been: what was kept comes before the timers of the three days."""
    async with world() as found:
        await Outage(found, noticed=noticed).live(lives())
        await assert_agrees(found.deployment, await found.deployment.records())
        assert told(found) == expected


async def test_another_collector_has_nothing_to_drain(expected: dict[str, list[Told]]) -> None:
    """Its fresh blocks let the three days pass before what was kept: by R2 that may lead back into a stage just left.

    In the end everybody stands where it would; who was led back was told so, once.
    """
    passers_by = [
        {"user_id": f"passer-by {n}", "id": f"p{n}", "trusted": False, "type": "custom", "name": "hello"}
        for n in range(8)
    ]
    async with world() as found:
        await Outage(found, noticed=True).live(lives(), fresh=passers_by)
        await assert_agrees(found.deployment, await found.deployment.records())
        changes = told(found)
        assert {person: one[-1].new for person, one in changes.items()} == {
            person: one[-1].new for person, one in expected.items()
        }
        assert max(len(changes[person]) - len(expected[person]) for person in expected) <= 2


async def test_a_silent_week_ends_in_slices_and_a_death_after_each() -> None:
    """Five hundred leave in the record that ends it; a worker that dies between two commits leaves no trace."""
    log = PartitionLog()
    for number in range(500):
        log.block(
            number // 125 * HOUR_MS, *(log.make(number // 125 * HOUR_MS, "submit", user=f"{number}") for _ in range(3))
        )
    log.event(21 * DAY, "view", user="the first to come")
    whole, store = await fold(log.records), DyingStore()
    assert len([one for one in whole.changes() if one["to"] == "prospect"]) == 500
    deaths = 0
    try:
        while True:
            unit = await acquire(store, 50)
            try:
                await unit.take(log.records[unit.position.offset :])
            except DeadError:
                deaths += 1
            else:
                break
        found = await contents(store)
    finally:
        store.close()
    assert deaths > 20
    assert (found.outputs, found.people, found.due) == (whole.outputs, whole.people, whole.due)


class DeadError(Exception):
    """The process is gone."""


class DyingStore(SqliteStore):
    """A store whose owner dies after each commit, until one has nothing left to do."""

    def __init__(self) -> None:
        super().__init__(":memory:")

    async def commit(self, commit: Commit) -> int:
        await super().commit(commit)
        raise DeadError


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York"])
async def test_summer_time_ends(zone: str) -> None:
    """Everything due is due on a whole hour of UTC, whatever the hours are called in the shop's zone."""
    ends = int(datetime(2026, 10, 24, tzinfo=UTC).timestamp()) * 1000 - PARTITION_START
    log, other = PartitionLog(SHIPPED), PartitionLog(SHIPPED.replace("Asia/Shanghai", zone))
    for one in (log, other):
        for hour in range(0, 14 * 24, 5):
            one.decide(ends - 13 * DAY + hour * HOUR_MS, user=f"{hour}")
        one.tick(ends + 60 * DAY)
    found, expected = [(await fold(one.records)).changes() for one in (other, log)]
    assert len(found) > 3 * 14 * 24 // 5
    assert found == expected
