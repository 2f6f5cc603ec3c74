"""One partition's log, written by hand, and its fold over a store in memory; times count from `START`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import count
from typing import Any, Final

import msgspec

from collector.wire.block import encode_event
from collector.wire.event import Element, Event, Page
from collector.wire.record import HOUR_MS, Draft, Kind, Record
from processors.adapters.sqlite.store import SqliteStore
from processors.engine.outputs import Output
from processors.engine.ports import StateStore, Unreadable
from processors.engine.unit import PartitionUnit
from processors.wire import STAGE_CHANGES

START: Final = 490_000 * HOUR_MS
DAY: Final = 24 * HOUR_MS
SHIPPED: Final = (files("processors") / "definitions" / "fund-shop.toml").read_text(encoding="utf-8")

LOOKS: Final[dict[str, dict[str, Any]]] = {
    "view": {"type": "page", "page": Page(path="/products/bond/b1")},
    "invest": {"type": "click", "element": Element(text="Invest")},
    "submit": {"type": "submit", "page": Page(path="/orders/new")},
}
"""Interactions worth 0.5, 1.5 and 2.5."""


class PartitionLog:
    """The records of partition 0 of 1; it begins with the shipped definitions as number 1."""

    def __init__(self, document: str | None = SHIPPED) -> None:
        self.records: list[Record | Unreadable] = []
        self._ids = count()
        if document is not None:
            self.definitions(0, 1, document)

    def append(self, kind: Kind, at: int, value: bytes = b"", *, append_time: int | None = None, **draft: Any) -> int:
        """Append a record and return its offset."""
        offset = len(self.records)
        appended = START + (at if append_time is None else append_time)
        self.records.append(Record(0, offset, appended, Draft(kind, START + at, value, **draft)))
        return offset

    def control(self, kind: Kind, at: int, value: object, **draft: Any) -> int:
        return self.append(kind, at, json.dumps(value).encode(), **draft)

    def definitions(self, at: int, number: int, document: str) -> int:
        return self.control(Kind.DEFINITIONS, at, {"number": number, "toml": document})

    def tick(self, at: int) -> int:
        return self.append(Kind.TICK, at)

    def unreadable(self, value: bytes = b"?") -> int:
        offset = len(self.records)
        self.records.append(Unreadable(0, offset, "no header kind", value))
        return offset

    def make(self, at: int, look: str | None = None, *, user: str | None = "1", **fields: Any) -> Event:
        properties = msgspec.Raw(json.dumps(fields.pop("properties", {})).encode())
        fields = {"id": f"e{next(self._ids)}", "type": "custom"} | LOOKS.get(look or "", {}) | fields
        return Event(occurred_at=START + at, received_at=START + at, user_id=user, properties=properties, **fields)

    def block(self, at: int, *events: Event, **draft: Any) -> int:
        """Append a block of events received at `at`."""
        value = b"".join(encode_event(event) + b"\n" for event in events)
        return self.append(Kind.EVENTS, at, value, count=len(events), **draft)

    def event(self, at: int, look: str | None = None, *, received: int | None = None, **fields: Any) -> int:
        """Append a block of one event that occurred at `at`."""
        return self.block(at if received is None else received, self.make(at, look, **fields))

    def money(self, kind: str, at: int, *, order: str = "o1", trusted: bool = True, **said: Any) -> int:
        user, received = said.pop("user", "1"), said.pop("received", None)
        properties = {"order_id": order} | said
        return self.event(at, type=kind, trusted=trusted, properties=properties, user=user, received=received)

    def decide(self, at: int, **fields: Any) -> None:
        """Three submits, a score of 7.5."""
        for _ in range(3):
            self.event(at, "submit", **fields)


@dataclass(frozen=True)
class Folded:
    """What a store holds of partition 0 after a fold: its outbox from the beginning, state, persons and due list."""

    outputs: list[tuple[int, Output]]
    state: bytes | None
    people: dict[str, bytes]
    due: list[tuple[int, str]]

    def changes(self, person: str | None = None) -> list[dict[str, Any]]:
        """Return the stage changes sent, of one person or of all, in their order."""
        told = [json.loads(one.value or b"") for _, one in self.outputs if one.topic == STAGE_CHANGES]
        return [change for change in told if person in (None, change["person"])]

    def topics(self) -> list[str]:
        return [one.topic for _, one in self.outputs]


async def acquire(store: StateStore, size: int = 1000) -> PartitionUnit:
    return PartitionUnit(0, 1, store, await store.acquire(0), "shop", size=size)


async def contents(store: StateStore) -> Folded:
    people = {key: value async for key, value in store.people(0)}
    return Folded(await store.outbox(0, 1 << 40), await store.state(0), people, await store.due(0, 1 << 50, 1 << 40))


async def fold(
    records: Sequence[Record | Unreadable], *, size: int = 1000, cut: int | None = None, anew: bool = False
) -> Folded:
    """Fold records in batches of `cut` (None: in one), with a new owner for each batch where `anew`."""
    store = SqliteStore(":memory:")
    try:
        unit = await acquire(store, size)
        step = cut or max(1, len(records))
        for start in range(0, len(records), step):
            if anew:
                unit = await acquire(store, size)
            await unit.take(records[start : start + step])
        return await contents(store)
    finally:
        store.close()
