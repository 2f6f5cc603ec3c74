"""What a person remembers of its last events (R7): one row of bytes each, so that a state is read and written whole.

As objects they were most of what reading and writing a state cost: with rows, folding one event a person took 29 µs of
the worker's CPU instead of 52 (bench/worker.py, sparse).
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Final, NamedTuple

_HEAD: Final = Struct("<QQIIH")
_TAIL: Final = Struct("<4H")
ROW_BYTES: Final = _HEAD.size + _TAIL.size
NONE: Final = 0xFFFF
"""No behaviour; they are numbered below 4,096 (matching.NUMBERS)."""


class Row(NamedTuple):
    """What is remembered of a folded event; one that counted as more than four behaviours has more rows than one."""

    number: int
    """`remembered_as` of the event."""
    tau: int
    """Stream time of the fold (UTC ms)."""
    hour: int
    """The hour it counts in."""
    behaviours: tuple[int, ...]
    category: int
    dwell_ms: int


_tails: dict[tuple[int, ...], bytes] = {}
"""The rows' ends by their behaviours; bounded by the combinations that definitions make."""


def find(remembered: bytearray, number: int) -> int:
    """Return where the first row of an event begins, -1 where it is not remembered."""
    wanted = number.to_bytes(8, "little")
    at = remembered.find(wanted)
    while at > 0 and at % ROW_BYTES:
        at = remembered.find(wanted, at + 1)
    return at


def tau_at(remembered: bytearray, at: int) -> int:
    """Return the stream time in the row that begins at `at`."""
    return int.from_bytes(remembered[at + 8 : at + 16], "little")


def remember(  # noqa: PLR0917 - the hot path: named arguments cost 0.1 µs an event
    remembered: bytearray, number: int, tau: int, hour: int, behaviours: tuple[int, ...], category: int, dwell_ms: int
) -> None:
    """Append the row or rows of an event."""
    tail = _tails.get(behaviours)
    if tail is None:
        padded = (*behaviours[:4], NONE, NONE, NONE, NONE)
        tail = _tails[behaviours] = _TAIL.pack(*padded[:4])
    remembered += _HEAD.pack(number, tau, hour, dwell_ms, category) + tail
    if len(behaviours) > 4:  # noqa: PLR2004 - as many as a row has room for
        remember(remembered, number, tau, hour, behaviours[4:], 0, 0)


def forget(remembered: bytearray, number: int) -> None:
    """Take out every row of an event."""
    while (at := find(remembered, number)) >= 0:
        del remembered[at : at + ROW_BYTES]


def forget_before(remembered: bytearray, oldest: int) -> None:
    """Take out the rows of before `oldest` (UTC ms); they stand first."""
    upto = 0
    while upto < len(remembered) and tau_at(remembered, upto) < oldest:
        upto += ROW_BYTES
    del remembered[:upto]


def keep_latest(remembered: bytearray, most: int) -> None:
    """Take out the oldest rows beyond `most`."""
    if len(remembered) > most * ROW_BYTES:
        del remembered[: len(remembered) - most * ROW_BYTES]


def rows(remembered: bytes | bytearray) -> Iterator[Row]:
    """Yield what is remembered, the oldest first."""
    for at in range(0, len(remembered), ROW_BYTES):
        number, tau, hour, dwell_ms, category = _HEAD.unpack_from(remembered, at)
        behaviours = _TAIL.unpack_from(remembered, at + _HEAD.size)
        yield Row(number, tau, hour, tuple(one for one in behaviours if one != NONE), category, dwell_ms)


def of_rows(some: list[Row]) -> bytearray:
    """Return rows as a state holds them."""
    found = bytearray()
    for row in some:
        remember(found, *row)
    return found
