"""The embedded log: every topic in one SQLite file, in Kafka's place; its format is shared by who writes and who reads.

The functions take a connection, so that the driver stays in the adapters that own one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sqlite3 import Connection

EVENTS: Final = "events"
REJECTED: Final = "rejected"

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS log (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS records (
    id INTEGER PRIMARY KEY,
    topic TEXT NOT NULL, "partition" INTEGER NOT NULL, "offset" INTEGER NOT NULL,
    append_time INTEGER NOT NULL, key BLOB, headers TEXT NOT NULL, value BLOB,
    UNIQUE (topic, "partition", "offset")
);
CREATE INDEX IF NOT EXISTS records_by_topic ON records (topic);
"""

PRAGMAS: Final = ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", "PRAGMA busy_timeout=2000")
"""FULL: a commit returns after the write-ahead log's fsync, which is what an acknowledgement promises."""


@dataclass(slots=True, frozen=True)
class Row:
    """One record to append: topic, partition, key, headers and value."""

    topic: str
    partition: int
    key: bytes | None
    headers: Sequence[tuple[str, bytes]]
    value: bytes | None


def create(connection: Connection, *, partitions: int, log_id: str) -> tuple[int, str]:
    """Create the tables where missing and return (number of partitions, id) that the log was created with."""
    for pragma in PRAGMAS:
        connection.execute(pragma)
    connection.executescript(SCHEMA)
    with connection:
        connection.executemany(
            "INSERT OR IGNORE INTO log VALUES (?, ?)", [("partitions", str(partitions)), ("id", log_id)]
        )
    found = dict(connection.execute("SELECT name, value FROM log"))
    return int(found["partitions"]), str(found["id"])


def append(connection: Connection, rows: Sequence[Row], now: int, notes: Mapping[str, str] | None = None) -> list[int]:
    """Append rows in one transaction and return their offsets; durable when this returns.

    Args:
        connection: to a log file prepared by `create`, in autocommit mode.
        rows: what to append, in order.
        now: the append time of all of them, UTC milliseconds.
        notes: names and values to remember in table `log`, in the same transaction.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        following: dict[tuple[str, int], int] = {}
        offsets: list[int] = []
        for row in rows:
            place = (row.topic, row.partition)
            if place not in following:
                (last,) = connection.execute(
                    'SELECT coalesce(max("offset"), -1) FROM records WHERE topic = ? AND "partition" = ?', place
                ).fetchone()
                following[place] = last + 1
            offset = following[place]
            following[place] = offset + 1
            offsets.append(offset)
        connection.executemany(
            'INSERT INTO records (topic, "partition", "offset", append_time, key, headers, value)'
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (row.topic, row.partition, offset, now, row.key, encode_headers(row.headers), row.value)
                for row, offset in zip(rows, offsets, strict=True)
            ],
        )
        connection.executemany("INSERT OR REPLACE INTO log VALUES (?, ?)", list((notes or {}).items()))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite has already rolled back after a full disk or an I/O error
            connection.execute("ROLLBACK")
        raise
    return offsets


def encode_headers(headers: Sequence[tuple[str, bytes]]) -> str:
    """Return headers as a JSON list of [name, text] pairs."""
    return json.dumps([[name, value.decode()] for name, value in headers], ensure_ascii=False, separators=(",", ":"))


def decode_headers(text: str) -> list[tuple[str, bytes]]:
    """Return the headers that `encode_headers` wrote."""
    return [(name, value.encode()) for name, value in json.loads(text)]


def probe(connection: Connection, now: int) -> None:
    """Write the current time (UTC milliseconds) beside the log, durably, to learn whether records could be."""
    connection.execute("INSERT OR REPLACE INTO log VALUES ('probed_at', ?)", (str(now),))
