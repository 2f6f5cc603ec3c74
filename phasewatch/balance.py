"""Counts a log's events again and compares them with the workers' tallies (docs/adr/0011-what-is-tallied.md)."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from collector.wire.record import Draft, Kind, Record, read_headers
from phasewatch.backend import Backend
from processors.engine.outputs import EVENTS
from processors.engine.ports import Unreadable
from processors.engine.records import read_whole
from processors.engine.state import PartitionState
from processors.engine.tallies import Mark, Tallies, Tally, events_in

__all__ = ["Balance", "balance"]

_READ_AT_ONCE: Final = 100
"""Records; a block is 512 KiB at most."""
_OUTBOX_MOST: Final = 1_000_000
"""Outputs that could wait in a partition, and many more."""

_Sent = tuple[int, int, int]
"""Where a forwarded block comes from: partition, offset, index."""


@dataclass(slots=True)
class Counted:
    """What was found of one source, or of what has none that can be read."""

    in_log: int = 0
    """Events in the part of the log that was counted again, as far as it is folded."""
    tallied: int = 0
    """Events that the workers have read there."""
    behind: int = 0
    """Events of the log that are not yet folded."""


@dataclass(slots=True)
class Balance:
    """What was compared, and every difference in words."""

    sources: dict[str, Counted] = field(default_factory=dict)
    tallies: dict[str, Tally] = field(default_factory=dict)
    """By source, all partitions' together, since they began."""
    set_aside: Counted = field(default_factory=Counted)
    on_the_way: int = 0
    """Events sent on to a user's partition that are not yet folded there."""
    since_day: int | None = None
    """The day, since the epoch, from which on the log was counted; None: from its beginning."""
    not_compared: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)

    def of(self, source: str) -> Counted:
        """Return what is found of a source, to be added to."""
        return self.sources.setdefault(source, Counted())


class _Range(NamedTuple):
    partition: int
    state: PartitionState
    base: Mark | None
    """What was counted before the part of the log that is compared; None where that can't be known."""
    end: int

    @property
    def start(self) -> int:
        return self.state.position.offset if self.base is None else self.base.offset


class _Forwards:
    """Blocks that are sent on: those that wait, and those folded though their sender was asked before it sent them."""

    def __init__(self, states: list[PartitionState]) -> None:
        self._states = states
        self._waiting: dict[_Sent, int] = {}
        self._early: dict[_Sent, int] = {}

    def see(self, to: int, draft: Draft, *, folded: bool) -> None:
        """Note a block on its way to a partition, or folded there."""
        place, index = (draft.source or "").split("/")
        partition, offset = map(int, place.split("-"))
        sent = (partition, offset, int(index))
        before_asked = offset < self._states[partition].position.offset
        if folded and not before_asked:
            self._early[sent] = draft.count
        elif not folded and before_asked and sent[1:] > self._states[to].heard.get(partition, (-1, -1)):
            self._waiting[sent] = draft.count

    @property
    def on_the_way(self) -> int:
        """Return how many more events must have been sent on than have come."""
        return sum(self._waiting.values()) - sum(self._early.values())


async def balance(backend: Backend, *, days: int) -> Balance:
    """Count the events of a log's last whole days, and of today, and compare; works beside running workers.

    Args:
        backend: of the deployment.
        days: at least so many whole days (UTC) of each partition's stream time; as many as can be compared where these
            are fewer.

    Raises:
        StoreUnavailableError: if the log or the states can't be read.
    """
    partitions = range(backend.log.partitions)
    states = [await backend.query.state(n) or PartitionState(n, len(partitions)) for n in partitions]
    forwards = _Forwards(states)
    for n in partitions:  # after the states and before the log: what leaves an outbox meanwhile stands in the log then
        for _, output in await backend.store.outbox(n, _OUTBOX_MOST):
            draft = read_headers(list(output.headers), output.value or b"") if output.topic == EVENTS else None
            if draft is not None and draft.kind is Kind.FORWARD:
                forwards.see(output.partition, draft, folded=False)
    found = Balance()
    complete = True
    starts: list[int] = []
    for n, (first, end) in enumerate(await backend.log.all_bounds()):
        part = _Range(n, states[n], _base(states[n], first, days), end)
        await _compare(backend, part, found, forwards)
        complete = complete and part.base is not None and states[n].tallies.begin == 0
        if part.base is not None and part.base.day:
            starts.append(part.base.day)
    found.since_day = min(starts, default=None)
    _add_up(found, states, forwards if complete else None)
    return found


def _base(state: PartitionState, first: int, days: int) -> Mark | None:
    """Return the counts from which on to compare: at the beginning of a day, of the tallies, or of an empty rest."""
    tallies, position = state.tallies, state.position.offset
    known = [Mark(0, tallies.begin, 0, 0, []), *tallies.marks]
    there = [mark for mark in known if mark.offset >= first]
    if not there:
        return _now(tallies, position) if first >= position else None
    wanted = known[-1].day - days
    return max((mark for mark in there if mark.day <= wanted), key=lambda mark: mark.day, default=there[0])


