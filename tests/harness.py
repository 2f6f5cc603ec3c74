"""A whole deployment on SQLite under a simulated clock: for comparing the product with the oracle over one log."""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry

from collector.decode.decoded import RequestFacts
from collector.decode.native import decode_native
from collector.settings import Limits
from collector.wire.block import BlockBuilder
from collector.wire.record import HOUR_MS, Draft, Kind, Record
from phasewatch.embedded_worker import shipped_definitions
from processors.adapters.sqlite.log import SqliteLog
from processors.adapters.sqlite.store import SqliteStore
from processors.engine.metrics import WorkerMetrics
from processors.engine.outputs import Output
from processors.engine.ports import Publisher, Unreadable
from processors.engine.query import Query
from processors.engine.worker import PartitionWorker, WorkerOptions, settle
from processors.wire import STAGE_CHANGES

BLOCK_MS = 5
"""Events this close together in arrival share a block, as the collector's linger makes them."""


class Kept:
    """A publisher that only keeps what it is given, so that folding a log again leaves the log as it is."""

    def __init__(self) -> None:
        self.outputs: list[Output] = []

    async def publish(self, outputs: Sequence[Output]) -> None:
        """Keep the outputs."""
        self.outputs.extend(outputs)

    async def flush(self, partition: int) -> None:
        """Return: nothing waits."""

    def changes(self) -> dict[str, list[bytes]]:
        """Return the messages of every stage change, by person, in the order of publication."""
        return by_person(one.value or b"" for one in self.outputs if one.topic == STAGE_CHANGES)


def by_person(messages: Iterable[bytes]) -> dict[str, list[bytes]]:
    """Return stage changes by the person they are about, in their order."""
    found: dict[str, list[bytes]] = defaultdict(list)
    for message in messages:
        found[json.loads(message)["person"]].append(message)
    return dict(found)


def _origin_taken(record: Record | Unreadable, taken: list[int]) -> bool:
    """Return whether the record that a derived one comes from is among the first so many of its partition."""
    source = record.draft.source if isinstance(record, Record) else None
    partition, offset = map(int, (source or "0--1/0").split("/")[0].split("-", 1))
    return offset < taken[partition]


class Deployment:
    """Log, store and workers, in memory unless files are named; `now` is the only clock."""

    def __init__(
        self,
        *,
        partitions: int = 32,
        start: int,
        definitions: str | None = None,
        path: str = ":memory:",
        store_path: str = ":memory:",
    ) -> None:
        self.now = start
        self.log = SqliteLog(path, partitions=partitions, log_id="test", clock=lambda: self.now)
        self.store = SqliteStore(store_path)
        self.query = Query(self.store, partitions)
        self.workers: list[PartitionWorker] = []
        self._definitions = shipped_definitions() if definitions is None else definitions

    async def start(self, *, batch_records: int = 1000) -> None:
        """Acquire every partition, and put the definitions into force in an empty log."""
        self.workers = await self._workers(self.store, self.log, WorkerOptions("test", batch_records=batch_records))
        if (await self.log.bounds(0))[1] == 0:
            await self.publish(self._definitions)

    async def _workers(self, store: SqliteStore, publisher: Publisher, options: WorkerOptions) -> list[PartitionWorker]:
        metrics = WorkerMetrics(CollectorRegistry())
        await store.bind(self.log.log_id, self.log.partitions)
        workers = [
            PartitionWorker(
                n,
                log=self.log,
                store=store,
                publisher=publisher,
                clock=lambda: self.now,
                metrics=metrics,
                options=options,
            )
            for n in range(self.log.partitions)
        ]
        for worker in workers:
            await worker.acquire()
        return workers

    async def fold_again(self, *, batch_records: int, slice_persons: int) -> tuple[Kept, dict[str, dict[str, Any]]]:
        """Fold the log as it stands into a fresh store, its commits cut so; return what that sends, and the states."""
        store, kept = SqliteStore(":memory:"), Kept()
        try:
            options = WorkerOptions("test", batch_records=batch_records, slice_persons=slice_persons)
            await settle(await self._workers(store, kept, options))
            return kept, await self.states(store)
        finally:
            store.close()

    async def publish(self, definitions: str) -> None:
        """Publish a definitions document and fold until it is in force."""
        value = json.dumps({"definitions": definitions}).encode()
        await self.log.append([(0, Draft(Kind.PUBLISH, self.now, value))])
        await self.settle()

    async def settle(self) -> None:
        """Fold until no partition has anything left."""
        await settle(self.workers)

    async def feed(self, events: Iterable[dict[str, Any]]) -> None:
        """Append events as a collector receives them at their `arrives` (UTC ms), with a tick everywhere each hour."""
        builder = BlockBuilder(self.log.partitions, max_bytes=256 * 1024)
        block_from = None
        for event in events:
            arrives = event["arrives"]
            if block_from is not None and (
                arrives - block_from > BLOCK_MS or arrives // HOUR_MS != block_from // HOUR_MS
            ):
                await self.log.append(builder.take())
                block_from = None
            if arrives // HOUR_MS != self.now // HOUR_MS:
                await self.settle()
                self.now = arrives
                await self.tick()
            block_from = arrives if block_from is None else block_from
            self.now = arrives
            raw = msgspec.json.encode({k: v for k, v in event.items() if k not in ("arrives", "trusted")})
            facts = RequestFacts("ledger" if event["trusted"] else "web", event["trusted"], arrives)
            decoded = decode_native([raw], facts, limits=Limits())
            assert not decoded.rejections, decoded.rejections
            builder.add(decoded.events[0][1], arrives)
        await self.log.append(builder.take())
        await self.settle()

    async def tick(self) -> None:
        """Let time pass everywhere: append a tick to every partition and fold it."""
        await self.log.append([(n, Draft(Kind.TICK, self.now)) for n in range(self.log.partitions)])
        await self.settle()

    async def records(self) -> list[Record]:
        """Return every record of the log, each partition's in order of offset, and each after what it follows from."""
        waiting = [deque(await self.log.read(n, 0, 1 << 60)) for n in range(self.log.partitions)]
        found: list[Record] = []
        taken = [0] * len(waiting)
        while any(waiting):
            for partition, queue in enumerate(waiting):
                while queue and _origin_taken(queue[0], taken):
                    record = queue.popleft()
                    assert isinstance(record, Record)
                    found.append(record)
                    taken[partition] += 1
        return found

    def messages(self) -> dict[str, list[bytes]]:
        """Return every published change as its bytes, by person, in the order of publication."""
        rows = self.log._connection.execute(  # noqa: SLF001 - a database in memory has no other way in
            "SELECT value FROM records WHERE topic = ? ORDER BY id", (STAGE_CHANGES,)
        )
        return by_person(value for (value,) in rows)

    def changes(self) -> dict[str, list[dict[str, Any]]]:
        """Return every published change, by person, in the order of publication."""
        return {person: [json.loads(one) for one in told] for person, told in self.messages().items()}

    async def states(self, store: SqliteStore | None = None) -> dict[str, dict[str, Any]]:
        """Return what the query shows of every person there is, by key."""
        store = store or self.store
        query = Query(store, self.log.partitions)
        found: dict[str, dict[str, Any]] = {}
        for partition in range(self.log.partitions):
            async for key, _ in store.people(partition):
                found[key] = await query.person(key) or {}
        return found

    def close(self) -> None:
        """Give up the files."""
        self.store.close()
        self.log.close()
