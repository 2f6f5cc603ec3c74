"""The commit protocol over every state store, with a death before or after each step, two owners at once and rollbacks.

A log of made-up records is folded by owners that any step may kill, whose replies get lost, whose store falls back to
an earlier commit, or fails in the middle of one. The model knows what the store holds: the pure fold of the log up to
the position, and outputs that were not trimmed.
"""

from __future__ import annotations

import asyncio
import copy
import json
import secrets
import sqlite3
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from redis.asyncio import Redis

from deploy.local.services import RedisServer
from processors.adapters.redis.store import RedisStore, steps_of
from processors.adapters.sqlite.store import SqliteStore
from processors.engine.outputs import Output
from processors.engine.ports import Commit, FencedError, Hold, StateStore, StoreUnavailableError
from processors.engine.state import Position

PARTITION: Final = 3
KEYS: Final = ("a:x", "u:1", "u:2", "u:客户", "l:x")
HOURS: Final = (7, 8, 400)
OWNERS: Final = (0, 1)

tally: Counter[str] = Counter()
"""How often each kind of step was taken: a run in which something never happens shows nothing about it."""


class Work(NamedTuple):
    """What one slice of a record does: whom it touches, how, and how many outputs it forms."""

    keys: tuple[str, ...]
    deletes: bool
    hour: int | None
    """The hour it lists (`keys` it writes) or strikes off (`keys` it deletes)."""
    outputs: int


RecordWork = tuple[Work, ...]
"""The slices of one record; each of several is committed alone."""

works = st.builds(
    Work,
    st.lists(st.sampled_from(KEYS), max_size=3, unique=True).map(tuple),
    st.sampled_from((False, False, True)),
    st.sampled_from((None, *HOURS)),
    st.integers(0, 3),
)
places = st.sampled_from(OWNERS)
ends = st.sampled_from(("it lives", "it lives", "dies before", "dies after", "reply lost, tries again"))
records = st.lists(works, min_size=1, max_size=3).map(tuple)


@dataclass
class Held:
    """What a store holds of the partition, or what a pure fold says that it holds."""

    position: Position = field(default_factory=Position)
    people: dict[str, bytes] = field(default_factory=dict)
    due: set[tuple[int, str]] = field(default_factory=set)
    formed: int = 0
    """Outputs so far; their numbers count from 0."""

    def state(self) -> bytes:
        return json.dumps([*self.position, self.formed]).encode()


def output(number: int, place: Position) -> Output:
    """Return the output of that number: a function of the log alone."""
    name = f"{place.offset}.{place.cursor}/{number}".encode()
    return Output("stage-changes", PARTITION, b"u:1", (("ce_id", name),), b'{"of": "%s"}' % name)


def fold(held: Held, log: Sequence[RecordWork], most: int) -> tuple[Held, Commit]:
    """Fold the next slice, or up to `most` records of one slice each; return what is held then, and the commit."""
    after = copy.deepcopy(held)
    commit = Commit(PARTITION, "", held.position, held.position, b"")
    for _ in range(most):
        offset, cursor = place = after.position
        work = log[offset][cursor]
        for key in work.keys:
            if work.deletes:
                after.people.pop(key, None)
            else:
                after.people[key] = after.people.get(key, b"") + b"%d.%d " % place
            commit.people[key] = after.people.get(key)
            if work.hour is not None:
                commit.listings[work.hour, key] = not work.deletes
                (after.due.discard if work.deletes else after.due.add)((work.hour, key))
        commit.outputs.extend((n, output(n, place)) for n in range(after.formed, after.formed + work.outputs))
        after.formed += work.outputs
        last = cursor + 1 == len(log[offset])
        after.position = Position(offset + 1) if last else Position(offset, cursor + 1)
        if after.position.offset == len(log) or len(log[offset]) > 1 or len(log[after.position.offset]) > 1:
            break
    return after, Commit(
        PARTITION, "", held.position, after.position, after.state(), commit.people, commit.listings, commit.outputs
    )


@dataclass
class Model:
    """What the store has to hold: it falls back together with it."""

    token: str = ""
    held: Held = field(default_factory=Held)
    trimmed: int = 0
    pending: Held | None = None
    """What will be held once the commit that was cut short is completed."""


