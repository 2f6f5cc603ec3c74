"""The store on Redis beyond the contract: scripts that fail half-way, what Redis refuses, restarts and failovers."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from itertools import count, islice
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from collector.wire.record import HOUR_MS
from deploy.local.process import wait_until
from deploy.local.services import RedisSentinel, RedisServer
from processors.adapters.redis.errors import unavailable
from processors.adapters.redis.health import RedisHealth, read_health
from processors.adapters.redis.packing import PACK_FROM, pack, unpack
from processors.adapters.redis.store import HASHES, RedisStore, steps_of
from processors.engine.outputs import Output
from processors.engine.ports import Commit, FencedError, StateStore, StoreUnavailableError
from processors.engine.state import Position
from tests.services import StartService
from tests.unit.engine.partition import DAY, SHIPPED, PartitionLog, acquire, contents, fold

pytestmark = pytest.mark.services

Opener = Callable[..., RedisStore]


class BreakableStore(RedisStore):
    """Makes another program's text of the key that step `step` of commit number `number` is going to write."""

    number, step, commits = -1, 0, 0

    async def commit(self, commit: Commit) -> int:
        self.commits += 1
        steps = steps_of(commit)
        if self.commits == self.number and self.step < len(steps):
            self.broken = self._key(commit.partition, *steps[self.step][0])
            self.there = await self._client.exists(self.broken)
            if self.there:
                await self._client.rename(self.broken, f"{self.broken}:aside")
            await self._client.set(self.broken, "a text")
        return await super().commit(commit)

    async def repair(self) -> None:
        await self._client.delete(self.broken)
        if self.there:
            await self._client.rename(f"{self.broken}:aside", self.broken)


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
def opened(redis_server: RedisServer, prefix: str, closing: AsyncExitStack) -> Opener:
    """Return a function that opens a store of the test's own, which is closed at the end."""

    def open_store(kind: type[RedisStore] = RedisStore, url: str = redis_server.url, **options: Any) -> RedisStore:
        store = kind.open(url, **({"prefix": prefix} | options))
        closing.push_async_callback(store.close)
        return store

    return open_store


def everyday() -> PartitionLog:
    """Decisions, money taken back, ids that turn out to be users, a new document, and a silence that ends all of it."""
    log = PartitionLog()
    for person in range(4):
        log.decide(person * HOUR_MS, user=f"{person}", anonymous_id=f"d{person}")
    log.money("purchase", 4 * HOUR_MS, user="1")
    log.money("redeem", 6 * HOUR_MS, user="1")
    log.decide(7 * HOUR_MS, user=None, anonymous_id="x")
    log.event(8 * HOUR_MS, type="identify", user="9", anonymous_id="x")
    log.event(9 * HOUR_MS, "view", user=None, anonymous_id="x")
    log.definitions(10 * HOUR_MS, 2, SHIPPED.replace("weight = 2.5", "weight = 1.1"))
    log.event(15 * DAY, "view", user="2")
    log.tick(40 * DAY)
    log.event(41 * DAY, "submit", user="0")
    log.tick(120 * DAY)
    return log


@pytest.mark.parametrize("size", [2, 1000])
async def test_a_script_that_fails_between_two_steps_is_completed_by_the_next_owner(
    opened: Opener, client: Redis, prefix: str, size: int
) -> None:
    log = everyday()
    undisturbed = opened(prefix=f"{prefix}:undisturbed")
    await (await acquire(undisturbed, size)).take(log.records)
    expected = await contents(undisturbed)
    completed = 0
    for number in count(1):
        for step in count():
            own = f"{prefix}:{number}-{step}"
            store = opened(BreakableStore, prefix=own)
            assert isinstance(store, BreakableStore)
            store.number, store.step = number, step
            unit = await acquire(store, size)
            try:
                await unit.take(log.records)
            except StoreUnavailableError as error:
                assert "WRONGTYPE" in str(error)  # noqa: PT017 - raised at the steps that there are, then no more
            else:
                commits = store.commits
                break
            if await client.hexists(f"{own}:{{0}}:partition", "pending"):
                completed += 1
                with pytest.raises((FencedError, StoreUnavailableError), match=r"cut short|another program"):
                    await unit.take(log.records[unit.position.offset :])
                with pytest.raises(StoreUnavailableError, match="another program"):
                    await acquire(store, size)
            await store.repair()
            unit = await acquire(store, size)
            await unit.take(log.records[unit.position.offset :])
            assert await contents(store) == expected, f"commit {number}, step {step}"
        if commits < number:
            break
    assert completed > 10


