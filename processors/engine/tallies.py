"""What became of every event of a partition's log, by source (docs/adr/0011-what-is-tallied.md).

Committed with the state, so that a crash neither loses nor repeats a count.
"""

from __future__ import annotations

from typing import Final

import msgspec

SOURCES_MOST: Final = 250
"""Sources are names of write keys, a handful; each takes some 60 bytes of every commit."""
OTHER: Final = "(other)"
"""Stands for the sources beyond the bound; no write key can have this name."""
NONE: Final = "(none)"
"""Stands for events that name no source."""
MARKS_KEPT: Final = 4
"""Days at whose beginning the counts are remembered, so that the last days of a long log can be counted again."""

FATES: Final = ("read", "sent_here", "folded", "repeated", "sent_on", "unnumbered")
"""What is counted of every event and shown as a metric; names of `Tally`'s fields."""


class Tally(msgspec.Struct, array_like=True, gc=False):
    """The counts of one source in one partition."""

    read: int = 0
    """Events in blocks that a collector, or an import, has written here."""
    sent_here: int = 0
    """Events that the fold of an anonymous id has sent to a user here (R8); a block sent twice counts once."""
    folded: int = 0
    repeated: int = 0
    """Dropped as repeats (R7)."""
    sent_on: int = 0
    """Sent to the user that an anonymous id belongs to; what becomes of them is counted where they arrive."""
    unnumbered: int = 0
    """Folded ones without a number (R7), of which nobody can say whether one before is missing."""
    undelivered: int = 0
    """Numbers of known devices left out so far, less those that came late (`Device.number`)."""

    @property
    def unaccounted(self) -> int:
        """Return how many events came and ended nowhere; anything but 0 is a bug."""
        return self.read + self.sent_here - self.folded - self.repeated - self.sent_on


class Mark(msgspec.Struct, array_like=True, gc=False):
    """The counts before the first record of a day of stream time."""

    day: int
    """Days since the epoch, UTC."""
    offset: int
    records_set_aside: int
    events_set_aside: int
    read: list[int]
    """By source, in their order; the ones that are missing had 0."""


class Tallies(msgspec.Struct, array_like=True):
    """The counts of one partition, of records from offset `begin` on."""

    begin: int = 0
    sources: dict[str, Tally] = {}
    """In the order in which they were first seen."""
    records_set_aside: int = 0
    events_set_aside: int = 0
    """Events in them, as their headers say; their source can't be read."""
    marks: list[Mark] = []
    """The latest last."""

    def name_of(self, source: str) -> str:
        """Return the name under which events of a source are counted."""
        name = source or NONE
        return name if name in self.sources or len(self.sources) < SOURCES_MOST else OTHER

    def of(self, source: str) -> Tally:
        """Return the counts of a source, to be added to."""
        name = self.name_of(source)
        found = self.sources.get(name)
        if found is None:
            found = self.sources[name] = Tally()
        return found

    def mark(self, day: int, offset: int) -> None:
        """Remember the counts where a day begins; the record at `offset` is its first."""
        read = [tally.read for tally in self.sources.values()]
        self.marks.append(Mark(day, offset, self.records_set_aside, self.events_set_aside, read))
        del self.marks[:-MARKS_KEPT]

    def set_aside(self, events: int, value: bytes) -> None:
        """Count a record that can't be read, and the events that its headers say are in it."""
        self.records_set_aside += 1
        self.events_set_aside += events_in(events, value)


def events_in(said: int, value: bytes) -> int:
    """Return how many events a value may hold that can't be read: as many as is said of it, and as its bytes could be.

    Whoever wrote it is not known, and a state has to hold the sum.
    """
    return max(0, min(said, len(value)))