def _now(tallies: Tallies, offset: int) -> Mark:
    read = [tally.read for tally in tallies.sources.values()]
    return Mark(0, offset, tallies.records_set_aside, tallies.events_set_aside, read)


async def _compare(backend: Backend, part: _Range, found: Balance, forwards: _Forwards) -> None:
    """Count one partition again, and note what differs."""
    n, position = part.partition, part.state.position.offset
    if position > part.end:
        found.differences.append(
            f"partition {n}: its states stand at offset {position}, and the log ends at {part.end}: it was cut, or "
            "made anew under the same name"
        )
        return
    folded, behind = _Counts(part.state), _Counts(part.state)
    following = part.start
    async for record in _records(backend, part):
        if record.offset != following and (await backend.log.bounds(n))[0] > part.start:
            found.not_compared.append(f"partition {n}: its oldest records were deleted meanwhile; count once more")
            return
        following = record.offset + 1
        (folded if record.offset < position else behind).see(record)
    for draft in folded.forwards:
        forwards.see(n, draft, folded=True)
    for draft in behind.forwards:
        forwards.see(n, draft, folded=False)
    for source, count in behind.events.items():
        found.of(source).behind += count
    found.set_aside.behind += behind.events_aside
    if part.base is None:
        found.not_compared.append(f"partition {n}: the log holds less than a day of what was folded")
    else:
        _note(found, part, part.base, folded)


class _Counts:
    """What stands in a part of one partition's log."""

    def __init__(self, state: PartitionState) -> None:
        self._state = state
        self.events: Counter[str] = Counter()
        self.records_aside = self.events_aside = 0
        self.forwards: list[Draft] = []

    def see(self, record: Record | Unreadable) -> None:
        read = read_whole(record, self._state.partitions)
        if isinstance(read, Unreadable):
            self.records_aside += 1
            self.events_aside += events_in(read.events, read.value)
            return
        draft, events = read[0].draft, read[1]
        if draft.kind is Kind.FORWARD:
            self.forwards.append(Draft(draft.kind, draft.clock, b"", len(events), source=draft.source))
        elif draft.kind is Kind.EVENTS and draft.source is None:
            for source, count in Counter(event.source for event in events).items():
                self.events[self._state.tallies.name_of(source)] += count


def _note(found: Balance, part: _Range, base: Mark, counts: _Counts) -> None:
    """Compare what stands in the log with what was tallied there."""
    tallies = part.state.tallies
    where = f"from offset {base.offset} to {part.state.position.offset - 1}"
    before = dict(zip(tallies.sources, base.read, strict=False))
    for source in sorted(counts.events.keys() | tallies.sources.keys()):
        in_log = counts.events[source]
        read = tallies.sources.get(source, Tally()).read - before.get(source, 0)
        one = found.of(source)
        one.in_log += in_log
        one.tallied += read
        if in_log != read:
            found.differences.append(
                f"partition {part.partition}, source {source}: {in_log:,} events stand in the log {where}, {read:,} "
                "were read there"
            )
    aside = tallies.records_set_aside - base.records_set_aside
    found.set_aside.in_log += counts.events_aside
    found.set_aside.tallied += tallies.events_set_aside - base.events_set_aside
    if counts.records_aside != aside:
        found.differences.append(
            f"partition {part.partition}: {counts.records_aside:,} records {where} can't be read, {aside:,} were set "
            "aside"
        )


def _add_up(found: Balance, states: Iterable[PartitionState], forwards: _Forwards | None) -> None:
    """Sum the tallies of all partitions, and look whether every event read has ended somewhere."""
    for state in states:
        for source, tally in state.tallies.sources.items():
            total = found.tallies.setdefault(source, Tally())
            for name in Tally.__struct_fields__:
                setattr(total, name, getattr(total, name) + getattr(tally, name))
            if tally.unaccounted:
                found.differences.append(
                    f"partition {state.partition}, source {source}: {tally.unaccounted:,} events more were read than "
                    "folded, dropped as repeats or sent on"
                )
    found.on_the_way = sum(one.sent_on - one.sent_here for one in found.tallies.values())
    if forwards is None:
        found.not_compared.append("events on their way to a user: not every partition is counted from its beginning")
    elif found.on_the_way != forwards.on_the_way:
        found.differences.append(
            f"{found.on_the_way:,} events more were sent on to users than have come there, "
            f"{forwards.on_the_way:,} of them are on the way"
        )


async def _records(backend: Backend, part: _Range) -> AsyncIterator[Record | Unreadable]:
    """Yield what stands in the log from a range's start to its end."""
    offset = part.start
    while offset < part.end:
        records = await backend.log.read(part.partition, offset, _READ_AT_ONCE)
        if not records:
            return
        for record in records:
            if record.offset < part.end:
                yield record
        offset = records[-1].offset + 1
