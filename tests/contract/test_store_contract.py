"""What every state store must do. Another backend joins by one more parameter of the fixture `opened`."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis.asyncio import Redis

from deploy.local.services import RedisServer
from processors.adapters.redis.store import RedisStore
from processors.adapters.sqlite.store import SqliteStore
from processors.engine.outputs import Output
from processors.engine.ports import Commit, Copy, FencedError, Hold, LogMismatchError, Part, StateStore
from processors.engine.state import Position

START = Position()


@dataclass
class Opened:
    """A store and, where the backend outlives it, a way to open the same one again."""

    store: StateStore
    again: Callable[[], StateStore] | None


def _sqlite_file(request: pytest.FixtureRequest, closing: AsyncExitStack) -> Opened:
    directory: Path = request.getfixturevalue("tmp_path")

    def open_store() -> SqliteStore:
        store = SqliteStore(directory / "state.db")
        closing.callback(store.close)
        return store

    return Opened(open_store(), open_store)


def _sqlite_memory(_: pytest.FixtureRequest, closing: AsyncExitStack) -> Opened:
    store = SqliteStore(":memory:")
    closing.callback(store.close)
    return Opened(store, None)


def _redis(request: pytest.FixtureRequest, closing: AsyncExitStack) -> Opened:
    server: RedisServer = request.getfixturevalue("redis_server")
    prefix = f"test-{secrets.token_hex(8)}"

    def open_store() -> RedisStore:
        store = RedisStore.open(server.url, prefix=prefix)
        closing.push_async_callback(store.close)
        return store

    closing.push_async_callback(_forget, server.url, prefix)
    return Opened(open_store(), open_store)


async def _forget(url: str, prefix: str) -> None:
    async with Redis.from_url(url) as client:
        keys = [key async for key in client.scan_iter(f"{prefix}:*")]
        if keys:
            await client.delete(*keys)


@pytest.fixture(params=[_sqlite_file, _sqlite_memory, pytest.param(_redis, marks=pytest.mark.services)])
async def opened(request: pytest.FixtureRequest) -> AsyncIterator[Opened]:
    async with AsyncExitStack() as closing:
        found: Opened = request.param(request, closing)
        yield found


@pytest.fixture
def store(opened: Opened) -> StateStore:
    return opened.store


def output(number: int, value: bytes | None = b"{}") -> tuple[int, Output]:
    headers = (("ce_id", f"0-0.0/{number}".encode()), ("user_id", "客户".encode()))
    return number, Output("stage-changes", 3, "u:客户".encode(), headers, value)


class Owner:
    """Commits to partition 3, each time at the position where the commit before ended."""

    def __init__(self, store: StateStore, token: str, position: Position = START) -> None:
        self._store, self.token, self.position = store, token, position

    def unit(self, **work: object) -> Commit:
        after = Position(self.position.offset + 1)
        fields = {"partition": 3, "token": self.token, "expected": self.position, "position": after, "state": b"s"}
        return Commit(**(fields | work))  # type: ignore[arg-type]

    async def commit(self, **work: object) -> int:
        unit = self.unit(**work)
        last = await self._store.commit(unit)
        self.position = unit.position
        return last


@pytest.fixture
async def owner(store: StateStore) -> Owner:
    return Owner(store, (await store.acquire(3)).token)


async def everything(store: StateStore) -> tuple[object, ...]:
    return (
        await store.state(3),
        [one async for one in store.people(3)],
        await store.load(3, ["l:x"]),
        await store.due(3, 1 << 40, 100),
        await store.outbox(3, 100),
    )


async def test_it_stays_with_the_log_it_was_bound_to(opened: Opened) -> None:
    await opened.store.bind("log-a", 32)
    await opened.store.bind("log-a", 32)
    reopened = opened.again() if opened.again else opened.store
    with pytest.raises(LogMismatchError, match="log-a"):
        await reopened.bind("log-b", 32)
    with pytest.raises(LogMismatchError, match="32"):
        await reopened.bind("log-a", 16)
    await reopened.bind("log-a", 32)


async def test_it_tells_which_log_it_was_bound_to_and_binds_nothing_by_that(store: StateStore) -> None:
    assert await store.bound_to() is None
    await store.bind("one", 8)
    assert await store.bound_to() == ("one", 8)


async def test_a_partition_that_nobody_has_committed_to_is_empty(store: StateStore) -> None:
    assert await store.state(3) is None
    assert (await store.acquire(3)).state is None
    assert await everything(store) == (None, [], {}, [], [])
    assert await store.first_due(3) is None


async def test_acquiring_refuses_the_former_owner(store: StateStore, owner: Owner) -> None:
    await owner.commit(state=b"one")
    acquired = await store.acquire(3)
    assert acquired.state == b"one"
    assert acquired.token != owner.token
    before = await everything(store)
    with pytest.raises(FencedError):
        await owner.commit(state=b"two", people={"u:1": b"1"}, listings={(7, "u:1"): True}, outputs=[output(0)])
    assert await everything(store) == before
    await Owner(store, acquired.token, owner.position).commit(state=b"two")
    assert await store.state(3) == b"two"


async def test_every_acquisition_has_a_token_of_its_own(store: StateStore) -> None:
    """A number that counts up could be lost in a failover and given twice."""
    assert len({(await store.acquire(3)).token for _ in range(5)}) == 5


async def test_owners_of_other_partitions_are_not_refused(store: StateStore, owner: Owner) -> None:
    await store.acquire(4)
    await owner.commit()


@pytest.mark.parametrize("expected", [Position(2), Position(0), Position(1, 1)])
async def test_another_position_is_refused_and_nothing_is_changed(
    store: StateStore, owner: Owner, expected: Position
) -> None:
    await owner.commit(people={"u:1": b"1"}, listings={(7, "u:1"): True}, outputs=[output(0)])
    before = await everything(store)
    with pytest.raises(FencedError):
        await owner.commit(
            expected=expected, people={"u:1": None, "u:2": b"2"}, listings={(7, "u:1"): False}, outputs=[output(1)]
        )
    assert await everything(store) == before
    await owner.commit(outputs=[output(1)])


async def test_a_position_is_an_offset_and_a_cursor(owner: Owner) -> None:
    await owner.commit(position=Position(0, 1))
    await owner.commit(position=Position(0, 2))
    with pytest.raises(FencedError):
        await owner.commit(expected=Position(0, 1))
    await owner.commit(position=Position(1))


async def test_a_partition_that_was_never_acquired_refuses(store: StateStore) -> None:
    with pytest.raises(FencedError):
        await Owner(store, "").commit()


async def test_it_loads_what_was_written_and_not_what_was_deleted(store: StateStore, owner: Owner) -> None:
    await owner.commit(people={"u:1": b"1", "a:2": b"2", "l:2": b"link", "u:客户\0 x": b"\x00\xff"})
    await owner.commit(people={"u:1": b"1b", "a:2": None, "u:never": None})
    assert await store.load(3, ["u:1", "a:2", "l:2", "u:客户\0 x", "u:3"]) == {
        "u:1": b"1b",
        "l:2": b"link",
        "u:客户\0 x": b"\x00\xff",
    }
    assert await store.load(3, []) == {}
    assert await store.load(4, ["u:1"]) == {}


async def test_it_loads_for_an_owner_what_stands_at_its_own_place_alone(store: StateStore, owner: Owner) -> None:
    """A store that has fallen back would give persons that the owner's state has never seen, or has long counted."""
    await owner.commit(position=Position(1), people={"u:1": b"1"})
    await owner.commit(position=Position(1, 7), people={"u:1": b"2"})
    assert await store.load(3, ["u:1"], Hold(owner.token, Position(1, 7))) == {"u:1": b"2"}
    for elsewhere in (Position(1), Position(2), Position(1, 6), Position(11, 7)):
        with pytest.raises(FencedError):
            await store.load(3, ["u:1"], Hold(owner.token, elsewhere))
    await store.acquire(3)
    with pytest.raises(FencedError):
        await store.load(3, ["u:1"], Hold(owner.token, Position(1, 7)))


