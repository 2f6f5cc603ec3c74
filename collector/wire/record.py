"""One record of topic `events`: a block of events, or a control record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

HOUR_MS: Final = 3_600_000
SCHEMA: Final = 1
"""Version of the records' layout, in the header `schema`."""
_MOST: Final = 1 << 53
"""Numbers in headers are below it: what a state, a metric and JSON carry whole (RFC 8259, section 6)."""


class Kind(StrEnum):
    """What a record is; the value of its header `kind`."""

    EVENTS = "events"
    """Events as collected: NDJSON, one event a line."""
    FORWARD = "forward"
    """Events of a linked anonymous id, on their way to the user named in the header `person` (R8)."""
    TICK = "tick"
    """Only a `clock`: time passes (R2)."""
    LIVE = "live"
    """An import has ended; from here time is now."""
    CLAIM = "claim"
    """A user asks for an anonymous id: `{"anonymous_id", "user_id"}` (R8)."""
    TRANSFER = "transfer"
    """An anonymous person's state on its way to the user it turned out to be (R8)."""
    PUBLISH = "publish"
    """A definitions document or tier cut, handed in at partition 0 to be numbered and fanned out."""
    DEFINITIONS = "definitions"
    """A numbered definitions document takes effect here: `{"number", "toml"}`."""
    TIERS = "tiers"
    """A tier cut takes effect here: `{"top", "next"}`, scores in thousandths (R3)."""


@dataclass(slots=True)
class Draft:
    """A record before the log has given it an offset.

    `clock` is when the collector received it, or when imported history happened (R2), in UTC milliseconds.
    `imported` marks history: what follows from it is not actionable. `source` names a derived record's origin as
    `partition-offset/index`; it only grows per source partition, so that a repeat is recognised. `person` is the key
    that a forwarded block belongs to.
    """

    kind: Kind
    clock: int
    value: bytes = b""
    count: int = 0
    imported: bool = False
    source: str | None = None
    person: str | None = None

    def headers(self) -> list[tuple[str, bytes]]:
        """Return the record's headers as they stand in the log."""
        out = [
            ("kind", self.kind.value.encode()),
            ("schema", b"%d" % SCHEMA),
            ("count", b"%d" % self.count),
            ("clock", b"%d" % self.clock),
        ]
        if self.imported:
            out.append(("import", b"1"))
        if self.source is not None:
            out.append(("source", self.source.encode()))
        if self.person is not None:
            out.append(("person", self.person.encode()))
        return out


@dataclass(slots=True)
class Record:
    """A record as read from the log: a draft with its place and the log's own append time (UTC milliseconds)."""

    partition: int
    offset: int
    append_time: int
    draft: Draft
    time: int = field(init=False)
    """Record time: min(append time, clock) (R2)."""

    def __post_init__(self) -> None:
        self.time = min(self.append_time, self.draft.clock)


class UnreadableRecordError(ValueError):
    """A record's headers or value do not follow this module; set it aside and go on."""


class NewerSchemaError(UnreadableRecordError):
    """A record that a newer program has written: wait for the upgrade, never go past it."""


def read_headers(headers: Sequence[tuple[str, bytes | None]], value: bytes) -> Draft:
    """Return the draft that headers and value stand for.

    Raises:
        NewerSchemaError: if a newer program has written the record.
        UnreadableRecordError: if `kind`, `schema`, `count` or `clock` is missing or makes no sense.
    """
    found = {name: said for name, said in headers if said is not None}  # Kafka lets a header have no value
    try:
        if int(found["schema"]) > SCHEMA:
            msg = f"schema {int(found['schema'])} is newer than {SCHEMA}, the newest known here: upgrade this program"
            raise NewerSchemaError(msg)
        clock, count = int(found["clock"]), int(found["count"])
        if not (0 <= clock < _MOST and 0 <= count < _MOST):
            msg = "headers of a record of topic events: clock or count is out of range"
            raise UnreadableRecordError(msg)  # noqa: TRY301 - as above, in the place where it is found
        return Draft(
            kind=Kind(found["kind"].decode()),
            clock=clock,
            value=value,
            count=count,
            imported=found.get("import") == b"1",
            source=found["source"].decode() if "source" in found else None,
            person=found["person"].decode() if "person" in found else None,
        )
    except UnreadableRecordError:  # said already
        raise
    except (KeyError, ValueError) as error:
        msg = f"headers of a record of topic events: {error!r}"
        raise UnreadableRecordError(msg) from error
