"""Everything that is kept about one person, and what is kept about a linked anonymous id."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from processors.domain.money import NEVER, Ledger, Money

FAR_FUTURE: Final = NEVER
CHANGES_KEPT: Final = 20
"""Last changes of a person that its state shows (architecture, section 5)."""


@dataclass(slots=True)
class Device:
    """One anonymous id of a person: numbers seen (R7), and when its pair was last claimed (R8; 0 never)."""

    anonymous_id: str
    claimed: int = 0
    high: int = -1
    gaps: list[int] = field(default_factory=list)

    def seen(self, seq: int) -> bool:
        """Return whether number `seq` was folded before."""
        return seq <= self.high and seq not in self.gaps

    def number(self, seq: int, most_gaps: int) -> int:
        """Note that number `seq` is folded; beyond `most_gaps` gaps the oldest counts as filled.

        Returns:
            How many more numbers are missing than before. Those below the device's first one are not counted, neither
            when they are found missing nor when they come: most of them are in another person's state.
        """
        if seq > self.high:
            known, missing = self.high >= 0, min(seq - self.high - 1, most_gaps)
            if missing:
                self.gaps.extend(range(seq - missing, seq))
                del self.gaps[:-most_gaps]
            self.high = seq
            return missing if known else 0
        at = self.gaps.index(seq)
        before_first = seq - self.gaps[0] == at and (self.gaps[0] == 0 or len(self.gaps) > most_gaps // 2)
        del self.gaps[at]
        return 0 if before_first else -1

    def unite(self, other: Device, most_gaps: int) -> None:
        """Add the numbers that the same device has used elsewhere: seen is what either side has seen."""
        high = max(self.high, other.high)
        candidates = sorted({*self.gaps, *other.gaps, *range(min(self.high, other.high) + 1, high + 1)})
        self.gaps = [n for n in candidates if not self.seen(n) and not other.seen(n)][-most_gaps:]
        self.high = high


class Told(NamedTuple):
    """One published change, as the person's state keeps it: version, time, stages, confirmed."""

    version: int
    at: int
    old: str
    new: str
    confirmed: bool


@dataclass(slots=True, eq=False)
class Person:
    """One life of one person; counts are per hour since the epoch and behaviour number (matching.Names)."""

    key: str
    life_offset: int
    life_index: int
    version: int = 0
    last_record: int = 0
    """Latest record time of a record about it (R6)."""
    activity: int = 0
    """Latest `occurred_at` (R5)."""
    stage: str = "prospect"
    ever: bool = False
    """Was ever in another stage than prospect."""
    published: str = "prospect"
    published_confirmed: bool = True
    buckets: dict[int, int] = field(default_factory=dict)
    """Counts by `window.place` of hour and behaviour number, the oldest hour first."""
    dwell: dict[int, int] = field(default_factory=dict)
    """Milliseconds by `window.place` of hour and category number, the oldest hour first."""
    remembered: bytearray = field(default_factory=bytearray)
    """Rows of the last events, the latest last (remembered.py)."""
    devices: dict[str, Device] = field(default_factory=dict)
    """The latest last."""
    sessions: dict[int, int] = field(default_factory=dict)
    """Remembered sessions, by `session_number` of their ids, and the day each visit was counted on."""
    visit_days: dict[int, int] = field(default_factory=dict)
    last_visit: int = 0
    last_loose: int | None = None
    """Time of the last interaction without a session id."""
    place: str | None = None
    first_touch: tuple[int, str | None] | None = None
    milestones: dict[int, int] = field(default_factory=dict)
    ledger: Ledger | None = None
    ever_confirmed: bool = False
    changes: list[Told] = field(default_factory=list)
    listed: int = 0
    """The hour the store lists it at, 0 for none."""

    # Derived from the above at hour `scored`; never stored.
    scored: int = 0
    score: int = 0
    decision_score: int = 0
    cut_hour: int = -1
    money: Money | None = None
    compared: Money | None = None
    device: Device | None = None
    session: str | None = None
    settled: int = 0
    """The hour at which the stage was last seen to follow from what is here."""


@dataclass(slots=True)
class Link:
    """An anonymous id that belongs to a user (R8); its key is `l:` + anonymous id."""

    key: str
    user_id: str
    shared: bool
    """Another user claimed it since: what it does alone is a fresh anonymous person's."""
    last_record: int
    listed: int = 0


def link_key(anonymous_id: str) -> str:
    """Return the key of the link of an anonymous id."""
    return f"l:{anonymous_id}"
