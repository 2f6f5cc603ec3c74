"""The state store on a SQLite file, in Redis's place."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from collector.wire.log_file import decode_headers, encode_headers
from processors.engine.outputs import Output
from processors.engine.ports import (
    Acquired,
    Commit,
    Copy,
    FencedError,
    Hold,
    LogMismatchError,
    Part,
    StoreUnavailableError,
)
from processors.engine.state import Position

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS log (id TEXT NOT NULL, partitions INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS partitions (
    "partition" INTEGER PRIMARY KEY, token TEXT NOT NULL, "offset" INTEGER NOT NULL, cursor INTEGER NOT NULL, state BLOB
);
CREATE TABLE IF NOT EXISTS people (
    "partition" INTEGER, key TEXT, value BLOB NOT NULL, PRIMARY KEY ("partition", key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS due (
    "partition" INTEGER, hour INTEGER, key TEXT, PRIMARY KEY ("partition", hour, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outbox (
    "partition" INTEGER, number INTEGER, topic TEXT NOT NULL, target INTEGER NOT NULL, key BLOB, headers TEXT NOT NULL,
    value BLOB, PRIMARY KEY ("partition", number)
) WITHOUT ROWID;
"""

_PRAGMAS: Final = ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=NORMAL", "PRAGMA busy_timeout=10000")
"""NORMAL: a power cut may take the last commits, never part of one; the log is folded again from the older position."""

_KEYS_A_QUERY: Final = 500
_ROWS_A_PART: Final = 1000


