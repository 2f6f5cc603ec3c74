"""What the engine needs of the world: a log to read, a store to commit to, a place to publish to, a clock."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from collector.wire.record import Draft, Record
from processors.engine.outputs import Output
from processors.engine.state import Position

Clock = Callable[[], int]
"""Returns the time now, UTC milliseconds."""


class FencedError(Exception):
    """Another owner has acquired the partition, or the store is not where this owner thinks: acquire anew."""


class StoreUnavailableError(Exception):
    """The store or the log can't be reached or written; try again later."""


class LogMismatchError(Exception):
    """The log is not the one that the store's positions belong to: stop and say so, never skip."""


class CopyLostError(Exception):
    """A copy of a partition can't be finished, as what was kept for it is gone: begin it anew."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A record whose headers make no sense."""

    partition: int
    offset: int
    reason: str
    value: bytes
    newer: bool = False
    """Whether a newer program could read it: then it is waited for, not set aside."""
    events: int = 0
    """How many events are in it, where its headers can be read and say so."""
    append_time: int = 0
    """The log's own append time, UTC ms, by which another log under the same name is told apart; 0: not known."""


class EventLog(Protocol):
    """Topic `events`, partition by partition."""

    @property
    def partitions(self) -> int:
        """The number of partitions, fixed when the log was created."""
        ...

    @property
    def log_id(self) -> str:
        """What tells this log from another one that was created under the same name."""
        ...

    async def read(self, partition: int, offset: int, most: int) -> list[Record | Unreadable]:
        """Return at most `most` records from `offset` on, in order; an empty list at the end."""
        ...

    async def bounds(self, partition: int) -> tuple[int, int]:
        """Return (first offset still there, offset that the next record will get)."""
        ...

    async def all_bounds(self) -> list[tuple[int, int]]:
        """Return the bounds of every partition."""
        ...

    async def append(self, drafts: Sequence[tuple[int, Draft]]) -> None:
        """Append (partition, draft) pairs durably: ticks, requests to publish, the ends of imports."""
        ...


class Publisher(Protocol):
    """Where outputs go: at least once, in order per partition of the source; one owner's way out."""

    async def publish(self, outputs: Sequence[Output]) -> None:
        """Send outputs in order; return when all are durable but those of topic `stages`, which may wait for `flush`.

        Raises:
            StoreUnavailableError: if that could not be achieved; a part may be durable all the same.
        """
        ...

    async def flush(self, partition: int) -> None:
        """Return when what this partition's owner has sent to topic `stages` is durable, too; raises as `publish`.

        Raises:
            FencedError: if a later owner of the partition has begun to write there.
        """
        ...


@dataclass(slots=True)
class Commit:
    """One unit of work, committed whole or not at all."""

    partition: int
    token: str
    expected: Position
    """Where the store has to be."""
    position: Position
    state: bytes
    people: dict[str, bytes | None] = field(default_factory=dict)
    """Persons and links by key; None deletes."""
    listings: dict[tuple[int, str], bool] = field(default_factory=dict)
    """(due hour, key): True to list, False to strike off."""
    outputs: list[tuple[int, Output]] = field(default_factory=list)
    """(number, output) for the outbox; numbers only grow."""


@dataclass(frozen=True, slots=True)
class Acquired:
    """What an owner finds when it takes a partition over."""

    token: str
    state: bytes | None
    """The partition's state as last committed, None at the very beginning."""


class Hold(NamedTuple):
    """What an owner has of a partition: the token it acquired, and where it has come to."""

    token: str
    position: Position


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of what a store holds of one partition."""

    people: list[tuple[str, bytes]] = field(default_factory=list)
    """Persons and links by key, each once among all parts."""
    listings: list[tuple[int, str]] = field(default_factory=list)
    """(due hour, key) pairs, each once."""
    outputs: list[tuple[int, Output]] = field(default_factory=list)
    """The outbox's, with their numbers, in order."""


@dataclass(frozen=True, slots=True)
class Copy:
    """All that a store holds of one partition, as it was when it stood at one position."""

    position: Position
    state: bytes | None
    """The partition's state at that position, None where nothing was ever committed."""
    parts: AsyncGenerator[Part, None]
    """Raises CopyLostError where the copy can't be finished; what was yielded before is of no use then."""


class StateStore(Protocol):
    """The persons' states, due lists, positions and the outbox, per partition."""

    async def bind(self, log_id: str, partitions: int) -> None:
        """Remember which log the store belongs to, the first time.

        Raises:
            LogMismatchError: if the store belongs to another log or number of partitions.
        """
        ...

    async def bound_to(self) -> tuple[str, int] | None:
        """Return the log's id and number of partitions that `bind` remembered; None where nothing was bound yet."""
        ...

    async def acquire(self, partition: int) -> Acquired:
        """Become the only owner: whatever an earlier owner tries to commit from now on is refused.

        A commit that failed half-way, where a store can do that, is completed first.
        """
        ...

    async def load(self, partition: int, keys: Sequence[str], hold: Hold | None = None) -> dict[str, bytes]:
        """Return the values of those keys that there are; for an owner only those of its own place.

        Raises:
            FencedError: if `hold` is not the store's: persons of another place do not go with the owner's state.
        """
        ...

    async def due(self, partition: int, hour: int, most: int) -> list[tuple[int, str]]:
        """Return at most `most` listed (due hour, key) pairs up to `hour`, in that order."""
        ...

    async def first_due(self, partition: int) -> int | None:
        """Return the earliest listed hour, None where nothing is listed."""
        ...

    async def scan(self, partition: int, after: str, most: int) -> list[str]:
        """Return at most `most` keys of persons after `after` (empty: the first ones).

        The order is the store's own, but fixed: it depends on nothing but the keys, so that `after` may be gone.
        """
        ...

    async def commit(self, commit: Commit) -> int:
        """Do all of a unit of work at once; return the outbox's number of its last output (any where it has none).

        Raises:
            FencedError: if the token or the expected position is not the store's; nothing was changed.
        """
        ...

    async def outbox(self, partition: int, most: int) -> list[tuple[int, Output]]:
        """Return at most `most` committed outputs that were not trimmed, with their numbers, in order."""
        ...

    async def trim(self, partition: int, token: str, upto: int) -> None:
        """Forget outputs up to and including number `upto`.

        Raises:
            FencedError: if the token is not the store's; nothing was forgotten.
        """
        ...

    async def state(self, partition: int) -> bytes | None:
        """Return a partition's state as last committed, without acquiring it."""
        ...

    def people(self, partition: int) -> AsyncIterator[tuple[str, bytes]]:
        """Yield every (key, value) of a partition's persons: for tier cuts, checks and exports."""
        ...

    async def copy(self, partition: int) -> Copy:
        """Return a partition as it is now; its parts can be read while the owner goes on committing.

        Iterate the parts at once and to the end (`aclose` them where not): the store keeps what they need meanwhile.

        Raises:
            CopyLostError: if a copy can't be begun now.
        """
        ...

    async def replace(self, partition: int, position: Position, state: bytes | None, parts: Iterable[Part]) -> None:
        """Put a copy in the place of all that there is of a partition, at once or not at all.

        Whoever owned the partition is fenced, and finds the copy when it acquires it anew.
        """
        ...
