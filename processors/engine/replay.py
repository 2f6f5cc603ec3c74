"""Folding a log anew into a scratch store, and comparing that with what a live store holds; neither is written to.

A live partition moves on, so what is compared is a copy of it, and the scratch fold goes on to exactly its position.
What two folds make of one log up to one position is the same bytes: each difference is a fault, and needs no second
look.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterable, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from collector.wire.record import Draft, Kind, Record, read_headers
from processors.domain.matching import Names
from processors.domain.rules import HOUR_MS
from processors.engine.changes import rfc3339
from processors.engine.codec import decode_link, decode_person, decode_state
from processors.engine.differences import ABSENT, Field, compare_states, compare_transfers, compare_values
from processors.engine.outputs import EVENTS, Output
from processors.engine.ports import (
    Copy,
    CopyLostError,
    EventLog,
    FencedError,
    LogMismatchError,
    Part,
    StateStore,
    StoreUnavailableError,
    Unreadable,
)
from processors.engine.state import PartitionState, Position
from processors.engine.unit import PartitionUnit

BATCH_RECORDS: Final = 200
"""Records read and folded at once."""
SHOWN: Final = 20
"""Differences kept to be shown; all of them are counted."""
PATIENCE_SECONDS: Final = 60.0
"""How long a live partition may stand half-way in a sweep, or not be copied, before that is given up."""

_WAIT_SECONDS: Final = 0.05
_ROUNDS: Final = 20
_ATTEMPTS: Final = 3
_MOST_NUMBER: Final = 1 << 53


class LogBeginsLaterError(Exception):
    """The log no longer has the records that a replay would begin with."""


class Origin(NamedTuple):
    """Where a derived record comes from: partition, offset of the record that caused it, and which one of its."""

    source: int
    offset: int
    number: int

    @classmethod
    def read(cls, text: str) -> Origin:
        """Return what a header `source` says: `partition-offset/number`.

        Raises:
            ValueError: if it says no such thing.
        """
        place, number = text.split("/")
        source, offset = place.split("-")
        found = cls(int(source), int(offset), int(number))
        if not all(0 <= one < _MOST_NUMBER for one in found):
            msg = f"{text} is no place in a log"
            raise ValueError(msg)
        return found

    def __str__(self) -> str:
        return f"{self.source}-{self.offset}/{self.number}"


class Derived(NamedTuple):
    """A record that a fold derives for the log: `place` is its offset in the target, None of one that was only made."""

    origin: Origin
    target: int
    kind: str
    digest: bytes
    """Of headers and value."""
    place: int | None
    value: bytes | None
    """A transfer's; the others are small in what they say, and may be many."""


class Mismatch(NamedTuple):
    """A derived record that stands in the log with other bytes than the replay made."""

    kind: str
    origin: Origin
    target: int
    place: int | None
    made: bytes | None
    found: bytes | None


class DerivedRecords(Protocol):
    """Matches what a replay's folds derive with what the log has; it may be more than memory holds."""

    def made(self, records: Sequence[Derived]) -> list[Mismatch]:
        """Take in what the replay's fold derived; return those that stand in the log with other bytes."""
        ...

    def found(self, records: Sequence[Derived], *, known_only: bool = False) -> list[Mismatch]:
        """Take in what stands in the log, repeats too; return those that were made with other bytes.

        Args:
            records: with their offsets.
            known_only: whether to leave out what the replay has not made.
        """
        ...

    def lacking(self, *, made: bool) -> Iterator[Derived]:
        """Yield what was made and not found, or else what was found and not made."""
        ...


@dataclass(frozen=True, slots=True)
class Difference:
    """One person, link, partition or derived record that is not what the log makes of it."""

    partition: int
    subject: str
    offset: int | None
    """The position of the states that were compared, or the offset of the derived record in its partition."""
    fields: Sequence[Field]


@dataclass(slots=True)
class Report:
    """What a verification has looked at, and what it found."""

    partitions: int = 0
    records: int = 0
    events: int = 0
    set_aside: int = 0
    persons: int = 0
    links: int = 0
    derived: Counter[str] = field(default_factory=Counter)
    """Derived records made anew, by kind."""
    waiting: set[tuple[Origin, int]] = field(default_factory=set)
    """Derived records, by origin and target, that were in an outbox; in the end those that are nowhere else."""
    differences: int = 0
    shown: list[Difference] = field(default_factory=list)
    """The first of them."""

    def add(self, other: Report) -> None:
        """Add what was compared in one more partition."""
        self.persons += other.persons
        self.links += other.links
        self.waiting |= other.waiting
        self.differences += other.differences
        self.shown += other.shown[: SHOWN - len(self.shown)]

    def differs(self, difference: Difference) -> None:
        """Count a difference, and keep it while there are few."""
        self.differences += 1
        if len(self.shown) < SHOWN:
            self.shown.append(difference)


