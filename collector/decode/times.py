"""Reads the times clients send and places events on the collector's clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Final

import msgspec

from collector.decode.decoded import Reason, RejectedEventError

EARLIEST_MS: Final = 946_684_800_000
"""2000-01-01: what is older is a clock that was never set, or seconds taken for milliseconds."""
LATEST_MS: Final = 7_258_118_400_000
"""2200-01-01: no bond runs longer."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_QUOTED_CHARS: Final = 40


def read_time(value: object, place: str) -> int | None:
    """Return UTC milliseconds of an RFC 3339 text or epoch milliseconds (number or its text); None for None.

    Raises:
        RejectedEventError: `bad_time`, naming `place`, if it is neither, or outside of 2000 to 2200.
    """
    if value is None:
        return None
    found = value if type(value) is int else _milliseconds(value)
    if found is None:
        problem = f"is {quoted(value)}; expected RFC 3339 with an offset, or epoch milliseconds"
        raise RejectedEventError(Reason.BAD_TIME, place, problem)
    if not EARLIEST_MS <= found < LATEST_MS:
        problem = f"is {quoted(value)}, which is not between 2000 and 2200 as RFC 3339 or epoch milliseconds"
        raise RejectedEventError(Reason.BAD_TIME, place, problem)
    return found


def first_time(*values: object) -> int | None:
    """Return UTC milliseconds of the first that can be read, None if none can.

    So are times of sending read: without one there is no correction, which is no reason to reject anything.
    """
    for value in values:
        if value:
            try:
                return read_time(value.decode("latin-1") if isinstance(value, bytes) else value, "")
            except RejectedEventError:
                continue
    return None


def _milliseconds(value: object) -> int | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return int(value) if isfinite(value) else None
    if not isinstance(value, str):
        return None
    try:
        if "-" not in value and value.isascii() and value.replace(".", "", 1).isdigit():
            return int(float(value))
        return _rfc3339(value)
    except (msgspec.ValidationError, OverflowError):
        return None


def _rfc3339(text: str) -> int | None:
    instant = msgspec.convert(text, datetime)
    return None if instant.tzinfo is None else (instant - _EPOCH) // _MILLISECOND


def occurred_at(ts: int | None, sent_at: int | None, received_at: int) -> int:
    """Return when an event happened by the collector's clock, never later than it was received.

    The client's clock is off by (received_at - sent_at), network time aside, so its `ts` is moved by that.

    Raises:
        RejectedEventError: `bad_time`, naming `place`, if that lands before 2000.
    """
    if ts is None:
        return received_at
    corrected = ts if sent_at is None else ts + received_at - sent_at
    if corrected < EARLIEST_MS:
        problem = f"is {ts}, which sent_at {sent_at} puts before 2000"
        raise RejectedEventError(Reason.BAD_TIME, ".ts", problem)
    return min(corrected, received_at)


def quoted(value: object) -> str:
    """Return a value as short JSON for an error's detail."""
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= _QUOTED_CHARS else f"{text[:_QUOTED_CHARS]}..."
