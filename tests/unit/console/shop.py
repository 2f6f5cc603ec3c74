"""A fund shop's log on SQLite, folded by the engine itself: what the tests of the console read."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry

from collector.wire.block import BlockBuilder
from collector.wire.event import Context, Element, Event, EventType, Page
from collector.wire.record import Draft, Kind
from processors.adapters.sqlite.log import SqliteLog
from processors.adapters.sqlite.store import SqliteStore
from processors.engine.metrics import WorkerMetrics
from processors.engine.query import Query
from processors.engine.worker import PartitionWorker, WorkerOptions

PARTITIONS = 4
START = 1_790_000_000_000
"""UTC milliseconds; any instant will do."""
FUND_SHOP = files("processors").joinpath("definitions/fund-shop.toml").read_text("utf-8")


class Shop:
    """One log, one store, all partitions folded here; `now` is the only clock."""

    def __init__(self, directory: Path) -> None:
        self.now = START
        self.log = SqliteLog(directory / "log.db", partitions=PARTITIONS, log_id="t", clock=self.clock)
        self.store = SqliteStore(directory / "store.db")
        self.query = Query(self.store, PARTITIONS)
        self._metrics = WorkerMetrics(CollectorRegistry())
        self._workers: list[PartitionWorker] = []
        self._events = 0

    def clock(self) -> int:
        """Return the time now, UTC milliseconds."""
        return self.now

    def close(self) -> None:
        """Give up both files."""
        self.log.close()
        self.store.close()

    async def open(self, definitions: str = FUND_SHOP) -> None:
        """Own all partitions and put the shop's definitions into force."""
        await self.store.bind(self.log.log_id, PARTITIONS)
        for partition in range(PARTITIONS):
            worker = PartitionWorker(
                partition,
                log=self.log,
                store=self.store,
                publisher=self.log,
                clock=self.clock,
                metrics=self._metrics,
                options=WorkerOptions(deployment="test"),
            )
            await worker.acquire()
            self._workers.append(worker)
        value = json.dumps({"definitions": definitions}).encode()
        await self.log.append([(0, Draft(Kind.PUBLISH, self.now, value))])
        await self.fold()

    async def fold(self) -> None:
        """Fold until every partition is quiet."""
        while any([await worker.step() for worker in self._workers]):
            pass

    async def take(self, *events: Event) -> None:
        """Append events and fold them and what they lead to."""
        builder = BlockBuilder(PARTITIONS, max_bytes=1_000_000)
        for event in events:
            builder.add(event, self.now)
        await self.log.append(builder.take())
        await self.fold()

    async def pass_time(self, milliseconds: int) -> None:
        """Let time pass in every partition."""
        self.now += milliseconds
        await self.log.append([(partition, Draft(Kind.TICK, self.now)) for partition in range(PARTITIONS)])
        await self.fold()

    def event(self, kind: EventType, person: str, **fields: Any) -> Event:
        """Return an event of a person key that occurs now."""
        self._events += 1
        who = {"user_id": person[2:]} if person.startswith("u:") else {"anonymous_id": person[2:]}
        return Event(id=f"e{self._events}", type=kind, occurred_at=self.now, received_at=self.now, **(who | fields))

    def view(self, person: str, product: str = "/products/bond/b-1") -> Event:
        """Return a view of a product's page: weight 0.5."""
        return self.event("page", person, page=Page(path=product), context=Context(place="Shanghai"))

    def invest(self, person: str) -> Event:
        """Return a click on Invest: weight 1.5."""
        return self.event("click", person, page=Page(path="/products/bond/b-1"), element=Element(text="Invest"))

    def money(self, kind: EventType, person: str, order: str, *, trusted: bool = True) -> Event:
        """Return a money fact of an order."""
        properties = {
            "order_id": order,
            "product_id": "b-1",
            "category": "bond",
            "amount": "1000.00",
            "currency": "CNY",
        }
        return self.event(kind, person, trusted=trusted, properties=msgspec.Raw(msgspec.json.encode(properties)))

    async def decide(self, person: str) -> None:
        """Lead a person into decision: 4 x 1.5 and one view."""
        await self.take(self.view(person), *(self.invest(person) for _ in range(4)))