@dataclass
class Owner:
    """One that has acquired the partition, and may have lost it without knowing."""

    token: str
    held: Held
    unsent: list[tuple[int, Output]]
    """Read from the outbox or just committed, in order; not yet published."""
    sent: int = -1
    """Number of the last output published by this owner."""


class Adapter(Protocol):
    """A store that tests can open twice, put back to an earlier commit, and break."""

    stores: tuple[StateStore, StateStore]

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def snapshot(self) -> Any: ...

    async def put_back(self, snapshot: Any) -> None: ...

    async def contents(self) -> Any:
        """Return all that is held, in a form in which equal stores are equal."""
        ...

    async def damage(self, commit: Commit, step: int) -> int | None:
        """Make step number `step` of a commit fail; return how many happen before, None where it can't be done."""
        ...

    async def repair(self) -> None: ...


class SqliteFile:
    """Two connections to one file, which every example finds empty."""

    def __init__(self, path: Path) -> None:
        self._files = SqliteStore(path), SqliteStore(path)
        self.stores: tuple[StateStore, StateStore] = self._files
        self._empty = sqlite3.connect(":memory:")
        self._connection().backup(self._empty)

    async def open(self) -> None:
        await self.put_back(self._empty)

    async def close(self) -> None:
        """Return: the next example takes the same file."""

    def _connection(self) -> sqlite3.Connection:
        return self._files[0]._connection  # noqa: SLF001 - a copy of a file in use is made by its connection

    def give_up(self) -> None:
        self._empty.close()
        for store in self._files:
            store.close()

    async def snapshot(self) -> sqlite3.Connection:
        copied = sqlite3.connect(":memory:")
        self._connection().backup(copied)
        return copied

    async def put_back(self, snapshot: sqlite3.Connection) -> None:
        snapshot.backup(self._connection())

    async def contents(self) -> list[str]:
        return list(self._connection().iterdump())

    async def damage(self, _commit: Commit, _step: int) -> None:
        """Return: a transaction happens or does not."""

    async def repair(self) -> None:
        """Return: nothing was damaged."""


class RedisKeys:
    """Two clients of one Redis, and a third to read and write all keys behind their backs."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def open(self) -> None:
        self._prefix = f"test-{secrets.token_hex(8)}"
        self._opened = tuple(RedisStore.open(self._url, prefix=self._prefix) for _ in OWNERS)
        self.stores: tuple[StateStore, StateStore] = (self._opened[0], self._opened[1])
        self._client = Redis.from_url(self._url)
        self._damaged: tuple[str, bytes | None] | None = None

    async def _keys(self) -> list[bytes]:
        return [key async for key in self._client.scan_iter(f"{self._prefix}:*", count=1000)]

    async def close(self) -> None:
        if keys := await self._keys():
            await self._client.delete(*keys)
        for store in self._opened:
            await store.close()
        await self._client.aclose()

    async def snapshot(self) -> dict[bytes, bytes]:
        keys = sorted(await self._keys())
        async with self._client.pipeline(transaction=False) as asked:
            for key in keys:
                asked.dump(key)
            return dict(zip(keys, await asked.execute(), strict=True))

    async def put_back(self, snapshot: dict[bytes, bytes]) -> None:
        keys = await self._keys()
        async with self._client.pipeline(transaction=True) as all_at_once:
            for key in keys:
                all_at_once.delete(key)
            for key, value in snapshot.items():
                all_at_once.restore(key, 0, value)
            await all_at_once.execute()

    async def contents(self) -> dict[bytes, Any]:
        """Read key by key: the order of a hash's fields, which DUMP keeps, is Redis's own affair and may change."""
        readers: dict[bytes, Callable[[bytes], Any]] = {
            b"hash": self._client.hgetall,
            b"list": lambda key: self._client.lrange(key, 0, -1),
            b"set": self._client.smembers,
            b"zset": lambda key: self._client.zrange(key, 0, -1, withscores=True),
            b"string": self._client.get,
        }
        kinds: dict[bytes, Any] = {key: await self._client.type(key) for key in await self._keys()}
        return {key: await readers[kind](key) for key, kind in kinds.items()}

    async def damage(self, commit: Commit, step: int) -> int | None:
        """Make another program's text of the key that the step writes."""
        names = [name for name, _, _ in steps_of(commit)]
        if step >= len(names):
            return None
        key = self._opened[0]._key(PARTITION, *names[step])  # noqa: SLF001 - what the script will write to
        self._damaged = key, await self._client.dump(key)
        await self._client.set(key, "a text")
        return names.index(names[step])

    async def repair(self) -> None:
        assert self._damaged is not None
        (key, value), self._damaged = self._damaged, None
        await self._client.delete(key)
        if value is not None:
            await self._client.restore(key, 0, value)


