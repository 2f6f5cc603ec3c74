"""The state store on Redis: every key of a partition carries its hash tag, every commit is one script."""

from __future__ import annotations

import asyncio
import json
import secrets
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from itertools import chain, count
from typing import Any, Final
from zlib import crc32

import msgspec
from redis.asyncio import ConnectionPool, Redis, SSLConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelManagedSSLConnection
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from processors.adapters.redis.errors import unavailable
from processors.adapters.redis.health import RedisHealth, read_health
from processors.adapters.redis.packing import pack, unpack
from processors.adapters.redis.scripts import Argument, Script, Scripts
from processors.engine.outputs import Output
from processors.engine.ports import Acquired, Commit, Copy, CopyLostError, FencedError, Hold, LogMismatchError, Part
from processors.engine.state import Position

HASHES: Final = 32
"""Hashes that share a partition's persons and links: a sweep reads the keys of one at a time. Never to be changed."""

_CONNECT_SECONDS: Final = 3.0
_ANSWER_SECONDS: Final = 5.0
"""A commit of 1,000 persons takes some 10 ms; what takes longer than this is away, or its disk stands still."""
_CONNECTIONS: Final = 32
"""One store's at most: Redis answers one after the other anyway."""
_KEYS_A_QUERY: Final = 500
_HOURS_A_QUERY: Final = 64
"""Due lists that a copy reads at once; a hash it reads whole: of a million people in 32 partitions some 0.5 MB."""
_OUTPUTS_A_QUERY: Final = 500
_COPY_SECONDS: Final = 600
"""How long copying one partition may take, and how long commits go on keeping things for a copier that died."""
_REPLACE_SECONDS: Final = 3600
"""When what is written to replace a partition expires, where whoever wrote it died."""

ACQUIRE: Final = Script("steps", "acquire")
COMMIT: Final = Script("steps", "hold", "commit")
OUTBOX: Final = Script("outbox")
TRIM: Final = Script("trim")
LOAD: Final = Script("hold", "load")
DUE: Final = Script("due")
COPY_BEGIN: Final = Script("copy_begin")
COPY: Final = Script("copy")
COPY_END: Final = Script("copy_end")
REPLACE: Final = Script("replace")

_Wire = tuple[str, int, bytes | None, tuple[tuple[str, bytes], ...], bytes | None]
_encoder = msgspec.msgpack.Encoder()
_output_decoder = msgspec.msgpack.Decoder(_Wire)


class _Tls(SSLConnection):
    """Takes a context that all share: redis-py reads certificates anew for each connection, some 20 ms every time."""

    def __init__(self, *, tls: ssl.SSLContext, **options: Any) -> None:  # noqa: ANN401 - redis-py's
        super().__init__(**options)
        self.ssl_context.context = tls


class _ManagedTls(SentinelManagedSSLConnection):
    """The same to whatever Redis the Sentinels name."""

    def __init__(self, *, tls: ssl.SSLContext, **options: Any) -> None:  # noqa: ANN401 - redis-py's
        super().__init__(**options)  # type: ignore[no-untyped-call] # redis-py has no type for it
        self.ssl_context.context = tls


def _secure(pool: ConnectionPool, kind: type[SSLConnection], tls: ssl.SSLContext | None) -> None:
    if tls is not None:
        pool.connection_class = kind
        pool.connection_kwargs["tls"] = tls


