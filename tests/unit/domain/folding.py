"""One person, folded by hand under the shipped definitions; times are milliseconds after `START`."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.resources import files
from itertools import count
from typing import Any, Final

import msgspec

from collector.wire.event import Element, Event, Page
from processors.domain.document import parse
from processors.domain.fold import Outcome, Rulebook
from processors.domain.matching import Names
from processors.domain.person import Person
from processors.domain.rules import HOUR_MS

START: Final = 490_000 * HOUR_MS


def rulebook(**rules: int) -> Rulebook:
    text = (files("processors") / "definitions" / "fund-shop.toml").read_text(encoding="utf-8")
    definitions = parse(text)
    definitions = replace(definitions, rules=replace(definitions.rules, **rules))
    names = Names([], [], [])
    names.learn(definitions)
    return Rulebook(1, definitions, names)


class Folding:
    """One person and the rulebook it is folded under."""

    start = START

    def __init__(self, key: str = "a:x", **rules: int) -> None:
        self.book = rulebook(**rules)
        self.person = Person(key, 0, 0)
        self.tau = 0
        self._ids = count()

    def event(self, at: int = 0, **fields: Any) -> Event:
        properties = msgspec.Raw(json.dumps(fields.pop("properties", {})).encode())
        fields = {"id": f"e{next(self._ids)}", "type": "custom", "anonymous_id": "x"} | fields
        return Event(occurred_at=START + at, received_at=START + at, properties=properties, **fields)

    def add(self, at: int = 0, *, time: int | None = None, **fields: Any) -> Outcome:
        """Fold an event that occurred at `at`, from a record of record time `time` (default: the same)."""
        return self.fold(self.event(at, **fields), at if time is None else time)

    def fold(self, event: Event, time: int) -> Outcome:
        self.tau = max(self.tau, START + time)
        hour = self.tau // HOUR_MS
        self.book.refresh(self.person, hour)
        return self.book.add(self.person, event, START + time, self.tau, hour)

    def view(self, at: int = 0, **fields: Any) -> Outcome:
        """`product_viewed`: 0.5."""
        return self.add(at, type="page", page=Page(path="/products/bond/b1"), **fields)

    def submit(self, at: int = 0, **fields: Any) -> Outcome:
        """`order_submitted`: 2.5."""
        return self.add(at, type="submit", page=Page(path="/orders/new"), **fields)

    def invest(self, at: int = 0, **fields: Any) -> Outcome:
        """`invest_clicked`: 1.5."""
        return self.add(at, type="click", element=Element(text="Invest"), **fields)

    def dwell(self, category: str, ms: float, at: int = 0, **fields: Any) -> Outcome:
        page = Page(path=f"/products/{category}")
        return self.add(at, type="dwell", page=page, properties={"ms": ms}, **fields)

    def refresh(self, at: int) -> Person:
        self.tau = max(self.tau, START + at)
        self.book.refresh(self.person, self.tau // HOUR_MS)
        return self.person
