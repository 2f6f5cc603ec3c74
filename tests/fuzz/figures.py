"""What a run found and measured, of one process or of several together."""

from __future__ import annotations

import heapq
import statistics
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

SLOWEST: Final = 10
PAGE_BYTES: Final = 4096
SAMPLES: Final = 60
"""So often memory is looked at in a run."""


class Finding(NamedTuple):
    """Something wrong, and the number of the case that shows it."""

    number: int
    done: str
    problem: str


class Slow(NamedTuple):
    """A body that took long."""

    seconds: float
    number: int
    done: str
    size: int


@dataclass
class Figures:
    """Counts and measurements; `rss` are bytes of resident memory at even distances."""

    bodies: int = 0
    connections: int = 0
    seconds: float = 0.0
    dialects: Counter[str] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    slowest: list[Slow] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    rss: list[list[int]] = field(default_factory=list)
    read: int = 0
    """Requests of which something became durable, as an event or as a rejected one."""

    def took(self, slow: Slow) -> None:
        """Remember a body's time if it is among the longest, and one of 16 of all others."""
        if slow.number % 16 == 0:
            self.times.append(slow.seconds)
        if len(self.slowest) < SLOWEST:
            heapq.heappush(self.slowest, slow)
        elif slow > self.slowest[0]:
            heapq.heapreplace(self.slowest, slow)

    def add(self, other: Figures) -> None:
        """Take over what another process found."""
        self.bodies += other.bodies
        self.connections += other.connections
        self.seconds = max(self.seconds, other.seconds)
        self.read += other.read
        for mine, its in (
            (self.dialects, other.dialects),
            (self.done, other.done),
            (self.events, other.events),
            (self.reasons, other.reasons),
        ):
            mine.update(its)
        self.statuses.update(other.statuses)
        self.findings += other.findings
        self.slowest = heapq.nlargest(SLOWEST, [*self.slowest, *other.slowest])
        self.times += other.times
        self.rss += other.rss

    @property
    def median_seconds(self) -> float:
        """How long a body takes."""
        return statistics.median(self.times) if self.times else 0.0

    @property
    def grown_bytes(self) -> int:
        """How much more memory the last third of a run had than the second, in the process where it grew the most."""
        return max((_grown(one) for one in self.rss if len(one) >= 3), default=0)

    def as_json(self) -> dict[str, Any]:
        """Return what is printed."""
        slowest = sorted(self.slowest, reverse=True)
        median = self.median_seconds
        return {
            "bodies": self.bodies,
            "connections": self.connections,
            "seconds": round(self.seconds, 1),
            "bodies_per_second": round(self.bodies / self.seconds) if self.seconds else 0,
            "read_share": round(self.read / max(1, self.bodies), 3),
            "events": dict(self.events),
            "reasons": dict(self.reasons.most_common()),
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "dialects": dict(self.dialects),
            "mutations": dict(self.done.most_common()),
            "median_us": round(median * 1e6, 1),
            "slowest_ms": [[round(one.seconds * 1e3, 1), one.number, one.done, one.size] for one in slowest],
            "rss_mib": [[round(one / 2**20, 1) for one in (rss[len(rss) // 3], rss[-1])] for rss in self.rss if rss],
            "grown_mib": round(self.grown_bytes / 2**20, 2),
            "findings": [list(one) for one in self.findings],
        }


def _grown(rss: list[int]) -> int:
    third = len(rss) // 3
    return round(statistics.median(rss[-third:]) - statistics.median(rss[third : 2 * third]))


def resident_bytes() -> int:
    """Return this process's resident memory (proc(5), statm)."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * PAGE_BYTES