@dataclass(frozen=True, slots=True)
class Sides:
    """What a verification works with.

    `rest` is awaited after each piece of work, so that a production system keeps its CPU; `progress` is told how many
    records were folded since the last call.
    """

    log: EventLog
    live: StateStore
    derived: DerivedRecords
    partitions: frozenset[int]
    """Those that are verified: a derived record counts where source and target both are."""
    rest: Callable[[], Awaitable[None]]
    progress: Callable[[int], None]
    patience_seconds: float


@dataclass(frozen=True, slots=True)
class Span:
    """What of a partition's log was replayed: offsets from `begin` on and before `end`."""

    begin: int
    end: int
    heard: Mapping[int, tuple[int, int]]
    """Derived records that stand before `begin`: the last one of each source."""


class PartitionReplay:
    """Folds one partition's log into a scratch store, from what that store holds."""

    def __init__(self, partition: int, sides: Sides, store: StateStore, report: Report) -> None:
        self.partition = partition
        self.store = store
        self._sides, self._report = sides, report
        self._unit: PartitionUnit | None = None
        self._token = ""
        self._begin = 0
        self._heard: dict[int, tuple[int, int]] = {}

    @property
    def unit(self) -> PartitionUnit:
        """The fold; there is none before `begin`."""
        if self._unit is None:
            msg = f"the replay of partition {self.partition} was not begun"
            raise RuntimeError(msg)
        return self._unit

    @property
    def state(self) -> PartitionState:
        """The partition's state, as folded so far."""
        return self.unit.fold.state

    @property
    def offset(self) -> int:
        """Where the fold stands: the next record's offset."""
        return self.unit.position.offset

    def span(self) -> Span:
        """Return what was replayed so far."""
        return Span(self._begin, self.offset, self._heard)

    async def begin(self) -> None:
        """Take up the fold where the scratch store stands: a snapshot's position, or the log's begin.

        Raises:
            LogBeginsLaterError: if the log no longer has the record there.
        """
        acquired = await self.store.acquire(self.partition)
        self._token = acquired.token
        partitions = self._sides.log.partitions
        self._unit = PartitionUnit(self.partition, partitions, self.store, acquired, "replay", publish=self._made)
        self._begin, self._heard = self.offset, dict(self.state.heard)
        first, _ = await self._sides.log.bounds(self.partition)
        if first > self.offset:
            raise LogBeginsLaterError(self._cut(first))

    async def contents(self) -> tuple[dict[str, bytes], set[tuple[int, str]]]:
        """Return every person and link by key, and the due list, of the partition as folded so far."""
        copy = await self.store.copy(self.partition)
        people: dict[str, bytes] = {}
        listings: set[tuple[int, str]] = set()
        async for part in copy.parts:
            people.update(part.people)
            listings.update(part.listings)
        return people, listings

    async def fold_to(self, offset: int) -> None:
        """Fold the log up to and without the record at `offset`.

        Raises:
            LogMismatchError: if the log ends before it, or has a hole.
            LogBeginsLaterError: if retention has passed where the fold stands.
        """
        while self.offset < offset:
            records = await self._sides.log.read(self.partition, self.offset, min(BATCH_RECORDS, offset - self.offset))
            if not records:
                raise LogMismatchError(self._short(offset))
            if records[0].offset != self.offset:
                first, _ = await self._sides.log.bounds(self.partition)
                if first > self.offset:
                    raise LogBeginsLaterError(self._cut(first))
            self._note(self._sides.derived.found(_derived_in(records, self._sides.partitions)))
            try:
                await self.unit.take(records)
            except FencedError as error:
                msg = f"{error}: the log has a hole, and no worker goes past it. Bring the record back"
                raise LogMismatchError(msg) from error
            counts = self.unit.fold.take_counts()
            self._report.records += len(records)
            self._report.events += counts["folded"] + counts["repeated"]
            self._report.set_aside += counts["unreadable"]
            self._sides.progress(len(records))
            await self._sides.rest()

    async def _made(self, outputs: Sequence[tuple[int, Output]]) -> None:
        chosen = self._sides.partitions
        made = [_derived(one) for _, one in outputs if one.topic == EVENTS and one.partition in chosen]
        self._report.derived.update(one.kind for one in made)
        self._note(self._sides.derived.made(made))
        await self.store.trim(self.partition, self._token, outputs[-1][0])

    def _note(self, mismatches: Sequence[Mismatch]) -> None:
        for one in mismatches:
            self._report.differs(differing_record(one, self.state.names))

    def _cut(self, first: int) -> str:
        return (
            f"partition {self.partition} of the log begins at offset {first}, and the replay would begin at "
            f"{self.offset}: what stood between was deleted (log.retention_days). Begin with a snapshot that is not "
            "older than the log: phasewatch replay --verify --from DIR"
        )

    def _short(self, offset: int) -> str:
        return (
            f"partition {self.partition} of the log ends at offset {self.offset}, but its states stand at {offset}: "
            "records are missing. Bring the log back, or restore states that match it"
        )


