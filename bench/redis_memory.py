"""Bytes of Redis a person: 100,000 people with 40 events each over 14 days, folded by the workers themselves.

One in four logs in and so has a link, one in twenty buys. Redis is one of the benchmark's own, on a free port.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Final

import msgspec
import zstandard
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from collector.wire.block import encode_event
from collector.wire.event import Element, Event, Page, routing_key
from collector.wire.partition import partition_of
from collector.wire.record import HOUR_MS, Draft, Kind, Record, read_headers
from deploy.local.services import RedisServer
from processors.adapters.redis.store import RedisStore
from processors.engine.metrics import WorkerMetrics
from processors.engine.outputs import EVENTS, Output
from processors.engine.ports import Unreadable
from processors.engine.worker import PartitionWorker, WorkerOptions, settle

PEOPLE: Final = 100_000
PARTITIONS: Final = 32
DAYS: Final = 14
VISITS: Final = 5
EVENTS_A_VISIT: Final = 8
START_MS: Final = 490_000 * HOUR_MS
CATEGORIES: Final = ("bond", "index", "mixed", "money-market", "stock")
ONE_USER_IN: Final = 4
ONE_BUYER_IN: Final = 20
DICTIONARY_BYTES: Final = 4096


class Log:
    """A log in memory that forgets what was folded, and takes back what the folds send into it."""

    log_id = "bench"
    partitions = PARTITIONS

    def __init__(self) -> None:
        self._first = [0] * PARTITIONS
        self._records: list[list[Record]] = [[] for _ in range(PARTITIONS)]

    async def read(self, partition: int, offset: int, most: int) -> list[Record | Unreadable]:
        """Return records from `offset` on; those before are forgotten."""
        records = self._records[partition]
        del records[: offset - self._first[partition]]
        self._first[partition] = offset
        return [*records[:most]]

    async def bounds(self, partition: int) -> tuple[int, int]:
        """Return (first offset still there, next offset)."""
        first = self._first[partition]
        return first, first + len(self._records[partition])

    async def all_bounds(self) -> list[tuple[int, int]]:
        """Return the bounds of every partition."""
        return [await self.bounds(partition) for partition in range(PARTITIONS)]

    async def append(self, drafts: Sequence[tuple[int, Draft]]) -> None:
        """Append records, each appended at its own clock."""
        for partition, draft in drafts:
            records = self._records[partition]
            records.append(Record(partition, self._first[partition] + len(records), draft.clock, draft))

    async def publish(self, outputs: Sequence[Output]) -> None:
        """Take back what goes into `events`, drop the rest."""
        await self.append(
            [(one.partition, read_headers([*one.headers], one.value or b"")) for one in outputs if one.topic == EVENTS]
        )

    async def flush(self, partition: int) -> None:
        """Return: nothing waits."""


class Visitor:
    """One person: a device, days of visits, perhaps a user id and an order."""

    __slots__ = ("anonymous_id", "buys", "category", "seq", "user_from", "user_id", "visits")

    def __init__(self, number: int, rng: random.Random) -> None:
        self.anonymous_id = f"{rng.getrandbits(128):032x}"
        self.user_id = f"u{1_000_000 + number}" if number % ONE_USER_IN == 0 else None
        self.buys = number % ONE_BUYER_IN == 0
        self.category = rng.choice(CATEGORIES)
        self.visits = [day * 24 + rng.randrange(8, 23) for day in sorted(rng.sample(range(DAYS), VISITS))]
        self.user_from = rng.randrange(VISITS) * EVENTS_A_VISIT
        self.seq = 0

    def visit(self, hour: int, rng: random.Random) -> list[Event]:
        """Return the events of a visit in an hour since the start; a user logs in with one of them."""
        at = START_MS + hour * HOUR_MS + rng.randrange(HOUR_MS * 3 // 4)
        session = f"{rng.getrandbits(128):032x}"
        made = []
        for _ in range(EVENTS_A_VISIT):
            made.append(self._event(rng, at, session))
            at += rng.randrange(1_000, 60_000)
        return made

    def _event(self, rng: random.Random, at: int, session: str) -> Event:
        product = f"/products/{self.category}/p{rng.randrange(8)}"
        path = rng.choice((f"/products/{self.category}", product, "/", "/account/holdings"))
        event = Event(
            id=f"{rng.getrandbits(128):032x}",
            type=rng.choices(("page", "dwell", "click", "submit"), (4, 3, 2, 1))[0],
            occurred_at=at,
            received_at=at + 300,
            ts=at,
            anonymous_id=self.anonymous_id,
            user_id=self.user_id if self.seq >= self.user_from else None,
            session_id=session,
            source="web",
            seq=self.seq,
            page=Page(url=f"https://shop.example{path}", path=path),
        )
        if event.type == "dwell":
            event.properties = msgspec.Raw(b'{"ms":%d}' % rng.randrange(1_000, 60_000))
        if event.type == "click":
            event.element = Element(tag="a", text="Details", selector="main>a", href=product, index=1)
        if self.user_id is not None and self.seq == self.user_from:
            event.type = "identify"
        elif self.buys and self.seq == VISITS * EVENTS_A_VISIT - 1:
            event.type, event.trusted = "purchase", True
            order = {"order_id": f"o{at}", "product_id": product[-2:], "category": self.category, "amount": "1000.00"}
            event.properties = msgspec.Raw(json.dumps(order | {"currency": "CNY"}).encode())
        self.seq += 1
        return event


def hours(people: int) -> Iterator[list[tuple[int, Draft]]]:
    """Yield the drafts of one hour after the other, one block a partition."""
    rng = random.Random(1)
    calendar: list[list[Visitor]] = [[] for _ in range(DAYS * 24)]
    for number in range(people):
        visitor = Visitor(number, rng)
        for hour in visitor.visits:
            calendar[hour].append(visitor)
    for hour, visitors in enumerate(calendar):
        lines: list[list[bytes]] = [[] for _ in range(PARTITIONS)]
        for visitor in visitors:
            for event in visitor.visit(hour, rng):
                lines[partition_of(routing_key(event), PARTITIONS)].append(encode_event(event))
        clock = START_MS + (hour + 1) * HOUR_MS - 1
        yield [
            (n, Draft(Kind.EVENTS, clock, b"\n".join(some) + b"\n", len(some))) for n, some in enumerate(lines) if some
        ]


async def fold(store: RedisStore, people: int) -> None:
    """Let workers fold everything into a store."""
    log, metrics = Log(), WorkerMetrics(CollectorRegistry())
    document = (files("processors") / "definitions" / "fund-shop.toml").read_text(encoding="utf-8")
    value = json.dumps({"number": 1, "toml": document}).encode()
    await log.append([(n, Draft(Kind.DEFINITIONS, START_MS, value)) for n in range(PARTITIONS)])
    workers = [
        PartitionWorker(
            n,
            log=log,
            store=store,
            publisher=log,
            clock=lambda: START_MS,
            metrics=metrics,
            options=WorkerOptions("bench"),
        )
        for n in range(PARTITIONS)
    ]
    for worker in workers:
        await worker.acquire()
    for drafts in hours(people):
        await log.append(drafts)
        await settle(workers)


async def bytes_a_person(url: str, people: int) -> dict[str, float]:
    """Fold into the Redis at `url`, which must hold nothing else, and return where its bytes went, a person."""
    store = RedisStore.open(url)
    before = (await store.health()).used_memory_bytes or 0
    await fold(store, people)
    after = (await store.health()).used_memory_bytes or 0
    async with Redis.from_url(url) as client:
        sizes: dict[str, int] = {"people": 0, "due": 0, "other": 0}
        async for key in client.scan_iter(count=1000):
            name = key.decode().split(":")[2] if key.count(b":") > 1 else ""
            sizes[name if name in sizes else "other"] += await client.memory_usage(key, samples=0) or 0
    persons = values = 0
    for partition in range(PARTITIONS):
        async for _, value in store.people(partition):
            persons += 1
            values += len(value)
    await store.close()
    return {
        "persons": persons,
        "bytes_a_person": (after - before) / persons,
        "state_bytes_a_person": values / persons,
        **{f"{name}_bytes_a_person": size / persons for name, size in sizes.items()},
    }


async def train(url: str, people: int) -> bytes:
    """Return a dictionary for processors/adapters/redis/packing.py, made of the states of so many people."""
    store = RedisStore.open(url)
    await fold(store, people)
    values: list[bytes | bytearray | memoryview] = [
        value for n in range(PARTITIONS) async for _, value in store.people(n)
    ]
    await store.close()
    return zstandard.train_dictionary(DICTIONARY_BYTES, values).as_bytes()


def measure(people: int = PEOPLE) -> dict[str, float]:
    """Return the figures of one run on a Redis of its own."""
    with own_redis() as server:
        return asyncio.run(bytes_a_person(server.url, people))


@contextmanager
def own_redis() -> Iterator[RedisServer]:
    """Run a Redis in a scratch folder."""
    with tempfile.TemporaryDirectory() as folder, closing(RedisServer(Path(folder))) as server:
        server.start()
        yield server


def main() -> None:
    """Print the figures as JSON, or train a dictionary."""
    parser = argparse.ArgumentParser(prog="python -m bench.redis_memory", description=__doc__)
    parser.add_argument("--people", type=int, default=PEOPLE)
    parser.add_argument("--dictionary", type=Path, help="write a new dictionary for states to this file instead")
    options = parser.parse_args()
    if options.dictionary is None:
        print(json.dumps(measure(options.people), indent=1))
        return
    with own_redis() as server:
        options.dictionary.write_bytes(asyncio.run(train(server.url, options.people)))


if __name__ == "__main__":
    main()
