"""What can be asked about persons and stages: for the console, the command line and tests."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from collector.wire.partition import partition_of
from processors.domain import window
from processors.domain.due import last_activity, next_due
from processors.domain.fold import Rulebook, customer
from processors.domain.money import Position as MoneyPosition
from processors.domain.person import FAR_FUTURE, Link, Person, link_key
from processors.domain.rules import HOUR_MS
from processors.domain.stages import Stage
from processors.domain.visits import recent_visits
from processors.engine.changes import evidence_of, life_of, preference_of, rfc3339, tier_of
from processors.engine.codec import decode_link, decode_person, decode_state
from processors.engine.ports import StateStore
from processors.engine.state import PartitionState


class BadCursorError(Exception):
    """A text is no cursor of this reader: malformed, or another log's."""


class ChangeReader(Protocol):
    """Reads stage changes back, oldest first.

    A cursor is a short text of letters, digits, `-` and `_` that means nothing to whoever keeps it; it stays good after
    a restart, and with every process that reads the same log. What was published in the last moments may be missing
    yet, and follows the same cursor later.

    Every method raises StoreUnavailableError if the log can't be read.
    """

    async def changes(self, after: str, most: int) -> list[tuple[str, bytes]]:
        """Return at most `most` (cursor, message) pairs after a cursor; none only when nothing follows it.

        Raises:
            BadCursorError: if `after` is no cursor.
        """
        ...

    async def newest(self, after: str, most: int) -> list[tuple[str, bytes]]:
        """Return the last `most` of all that follows a cursor, oldest first; raises as `changes`."""
        ...

    async def cursor_at(self, instant: int) -> str:
        """Return the cursor after which everything published since `instant` (UTC ms) follows."""
        ...

    async def check(self, after: str) -> None:
        """Return if a text from elsewhere is a cursor of this log.

        Raises:
            BadCursorError: if it is malformed, another log's, or lies beyond the end.
        """
        ...


class Query:
    """Reads states as they were last committed, and shows them as of each partition's stream time."""

    def __init__(self, store: StateStore, partitions: int) -> None:
        self._store = store
        self._partitions = partitions
        self._books: dict[int, Rulebook] = {}

    async def person(self, key: str) -> dict[str, Any] | None:
        """Return everything known about `u:`... or `a:`..., or None; a linked anonymous id shows whose it is."""
        found = await self._find(key)
        if found is None:
            return None
        person, link, book, state = found
        if person is None:
            return {"person": key, "linked_to": None if link is None else f"u:{link.user_id}"}
        return _describe(person, book, state) | {"linked_to": None if link is None else f"u:{link.user_id}"}

    async def timeline(self, key: str) -> dict[str, Any] | None:
        """Return a person's last changes, and behaviour counts an hour within the window, oldest first; or None."""
        found = await self._find(key)
        person = None if found is None else found[0]
        if found is None or person is None:
            return None
        book = found[2]
        names = book.names.behaviours
        counts: dict[int, dict[str, int]] = {}
        for place, count in person.buckets.items():
            if count:
                counts.setdefault(window.hour_of(place), {})[names[window.number_of(place)]] = count
        hours = [{"hour": rfc3339(hour * HOUR_MS), "counts": found} for hour, found in counts.items()]
        changes = [
            {"version": one.version, "at": rfc3339(one.at), "from": one.old, "to": one.new, "confirmed": one.confirmed}
            for one in person.changes
        ]
        return {"person": key, "changes": changes, "hours": hours}

    async def stages(self) -> dict[str, int]:
        """Return how many persons are in each stage."""
        totals = dict.fromkeys((stage.value for stage in Stage), 0)
        for partition in range(self._partitions):
            state = await self.state(partition)
            for stage, count in ({} if state is None else state.stages).items():
                totals[stage] += count
        return totals

    async def definitions(self) -> dict[str, Any]:
        """Return the definitions in force at partition 0: number and TOML text."""
        state = await self.state(0)
        return {"number": 0, "toml": None} if state is None else {"number": state.definitions, "toml": state.document}

    async def state(self, partition: int) -> PartitionState | None:
        """Return a partition's state as last committed, None where nothing was."""
        value = await self._store.state(partition)
        return None if value is None else decode_state(partition, self._partitions, value)

    async def _find(self, key: str) -> tuple[Person | None, Link | None, Rulebook, PartitionState] | None:
        partition = partition_of(key, self._partitions)
        state = await self.state(partition)
        if state is None:
            return None
        keys = [key, link_key(key[2:])] if key[0] == "a" else [key]
        values = await self._store.load(partition, keys)
        if not values:
            return None
        book = self._books.get(state.definitions)
        if book is None:
            book = self._books[state.definitions] = state.rulebook()
        person = decode_person(key, values[key]) if key in values else None
        link = decode_link(keys[1], values[keys[1]]) if len(keys) > 1 and keys[1] in values else None
        if person is not None:
            book.refresh(person, state.tau // HOUR_MS)
        return person, link, book, state


def _describe(person: Person, book: Rulebook, state: PartitionState) -> dict[str, Any]:
    due = next_due(person, state.tau // HOUR_MS, book.weights, book.rules)
    names = book.names.milestones
    return {
        "person": person.key,
        "life": life_of(state.partition, person),
        "version": person.version,
        "stage": person.stage,
        "confirmed": person.published_confirmed,
        "customer": customer(person),
        "funds": "none" if person.money is None else person.money.funds,
        "score": person.score / 1000,
        "decision_score": person.decision_score / 1000,
        "intent": window.intent(person.score, book.rules),
        "tier": tier_of(person.score, state.tiers),
        "preference": msgspec.to_builtins(preference_of(person, book)),
        "evidence": msgspec.to_builtins(evidence_of(person, book)),
        "positions": {} if person.money is None else _positions(person.money.positions),
        "milestones": {names[n]: rfc3339(at) for n, at in sorted(person.milestones.items())},
        "visits_30_days": recent_visits(person, book.days.of(state.tau // HOUR_MS)),
        "last_visit": rfc3339(person.last_visit) if person.last_visit else None,
        "last_activity": rfc3339(last_activity(person)) if last_activity(person) else None,
        "last_place": person.place,
        "channel": None if person.first_touch is None else person.first_touch[1],
        "devices": list(person.devices),
        "next_due": None if due == FAR_FUTURE else rfc3339(due * HOUR_MS),
        "as_of": rfc3339(state.tau),
        "definitions": state.definitions,
    }


def _positions(positions: dict[str, MoneyPosition]) -> dict[str, Any]:
    shown = {}
    for order_id, position in positions.items():
        purchase = position.purchase
        if purchase is None:
            continue
        shown[order_id] = {
            "product_id": purchase.product_id,
            "category": purchase.category,
            "amount": purchase.amount,
            "currency": purchase.currency,
            "purchased_at": rfc3339(purchase.occurred_at),
            "matures_at": None if purchase.matures_at is None else rfc3339(purchase.matures_at),
            "confirmed": position.confirmed,
            "closings": [{"at": rfc3339(one.instant), "confirmed": one.confirmed} for one in position.closings],
        }
    return shown