async def test_a_command_that_is_forbidden_while_it_works_leaves_a_commit_that_can_be_completed(
    opened: Opener, client: Redis, prefix: str
) -> None:
    """As above, and nothing is read of the half of it that is there: the position stays before it."""
    await client.acl_setuser(prefix, enabled=True, passwords=["+secret"], keys=["*"], commands=["+@all", "-zrem"])
    try:
        store = opened(username=prefix, password="secret")
        owner = await store.acquire(3)
        key = "u:1"
        first = Commit(3, owner.token, Position(), Position(1), b"s", {key: b"1"}, {(5, key): True})
        await store.commit(first)
        second = Commit(3, owner.token, Position(1), Position(2), b"t", {key: None}, {(5, key): False}, [output(0)])
        with pytest.raises(StoreUnavailableError, match=r"redis\.username"):
            await store.commit(second)
        assert await store.state(3) == b"s"
        await client.acl_setuser(prefix, enabled=True, passwords=["+secret"], keys=["*"], commands=["+@all"])
        assert (await store.acquire(3)).state == b"t"
        assert await store.first_due(3) is None
        assert await store.outbox(3, 10) == [output(0)]
    finally:
        await client.acl_deluser(prefix)


def output(number: int) -> tuple[int, Output]:
    return number, Output("stage-changes", 3, b"u:1", (("ce_id", b"%d" % number),), b"{}")


async def test_states_brought_back_from_an_older_copy_are_folded_on_to_the_same(
    opened: Opener, client: Redis, prefix: str
) -> None:
    """A Redis that lost its last seconds: what was sent since is sent again as it was, what follows is the same."""
    log = everyday()
    store = opened()
    unit = await acquire(store)
    half = len(log.records) // 2
    await unit.take(log.records[:half])
    copy = {key: await client.dump(key) async for key in client.scan_iter(f"{prefix}:*")}
    await unit.take(log.records[half:])
    sent = await store.outbox(0, 1 << 40)
    await client.delete(*[key async for key in client.scan_iter(f"{prefix}:*")])
    for key, value in copy.items():
        await client.restore(key, 0, value or b"")
    log.tick(130 * DAY)
    with pytest.raises(FencedError):
        await unit.take(log.records[-1:])
    unit = await acquire(store)
    assert unit.position.offset == half
    await unit.take(log.records[half:])
    found, expected = await contents(store), await fold(log.records)
    assert found.outputs[: len(sent)] == sent
    assert (found.state, found.people, found.due) == (expected.state, expected.people, expected.due)
    assert by_person(found.outputs) == by_person(expected.outputs)


def by_person(outputs: list[tuple[int, Output]]) -> dict[bytes | None, list[Output]]:
    """Return outputs by key: a document moves persons in the store's own order."""
    found: dict[bytes | None, list[Output]] = {}
    for _, one in outputs:
        found.setdefault(one.key, []).append(one)
    return found


async def test_one_commit_takes_more_than_lua_passes_on_at_once(opened: Opener) -> None:
    """Ids are the visitors' own: all of a block's may fall into one hash."""
    store = opened()
    owner = await store.acquire(3)
    crowd = list(islice((key for key in map("a:{}".format, count()) if crc32(key.encode()) % HASHES == 0), 9_000))
    people: dict[str, bytes | None] = dict.fromkeys(crowd, b"x")
    outputs = [output(n) for n in range(9_000)]
    listings = {(7, key): True for key in crowd}
    assert await store.commit(Commit(3, owner.token, Position(), Position(1), b"s", people, listings, outputs)) == 8_999
    assert await store.load(3, crowd) == people
    assert await store.due(3, 7, 9_001) == sorted(listings)
    assert await store.outbox(3, 9_001) == outputs
    gone = Commit(3, owner.token, Position(1), Position(2), b"s", dict.fromkeys(crowd), dict.fromkeys(listings, False))
    await store.commit(gone)
    assert await store.load(3, crowd) == {}
    assert await store.first_due(3) is None


