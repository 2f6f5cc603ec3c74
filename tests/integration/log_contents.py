"""What a stopped deployment has left on disk, read back for comparisons."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from contextlib import closing
from pathlib import Path
from typing import Any

from collector.wire.block import decode_events
from collector.wire.event import Event
from collector.wire.log_file import decode_headers
from collector.wire.record import Kind, Record, read_headers
from processors.adapters.sqlite.store import SqliteStore
from processors.engine.query import Query


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

    def changes(self) -> tuple[dict[str, list[dict[str, Any]]], int]:
        """Return each person's changes without repeats, in the order of publication, and how many repeats there were.

        A repeat has the very bytes of the first.
        """
        first: dict[str, bytes] = {}
        by_person: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for value in self._changes:
            change = json.loads(value)
            if first.setdefault(change["id"], value) is value:
                by_person[change["person"]].append(change)
            else:
                assert first[change["id"]] == value
        return dict(by_person), len(self._changes) - len(first)

    async def states(self, people: list[str]) -> dict[str, dict[str, Any] | None]:
        """Return what the query API says of people, each with the sum of its behaviour counts as `counts`."""
        store = SqliteStore(self.data / "states.sqlite")
        try:
            query = Query(store, self.partitions)
            found: dict[str, dict[str, Any] | None] = {}
            for key in people:
                person = await query.person(key)
                timeline = await query.timeline(key)
                if person is not None and timeline is not None:
                    counts: Counter[str] = Counter()
                    for hour in timeline["hours"]:
                        counts.update(hour["counts"])
                    person |= {"counts": dict(counts)}
                found[key] = person
            return found
        finally:
            store.close()
