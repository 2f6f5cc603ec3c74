"""A deployment in memory whose owners may die around every commit, publication and trim, and whose store falls back."""

from __future__ import annotations

import contextlib
import json
import random
import sqlite3
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from prometheus_client import CollectorRegistry

from collector.wire.block import BlockBuilder
from collector.wire.event import Event
from collector.wire.record import HOUR_MS, Draft, Kind
from phasewatch.embedded_worker import shipped_definitions
from processors.adapters.sqlite.log import SqliteLog
from processors.adapters.sqlite.store import SqliteStore
from processors.engine.metrics import WorkerMetrics
from processors.engine.outputs import Output
from processors.engine.ports import Commit, FencedError
from processors.engine.query import Query
from processors.engine.worker import PartitionWorker, WorkerOptions, settle
from processors.wire import STAGE_CHANGES
from tests.agreement import differences
from tests.harness import Deployment
from tests.integration.production import once
from tests.oracle import run
from tests.unit.engine.partition import LOOKS

START: Final = 496_000 * HOUR_MS
MINUTE: Final = 60_000
PARTITIONS: Final = 3
PEOPLE: Final = ((None, "a"), (None, "b"), (None, "c"), ("1", "a"), ("1", "b"), ("2", "a"), ("2", "c"), ("3", None))
"""(user, device): devices that one user has several of, and that two users share."""


class DeadError(Exception):
    """The process is gone."""