class CommitProtocol(RuleBasedStateMachine):
    """Two places for owners; in each, one may come, be killed and come again."""

    def __init__(self, adapter: Adapter, runner: asyncio.Runner) -> None:
        super().__init__()
        tally["examples"] += 1
        self._adapter, self._runner = adapter, runner
        self._log: list[RecordWork] = []
        self._model = Model()
        self._owners: dict[int, Owner] = {}
        self._published: list[tuple[int, Output]] = []
        self._snapshots: list[tuple[Any, Model]] = []
        self._damaged = False
        self._folds = [Held()]
        """What a pure fold holds at each position that it has come to."""
        self._run(adapter.open())

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(work)

    def _store(self, place: int) -> StateStore:
        return self._adapter.stores[place]

    def _held(self) -> Held:
        """Return what a pure fold of the log makes of it up to the model's position."""
        position = self._model.held.position
        while self._folds[-1].position < position:
            self._folds.append(fold(self._folds[-1], self._log, 1)[0])
        return next(copy.deepcopy(held) for held in self._folds if held.position == position)

    # What happens.

    @initialize(some=st.lists(records, min_size=2, max_size=8))
    def the_log_begins(self, some: list[RecordWork]) -> None:
        self._log.extend(some)

    @rule(more=st.lists(records, min_size=1, max_size=4))
    def records_arrive(self, more: list[RecordWork]) -> None:
        self._log.extend(more)

    @rule(place=places, reply_lost=st.booleans())
    def an_owner_comes(self, place: int, reply_lost: bool) -> None:  # noqa: FBT001 - hypothesis passes by name
        """It reads the state and the outbox; a commit that was cut short is completed first."""
        self._owners.pop(place, None)
        store = self._store(place)
        if self._damaged and self._model.pending is not None:
            tally["acquire: refused while the store is damaged"] += 1
            with pytest.raises(StoreUnavailableError):
                self._run(store.acquire(PARTITION))
            return
        acquired = self._run(store.acquire(PARTITION))
        tally["acquire"] += 1
        self._model.token = acquired.token
        if self._model.pending is not None:
            tally["acquire: completed a commit"] += 1
            self._model.held, self._model.pending = self._model.pending, None
        self._repair()
        if reply_lost:
            tally["acquire: reply lost"] += 1
            return
        expected = self._held()
        assert acquired.state == (None if expected.position == Position() else expected.state())
        unsent = self._run(store.outbox(PARTITION, 1000))
        self._owners[place] = Owner(acquired.token, expected, unsent)

    def _repair(self) -> None:
        if self._damaged:
            self._run(self._adapter.repair())
            self._damaged = False

    def _owner(self, place: int) -> Owner:
        """Return the owner at a place; a new one where the last one has died."""
        if place not in self._owners:
            self._repair()
            self.an_owner_comes(place, reply_lost=False)
        return self._owners[place]

    def _may(self, owner: Owner) -> bool:
        """Return whether a commit of this owner has to be taken."""
        model = self._model
        return owner.token == model.token and model.pending is None and owner.held.position == model.held.position

    @rule(place=places, most=st.integers(1, 4), times=st.integers(1, 4), end=ends)
    def an_owner_commits(self, place: int, most: int, times: int, end: str) -> None:
        """Once or more often; what `end` says happens around the last time."""
        owner, store = self._owner(place), self._store(place)
        self._repair()
        for left in reversed(range(times)):
            if owner.held.position.offset == len(self._log):
                return
            after, commit = self._unit(place, owner, most)
            if not left and end == "dies before":
                tally["commit: dies before"] += 1
                del self._owners[place]
                return
            if not self._may(owner):
                tally["commit: refused"] += 1
                self._refused(store.commit, commit)
                del self._owners[place]
                return
            last = self._run(store.commit(commit))
            self._model.held = owner.held = after
            tally["commit"] += 1
            if not left and end != "it lives":
                tally[f"commit: {end}"] += 1
                if end == "reply lost, tries again":
                    self._refused(store.commit, commit)
                del self._owners[place]
                return
            assert not commit.outputs or last == commit.outputs[-1][0]
            owner.unsent += commit.outputs

    def _unit(self, place: int, owner: Owner, most: int) -> tuple[Held, Commit]:
        """Return what an owner makes of its next records, loading what it needs as the engine does."""
        after, commit = fold(owner.held, self._log, most)
        load = partial(self._store(place).load, PARTITION, KEYS, Hold(owner.token, owner.held.position))
        if self._may(owner):
            assert self._run(load()) == owner.held.people
        else:
            with pytest.raises(FencedError):
                self._run(load())
        return after, replace(commit, token=owner.token)

    def _refused(self, work: Callable[..., Coroutine[Any, Any, Any]], *arguments: Any) -> None:
        """Assert that something is refused and changes nothing."""
        before = self._run(self._adapter.contents())
        with pytest.raises(FencedError):
            self._run(work(*arguments))
        assert self._run(self._adapter.contents()) == before

    @rule(place=places, most=st.integers(1, 4), step=st.integers(0, 7))
    def a_commit_is_cut_short(self, place: int, most: int, step: int) -> None:
        """The store fails at one of the commit's steps; what it had begun is completed by the next owner."""
        owner, store = self._owner(place), self._store(place)
        if self._damaged or owner.held.position.offset == len(self._log) or not self._may(owner):
            return
        after, commit = self._unit(place, owner, most)
        before = self._run(self._adapter.damage(commit, step))
        if before is None:
            return
        tally["commit: cut short"] += 1
        self._damaged = True
        del self._owners[place]
        with pytest.raises(StoreUnavailableError):
            self._run(store.commit(commit))
        if before:
            self._model.pending = after
            with pytest.raises(FencedError, match="cut short"):
                self._run(store.commit(commit))

    @rule(place=places, many=st.sampled_from((1, 2, 1000)), dies=st.booleans())
    def an_owner_publishes(self, place: int, many: int, dies: bool) -> None:  # noqa: FBT001 - as above
        """In order, some of them or all; whoever has lost the partition may still do it."""
        owner = self._owner(place)
        sent, owner.unsent = owner.unsent[:many], owner.unsent[many:]
        if sent:
            tally["publish"] += 1
            self._published += sent
            owner.sent = sent[-1][0]
        if dies:
            del self._owners[place]

    @rule(place=places, end=st.sampled_from(("it lives", "dies before", "dies after")))
    def an_owner_trims(self, place: int, end: str) -> None:
        owner, store = self._owner(place), self._store(place)
        if self._damaged or owner.sent < 0:
            return
        if end != "it lives":
            del self._owners[place]
        if end == "dies before":
            tally["trim: dies before"] += 1
        elif owner.token != self._model.token:
            tally["trim: refused"] += 1
            self._refused(store.trim, PARTITION, owner.token, owner.sent)
            self._owners.pop(place, None)
        else:
            tally["trim"] += 1
            self._run(store.trim(PARTITION, owner.token, owner.sent))
            self._model.trimmed = max(self._model.trimmed, min(owner.sent + 1, self._model.held.formed))

    @rule(place=places, most=st.integers(1, 4))
    def a_commit_is_lost(self, place: int, most: int) -> None:
        """What an owner has just committed is gone, as with a store that loses its last second; it does not know."""
        owner, store = self._owner(place), self._store(place)
        self._repair()
        if owner.held.position.offset == len(self._log) or not self._may(owner):
            return
        tally["falls back: below its owner"] += 1
        snapshot = self._run(self._adapter.snapshot())
        after, commit = self._unit(place, owner, most)
        self._run(store.commit(commit))
        owner.held = after
        owner.unsent += commit.outputs
        self._run(self._adapter.put_back(snapshot))
        self._snapshots.append((snapshot, copy.deepcopy(self._model)))

    @rule()
    def the_store_is_copied(self) -> None:
        self._repair()
        self._snapshots.append((self._run(self._adapter.snapshot()), copy.deepcopy(self._model)))

    @precondition(lambda self: self._snapshots)
    @rule(number=st.integers(0, 5))
    def the_store_falls_back(self, number: int) -> None:
        """To an earlier state, token and all: who owned it then does so again, if it stands where the store does."""
        self._repair()
        snapshot, model = self._snapshots[number % len(self._snapshots)]
        if model.held.position < self._model.held.position:
            tally["falls back"] += 1
        self._run(self._adapter.put_back(snapshot))
        self._model = copy.deepcopy(model)

    # What holds after each step.

    @invariant()
    def the_store_holds_the_pure_fold(self) -> None:
        tally["steps"] += 1
        if self._damaged or self._model.pending is not None:
            return
        expected, store = self._held(), self._store(0)
        assert expected == self._model.held
        state = self._run(store.state(PARTITION))
        assert state == (None if expected.position == Position() else expected.state())
        assert self._run(store.load(PARTITION, KEYS)) == expected.people
        assert self._run(store.due(PARTITION, 1 << 40, 1000)) == sorted(expected.due)
        assert self._run(store.first_due(PARTITION)) == min((hour for hour, _ in expected.due), default=None)

    @invariant()
    def no_output_is_lost_or_of_other_bytes(self) -> None:
        """Each is published or still in the outbox, under one number and with the same bytes."""
        if self._damaged or self._model.pending is not None:
            return
        waiting = self._run(self._store(1).outbox(PARTITION, 1000))
        numbers = [number for number, _ in waiting]
        assert numbers == list(range(self._model.trimmed, self._model.held.formed))
        there = dict(self._published)
        assert set(there) | {*numbers} >= set(range(self._model.held.formed))
        for number, one in (*self._published, *waiting):
            assert there.setdefault(number, one) == one

    def teardown(self) -> None:
        """Let one owner come that nothing happens to: everything is folded and published in the end."""
        try:
            self._finish()
        finally:
            for snapshot, _ in self._snapshots:
                if isinstance(snapshot, sqlite3.Connection):
                    snapshot.close()
            self._run(self._adapter.close())

    def _finish(self) -> None:
        self._repair()
        self.an_owner_comes(0, reply_lost=False)
        owner, store = self._owners[0], self._store(0)
        while owner.held.position.offset < len(self._log):
            after, commit = self._unit(0, owner, 3)
            self._run(store.commit(commit))
            self._model.held = owner.held = after
            owner.unsent += commit.outputs
        self._published += owner.unsent
        self.the_store_holds_the_pure_fold()
        self.no_output_is_lost_or_of_other_bytes()
        assert {number for number, _ in self._published} == set(range(owner.held.formed))
        first = list(dict.fromkeys(number for number, _ in self._published))
        assert first == sorted(first), "sent before what precedes it"


def check(adapter: Adapter, examples: int, steps: int) -> None:
    """Run so many histories of so many steps each; say what happened in them."""
    tally.clear()
    profile = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    with asyncio.Runner() as runner:
        machine = partial(CommitProtocol, adapter, runner)
        run_state_machine_as_test(machine, settings=profile)  # type: ignore[arg-type] # it takes whatever makes one
    print(f"\n{dict(sorted(tally.items()))}")  # noqa: T201 - figures


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.services)])
def adapter(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Adapter]:
    if request.param == "sqlite":
        file = SqliteFile(tmp_path / "states.sqlite")
        yield file
        file.give_up()
    else:
        server: RedisServer = request.getfixturevalue("redis_server")
        yield RedisKeys(server.url)


def test_whatever_dies_the_store_holds_the_pure_fold(adapter: Adapter) -> None:
    check(adapter, examples=25, steps=25)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_whatever_dies_in_many_more_histories(adapter: Adapter) -> None:
    check(adapter, examples=300, steps=50)
    expected = {"commit", "commit: refused", "trim: refused", "falls back", "falls back: below its owner"}
    if isinstance(adapter, RedisKeys):
        expected |= {"commit: cut short", "acquire: completed a commit"}
    assert expected <= tally.keys()