async def test_it_loads_more_keys_than_one_query_takes(store: StateStore, owner: Owner) -> None:
    people = {f"u:{n}": b"%d" % n for n in range(1500)}
    await owner.commit(people=people)
    assert await store.load(3, [*people, "u:none"]) == people


async def test_what_is_due_comes_in_the_order_of_hour_and_code_points(store: StateStore, owner: Owner) -> None:
    """Code points, not UTF-16 units: U+FF5E stands before U+1F600."""
    keys = ["a:Z", "a:a", "l:x", "u:\uff5e", "u:\U0001f600"]
    await owner.commit(listings={(hour, key): True for key in reversed(keys) for hour in (9, 100)})
    await owner.commit(listings={(10, "u:1"): True})
    listed = [*((9, key) for key in keys), (10, "u:1"), *((100, key) for key in keys)]
    assert await store.due(3, 100, 100) == listed
    assert await store.due(3, 99, 100) == listed[:6]
    assert await store.due(3, 100, 2) == listed[:2]
    assert await store.due(3, 8, 100) == []
    assert await store.due(4, 100, 100) == []
    assert await store.first_due(3) == 9


async def test_what_is_struck_off_is_no_longer_due(store: StateStore, owner: Owner) -> None:
    await owner.commit(listings={(9, "u:1"): True, (9, "u:2"): True, (12, "u:1"): True})
    await owner.commit(listings={(9, "u:1"): False, (9, "u:9"): False, (12, "u:1"): True})
    assert await store.due(3, 100, 100) == [(9, "u:2"), (12, "u:1")]
    await owner.commit(listings={(9, "u:2"): False})
    assert await store.first_due(3) == 12