class Fate:
    """Decides where owners die; never while `rate` is 0."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.rate = 0.0
        self.deaths = 0

    def may_strike(self) -> None:
        if self.rng.random() < self.rate:
            self.deaths += 1
            raise DeadError


class MortalStore(SqliteStore):
    """A store whose owners may die before or after each of their writes."""

    def __init__(self, fate: Fate) -> None:
        super().__init__(":memory:")
        self._fate = fate

    async def commit(self, commit: Commit) -> int:
        self._fate.may_strike()
        last = await super().commit(commit)
        self._fate.may_strike()
        return last

    async def trim(self, partition: int, token: str, upto: int) -> None:
        self._fate.may_strike()
        await super().trim(partition, token, upto)
        self._fate.may_strike()

    def held_now(self) -> sqlite3.Connection:
        """Return a copy of all that it holds."""
        copied = sqlite3.connect(":memory:")
        self._connection.backup(copied)
        return copied

    def fall_back(self, copied: sqlite3.Connection) -> None:
        """Hold again what it held then, tokens and all."""
        copied.backup(self._connection)


class MortalLog(SqliteLog):
    """A log whose writers may die before, amid or after publishing."""

    def __init__(self, fate: Fate, deployment: Deployment) -> None:
        super().__init__(":memory:", partitions=PARTITIONS, log_id="test", clock=lambda: deployment.now)
        self._fate = fate

    async def publish(self, outputs: Sequence[Output]) -> None:
        self._fate.may_strike()
        try:
            self._fate.may_strike()
        except DeadError:
            await super().publish(outputs[: self._fate.rng.randrange(len(outputs))])
            raise
        await super().publish(outputs)
        self._fate.may_strike()


class Story:
    """Everything that happens in one run, from a seed."""

    def __init__(self, seed: int, documents: Sequence[str] = ()) -> None:
        self.rng = random.Random(seed)
        self._documents = documents
        self.published = [shipped_definitions()]
        """Definitions in the order in which they were handed in."""
        self.fate = Fate(self.rng)
        self.deployment = Deployment(partitions=PARTITIONS, start=START)
        self.deployment.close()
        self.log = self.deployment.log = MortalLog(self.fate, self.deployment)
        self.store = self.deployment.store = MortalStore(self.fate)
        self.deployment.query = Query(self.store, PARTITIONS)
        self._metrics = WorkerMetrics(CollectorRegistry())
        self._number = 0
        self.events: dict[str, int] = {}
        """By id: how many behaviours it counts as."""

    def close(self) -> None:
        self.deployment.close()

    async def owner(self, partition: int) -> PartitionWorker:
        """Return a new owner of a partition, however many die of publishing what the one before has left."""
        while True:
            worker = PartitionWorker(
                partition,
                log=self.log,
                store=self.store,
                publisher=self.log,
                clock=lambda: self.deployment.now,
                metrics=self._metrics,
                options=WorkerOptions("test", batch_records=self.rng.randrange(1, 5), slice_persons=3),
            )
            try:
                await worker.acquire()
            except DeadError:
                continue
            return worker

    async def start(self) -> None:
        await self.store.bind("test", PARTITIONS)
        self.deployment.workers = [await self.owner(partition) for partition in range(PARTITIONS)]
        await self.deployment.publish(self.published[0])

    def _event(self) -> Event:
        self._number += 1
        user, device = self.rng.choice(PEOPLE)
        identifies = user is not None and device is not None and self.rng.random() < 0.4
        look: dict[str, Any] = {"type": "identify"} if identifies else self.rng.choice(list(LOOKS.values()))
        name = f"e{self._number}"
        self.events[name] = 0 if identifies else 1
        at = self.deployment.now
        return Event(id=name, occurred_at=at, received_at=at, user_id=user, anonymous_id=device, **look)

    async def arrive(self) -> None:
        """Append a few blocks."""
        self.deployment.now += self.rng.choice((0, 10, MINUTE, 11 * MINUTE))
        builder = BlockBuilder(PARTITIONS, max_bytes=1 << 16)
        for _ in range(self.rng.randrange(1, 7)):
            builder.add(self._event(), self.deployment.now)
        await self.log.append(builder.take())

    async def publish(self) -> None:
        """Hand a definitions document in, as `phasewatch definitions publish` does."""
        self.published.append(self.rng.choice(self._documents))
        value = json.dumps({"definitions": self.published[-1]}).encode()
        await self.log.append([(0, Draft(Kind.PUBLISH, self.deployment.now, value))])

    async def work(self) -> None:
        """Let a partition's owner take a step, dying perhaps; its successor comes, and it may wake up once more."""
        partition = self.rng.randrange(PARTITIONS)
        former = self.deployment.workers[partition]
        try:
            await former.step()
        except (DeadError, FencedError):
            self.deployment.workers[partition] = await self.owner(partition)
            if self.rng.random() < 0.3:
                await self._wake(former)

    async def _wake(self, former: PartitionWorker) -> None:
        """It was not dead but slow: it publishes what it had at hand, and is refused whatever it commits or trims."""
        before, rate, self.fate.rate = await self.store.state(former.partition), self.fate.rate, 0
        with contextlib.suppress(FencedError):
            assert await former.step() == 0
        self.fate.rate = rate
        assert await self.store.state(former.partition) == before

    async def live(self, steps: int) -> None:
        """Let so many things happen; in the end nobody dies any more, and everything is folded."""
        copies: list[sqlite3.Connection] = []
        self.fate.rate = 0.08
        try:
            for _ in range(steps):
                chance = self.rng.random()
                if chance < 0.25:
                    await self.arrive()
                elif chance < 0.27 and self._documents:
                    await self.publish()
                elif chance < 0.30:
                    copies.append(self.store.held_now())
                elif chance < 0.33 and copies:
                    self.store.fall_back(copies[-1])
                else:
                    await self.work()
        finally:
            for one in copies:
                one.close()
        self.fate.rate = 0
        self.deployment.workers = [await self.owner(partition) for partition in range(PARTITIONS)]
        await settle(self.deployment.workers)

    def changes(self) -> tuple[dict[str, list[dict[str, Any]]], int]:
        """Return each person's changes once, and how many were repeats, which have the same bytes."""
        rows = self.log._connection.execute(  # noqa: SLF001 - a database in memory has no other way in
            "SELECT value FROM records WHERE topic = ? ORDER BY id", (STAGE_CHANGES,)
        )
        return once((0, None, value, {}) for (value,) in rows)

    async def assert_agrees(self) -> None:
        """Assert that all that was told, and is there, is what the oracle makes of the log; repeats byte-equal."""
        records = await self.deployment.records()
        found = differences(self.changes()[0], await self.deployment.states(), run(records))
        assert not found, f"{len(found)} differences, of which\n" + "\n".join(found[:5])

    async def what_happened(self) -> Counter[str]:
        """Return how often owners died, and what was sent between partitions once and again."""
        found = Counter({"deaths": self.fate.deaths, "changes repeated": self.changes()[1]})
        first: set[tuple[Kind, int, str]] = set()
        for one in await self.deployment.records():
            if one.draft.source is not None:
                place = one.draft.kind, one.partition, one.draft.source
                found[f"{one.draft.kind} {'repeated' if place in first else 'sent'}"] += 1
                first.add(place)
        return found
