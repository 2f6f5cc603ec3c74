"""A copy of a partition on Redis is of one position, whatever is committed, cut short, lost or begun meanwhile."""

from __future__ import annotations

import random
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

import pytest
from redis.asyncio import Redis

from deploy.local.services import RedisServer
from processors.adapters.redis.store import RedisStore
from processors.engine.outputs import Output
from processors.engine.ports import Commit, Copy, CopyLostError, FencedError, Part, StoreUnavailableError
from processors.engine.state import Position

pytestmark = pytest.mark.services

PARTITION = 3


@pytest.fixture
async def closing() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def client(redis_server: RedisServer, closing: AsyncExitStack) -> Redis:
    return await closing.enter_async_context(Redis.from_url(redis_server.url))


@pytest.fixture
async def prefix(client: Redis) -> AsyncIterator[str]:
    name = f"test-{secrets.token_hex(8)}"
    yield name
    keys = [key async for key in client.scan_iter(f"{name}:*")]
    if keys:
        await client.delete(*keys)


@pytest.fixture
def store(redis_server: RedisServer, prefix: str, closing: AsyncExitStack) -> RedisStore:
    store = RedisStore.open(redis_server.url, prefix=prefix)
    closing.push_async_callback(store.close)
    return store


class Life:
    """An owner who commits at random, and what the store holds after it, kept in Python."""

    def __init__(self, store: RedisStore, seed: int) -> None:
        self._store, self._rng = store, random.Random(seed)
        self.position = Position()
        self.people: dict[str, bytes] = {}
        self.listings: set[tuple[int, str]] = set()
        self.outputs: list[tuple[int, Output]] = []
        self._token = ""
        self._formed = 0

    async def acquire(self) -> None:
        self._token = (await self._store.acquire(PARTITION)).token

    def holds(self) -> tuple[object, ...]:
        return self.position, sorted(self.people.items()), sorted(self.listings), list(self.outputs)

    def unit(self) -> Commit:
        rng, after = self._rng, self.position
        after = Position(after.offset, after.cursor + 1) if rng.random() < 0.3 else Position(after.offset + 1)
        unit = Commit(PARTITION, self._token, self.position, after, b"s")
        for _ in range(rng.randrange(40)):
            value = None if rng.random() < 0.3 else rng.randbytes(rng.choice([1, 40, 400]))
            unit.people[f"{rng.choice('ual')}:{rng.randrange(150)}"] = value
        for _ in range(rng.randrange(30)):
            unit.listings[rng.randrange(200), f"u:{rng.randrange(12)}"] = rng.random() < 0.6
        for _ in range(rng.randrange(4)):
            unit.outputs.append((self._formed, Output("stages", 0, None, (), b"%d" % self._formed)))
            self._formed += 1
        return unit

    def happened(self, unit: Commit) -> None:
        self.position = unit.position
        for key, value in unit.people.items():
            self.people.pop(key, None)
            if value is not None:
                self.people[key] = value
        for place, listed in unit.listings.items():
            (self.listings.add if listed else self.listings.discard)(place)
        self.outputs += unit.outputs

    async def live(self) -> None:
        """Commit, or trim, or lose the partition and take it again."""
        if self._rng.random() < 0.1:
            await self.acquire()
        if self.outputs and self._rng.random() < 0.3:
            upto = self._rng.choice(self.outputs)[0]
            await self._store.trim(PARTITION, self._token, upto)
            self.outputs = [one for one in self.outputs if one[0] > upto]
        unit = self.unit()
        await self._store.commit(unit)
        self.happened(unit)


def put_together(copy: Copy, parts: list[Part]) -> tuple[object, ...]:
    people = [one for part in parts for one in part.people]
    listings = [one for part in parts for one in part.listings]
    return copy.position, sorted(people), sorted(listings), [one for part in parts for one in part.outputs]


@pytest.mark.parametrize("seed", range(3))
async def test_it_is_of_one_position_whatever_is_committed_meanwhile(store: RedisStore, seed: int) -> None:
    life, rng = Life(store, seed), random.Random(seed)
    await life.acquire()
    for _ in range(30):
        await life.live()
    expected = life.holds()
    copy, found = await store.copy(PARTITION), []
    async with aclosing(copy.parts) as parts:
        async for part in parts:
            found.append(part)
            for _ in range(rng.randrange(4)):
                await life.live()
    assert put_together(copy, found) == expected
    assert life.holds() != expected
    again = await store.copy(PARTITION)
    assert put_together(again, [part async for part in again.parts]) == life.holds()