async def test_a_scan_walks_the_persons_and_leaves_the_links_out(store: StateStore, owner: Owner) -> None:
    """In an order of the store's own, which is the same however often and in whatever slices it is walked."""
    keys = ["a:", "a:1", "a:l:", "u:1", "u:\uff5e", "u:\U0001f600", *(f"a:{n}" for n in range(100, 160))]
    await owner.commit(people=dict.fromkeys([*reversed(keys), "l:1", "l:100", "l:\uff5e"], b"x"))
    order = await store.scan(3, "", 100)
    assert sorted(order) == sorted(keys)
    assert await store.scan(4, "", 100) == []
    for most in (1, 2, 7, len(keys)):
        walked = [""]
        while some := await store.scan(3, walked[-1], most):
            assert len(some) <= most
            walked += some
        assert walked[1:] == order


async def test_the_order_of_a_scan_depends_on_nothing_but_the_keys(store: StateStore, owner: Owner) -> None:
    """What is written or deleted between two slices moves nobody else, and where a slice ended need not be there."""
    keys = [f"a:{n}" for n in range(60)]
    await owner.commit(people=dict.fromkeys(keys, b"x"))
    order = await store.scan(3, "", 100)
    gone = order[20]
    await owner.commit(people={gone: None, order[10]: None, "u:new": b"x", order[30]: b"y"})
    rest = await store.scan(3, gone, 100)
    assert [key for key in rest if key != "u:new"] == order[21:]


async def test_people_yields_every_person_with_its_value(store: StateStore, owner: Owner) -> None:
    people = {f"u:{n:04}": b"%d" % n for n in range(1200)}
    await owner.commit(people=people | {"l:1": b"link"})
    found = [one async for one in store.people(3)]
    assert len(found) == len(people)
    assert dict(found) == people