class RedisStore:
    """States, due lists, positions and outboxes of all partitions in one Redis database; `open` makes one."""

    def __init__(self, client: Redis, prefix: str, address: str, sentinels: Sequence[Redis] = ()) -> None:
        self._client = client
        self._sentinels = sentinels
        self._prefix = prefix
        self._address = address
        self._connections = asyncio.Semaphore(_CONNECTIONS)
        self._scripts = Scripts(client)

    @classmethod
    def open(
        cls,
        url: str,
        *,
        username: str = "",
        password: str = "",
        sentinels: Sequence[str] = (),
        sentinel_service: str = "phasewatch",
        tls: ssl.SSLContext | None = None,
        prefix: str = "phasewatch",
    ) -> RedisStore:
        """Return a store that connects when it is first used; `close` it at the end.

        Args:
            url: redis://host:port/db, or rediss:// for TLS; with Sentinels only its scheme and db count.
            username: user of the Redis (ACL); empty for the default one.
            password: of that user; empty for none.
            sentinels: addresses of Sentinels, host:port; they are asked where the Redis is.
            sentinel_service: the name under which they know it.
            tls: whom to trust where `url` is rediss://, and this side's certificate; for the Sentinels too.
            prefix: begin of every key.
        """
        limits: dict[str, Any] = {
            "socket_connect_timeout": _CONNECT_SECONDS,
            "socket_timeout": _ANSWER_SECONDS,
            # No repeats here: whether a commit whose answer was lost has happened is for the worker to look up.
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
        }
        login: dict[str, Any] = {"username": username or None, "password": password or None}
        pool = ConnectionPool.from_url(url, **limits, **login)
        settings = pool.connection_kwargs
        if not sentinels:
            _secure(pool, _Tls, tls)
            address = f"{settings.get('host', 'localhost')}:{settings.get('port', 6379)}, db {settings.get('db', 0)}"
            return cls(Redis.from_pool(pool), prefix, address)
        places = [(host, int(port)) for host, _, port in (one.rpartition(":") for one in sentinels)]
        secure: dict[str, Any] = {"ssl": True} if url.startswith("rediss:") else {}
        asked = Sentinel(  # type: ignore[no-untyped-call] # redis-py has no type for it
            places, sentinel_kwargs=limits | secure
        )
        for sentinel in asked.sentinels:
            _secure(sentinel.connection_pool, _Tls, tls)
        database = settings.get("db", 0)
        client = asked.master_for(sentinel_service, db=database, **limits, **login, **secure)
        _secure(client.connection_pool, _ManagedTls, tls)
        address = f"{sentinel_service} at Sentinels {', '.join(sentinels)}, db {database}"
        return cls(client, prefix, address, asked.sentinels)

    async def close(self) -> None:
        """End the connections."""
        for client in (self._client, *self._sentinels):
            await client.aclose()

    def _key(self, partition: int, *rest: object) -> str:
        return ":".join((self._prefix, f"{{{partition}}}", *map(str, rest)))

    @asynccontextmanager
    async def _away(self) -> AsyncIterator[Redis]:
        """Lend the client; what Redis refuses or does not answer is raised as the port's errors."""
        async with self._connections:
            with self._errors():
                yield self._client

    async def _run(self, script: Script, keys: Sequence[str], args: Sequence[Argument]) -> Any:  # noqa: ANN401 - the script's
        """Return a script's answer; raises as `_away`."""
        with self._errors():
            return await self._scripts.run(script, keys, args)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except ResponseError as error:
            if str(error).startswith("FENCED"):
                raise FencedError(str(error).removeprefix("FENCED ")) from error
            if str(error).startswith("COPYLOST"):
                raise CopyLostError(str(error).removeprefix("COPYLOST ")) from error
            raise unavailable(error, self._address) from error
        except RedisError as error:
            raise unavailable(error, self._address) from error
        except RuntimeError as error:  # uvloop's way to say it, and redis-py passes it on
            if "is closed" not in str(error):
                raise
            raise unavailable(RedisConnectionError(str(error)), self._address) from error

    async def bind(self, log_id: str, partitions: int) -> None:
        """Remember which log the store belongs to, the first time; see the port."""
        key = f"{self._prefix}:log"
        ours = {"id": log_id, "partitions": partitions}
        async with self._away() as client:
            await client.set(key, json.dumps(ours), nx=True)
            found = json.loads(await client.get(key) or b"null")
        if found != ours:
            msg = (
                f"the state store on Redis ({self._address}, keys {self._prefix}:*) belongs to the log {found['id']} "
                f"with {found['partitions']} partitions, not to {log_id} with {partitions}: give it the log it was "
                "made from, or start with an empty store (another redis.prefix)"
            )
            raise LogMismatchError(msg)

    async def bound_to(self) -> tuple[str, int] | None:
        """Return which log the store belongs to, and how many partitions that has; see the port."""
        async with self._away() as client:
            found = json.loads(await client.get(f"{self._prefix}:log") or b"null")
        return None if found is None else (found["id"], found["partitions"])

    async def acquire(self, partition: int) -> Acquired:
        """Become the only owner of a partition; see the port."""
        token = secrets.token_hex(16)
        state = await self._run(ACQUIRE, keys=[self._key(partition, "partition")], args=[token])
        return Acquired(token, state)

    async def state(self, partition: int) -> bytes | None:
        """Return a partition's state as last committed."""
        async with self._away() as client:
            state: Any = await client.hget(self._key(partition, "partition"), "state")
        return None if state is None else bytes(state)

    async def load(self, partition: int, keys: Sequence[str], hold: Hold | None = None) -> dict[str, bytes]:
        """Return the values of those keys that there are, for an owner those of its own place; see the port."""
        if not keys:
            return {}
        groups: dict[int, list[str]] = {}
        for key in keys:
            groups.setdefault(_number(key), []).append(key)
        args: list[str | int] = ["", 0, 0] if hold is None else [hold.token, *hold.position]
        for group in groups.values():
            args.append(len(group))
            args += group
        names = [self._key(partition, "partition"), *(self._key(partition, "people", n) for n in groups)]
        answers = await self._run(LOAD, keys=names, args=args)
        found = zip(chain.from_iterable(groups.values()), chain.from_iterable(answers), strict=True)
        return {key: unpack(held) for key, held in found if held is not None}

    async def due(self, partition: int, hour: int, most: int) -> list[tuple[int, str]]:
        """Return at most `most` listed (due hour, key) pairs up to `hour`, in that order."""
        found = await self._run(DUE, keys=[self._key(partition, "due")], args=[hour, most])
        return [(at, key.decode()) for at, keys in zip(found[::2], found[1::2], strict=True) for key in keys]

    async def first_due(self, partition: int) -> int | None:
        """Return the earliest listed hour, None where nothing is listed."""
        async with self._away() as client:
            hours: Any = await client.zrange(self._key(partition, "due"), 0, 0)
        return int(hours[0]) if hours else None

    async def scan(self, partition: int, after: str, most: int) -> list[str]:
        """Return at most `most` keys of persons after `after`: hash by hash, within a hash in order of code points."""
        found: list[str] = []
        for number in range(_number(after) if after else 0, HASHES):
            async with self._away() as client:
                keys: Any = await client.hkeys(self._key(partition, "people", number))
            found += sorted(key for key in map(bytes.decode, keys) if key[0] != "l" and key > after)
            after = ""
            if len(found) >= most:
                break
        return found[:most]

    async def commit(self, commit: Commit) -> int:
        """Do all of a unit of work in one script; see the port."""
        partition = commit.partition
        keys = [self._key(partition, name) for name in ("partition", "due", "outbox")]
        args: list[Any] = [commit.token, *commit.expected, *commit.position, commit.state]
        for name, command, values in steps_of(commit):
            keys.append(self._key(partition, *name))
            args += command, len(values)
            args += values
        last = await self._run(COMMIT, keys=keys, args=args)
        return int(last)

    async def outbox(self, partition: int, most: int) -> list[tuple[int, Output]]:
        """Return at most `most` committed outputs that were not trimmed, in order."""
        keys = [self._key(partition, name) for name in ("partition", "outbox")]
        base, found = await self._run(OUTBOX, keys=keys, args=[most])
        return [(number, Output(*_output_decoder.decode(one))) for number, one in enumerate(found, base)]

    async def trim(self, partition: int, token: str, upto: int) -> None:
        """Forget outputs up to and including number `upto`; see the port."""
        await self._run(TRIM, keys=[self._key(partition, name) for name in ("partition", "outbox")], args=[token, upto])

    async def people(self, partition: int) -> AsyncIterator[tuple[str, bytes]]:
        """Yield every (key, value) of a partition's persons."""
        after = ""
        while keys := await self.scan(partition, after, _KEYS_A_QUERY):
            found = await self.load(partition, keys)
            for key in keys:
                if key in found:
                    yield key, found[key]
            after = keys[-1]

    async def copy(self, partition: int) -> Copy:
        """Return a partition as it is now: commits keep for it what they write over (ADR 0010); see the port."""
        copy = secrets.token_hex(8)
        keys = [self._key(partition, name) for name in ("partition", "due", "outbox")]
        offset, cursor, base, state, hours = await self._run(COPY_BEGIN, keys=keys, args=[copy, _COPY_SECONDS])
        parts = self._copy_parts(partition, copy, base, [int(hour) for hour in hours])
        return Copy(Position(int(offset), int(cursor)), state, parts)

    async def _copy_parts(
        self, partition: int, copy: str, base: int, hours: Sequence[int]
    ) -> AsyncGenerator[Part, None]:
        hashes = [("people", number) for number in range(HASHES)]
        try:
            for name in hashes:
                held, before = await self._copied(partition, copy, [name], "HGETALL")
                values = _fields(held) | _fields(before)
                yield Part(people=[(key.decode(), unpack(value)) for key, value in values.items() if value])
            for at in range(0, len(hours), _HOURS_A_QUERY):
                some = hours[at : at + _HOURS_A_QUERY]
                found = await self._copied(partition, copy, [("due", hour) for hour in some], "ZRANGE", 0, -1)
                yield Part(listings=_listings(some, found))
            for at in count(0, _OUTPUTS_A_QUERY):
                kept = ("outbox", "before", copy)
                held, _ = await self._copied(partition, copy, [kept], "LRANGE", at, at + _OUTPUTS_A_QUERY - 1)
                if not held:
                    break
                yield Part(outputs=[(n, Output(*_output_decoder.decode(one))) for n, one in enumerate(held, base + at)])
        finally:
            keys = [self._key(partition, *name) for name in (("partition",), *hashes, ("outbox",))]
            await self._run(COPY_END, keys=keys, args=[copy])

    async def _copied(
        self, partition: int, copy: str, names: Sequence[tuple[object, ...]], *command: str | int
    ) -> list[Any]:
        """Return of each key what a command reads, and what of it was kept for the copy, as fields and values."""
        keys = [self._key(partition, *name) for name in (("partition",), *names)]
        found: list[Any] = await self._run(COPY, keys=keys, args=[copy, *command])
        return found

    async def replace(self, partition: int, position: Position, state: bytes | None, parts: Iterable[Part]) -> None:
        """Write a copy beside a partition, then put it in its place in one script; see the port."""
        new = ("new", secrets.token_hex(8))
        written: set[tuple[object, ...]] = set()
        base: int | None = None
        for part in parts:
            if base is None and part.outputs:
                base = part.outputs[0][0]
            unit = Commit(partition, "", position, position, b"")
            unit.people, unit.listings = dict(part.people), dict.fromkeys(part.listings, True)
            unit.outputs = part.outputs
            async with self._away() as client, client.pipeline(transaction=False) as pipeline:
                for name, command, values in steps_of(unit):
                    key = self._key(partition, *new, *name)
                    pipeline.execute_command(command, key, *values)
                    if name not in written:
                        pipeline.expire(key, _REPLACE_SECONDS)
                        written.add(name)
                await pipeline.execute()
        replaced = [("outbox",), *(("people", number) for number in range(HASHES))]
        keys = [self._key(partition, *name) for name in (("partition",), ("due",), *replaced)]
        for name in written:
            keys += self._key(partition, *new, *name), self._key(partition, *name)
        args: list[Any] = [secrets.token_hex(16), *position, base or 0, state or b"", len(replaced)]
        await self._run(REPLACE, keys=keys, args=args)

    async def note(self, name: str) -> str | None:
        """Return what was noted under a name."""
        async with self._away() as client:
            found: Any = await client.hget(f"{self._prefix}:notes", name)
        return None if found is None else found.decode()

    async def set_note(self, name: str, value: str) -> None:
        """Note something under a name: how far an import has come."""
        async with self._away() as client:
            await client.hset(f"{self._prefix}:notes", name, value)

    async def health(self) -> RedisHealth:
        """Return what an operator should know about the Redis; needs no command but INFO."""
        async with self._away() as client:
            return read_health(await client.info())