async def test_it_needs_no_other_rights_than_the_documented_ones(opened: Opener, client: Redis, prefix: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / "redis.md").read_text(encoding="utf-8")
    (words,) = re.findall(r"the commands `([A-Z|\s]+)`", page)
    rights = [f"+{word.lower()}" for word in words.split()]
    await client.acl_setuser(prefix, enabled=True, passwords=["+secret"], keys=[f"{prefix}:*"], commands=rights)
    try:
        await client.script_flush()
        store = opened(username=prefix, password="secret")
        await store.bind("log", 1)
        log = everyday()
        unit = await acquire(store)
        await unit.take(log.records)
        found, expected = await contents(store), await fold(log.records)
        assert (found.state, found.people, found.due) == (expected.state, expected.people, expected.due)
        owner = await store.acquire(0)
        await store.trim(0, owner.token, 10)
        assert (await store.health()).version is not None
    finally:
        await client.acl_deluser(prefix)


async def test_a_full_redis_is_said_to_be_full_and_changes_nothing(
    start_service: StartService, tmp_path: Path, opened: Opener
) -> None:
    server = start_service(RedisServer(tmp_path / "redis", settings={"maxmemory": "100mb"}))
    store = opened(url=server.url)
    owner = await store.acquire(3)
    await store.commit(Commit(3, owner.token, Position(), Position(1), b"s", {"u:1": b"1"}, outputs=[output(0)]))
    async with Redis.from_url(server.url) as client:
        await client.config_set("maxmemory", "1mb")
        full = Commit(3, owner.token, Position(1), Position(2), b"t", {"u:1": None}, {(5, "u:1"): True}, [output(1)])
        with pytest.raises(StoreUnavailableError, match="maxmemory"):
            await store.commit(full)
        assert await contents_of(store) == (b"s", {"u:1": b"1"}, [], [output(0)])
        await store.trim(3, owner.token, 0)
        await client.config_set("maxmemory", "0")
    assert await store.commit(full) == 1
    assert await contents_of(store) == (b"t", {}, [(5, "u:1")], [output(1)])


async def contents_of(store: StateStore) -> tuple[object, ...]:
    return await store.state(3), await store.load(3, ["u:1"]), await store.due(3, 9, 9), await store.outbox(3, 9)


async def test_a_redis_that_was_restarted_has_no_scripts_and_is_given_them_again(
    start_service: StartService, tmp_path: Path, opened: Opener
) -> None:
    server = start_service(RedisServer(tmp_path / "redis"))
    store = opened(url=server.url)
    owner = await store.acquire(3)
    await store.commit(Commit(3, owner.token, Position(), Position(1), b"s", {"u:1": b"1"}))
    server.stop()
    with pytest.raises(StoreUnavailableError, match="can't be reached"):
        await store.load(3, ["u:1"])
    server.start()
    await until_it_answers(lambda: store.load(3, ["u:1"]))
    await store.commit(Commit(3, owner.token, Position(1), Position(2), b"t", {"u:1": b"2"}))
    assert await store.load(3, ["u:1"]) == {"u:1": b"2"}


