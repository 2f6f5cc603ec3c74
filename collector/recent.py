"""Remembers which events are durable, so that a client that asks again is told so."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet


class RecentIds:
    """The latest durable events, by person key and id; at least half of `capacity` and at most all of it."""

    def __init__(self, capacity: int) -> None:
        self._half = max(1, capacity // 2)
        self._newer: set[tuple[str, str]] = set()
        self._older: set[tuple[str, str]] = set()

    def __contains__(self, one: tuple[str, str]) -> bool:
        return one in self._newer or one in self._older

    def knows_none_of(self, these: AbstractSet[tuple[str, str]]) -> bool:
        """Return whether all of these are new."""
        return self._newer.isdisjoint(these) and self._older.isdisjoint(these)

    def add(self, durable: Iterable[tuple[str, str]]) -> None:
        """Remember events that the sink has made durable, never ones that are only on their way."""
        if isinstance(durable, set) and len(self._newer) + len(durable) <= self._half:
            self._newer |= durable
            return
        for one in durable:
            if len(self._newer) >= self._half and one not in self._newer:
                self._older, self._newer = self._newer, set()
            self._newer.add(one)