class SqliteStore:
    """States, due lists, positions and outboxes of all partitions in one file (`:memory:` for tests)."""

    def __init__(self, path: Path | str) -> None:
        self._path = str(path)
        self._connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            for pragma in _PRAGMAS:
                self._connection.execute(pragma)
            self._connection.executescript(_SCHEMA)
        except sqlite3.DatabaseError as error:  # besides what passes: the file is broken, or none of SQLite's
            self._connection.close()
            msg = f"the state store {self._path} can't be opened: {error}"
            raise StoreUnavailableError(msg) from error

    def close(self) -> None:
        """Give up the file."""
        self._connection.close()

    @contextmanager
    def _away(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            msg = f"the state store {self._path}: {error}"
            raise StoreUnavailableError(msg) from error

    async def bind(self, log_id: str, partitions: int) -> None:
        """Remember which log the store belongs to, the first time; see the port."""
        with self._away():
            self._connection.execute(
                "INSERT INTO log SELECT ?, ? WHERE NOT EXISTS (SELECT 1 FROM log)", (log_id, partitions)
            )
            found = self._connection.execute("SELECT id, partitions FROM log").fetchone()
            if found != (log_id, partitions):
                msg = (
                    f"the state store {self._path} belongs to the log {found[0]} with {found[1]} partitions, "
                    f"not to {log_id} with {partitions}: give it the log it was made from, or start with an empty store"
                )
                raise LogMismatchError(msg)

    async def bound_to(self) -> tuple[str, int] | None:
        """Return which log the store belongs to, and how many partitions that has; see the port."""
        with self._away():
            return self._connection.execute("SELECT id, partitions FROM log").fetchone()  # type: ignore[no-any-return]

    async def acquire(self, partition: int) -> Acquired:
        """Become the only owner of a partition; see the port."""
        token = secrets.token_hex(16)
        with self._away():
            self._connection.execute(
                "INSERT INTO partitions VALUES (?, ?, 0, 0, NULL)"
                ' ON CONFLICT ("partition") DO UPDATE SET token = excluded.token',
                (partition, token),
            )
        return Acquired(token, await self.state(partition))

    async def state(self, partition: int) -> bytes | None:
        """Return a partition's state as last committed."""
        with self._away():
            found = self._connection.execute(
                'SELECT state FROM partitions WHERE "partition" = ?', (partition,)
            ).fetchone()
        return None if found is None else found[0]

    async def load(self, partition: int, keys: Sequence[str], hold: Hold | None = None) -> dict[str, bytes]:
        """Return the values of those keys that there are, for an owner those of its own place; see the port."""
        found: dict[str, bytes] = {}
        with self._away():
            if hold is not None:
                self._check(partition, hold)
            for start in range(0, len(keys), _KEYS_A_QUERY):
                some = keys[start : start + _KEYS_A_QUERY]
                marks = ",".join("?" * len(some))
                query = f'SELECT key, value FROM people WHERE "partition" = ? AND key IN ({marks})'  # noqa: S608 - marks only
                found.update(self._connection.execute(query, (partition, *some)))
        return found

    async def due(self, partition: int, hour: int, most: int) -> list[tuple[int, str]]:
        """Return at most `most` listed (due hour, key) pairs up to `hour`, in that order."""
        with self._away():
            return self._connection.execute(
                'SELECT hour, key FROM due WHERE "partition" = ? AND hour <= ? ORDER BY hour, key LIMIT ?',
                (partition, hour, most),
            ).fetchall()

    async def first_due(self, partition: int) -> int | None:
        """Return the earliest listed hour, None where nothing is listed."""
        with self._away():
            query = 'SELECT min(hour) FROM due WHERE "partition" = ?'
            (hour,) = self._connection.execute(query, (partition,)).fetchone()
        return None if hour is None else int(hour)

    async def scan(self, partition: int, after: str, most: int) -> list[str]:
        """Return at most `most` keys of persons above `after`, in order."""
        with self._away():
            rows = self._connection.execute(
                "SELECT key FROM people WHERE \"partition\" = ? AND key > ? AND (key < 'l' OR key >= 'm')"
                " ORDER BY key LIMIT ?",
                (partition, after, most),
            ).fetchall()
        return [key for (key,) in rows]

    @contextmanager
    def _transaction(self, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
        with self._away():
            self._connection.execute(begin)
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise

    async def commit(self, commit: Commit) -> int:
        """Do all of a unit of work in one transaction; see the port."""
        with self._transaction():
            self._check(commit.partition, Hold(commit.token, commit.expected))
            self._write(commit)
        return commit.outputs[-1][0] if commit.outputs else 0

    def _check(self, partition: int, hold: Hold) -> None:
        found = self._owned(partition, hold.token)
        if found != hold.position:
            msg = f"partition {partition} is at {tuple(found)} in the store, not at {tuple(hold.position)}"
            raise FencedError(msg)

    def _owned(self, partition: int, token: str) -> Position:
        """Return where a partition is, for its owner."""
        found = self._connection.execute(
            'SELECT token, "offset", cursor FROM partitions WHERE "partition" = ?', (partition,)
        ).fetchone()
        if found is None or found[0] != token:
            msg = f"partition {partition} has another owner"
            raise FencedError(msg)
        return Position(*found[1:])

    def _write(self, commit: Commit) -> None:
        run, partition = self._connection.executemany, commit.partition
        self._put_out(partition, commit.outputs)
        run(
            'INSERT INTO people VALUES (?, ?, ?) ON CONFLICT ("partition", key) DO UPDATE SET value = excluded.value',
            [(partition, key, value) for key, value in commit.people.items() if value is not None],
        )
        run(
            'DELETE FROM people WHERE "partition" = ? AND key = ?',
            [(partition, key) for key, value in commit.people.items() if value is None],
        )
        run(
            "INSERT OR IGNORE INTO due VALUES (?, ?, ?)",
            [(partition, *place) for place, listed in commit.listings.items() if listed],
        )
        run(
            'DELETE FROM due WHERE "partition" = ? AND hour = ? AND key = ?',
            [(partition, *place) for place, listed in commit.listings.items() if not listed],
        )
        self._connection.execute(
            'UPDATE partitions SET "offset" = ?, cursor = ?, state = ? WHERE "partition" = ?',
            (*commit.position, commit.state, partition),
        )

    def _put_out(self, partition: int, outputs: Iterable[tuple[int, Output]]) -> None:
        self._connection.executemany(
            "INSERT INTO outbox VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (partition, number, one.topic, one.partition, one.key, encode_headers(one.headers), one.value)
                for number, one in outputs
            ],
        )

    async def outbox(self, partition: int, most: int) -> list[tuple[int, Output]]:
        """Return at most `most` committed outputs that were not trimmed, in order."""
        with self._away():
            return self._waiting(partition, most)

    def _waiting(self, partition: int, most: int) -> list[tuple[int, Output]]:
        rows = self._connection.execute(
            "SELECT number, topic, target, key, headers, value FROM outbox"
            ' WHERE "partition" = ? ORDER BY number LIMIT ?',
            (partition, most),
        )
        return [
            (number, Output(topic, target, key, tuple(decode_headers(headers)), value))
            for number, topic, target, key, headers, value in rows
        ]

    async def trim(self, partition: int, token: str, upto: int) -> None:
        """Forget outputs up to and including number `upto`; see the port."""
        with self._transaction():
            self._owned(partition, token)
            self._connection.execute('DELETE FROM outbox WHERE "partition" = ? AND number <= ?', (partition, upto))

    async def people(self, partition: int) -> AsyncIterator[tuple[str, bytes]]:
        """Yield every (key, value) of a partition's persons."""
        after = ""
        while keys := await self.scan(partition, after, _KEYS_A_QUERY):
            for key, value in sorted((await self.load(partition, keys)).items()):
                yield key, value
            after = keys[-1]

    async def copy(self, partition: int) -> Copy:
        """Return a partition as it is now, read at once: a whole one takes some ms and MB; see the port."""
        with self._transaction("BEGIN"):  # reads only: in WAL mode it neither waits for a writer nor stops one
            run = self._connection.execute
            found = run('SELECT "offset", cursor, state FROM partitions WHERE "partition" = ?', (partition,)).fetchone()
            offset, cursor, state = found or (0, 0, None)
            people = run('SELECT key, value FROM people WHERE "partition" = ?', (partition,)).fetchall()
            listings = run('SELECT hour, key FROM due WHERE "partition" = ?', (partition,)).fetchall()
            outputs = self._waiting(partition, -1)

        async def parts() -> AsyncGenerator[Part, None]:
            for at in range(0, len(people), _ROWS_A_PART):
                yield Part(people=people[at : at + _ROWS_A_PART])
            for at in range(0, len(listings), _ROWS_A_PART):
                yield Part(listings=listings[at : at + _ROWS_A_PART])
            for at in range(0, len(outputs), _ROWS_A_PART):
                yield Part(outputs=outputs[at : at + _ROWS_A_PART])

        return Copy(Position(offset, cursor), state, parts())

    async def replace(self, partition: int, position: Position, state: bytes | None, parts: Iterable[Part]) -> None:
        """Put a copy in the place of a partition, in one transaction; see the port."""
        with self._transaction():
            run, run_many = self._connection.execute, self._connection.executemany
            for table in ("partitions", "people", "due", "outbox"):
                run(f'DELETE FROM {table} WHERE "partition" = ?', (partition,))  # noqa: S608 - the names above
            for part in parts:
                run_many("INSERT INTO people VALUES (?, ?, ?)", [(partition, *one) for one in part.people])
                run_many("INSERT INTO due VALUES (?, ?, ?)", [(partition, *one) for one in part.listings])
                self._put_out(partition, part.outputs)
            token = secrets.token_hex(16)
            run("INSERT INTO partitions VALUES (?, ?, ?, ?, ?)", (partition, token, *position, state))
