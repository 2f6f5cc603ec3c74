"""What a stopped deployment has left on disk, read back for comparisons."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

from collector.wire.block import decode_events
from collector.wire.event import Event
from collector.wire.log_file import decode_headers
from collector.wire.record import Kind, Record, read_headers
from phasewatch.backend import wait_for_fold
from phasewatch.data_dir import now_ms
from processors.adapters.sqlite.log import SqliteLog
from processors.adapters.sqlite.store import SqliteStore
from processors.engine.changes import rfc3339
from processors.engine.query import Query
from tests.oracle import run

T = TypeVar("T")
Changes = dict[str, list[dict[str, Any]]]
FOLD_SECONDS = 60


class LogContents:
    """The records, changes and latest stages of a log file, as they stand there."""

    def __init__(self, data: Path) -> None:
        self.data = data
        with closing(sqlite3.connect(data / "log.sqlite")) as connection:
            self.partitions = int(connection.execute("SELECT value FROM log WHERE name = 'partitions'").fetchone()[0])
            rows = connection.execute(
                'SELECT topic, "partition", "offset", append_time, headers, key, value FROM records ORDER BY id'
            ).fetchall()
        self.records = [
            Record(partition, offset, time, read_headers(decode_headers(headers), value or b""))
            for topic, partition, offset, time, headers, _, value in rows
            if topic == "events"
        ]
        self._changes = [value for topic, *_, value in rows if topic == "stage-changes"]
        self.stages = {key.decode(): value for topic, *_, key, value in rows if topic == "stages"}
        """The latest message of each person in topic `stages`; None is a tombstone."""

    def events(self) -> list[Event]:
        """Return every collected event, repeats included."""
        return [
            event
            for record in self.records
            if record.draft.kind is Kind.EVENTS
            for event in decode_events(record.draft.value)
        ]

    def copies(self) -> Counter[str]:
        """Return how many times each collected event stands in the log, by id."""
        return Counter(event.id for event in self.events())

    def changes(self) -> tuple[Changes, int]:
        """Return each person's changes without repeats, in the order of publication, and how many repeats there were.

        A repeat has the very bytes of the first.
        """
        first: dict[str, bytes] = {}
        by_person: Changes = defaultdict(list)
        for value in self._changes:
            change = json.loads(value)
            if first.setdefault(change["id"], value) is value:
                by_person[change["person"]].append(change)
            else:
                assert first[change["id"]] == value
        return dict(by_person), len(self._changes) - len(first)

    def states(self) -> dict[str, dict[str, Any]]:
        """Return what the query shows of every person there is, each with the sum of its behaviour counts, `counts`."""
        return _in_a_thread(self._states())

    async def _states(self) -> dict[str, dict[str, Any]]:
        store = SqliteStore(self.data / "states.sqlite")
        try:
            query = Query(store, self.partitions)
            found: dict[str, dict[str, Any]] = {}
            for partition in range(self.partitions):
                async for key, _ in store.people(partition):
                    timeline = await query.timeline(key) or {"hours": []}
                    counts = sum((Counter(hour["counts"]) for hour in timeline["hours"]), Counter())
                    found[key] = (await query.person(key) or {}) | {"counts": dict(counts)}
            return found
        finally:
            store.close()


def _in_a_thread(work: Coroutine[Any, Any, T]) -> T:
    """Run on a loop in another thread: where a browser is steered, this one's runs already."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def wait_until_folded(data: Path) -> None:
    """Wait until a running process has folded and published everything that is in its log."""

    async def wait() -> None:
        log = SqliteLog(data / "log.sqlite", partitions=32, log_id="", clock=now_ms)
        store = SqliteStore(data / "states.sqlite")
        try:
            async with asyncio.timeout(FOLD_SECONDS):
                await wait_for_fold(log, store, Query(store, log.partitions))
        finally:
            store.close()
            log.close()

    _in_a_thread(wait())


def agrees_with_the_oracle(log: LogContents) -> tuple[Changes, int]:
    """Assert that changes and states are what the oracle makes of the same records; return changes and repeats."""
    expected = run(log.records)
    changes, repeats = log.changes()
    assert changes == expected.changes
    for person, told in changes.items():
        lives: dict[str, list[int]] = defaultdict(list)
        for change in told:
            lives[change["life"]].append(change["version"])
        assert all(versions == list(range(1, len(versions) + 1)) for versions in lives.values())
        latest = log.stages[person]
        assert (None if latest is None else json.loads(latest)) == (None if told[-1]["to"] is None else told[-1])
    found = log.states()
    states = {
        person: {name: state[name] for name in expected.states.get(person, state)} for person, state in found.items()
    }
    readable = {
        person: state | {"last_activity": rfc3339(state["last_activity"])} for person, state in expected.states.items()
    }
    assert states == readable
    return changes, repeats
