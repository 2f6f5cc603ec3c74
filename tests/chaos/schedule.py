"""What is done to a deployment and when: made from a seed, printed, written to a file and read back."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec

POINTS = ("before load", "before commit", "after commit", "before publish", "after publish", "before trim")
"""Where a worker can be made to die or to stand still (tests/integration/faulty_worker.py)."""

MEAN_GAP_SECONDS = 2.5
CALM_EVERY = 12
CALM_SECONDS = 12.0
"""After so many faults so long a rest: else partitions are taken over again and again and hardly fold."""


class Kind(NamedTuple):
    """One kind of fault: how often it comes among the others, and how long what it does lasts (seconds)."""

    weight: int
    shortest: float = 0.0
    longest: float = 0.0
    at_point: bool = False


KINDS = {
    "kill collector": Kind(2, 0, 4),
    "kill collector process": Kind(2),
    "pause collector": Kind(2, 1, 6),
    "restart collector": Kind(1),
    "kill worker": Kind(3, 0, 8),
    "pause worker": Kind(2, 1, 9),
    "worker dies at point": Kind(5, 0, 1, at_point=True),
    "worker sleeps at point": Kind(4, 1, 9, at_point=True),
    "restart worker": Kind(2, 0, 2),
    "worker joins or leaves": Kind(2),
    "rolling restart of workers": Kind(1),
    "kill leader": Kind(3, 0, 6),
    "pause broker": Kind(2, 1, 9),
    "all brokers down": Kind(1, 1, 6),
    "all brokers down, spool full": Kind(1, 2, 6),
    "rolling restart of brokers": Kind(1),
    "kill redis": Kind(2, 0, 4),
    "pause redis": Kind(2, 0.5, 5),
    "redis loses a second": Kind(2),
    "redis fails over": Kind(2, 0.5, 1.5),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: so many seconds after the one before, to whom, and for how long."""

    after: float
    kind: str
    target: int = 0
    """Which of those that there are, modulo their number."""
    seconds: float = 0.0
    point: str = ""

    def __str__(self) -> str:
        where = f" {self.point}" if self.point else ""
        return f"+{self.after:4.1f} s  {self.kind}{where}, target {self.target}, {self.seconds:.1f} s"


def make_schedule(seed: int, count: int) -> list[Fault]:
    """Return so many faults; every kind once before any comes again, then as often as its weight says."""
    rng = random.Random(seed)
    kinds = _shuffled(rng, KINDS)
    faults: list[Fault] = []
    while len(faults) < count:
        if not kinds:
            kinds = _shuffled(rng, (name for name, kind in KINDS.items() for _ in range(kind.weight)))
        faults.append(_fault(rng, kinds.pop(), len(faults)))
    return faults


def _shuffled(rng: random.Random, names: Iterable[str]) -> list[str]:
    found = list(names)
    rng.shuffle(found)
    return found


def _fault(rng: random.Random, name: str, number: int) -> Fault:
    kind = KINDS[name]
    calm = CALM_SECONDS if number % CALM_EVERY == CALM_EVERY - 1 else 0.0
    return Fault(
        after=round(calm + min(rng.expovariate(1 / MEAN_GAP_SECONDS), 4 * MEAN_GAP_SECONDS), 2),
        kind=name,
        target=rng.randrange(6),
        seconds=round(rng.uniform(kind.shortest, kind.longest), 2),
        point=rng.choice(POINTS) if kind.at_point else "",
    )


def write_schedule(path: Path, faults: Iterable[Fault]) -> None:
    """Write faults to a file, one a line as JSON."""
    path.write_bytes(b"".join(msgspec.json.encode(asdict(fault)) + b"\n" for fault in faults))


def read_schedule(path: Path) -> Iterator[Fault]:
    """Yield the faults in a file."""
    for line in path.read_bytes().splitlines():
        yield msgspec.json.decode(line, type=Fault)
