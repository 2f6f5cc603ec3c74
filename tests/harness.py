"""A whole deployment on SQLite under a simulated clock: for comparing the product with the oracle over one log."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
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
from processors.engine.query import Query
from processors.engine.worker import PartitionWorker, WorkerOptions

BLOCK_MS = 5
"""Events this close together in arrival share a block, as the collector's linger makes them."""


class Deployment:
    """Log, store and workers in memory; `now` is the only clock."""

    def __init__(
        self, *, partitions: int = 32, start: int, definitions: str | None = None, path: str = ":memory:"
    ) -> None:
        self.now = start
        self.log = SqliteLog(path, partitions=partitions, log_id="test", clock=lambda: self.now)
        self.store = SqliteStore(":memory:")
        self.query = Query(self.store, partitions)
        self.workers: list[PartitionWorker] = []
        self._definitions = shipped_definitions() if definitions is None else definitions

    async def start(self, *, batch_records: int = 1000) -> None:
        """Acquire every partition, and put the definitions into force in an empty log."""
        options = WorkerOptions("test", batch_records=batch_records)
        metrics = WorkerMetrics(CollectorRegistry())
        await self.store.bind(self.log.log_id, self.log.partitions)
        self.workers = [
            PartitionWorker(
                n,
                log=self.log,
                store=self.store,
                publisher=self.log,
                clock=lambda: self.now,
                metrics=metrics,
                options=options,
            )
            for n in range(self.log.partitions)
        ]
        for worker in self.workers:
            await worker.acquire()
        if (await self.log.bounds(0))[1] == 0:
            await self.publish(self._definitions)

    async def publish(self, definitions: str) -> None:
        """Publish a definitions document and fold until it is in force."""
        value = json.dumps({"definitions": definitions}).encode()
        await self.log.append([(0, Draft(Kind.PUBLISH, self.now, value))])
        await self.settle()

    async def settle(self) -> None:
        """Fold until no partition has anything left."""
        while any([await worker.step() for worker in self.workers]):
            pass

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
        """Return every record of the log, partition by partition, in order of offset."""
        found: list[Record] = []
        for partition in range(self.log.partitions):
            for record in await self.log.read(partition, 0, 1 << 60):
                assert isinstance(record, Record)
                found.append(record)
        return found

    def changes(self) -> dict[str, list[dict[str, Any]]]:
        """Return every published change, by person, in the order of publication."""
        found: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for _, value in self.log.changes(0, 1 << 60):
            change = json.loads(value)
            found[change["person"]].append(change)
        return dict(found)

    def close(self) -> None:
        """Give up the files."""
        self.store.close()
        self.log.close()
