"""A month of a simulated fund shop, from a seed: native events as the collector would receive them.

`python -m bench.simulator --people 2000 --days 30 --seed 1 > history.ndjson` writes a file for `phasewatch import`.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Final

import orjson

from bench import stories_identity, stories_money
from bench.stories_everyday import everyday
from bench.visitors import DAY, HOUR, MINUTE, SECOND, SHANGHAI, Event, Visitor

STORIES: Final[tuple[Callable[[Visitor], None], ...]] = (
    *stories_money.STORIES,
    *stories_identity.STORIES,
    everyday,
    everyday,
    everyday,
)
"""Person i lives story i modulo their number: each of 2,000 people's stories happens at least 55 times."""

TAIL_DAYS: Final = 50
"""Silent days after the busy ones: dormancy (30), waiting redemptions (30) and forgetting (45) fall into them."""

SPREAD_DAYS: Final = 10
"""A story begins on one of the first so many days."""

DEFAULT_START: Final = 1_793_462_400_000  # 2026-11-01T00:00+08:00


def simulate(seed: int, people: int, start_ms: int, days: int, tail_days: int = TAIL_DAYS) -> Iterator[Event]:
    """Yield the native events of so many people, in the order in which they arrive.

    Each has `ts` and `arrives` (UTC milliseconds) and `trusted`. The same arguments give the same events everywhere.

    Args:
        seed: of everything random.
        people: how many; most use several devices, and some share one with a second user.
        start_ms: nothing that people do happens before it; the ledger's old books go back 600 days further.
        days: of ordinary life from the first local midnight on.
        tail_days: of near-silence after them, in which only a few come back.
    """
    midnight = -(-(start_ms + SHANGHAI) // DAY) * DAY - SHANGHAI
    end = midnight + (days + tail_days) * DAY
    lives: list[Event] = []
    for number in range(people):
        lives.extend(_life(seed, number, midnight, days))
    yield from sorted((event for event in lives if event["arrives"] < end), key=itemgetter("arrives", "id"))


def _life(seed: int, number: int, midnight: int, days: int) -> list[Event]:
    visitor = Visitor(seed, number, midnight, days)
    visitor.first_day = visitor.rng.randrange(SPREAD_DAYS)
    STORIES[number % len(STORIES)](visitor)
    repeat(visitor.rng, visitor.events)
    return visitor.events


def repeat(rng: random.Random, events: list[Event]) -> None:
    """Send one in 70 events again, as clients do that lost the answer: soon, hours later, or days later if numbered."""
    for event in events.copy():
        if rng.random() > 0.015:
            continue
        kind = rng.random()
        if kind < 0.6:
            later = rng.randrange(SECOND, 5 * MINUTE)
        elif kind < 0.85 or "seq" not in event:
            later = rng.randrange(HOUR, 20 * HOUR)
        else:
            later = rng.randrange(DAY, 6 * DAY)
        events.append({**event, "arrives": event["arrives"] + later})


def history_lines(events: Iterator[Event], *, arrivals: bool) -> Iterator[bytes]:
    """Yield NDJSON lines: in the order of `ts` and without `arrives` for an import, or as they arrive, with it."""
    if arrivals:
        yield from (orjson.dumps(event) + b"\n" for event in events)
        return
    for event in sorted(events, key=itemgetter("ts")):
        del event["arrives"]
        yield orjson.dumps(event) + b"\n"


def main() -> None:
    """Write a simulated history to standard output."""
    parser = argparse.ArgumentParser(prog="python -m bench.simulator", description=main.__doc__)
    parser.add_argument("--people", type=int, default=2_000)
    parser.add_argument("--days", type=int, default=30, help="of ordinary life")
    parser.add_argument("--tail-days", type=int, default=TAIL_DAYS, help="of near-silence after them")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start-ms", type=int, default=DEFAULT_START, help="UTC milliseconds")
    parser.add_argument("--arrivals", action="store_true", help="in order of arrival, with `arrives` in each line")
    options = parser.parse_args()
    events = simulate(options.seed, options.people, options.start_ms, options.days, options.tail_days)
    sys.stdout.buffer.writelines(history_lines(events, arrivals=options.arrivals))


if __name__ == "__main__":
    main()