async def test_a_commit_that_is_cut_short_meanwhile_is_not_in_it(store: RedisStore, client: Redis, prefix: str) -> None:
    """Neither its first half nor what the next owner completes; and while it is cut short, no copy begins."""
    life = Life(store, 1)
    await life.acquire()
    for _ in range(20):
        await life.live()
    expected = life.holds()
    copy = await store.copy(PARTITION)
    found: list[Part] = []
    unit = life.unit()
    unit.people = {f"u:{n}": b"new" for n in range(150)}
    unit.listings = {(500, "u:1"): True, (501, "u:1"): False}
    broken = f"{prefix}:{{{PARTITION}}}:due:501"  # struck off last
    async with aclosing(copy.parts) as parts:
        async for part in parts:
            if len(found) == 16:  # half of the hashes
                await client.set(broken, "a text")
                with pytest.raises(StoreUnavailableError, match="WRONGTYPE"):
                    await store.commit(unit)
                with pytest.raises(FencedError):
                    await store.commit(unit)
                await client.delete(broken)
                await life.acquire()
                life.happened(unit)
                await life.live()
            found.append(part)
    assert put_together(copy, found) == expected
    await client.set(broken, "a text")
    unit = life.unit()
    unit.listings = {(501, "u:1"): False}
    unit.people = {"u:1": b"cut"}
    with pytest.raises(StoreUnavailableError):
        await store.commit(unit)
    with pytest.raises(CopyLostError, match="cut short"):
        await store.copy(PARTITION)
    await client.delete(broken)
    await life.acquire()
    life.happened(unit)
    again = await store.copy(PARTITION)
    assert put_together(again, [part async for part in again.parts]) == life.holds()


async def test_a_second_copy_ends_the_first_and_is_whole(store: RedisStore) -> None:
    life = Life(store, 2)
    await life.acquire()
    for _ in range(20):
        await life.live()
    first = await store.copy(PARTITION)
    await anext(first.parts)
    await life.live()
    expected = life.holds()
    second, found = await store.copy(PARTITION), []
    with pytest.raises(CopyLostError, match="another copy was begun"):
        await anext(first.parts)
    async for part in second.parts:
        found.append(part)
        await life.live()
    assert put_together(second, found) == expected


@pytest.mark.parametrize("loss", ["mark", "commit", "replaced"])
async def test_a_copy_that_would_not_be_of_one_position_is_refused(
    store: RedisStore, client: Redis, prefix: str, loss: str
) -> None:
    """Its mark has expired or was lost with Redis's last second; or somebody commits who keeps nothing for it."""
    life = Life(store, 3)
    await life.acquire()
    await life.live()
    copy = await store.copy(PARTITION)
    await anext(copy.parts)
    partition = f"{prefix}:{{{PARTITION}}}:partition"
    if loss == "mark":
        await client.delete(f"{partition}:copy")
    elif loss == "commit":
        await client.hset(partition, "offset", "77")
    else:
        await store.replace(PARTITION, Position(5), b"other", [])
    with pytest.raises(CopyLostError):
        await anext(copy.parts)


async def test_what_is_kept_for_a_copy_goes_with_it_or_expires(store: RedisStore, client: Redis, prefix: str) -> None:
    life = Life(store, 4)
    await life.acquire()
    await life.live()

    async def lasting() -> set[bytes]:
        keys = [key async for key in client.scan_iter(f"{prefix}:*")]
        return {key for key in keys if await client.ttl(key) < 0}

    async def kept() -> list[bytes]:
        return [key async for key in client.scan_iter(f"{prefix}:*") if b":before:" in key or key.endswith(b":copy")]

    copy = await store.copy(PARTITION)
    await anext(copy.parts)
    await life.live()
    assert len(await kept()) > 2
    assert not {key for key in await lasting() if b":before:" in key or key.endswith(b":copy")}
    await copy.parts.aclose()
    assert {key.split(b":")[2] for key in await kept()} <= {b"due"}
    await store.replace(PARTITION, Position(5), b"other", [Part(people=[("u:1", b"1")], listings=[(4, "u:1")])])
    assert {key.removeprefix(f"{prefix}:{{{PARTITION}}}:".encode()) for key in await lasting()} == {
        b"partition", b"due", b"due:4", b"people:10",
    }  # fmt: skip


async def test_a_copier_that_died_stops_nobody(store: RedisStore, client: Redis, prefix: str) -> None:
    life = Life(store, 5)
    await life.acquire()
    await life.live()
    await store.copy(PARTITION)
    for _ in range(10):
        await life.live()
    assert 0 < await client.ttl(f"{prefix}:{{{PARTITION}}}:partition:copy") <= 600
    copy = await store.copy(PARTITION)
    assert put_together(copy, [part async for part in copy.parts]) == life.holds()


async def test_copying_and_replacing_need_no_other_rights_than_the_documented_ones(
    redis_server: RedisServer, client: Redis, prefix: str, closing: AsyncExitStack
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "redis.md").read_text(encoding="utf-8")
    (words,) = re.findall(r"the commands `([A-Z|\s]+)`", page)
    rights = [f"+{word.lower()}" for word in words.split()]
    await client.acl_setuser(prefix, enabled=True, passwords=["+secret"], keys=[f"{prefix}:*"], commands=rights)
    closing.push_async_callback(client.acl_deluser, prefix)
    store = RedisStore.open(redis_server.url, prefix=prefix, username=prefix, password="secret")
    closing.push_async_callback(store.close)
    life = Life(store, 6)
    await life.acquire()
    await life.live()
    expected = life.holds()
    copy, found = await store.copy(PARTITION), []
    async for part in copy.parts:
        found.append(part)
        await life.live()
    await store.replace(PARTITION, copy.position, copy.state, found)
    again = await store.copy(PARTITION)
    assert put_together(again, [part async for part in again.parts]) == expected