def _number(key: str) -> int:
    """Return which of a partition's hashes holds a key."""
    return crc32(key.encode()) % HASHES


def _fields(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _listings(hours: Sequence[int], found: Sequence[Any]) -> list[tuple[int, str]]:
    """Return what was listed, of what is (every other one found) and what was kept of before (the ones between)."""
    listed = []
    for hour, held, kept in zip(hours, found[::2], found[1::2], strict=True):
        was = dict.fromkeys(held, b"0") | _fields(kept)
        listed += [(hour, key.decode()) for key, score in was.items() if score]
    return listed


def steps_of(commit: Commit) -> list[tuple[tuple[object, ...], str, list[Any]]]:
    """Return the writes of a commit: (end of the key, command, arguments).

    A script that fails between two of them is completed by the next owner (steps.lua). What readers meet meanwhile is
    no more than early or late: outputs and due lists run ahead of the states, what is struck off or deleted follows.
    """
    outputs = [
        _encoder.encode((one.topic, one.partition, one.key, one.headers, one.value)) for _, one in commit.outputs
    ]
    listed: dict[int, list[Any]] = {}
    struck: dict[int, list[Any]] = {}
    for (hour, key), is_listed in commit.listings.items():
        if is_listed:
            listed.setdefault(hour, []).extend((0, key))
        else:
            struck.setdefault(hour, []).append(key)
    written: dict[int, list[Any]] = {}
    deleted: dict[int, list[Any]] = {}
    for key, value in commit.people.items():
        if value is None:
            deleted.setdefault(_number(key), []).append(key)
        else:
            written.setdefault(_number(key), []).extend((key, pack(value)))
    hours = [one for hour in listed for one in (hour, hour)]
    steps: list[tuple[tuple[object, ...], str, list[Any]]] = [
        (("outbox",), "RPUSH", outputs),
        (("due",), "ZADD", hours),
        *((("due", hour), "ZADD", pairs) for hour, pairs in listed.items()),
        *((("people", number), "HSET", pairs) for number, pairs in written.items()),
        *((("people", number), "HDEL", keys) for number, keys in deleted.items()),
        *((("due", hour), "ZREM", keys) for hour, keys in struck.items()),
    ]
    return [step for step in steps if step[2]]