async def test_the_outbox_keeps_order_until_it_is_trimmed(store: StateStore, owner: Owner) -> None:
    await owner.commit(outputs=[output(n) for n in range(8)])
    await owner.commit(outputs=[output(8), output(9, None), output(10, b"")])
    all_of_them = [*(output(n) for n in range(9)), output(9, None), output(10, b"")]
    assert await store.outbox(3, 100) == all_of_them
    assert await store.outbox(3, 4) == all_of_them[:4]
    await store.trim(3, owner.token, 3)
    assert await store.outbox(3, 4) == all_of_them[4:8]
    await store.trim(3, owner.token, 1)
    await store.trim(4, (await store.acquire(4)).token, 100)
    assert await store.outbox(3, 100) == all_of_them[4:]
    await store.trim(3, owner.token, 10)
    assert await store.outbox(3, 100) == []
    await owner.commit(outputs=[output(11)])
    assert await store.outbox(3, 100) == [output(11)]


async def test_a_commit_tells_the_number_of_its_last_output(store: StateStore, owner: Owner) -> None:
    assert await owner.commit(outputs=[output(n) for n in range(4)]) == 3
    await store.trim(3, owner.token, 1)
    assert await owner.commit(outputs=[output(4)]) == 4
    await store.trim(3, owner.token, 4)
    assert await owner.commit(outputs=[output(5), output(6)]) == 6


async def test_whoever_lost_the_partition_trims_nothing(store: StateStore, owner: Owner) -> None:
    await owner.commit(outputs=[output(0)])
    await store.acquire(3)
    with pytest.raises(FencedError):
        await store.trim(3, owner.token, 0)
    assert await store.outbox(3, 10) == [output(0)]


async def test_the_outbox_gives_headers_and_missing_keys_back(store: StateStore, owner: Owner) -> None:
    bare = Output("events", 0, None, (), None)
    await owner.commit(outputs=[(0, bare), output(1)])
    assert await store.outbox(3, 10) == [(0, bare), output(1)]


async def test_another_owner_finds_what_the_first_one_left(opened: Opened, owner: Owner) -> None:
    await owner.commit(state=b"one", people={"u:1": b"1"}, listings={(5, "u:1"): True}, outputs=[output(0)])
    before = await everything(opened.store)
    reopened = opened.again() if opened.again else opened.store
    acquired = await reopened.acquire(3)
    assert acquired.state == b"one"
    assert await everything(reopened) == before
    await Owner(reopened, acquired.token, owner.position).commit(outputs=[output(1)])
    assert await opened.store.outbox(3, 10) == [output(0), output(1)]


async def whole(copy: Copy) -> tuple[object, ...]:
    """Return all of a copy, its parts put together; nothing may come twice."""
    async with aclosing(copy.parts) as parts:
        found = [part async for part in parts]
    people = [one for part in found for one in part.people]
    listings = [one for part in found for one in part.listings]
    assert len(dict(people)) == len(people)
    outputs = [one for part in found for one in part.outputs]
    return copy.position, copy.state, sorted(people), sorted(listings), outputs


async def test_a_copy_is_all_of_a_partition_and_leaves_it_alone(store: StateStore, owner: Owner) -> None:
    people = {f"{kind}:{n}": b"%d" % n * 100 for n in range(700) for kind in "ual"}
    listings = {(hour, f"u:{n}"): True for hour in range(100) for n in range(3)}
    outputs = [output(n) for n in range(1200)]
    await owner.commit(state=b"one", people=people, listings=listings, outputs=outputs)
    await store.trim(3, owner.token, 99)
    before = await everything(store)
    expected = (Position(1), b"one", sorted(people.items()), sorted(listings), outputs[100:])
    assert await whole(await store.copy(3)) == expected
    assert await everything(store) == before
    assert await whole(await store.copy(4)) == (START, None, [], [], [])
    await owner.commit()