class PartitionVerification:
    """Compares a copy of what the live store holds of one partition with its replay."""

    def __init__(self, replay: PartitionReplay, sides: Sides, report: Report) -> None:
        self._replay, self._sides, self._report = replay, sides, report
        self._partition = replay.partition
        self._found = Report()
        """Of one copy; of one that is lost half-way nothing counts."""

    async def run(self) -> None:
        """Fold up to where the live states stand, then compare all of them.

        Raises:
            StoreUnavailableError: if the live states are never where they can be copied, or do not go on.
        """
        await self._approach()
        lost: CopyLostError | None = None
        for _ in range(_ATTEMPTS):
            try:
                await self._compare_copy(await self._copy())
            except CopyLostError as error:
                lost = error
            else:
                self._report.partitions += 1
                self._report.add(self._found)
                return
        msg = f"{lost}. See that no snapshot is made at the same time, then repeat this"
        raise StoreUnavailableError(msg)

    async def _compare_copy(self, copy: Copy) -> None:
        self._found = Report()
        async with aclosing(copy.parts) as parts:
            await self._replay.fold_to(copy.position.offset)
            self._compare_states(copy.state)
            await self._compare_parts(parts)

    async def _approach(self) -> None:
        """Fold until there is so little left to do that a copy need not wait for it."""
        for _ in range(_ROUNDS):
            offset = (await self._live_position()).offset
            if offset - self._replay.offset <= BATCH_RECORDS:
                return
            await self._replay.fold_to(offset)
        msg = (
            f"partition {self._partition} grows as fast as it is replayed. Repeat this with a larger --max-cpu, or "
            "when less is going on"
        )
        raise StoreUnavailableError(msg)

    async def _copy(self) -> Copy:
        """Return a copy that was made at the begin of a record.

        How far into a sweep a partition is says nothing about whom it has reached: each store has an order of its own.
        """
        now = asyncio.get_running_loop().time
        deadline = now() + self._sides.patience_seconds
        while True:
            live = await self._live_position()
            lost: CopyLostError | None = None
            if self._fits(live):
                try:
                    copy = await self._sides.live.copy(self._partition)
                except CopyLostError as error:
                    lost = error
                else:
                    if self._fits(copy.position):
                        return copy
                    await copy.parts.aclose()
            if now() > deadline:
                raise StoreUnavailableError(self._why_not(live, lost)) from lost
            await asyncio.sleep(_WAIT_SECONDS)

    def _fits(self, live: Position) -> bool:
        return live.cursor == 0 and live.offset >= self._replay.offset

    def _why_not(self, live: Position, lost: CopyLostError | None) -> str:
        if live.offset < self._replay.offset:
            why = (
                f"went back to offset {live.offset}, while the replay stands at {self._replay.offset}, and do not come "
                "on: a store that lost its last moments is folded again from there. See that a worker runs"
            )
        elif live.cursor:
            why = (
                f"stand half-way in record {live.offset}, which moves many people, and do not get through: see that a "
                "worker runs, and what it says at /readyz"
            )
        else:
            why = f"could not be copied: {lost}. See that no snapshot is made at the same time, then repeat this"
        return f"the live states of partition {self._partition} {why}"

    async def _live_position(self) -> Position:
        return self._decoded(await self._sides.live.state(self._partition)).position

    def _decoded(self, value: bytes | None) -> PartitionState:
        partitions = self._sides.log.partitions
        if value is None:
            return PartitionState(self._partition, partitions)
        return decode_state(self._partition, partitions, value)

    def _compare_states(self, live: bytes | None) -> None:
        if fields := compare_states(self._decoded(live), self._replay.state):
            self._differs(f"partition {self._partition}", fields)

    async def _compare_parts(self, parts: AsyncIterable[Part]) -> None:
        made, listings = await self._replay.contents()
        for key in made:
            if key[0] == "l":
                self._found.links += 1
            else:
                self._found.persons += 1
        async for part in parts:
            for key, live in part.people:
                self._compare(key, live, made.pop(key, None))
            listings.difference_update(part.listings)
            self._found.waiting |= {
                (_derived(one).origin, one.partition) for _, one in part.outputs if one.topic == EVENTS
            }
            await self._sides.rest()
        for key, replayed in made.items():
            self._compare(key, None, replayed)
        await self._compare_timers(listings)

    def _compare(self, key: str, live: bytes | None, replayed: bytes | None) -> None:
        if live != replayed:
            self._differs(key, compare_values(key, live, replayed, self._replay.state.names))

    async def _compare_timers(self, missing: set[tuple[int, str]]) -> None:
        """Tell of those whose timer the live store has lost; an entry that was given up since is nobody's timer."""
        values = await self._replay.store.load(self._partition, sorted({key for _, key in missing}))
        for hour, key in sorted(missing):
            if key in values and _listed(key, values[key]) == hour:
                self._differs(f"timer of {key}", [Field("due", ABSENT, rfc3339(hour * HOUR_MS))])

    def _differs(self, subject: str, fields: Sequence[Field]) -> None:
        self._found.differs(Difference(self._partition, subject, self._replay.offset, fields))


