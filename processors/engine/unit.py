"""The unit of work: read, load, fold, commit; in slices where a silent week or new definitions move many persons."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final

from collector.wire.event import Event
from collector.wire.record import HOUR_MS, Kind, NewerSchemaError, Record
from processors.domain.person import Person
from processors.engine.codec import decode_link, decode_person, decode_state, encode_link, encode_person, encode_state
from processors.engine.fold import PartitionFold
from processors.engine.outputs import Output
from processors.engine.ports import Acquired, Commit, FencedError, Hold, StateStore, Unreadable
from processors.engine.records import read_whole
from processors.engine.state import PartitionState, Position

SLICE: Final = 1000
"""Persons a commit: a commit of 1,000 took 11 to 25 ms, of 5,000 up to 206 ms (Redis, measured)."""


Publish = Callable[[Sequence[tuple[int, Output]]], Awaitable[None]]
"""Sends outputs that were just committed, with their numbers in the outbox: after each commit, as a silent week makes
more of them than one process should hold."""


class PartitionUnit:
    """Owns one acquired partition: folds records into it, one commit at a time."""

    def __init__(
        self,
        partition: int,
        partitions: int,
        store: StateStore,
        acquired: Acquired,
        deployment: str,
        *,
        size: int = SLICE,
        commit_seconds: Callable[[], AbstractContextManager[object]] = nullcontext,
        publish: Publish | None = None,
    ) -> None:
        state = (
            PartitionState(partition, partitions)
            if acquired.state is None
            else decode_state(partition, partitions, acquired.state)
        )
        self._store = store
        self._token = acquired.token
        self._size = size
        self._commit_seconds = commit_seconds
        self._publish = publish
        self._committed = state.position
        self._nothing_due_upto = -1
        """Up to this hour nothing is listed, as the store has said, and this owner has listed nothing since."""
        self.fold = PartitionFold(state, deployment)

    @property
    def position(self) -> Position:
        """Where the partition's log is folded and committed up to."""
        return self._committed

    async def take(self, records: Sequence[Record | Unreadable]) -> None:
        """Fold and commit records in order.

        Raises:
            FencedError: if the partition has another owner by now, or the first record is not the next one; what was
                not committed is lost with this object.
        """
        batch: list[tuple[Record, list[Event]]] = []
        keys: set[str] = set()
        for offset, record in enumerate(records, self._committed.offset):
            if record.offset != offset:
                msg = f"partition {record.partition} came with record {record.offset} where {offset} is next"
                raise FencedError(msg)
            read = self._read(record)
            if isinstance(read, Unreadable) or read[0].draft.kind is Kind.DEFINITIONS:
                await self._fold(batch, keys)
                batch, keys = [], set()
                await (self._set_aside(read) if isinstance(read, Unreadable) else self._definitions(read[0]))
                continue
            needed = read[2]
            if batch and len(keys | needed) > self._size:
                await self._fold(batch, keys)
                batch, keys = [], set()
            batch.append(read[:2])
            keys |= needed
        await self._fold(batch, keys)

    def _read(self, record: Record | Unreadable) -> tuple[Record, list[Event], set[str]] | Unreadable:
        if isinstance(record, Unreadable) and record.newer:
            raise NewerSchemaError(record.reason)
        return read_whole(record, self.fold.state.partitions)

    async def _fold(self, batch: list[tuple[Record, list[Event]]], keys: set[str]) -> None:
        """Fold and commit a batch at once; where more is due than one commit should move, fire that in slices first."""
        while batch:
            hour = max(record.time for record, _ in batch) // HOUR_MS
            due = await self._due(hour)
            if len(due) < self._size:
                await self._fold_at_once(batch, keys, due)
                return
            first = next(n for n, (record, _) in enumerate(batch) if record.time // HOUR_MS >= due[0][0])
            if first:
                await self._fold_at_once(batch[:first], keys, [])
                batch = batch[first:]
            else:
                record = batch[0][0]
                await self._fire(due, min(due[-1][0], record.time // HOUR_MS), record)

    async def _due(self, hour: int) -> list[tuple[int, str]]:
        """Return what is listed up to `hour`, a slice of it at most; asked of the store where it may be anything."""
        if hour <= self._nothing_due_upto:
            return []
        due = await self._store.due(self.fold.state.partition, hour, self._size)
        if not due:
            self._nothing_due_upto = hour
        return due

    async def _fold_at_once(
        self, batch: list[tuple[Record, list[Event]]], keys: set[str], due: list[tuple[int, str]]
    ) -> None:
        self.fold.start_unit()
        await self._load(keys | {key for _, key in due})
        self.fold.load_due(due)
        for record, events in batch:
            self.fold.fire(record.time // HOUR_MS, record)
            self.fold.fold(record, events)
        await self._commit()

    async def _fire(self, due: list[tuple[int, str]], hour: int, record: Record) -> None:
        self.fold.start_unit()
        await self._load({key for _, key in due})
        self.fold.load_due(due)
        self.fold.fire(hour, record, due[-1])
        position = self.fold.state.position
        self.fold.state.position = Position(position.offset, position.cursor + 1)
        await self._commit()

    async def _set_aside(self, record: Unreadable) -> None:
        self.fold.start_unit()
        self.fold.set_aside(record.offset, record.reason, record.value, record.events, record.append_time)
        await self._commit()

    async def _definitions(self, record: Record) -> None:
        """Put a document into force at this place: everything due first, then every person in slices."""
        fold, state = self.fold, self.fold.state
        if state.sweep is None:
            hour = record.time // HOUR_MS
            while due := await self._store.due(state.partition, hour, self._size):
                await self._fire(due, due[-1][0], record)
            fold.start_unit()
            if not fold.begin_definitions(record):
                state.position, state.appended = Position(record.offset + 1), record.append_time
                await self._commit()
                return
            state.sweep = ""
        while state.sweep is not None:
            keys = await self._store.scan(state.partition, state.sweep, self._size)
            fold.start_unit()
            await self._load(set(keys))
            for key in keys:
                fold.reevaluate(key, record)
            done = len(keys) < self._size
            state.sweep = None if done else keys[-1]
            position = state.position
            state.position = Position(position.offset, position.cursor + 1)
            if done:
                state.position, state.appended = Position(record.offset + 1), record.append_time
            await self._commit()

    async def _load(self, keys: set[str]) -> None:
        found = await self._store.load(self.fold.state.partition, sorted(keys), Hold(self._token, self._committed))
        for key, value in found.items():
            if key[0] == "l":
                self.fold.links[key] = decode_link(key, value)
            else:
                self.fold.people[key] = decode_person(key, value)

    async def _commit(self) -> None:
        fold = self.fold
        first = fold.state.outputs
        fold.state.outputs += len(fold.outputs)
        commit = Commit(
            partition=fold.state.partition,
            token=self._token,
            expected=self._committed,
            position=fold.state.position,
            state=encode_state(fold.state),
            people={key: self._encode(key) for key in fold.touched},
            listings=dict(fold.listings),
            outputs=list(enumerate(fold.outputs, first)),
        )
        with self._commit_seconds():
            last = await self._store.commit(commit)
        self._committed = fold.state.position
        listed = (hour for (hour, _), is_listed in fold.listings.items() if is_listed)
        self._nothing_due_upto = min(self._nothing_due_upto, min(listed, default=self._nothing_due_upto + 1) - 1)
        if fold.outputs and self._publish is not None:
            await self._publish(list(enumerate(fold.outputs, last + 1 - len(fold.outputs))))

    def _encode(self, key: str) -> bytes | None:
        if key[0] == "l":
            link = self.fold.links.get(key)
            return None if link is None else encode_link(link)
        person: Person | None = self.fold.people.get(key)
        return None if person is None else encode_person(person)
