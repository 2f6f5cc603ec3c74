"""CPU of the fold alone: typed decode, duplicates, matching, window, stage, per event (target: 3.5 µs at any size).

Persons are in memory; what the store and the codec cost is measured with the whole worker.
"""

from __future__ import annotations

import gc
import random
import statistics
import time
from importlib.resources import files

from collector.wire.block import encode_event
from collector.wire.event import Element, Event, Page
from collector.wire.record import HOUR_MS, Draft, Kind, Record
from processors.engine.fold import PartitionFold
from processors.engine.records import read_block
from processors.engine.state import PartitionState

START_MS = 490_000 * HOUR_MS
CATEGORIES = ("bond", "index", "mixed", "money-market", "stock")
EVENTS_A_BLOCK = 250
VISITS_A_DAY = 1
ACTIVE_SHARE = 100
"""One in so many people is on the site at any time."""
EVENTS_A_VISIT = 12
ROUNDS = 5


def _event(rng: random.Random, person: int, seq: int, at: int) -> Event:
    """Return one step of a visit, in the demo shop's mix: seven pages and dwells to two clicks and a submit."""
    category = CATEGORIES[person % 5]
    path = rng.choice((f"/products/{category}", f"/products/{category}/p{rng.randrange(8)}", "/", "/account/holdings"))
    page = Page(url=f"https://shop.example{path}", path=path, title="Funds", referrer="https://shop.example/")
    event = Event(
        id=f"{rng.getrandbits(128):032x}",
        type=rng.choices(("page", "dwell", "click", "submit"), (4, 3, 2, 1))[0],
        occurred_at=at,
        received_at=at + 300,
        ts=at,
        anonymous_id=f"{person:032x}",
        session_id=f"s{person}-{at // (24 * HOUR_MS)}",
        source="web",
        seq=seq,
        page=page,
    )
    if event.type == "dwell":
        event.properties = type(event.properties)(b'{"ms":12000}')
    if event.type == "click":
        href = f"https://shop.example/products/{category}/p{rng.randrange(8)}"
        event.element = Element(tag="a", text="Details", selector="main>div:nth-child(2)>a", href=href, index=1)
    return event


class Traffic:
    """Blocks of a partition's log: people come in visits, or, at `scattered`, every event is somebody else's."""

    def __init__(self, people: int, *, scattered: bool) -> None:
        self._rng = random.Random(people)
        self._people = people
        self._scattered = scattered
        self._seqs = [0] * people
        self._visitors = [self._rng.randrange(people) for _ in range(max(20, people // ACTIVE_SHARE))]
        self._known = 0
        self._blocks = 0
        self._block_every_ms = 86_400_000 * EVENTS_A_BLOCK // (people * EVENTS_A_VISIT * VISITS_A_DAY)

    def records(self, events: int) -> list[Record]:
        """Return blocks of as many events, following those made before."""
        made = []
        for _ in range(events // EVENTS_A_BLOCK):
            at = START_MS + self._blocks * self._block_every_ms
            lines = [encode_event(self._next(at)) for _ in range(EVENTS_A_BLOCK)]
            draft = Draft(Kind.EVENTS, at, b"\n".join(lines) + b"\n", len(lines))
            made.append(Record(0, self._blocks, at, draft))
            self._blocks += 1
        return made

    def _next(self, at: int) -> Event:
        rng = self._rng
        if self._known < self._people:  # everybody comes once before the visits begin
            self._known += 1
            return _event(rng, self._known - 1, self._number(self._known - 1), at)
        place = rng.randrange(len(self._visitors))
        if self._scattered or rng.random() < 1 / EVENTS_A_VISIT:
            self._visitors[place] = rng.randrange(self._people)
        person = self._visitors[place]
        return _event(rng, person, self._number(person), at)

    def _number(self, person: int) -> int:
        self._seqs[person] += 1
        return self._seqs[person]


def cpu_per_event(people: int, *, scattered: bool = False, events: int = 100_000) -> float:
    """Return the median CPU µs an event, decode and fold, at a number of people, everybody known before."""
    state = PartitionState(0, 1)
    document = (files("processors") / "definitions" / "fund-shop.toml").read_text(encoding="utf-8")
    state.take(1, document)
    fold = PartitionFold(state, "bench")
    traffic = Traffic(people, scattered=scattered)
    gc.set_threshold(100_000, 50, 100)
    samples = []
    for size in [people + events, *[events] * ROUNDS]:
        records = traffic.records(size)
        fold.outputs.clear()
        begun = time.process_time()
        for record in records:
            decoded = read_block(record)
            fold.fire(record.time // HOUR_MS, record)
            fold.fold(record, decoded)
        samples.append((time.process_time() - begun) / size * 1e6)
        fold.listings.clear()
        fold.touched.clear()
    return round(statistics.median(samples[1:]), 3)


def measure() -> dict[str, float]:
    """Return the figures: in visits, and scattered, where every event is another person's; a loop as the yardstick."""
    return {
        "cpu_us_per_event_2000_people": cpu_per_event(2_000),
        "cpu_us_per_event_200000_people": cpu_per_event(200_000),
        "cpu_us_per_event_2000_people_scattered": cpu_per_event(2_000, scattered=True),
        "cpu_us_per_event_200000_people_scattered": cpu_per_event(200_000, scattered=True),
        "cpu_us_yardstick_10_additions": _yardstick(),
    }


def _yardstick() -> float:
    """Return CPU µs of ten additions in a loop: how fast this machine runs Python right now."""
    samples = []
    for _ in range(ROUNDS):
        begun, total = time.process_time(), 0
        for number in range(1_000_000):
            total += number
        samples.append((time.process_time() - begun) * 10)
    return round(statistics.median(samples), 3)
