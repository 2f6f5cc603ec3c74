"""What differs between two values of one person, link, partition or transfer, field by field, for people to read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, Final, NamedTuple

import msgspec

from processors.domain import window
from processors.domain.matching import Names
from processors.domain.money import Ledger
from processors.domain.person import Link, Person
from processors.domain.remembered import ROW_BYTES, Row, rows
from processors.domain.rules import HOUR_MS
from processors.engine.changes import rfc3339
from processors.engine.codec import decode_link, decode_person, decode_transfer
from processors.engine.state import PartitionState

ABSENT: Final = "-"
"""Stands where one side has nothing."""

_DERIVED: Final = frozenset(
    {"key", "scored", "score", "decision_score", "cut_hour", "money", "compared", "device", "session", "settled"}
)
"""Fields of a person that are no part of its state."""
_INSTANTS: Final = frozenset({"last_record", "activity", "last_visit", "last_loose", "tau", "appended"})
_SHOWN_CHARS: Final = 200


class Field(NamedTuple):
    """One field with its two values, as text."""

    name: str
    live: str
    replayed: str


def compare_values(key: str, live: bytes | None, replayed: bytes | None, names: Names) -> list[Field]:
    """Return what differs between two values of a person (`u:`, `a:`) or link (`l:`); at least one field.

    Args:
        key: whose the values are.
        live: as the live store has it; None where it has none.
        replayed: as the replay made it.
        names: of the partition's behaviours and categories.
    """
    decode: Callable[[str, bytes], Any] = decode_link if key[0] == "l" else decode_person
    if live is None or replayed is None:
        return [_presence(key, live, replayed, decode)]
    try:
        one, other = decode(key, live), decode(key, replayed)
    except (msgspec.MsgspecError, ValueError, IndexError) as error:
        return [Field("value", f"{len(live)} bytes that can't be read: {error}", f"{len(replayed)} bytes")]
    return _compared(one, other, names) or [_bytes(live, replayed)]


def compare_states(live: PartitionState, replayed: PartitionState) -> list[Field]:
    """Return what differs between two states of a partition at one position.

    Every field counts: all of them follow from the log alone, also the number of outputs formed.
    """
    return _compared(live, replayed, replayed.names)


def compare_transfers(live: bytes, replayed: bytes, names: Names) -> list[Field]:
    """Return what differs between a transfer in the log and the one that the replay made."""
    try:
        (body, person), (other_body, other_person) = decode_transfer(live), decode_transfer(replayed)
    except (msgspec.MsgspecError, ValueError, IndexError) as error:
        return [Field("value", f"{len(live)} bytes that can't be read: {error}", f"{len(replayed)} bytes")]
    found = [
        Field(name, _short(getattr(body, name)), _short(getattr(other_body, name)))
        for name in ("anonymous_id", "user_id", "stage", "published")
        if getattr(body, name) != getattr(other_body, name)
    ]
    return [*found, *_compared(person, other_person, names)] or [_bytes(live, replayed)]


def _presence(key: str, live: bytes | None, replayed: bytes | None, decode: Callable[[str, bytes], Any]) -> Field:
    value = replayed if live is None else live
    try:
        one: Person | Link | str = ABSENT if value is None else decode(key, value)
    except (msgspec.MsgspecError, ValueError, IndexError) as error:
        one = f"can't be read: {error}"
    match one:
        case Person():
            text = f"there: {one.stage}, version {one.version}"
        case Link():
            text = f"there: belongs to u:{one.user_id}"
        case _:
            text = str(one)
    name = "link" if key[0] == "l" else "person"
    return Field(name, ABSENT, text) if live is None else Field(name, text, ABSENT)


def _bytes(live: bytes, replayed: bytes) -> Field:
    """Return where values differ that say the same: in the order of what they hold."""
    shorter = min(len(live), len(replayed))
    at = next((n for n in range(shorter) if live[n] != replayed[n]), shorter)
    return Field("bytes", f"{len(live)} of them, from byte {at} others", f"{len(replayed)} of them")


def _compared(live: object, replayed: object, names: Names) -> list[Field]:
    found = []
    for one in fields(live):  # type: ignore[arg-type] # all three are dataclasses
        ours, theirs = getattr(live, one.name), getattr(replayed, one.name)
        if one.name not in _DERIVED and ours != theirs:
            found.append(Field(one.name, *_told(one.name, ours, theirs, names)))
    return found


def _told(name: str, live: Any, replayed: Any, names: Names) -> tuple[str, str]:  # noqa: ANN401 - of any field
    """Return two values of one field as text; of collections only what is not on both sides."""
    if name == "remembered":
        live, replayed = _rows(live), _rows(replayed)
    if isinstance(live, Ledger) and isinstance(replayed, Ledger):
        live, replayed = _orders(live), _orders(replayed)
    if isinstance(live, dict) and isinstance(replayed, dict):
        return _entries(name, live, replayed, names), _entries(name, replayed, live, names)
    if isinstance(live, list) and isinstance(replayed, list):
        ours = [one for one in live if one not in replayed]
        theirs = [one for one in replayed if one not in live]
        return _short(ours), _short(theirs)
    if name in _INSTANTS or name == "listed":
        unit = HOUR_MS if name == "listed" else 1
        return _instant(live, unit), _instant(replayed, unit)
    return _short(live), _short(replayed)


def _rows(remembered: bytearray) -> list[Row] | bytearray:
    return remembered if len(remembered) % ROW_BYTES else list(rows(remembered))


def _orders(ledger: Ledger) -> dict[str, object]:
    return ledger.orders | {"summarised": ledger.summarised, "summary_activity": ledger.summary_activity}


def _instant(value: int | None, unit: int) -> str:
    """Return an instant as text; a broken value may be none that a calendar has."""
    if not value:
        return ABSENT
    try:
        return rfc3339(value * unit)
    except (ValueError, OverflowError, OSError):
        return str(value)


def _entries(name: str, some: Mapping[Any, Any], others: Mapping[Any, Any], names: Names) -> str:
    found = {key: value for key, value in some.items() if key not in others or others[key] != value}
    return _short(", ".join(f"{_entry(name, key, names)}: {value}" for key, value in found.items()) or ABSENT)


def _entry(name: str, key: Any, names: Names) -> str:  # noqa: ANN401 - keys of any field
    known = {"buckets": names.behaviours, "dwell": names.categories}.get(name)
    if known is not None:
        number = window.number_of(key)
        what = known[number] if number < len(known) else f"number {number}"
        return f"{_instant(window.hour_of(key), HOUR_MS)} {what}"
    if name == "milestones" and key < len(names.milestones):
        return str(names.milestones[key])
    return str(key)


def _short(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}… ({len(text)} characters)"