async def test_what_is_committed_while_it_is_copied_is_not_in_the_copy(store: StateStore, owner: Owner) -> None:
    """Changed, deleted, deleted and written again, new; listed, struck off; sent, trimmed: nothing of it."""
    people = {f"a:{n}": b"old %d" % n * 50 for n in range(200)} | {"l:1": b"link"}
    listings = {(hour, f"a:{n}"): True for hour in range(70) for n in range(2)}
    outputs = [output(n) for n in range(600)]
    await owner.commit(state=b"old", people=people, listings=listings, outputs=outputs)
    copy = await store.copy(3)
    found = []
    async with aclosing(copy.parts) as parts:
        step = 0
        async for part in parts:
            found.append(part)
            some = {f"a:{n}": None if (n + step) % 3 else b"new" for n in range(step % 7, 220, 7)}
            moved = {(hour, f"a:{n}"): (hour + step) % 2 == 0 for hour in range(90) for n in range(3)}
            await owner.commit(people=some | {"l:1": None}, listings=moved, outputs=[output(600 + step)])
            await store.trim(3, owner.token, 20 * step)
            step += 1
    assert step > 2
    assert sorted(one for part in found for one in part.people) == sorted(people.items())
    assert sorted(one for part in found for one in part.listings) == sorted(listings)
    assert [one for part in found for one in part.outputs] == outputs
    assert (copy.position, copy.state) == (Position(1), b"old")


async def test_a_copy_put_in_the_place_of_a_partition_is_all_there_is(opened: Opened, owner: Owner) -> None:
    store = opened.store
    copied = (Position(9, 2), b"copied", [("a:1", b"x" * 500), ("l:1", b"l"), ("u:1", b"")], [(5, "a:1"), (7, "u:1")])
    parts = [
        Part(people=copied[2][:2]),
        Part(people=copied[2][2:], listings=copied[3]),
        Part(outputs=[output(40), output(41)]),
    ]
    await owner.commit(people={"u:old": b"1", "u:1": b"2"}, listings={(1, "u:old"): True}, outputs=[output(0)])
    await store.replace(3, copied[0], copied[1], parts)
    expected = (*copied, [output(40), output(41)])
    assert await whole(await store.copy(3)) == expected
    assert await store.due(3, 100, 100) == copied[3]
    assert await store.first_due(3) == 5
    with pytest.raises(FencedError):
        await owner.commit()
    reopened = opened.again() if opened.again else store
    acquired = await reopened.acquire(3)
    assert acquired.state == b"copied"
    await Owner(reopened, acquired.token, Position(9, 2)).commit(position=Position(10), outputs=[output(42)])
    assert await store.outbox(3, 10) == [output(40), output(41), output(42)]


async def test_an_empty_copy_empties_a_partition_and_no_other(store: StateStore, owner: Owner) -> None:
    other = await store.acquire(4)
    await owner.commit(people={"u:1": b"1"}, listings={(1, "u:1"): True}, outputs=[output(0)])
    await Owner(store, other.token).commit(partition=4, people={"u:1": b"1"})
    await store.replace(3, START, None, [])
    assert await everything(store) == (None, [], {}, [], [])
    assert await whole(await store.copy(3)) == (START, None, [], [], [])
    assert await store.load(4, ["u:1"]) == {"u:1": b"1"}
    await Owner(store, (await store.acquire(3)).token).commit()


async def test_a_copy_that_fails_on_the_way_in_changes_nothing(store: StateStore, owner: Owner) -> None:
    def broken() -> Iterator[Part]:
        yield Part(people=[("u:new", b"1")], listings=[(1, "u:new")], outputs=[output(7)])
        raise LookupError

    await owner.commit(people={"u:1": b"1"}, listings={(1, "u:1"): True}, outputs=[output(0)])
    before = await everything(store)
    with pytest.raises(LookupError):
        await store.replace(3, Position(5), b"new", broken())
    assert await everything(store) == before
    await owner.commit()
