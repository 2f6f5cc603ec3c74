"""What the counting of cases reads from a log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from collector.wire.block import decode_events
from collector.wire.event import Event
from collector.wire.record import HOUR_MS, Kind, Record

DAY: Final = 24 * HOUR_MS

Changes = Mapping[str, Sequence[Mapping[str, Any]]]
"""Per person key the change messages (contract), oldest first."""


def events_of(log: Sequence[Record], kind: Kind = Kind.EVENTS) -> Iterator[tuple[Record, Event]]:
    for record in log:
        if record.draft.kind is kind:
            for event in decode_events(record.draft.value):
                yield record, event


def ceil_hour(instant: int) -> int:
    return -(-instant // HOUR_MS) * HOUR_MS