async def until_it_answers(ask: Callable[[], Awaitable[object]], seconds: float = 30) -> None:
    """Ask until it answers; nothing else than being unavailable may come in between."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            await ask()
        except StoreUnavailableError:
            assert time.monotonic() < deadline, "still unavailable"
            await asyncio.sleep(0.05)
        else:
            return


async def test_behind_a_sentinel_it_goes_on_with_the_replica_by_itself(
    start_service: StartService, tmp_path: Path, opened: Opener
) -> None:
    master = start_service(RedisServer(tmp_path / "master"))
    replica = start_service(RedisServer(tmp_path / "replica", replica_of=master))
    sentinel = start_service(RedisSentinel(tmp_path / "sentinel", master=master))
    wait_until(lambda: "slaves=1" in sentinel.ask("INFO sentinel"), "the Sentinel knows the replica", 30)
    store = opened(sentinels=(sentinel.address,), sentinel_service=sentinel.master_name)
    owner = await store.acquire(3)
    await store.commit(Commit(3, owner.token, Position(), Position(1), b"s", {"u:1": b"1"}, outputs=[output(0)]))
    assert master.ask("WAIT 1 10000") == ":1"
    assert (await opened(url=replica.url).health()).faults()[0].startswith("This Redis is a replica")
    with pytest.raises(StoreUnavailableError, match=r"let redis\.url name the master"):
        await opened(url=replica.url).acquire(3)
    master.kill()
    await until_it_answers(lambda: store.acquire(3), seconds=60)
    owner = await store.acquire(3)
    assert owner.state == b"s"
    await store.commit(Commit(3, owner.token, Position(1), Position(2), b"t", outputs=[output(1)]))
    assert await store.outbox(3, 9) == [output(0), output(1)]


async def test_a_sentinel_that_knows_no_such_master_is_told_apart(
    start_service: StartService, tmp_path: Path, opened: Opener, redis_server: RedisServer
) -> None:
    sentinel = start_service(RedisSentinel(tmp_path / "sentinel", master=redis_server))
    store = opened(sentinels=(sentinel.address,), sentinel_service="another")
    with pytest.raises(StoreUnavailableError, match=r"redis\.sentinel_service"):
        await store.acquire(3)


async def test_a_wrong_password_is_said_to_be_wrong_and_not_shown(opened: Opener) -> None:
    with pytest.raises(StoreUnavailableError, match=r"check redis\.username") as caught:
        await opened(username="nobody", password="hunter2").acquire(3)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ("MISCONF Redis is configured to save RDB snapshots", "repair the disk"),
        ("NOREPLICAS Not enough good replicas to write.", "min-replicas-to-write"),
        ("BUSY Redis is busy running a script.", "SCRIPT KILL"),
        ("MASTERDOWN Link with MASTER is down", "lost its master"),
        ("ERR something new", "refused a command"),
    ],
)
async def test_what_redis_answers_is_explained(said: str, means: str) -> None:
    text = str(unavailable(ResponseError(said), "127.0.0.1:6379, db 0"))
    assert means in text
    assert said in text
    assert "127.0.0.1:6379" in text


async def test_it_tells_what_endangers_the_states(start_service: StartService, tmp_path: Path, opened: Opener) -> None:
    settings = {"appendonly": "no", "maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"}
    careless = start_service(RedisServer(tmp_path / "redis", settings=settings))
    health = await opened(url=careless.url).health()
    assert health.maxmemory_bytes == 100 << 20
    assert (health.used_memory_bytes or 0) > 0
    assert [text.split("(")[1].split(")")[0] for text in health.faults()] == [
        "appendonly no",
        "maxmemory-policy allkeys-lru",
    ]


async def test_the_shared_redis_is_without_fault(opened: Opener) -> None:
    assert (await opened().health()).faults() == []


def test_what_a_managed_redis_hides_is_unknown_and_no_fault() -> None:
    assert read_health({}) == RedisHealth(None, None, None, None, None, None, None)
    assert read_health({}).faults() == []
    assert "6.2.1" in read_health({"redis_version": "6.2.1"}).faults()[0]
    assert "disk" in read_health({"aof_last_write_status": "err"}).faults()[0]


@pytest.mark.parametrize("size", [0, 1, PACK_FROM - 1, PACK_FROM, 5_000])
def test_a_value_comes_back_as_it_was(size: int) -> None:
    for value in (bytes(size), secrets.token_bytes(size)):
        assert unpack(pack(value)) == value