async def match_rest(sides: Sides, spans: Mapping[int, Span], report: Report) -> None:
    """Look for what was derived and stood in no part of the log that was replayed; then tell what is lacking.

    What was made was committed when the live store was copied: it was in the outbox then, or in the log already.
    """
    for target in sorted({one.target for one in sides.derived.lacking(made=True)}):
        await _match_tail(sides, target, spans[target].end, report)
    outboxes, report.waiting = report.waiting, set()
    for one in sides.derived.lacking(made=True):
        if one.origin[1:] <= spans[one.target].heard.get(one.origin.source, (-1, -1)):
            continue  # the snapshot was taken after it
        if (one.origin, one.target) in outboxes:
            report.waiting.add((one.origin, one.target))
            continue
        fields = [Field("record", ABSENT, "made by the fold of its source")]
        report.differs(Difference(one.target, f"{one.kind} {one.origin}", one.place, fields))
    for one in sides.derived.lacking(made=False):
        span = spans[one.origin.source]
        if span.begin <= one.origin.offset < span.end:
            fields = [Field("record", "in the log", ABSENT)]
            report.differs(Difference(one.target, f"{one.kind} {one.origin}", one.place, fields))


async def _match_tail(sides: Sides, target: int, offset: int, report: Report) -> None:
    """Read what came into a partition since it was replayed."""
    _, end = await sides.log.bounds(target)
    while offset < end and (records := await sides.log.read(target, offset, min(BATCH_RECORDS, end - offset))):
        for one in sides.derived.found(_derived_in(records, sides.partitions), known_only=True):
            report.differs(differing_record(one, Names([], [], [])))
        offset = records[-1].offset + 1
        await sides.rest()


def differing_record(one: Mismatch, names: Names) -> Difference:
    """Return how a derived record in the log differs from the one that the replay made."""
    if one.made is None or one.found is None:
        fields = [Field("bytes", "others than were made", "others than stand there")]
    elif one.made == one.found:
        fields = [Field("headers", "others than were made", "others than stand there")]
    else:
        fields = compare_transfers(one.found, one.made, names)
    return Difference(one.target, f"{one.kind} {one.origin}", one.place, fields)


def _derived_in(records: Sequence[Record | Unreadable], chosen: frozenset[int]) -> list[Derived]:
    """Return the derived records among some of the log; what can't be read is none."""
    found = []
    for one in records:
        if isinstance(one, Record) and one.draft.source is not None:
            with suppress(ValueError):  # set aside by the fold
                if Origin.read(one.draft.source).source in chosen:
                    found.append(_as_derived(one.draft, one.partition, one.offset))
    return found


def _derived(output: Output) -> Derived:
    return _as_derived(read_headers(list(output.headers), output.value or b""), output.partition, None)


def _as_derived(draft: Draft, target: int, place: int | None) -> Derived:
    digest = hashlib.blake2b(draft.value, digest_size=16)
    digest.update(repr(draft.headers()).encode())
    value = draft.value if draft.kind is Kind.TRANSFER else None
    return Derived(Origin.read(draft.source or ""), target, draft.kind.value, digest.digest(), place, value)


def _listed(key: str, value: bytes) -> int:
    return decode_link(key, value).listed if key[0] == "l" else decode_person(key, value).listed
