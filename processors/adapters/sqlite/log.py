"""The embedded log: reading topic `events`, publishing outputs, and reading stage changes back."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from collector.wire import log_file
from collector.wire.log_file import REJECTED, Row
from collector.wire.record import Draft, Kind, NewerSchemaError, Record, UnreadableRecordError, read_headers
from processors.engine.outputs import EVENTS, SET_ASIDE, Output
from processors.engine.ports import Clock, StoreUnavailableError, Unreadable
from processors.engine.query import BadCursorError
from processors.wire import ENTERED, STAGE_CHANGES, STAGES

_AGING: Final = (STAGE_CHANGES, *ENTERED.values(), REJECTED, SET_ASIDE)
"""Topics of which only the latest days are kept; `stages` keeps everybody's latest."""

_DELETED_AT_ONCE: Final = 500
"""Rows a transaction, so that the collector never waits long for the file."""

_MOST_DIGITS: Final = 18
"""Of a cursor, so that every one fits SQLite's 64 bits."""

_POLL_SECONDS: Final = 0.005
"""How often a waiting reader looks for news: one PRAGMA, some 5 µs."""


class SqliteLog:
    """The log file of an embedded deployment, as the engine's `EventLog` and `Publisher`."""

    def __init__(self, path: Path | str, *, partitions: int, log_id: str, clock: Clock) -> None:
        self._connection = sqlite3.connect(str(path), isolation_level=None, check_same_thread=False)
        try:
            self.partitions, self.log_id = log_file.create(self._connection, partitions=partitions, log_id=log_id)
        except sqlite3.DatabaseError as error:  # besides what passes: the file is broken, or none of SQLite's
            self._connection.close()
            msg = f"the log {path} can't be opened: {error}"
            raise StoreUnavailableError(msg) from error
        self._clock = clock
        self._seen: int | None = None

    def close(self) -> None:
        """Give up the file."""
        self._connection.close()

    def _query(self, query: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        try:
            return self._connection.execute(query, values)
        except sqlite3.OperationalError as error:
            msg = f"the log can't be read: {error}"
            raise StoreUnavailableError(msg) from error

    async def read(self, partition: int, offset: int, most: int) -> list[Record | Unreadable]:
        """Return at most `most` records from `offset` on; an empty list at the end."""
        rows = self._query(
            'SELECT "offset", append_time, headers, value FROM records'
            ' WHERE topic = ? AND "partition" = ? AND "offset" >= ? ORDER BY "offset" LIMIT ?',
            (EVENTS, partition, offset, most),
        )
        return [_record(partition, *row) for row in rows]

    async def bounds(self, partition: int) -> tuple[int, int]:
        """Return (first offset still there, offset that the next record will get)."""
        first, last = self._query(
            'SELECT min("offset"), max("offset") FROM records WHERE topic = ? AND "partition" = ?', (EVENTS, partition)
        ).fetchone()
        return (0, 0) if last is None else (first, last + 1)

    async def all_bounds(self) -> list[tuple[int, int]]:
        """Return the bounds of every partition."""
        return [await self.bounds(partition) for partition in range(self.partitions)]

    async def append(self, drafts: Sequence[tuple[int, Draft]], notes: Mapping[str, str] | None = None) -> None:
        """Append records to `events`, durably; `notes` are remembered in the same transaction."""
        rows = [Row(EVENTS, partition, None, draft.headers(), draft.value) for partition, draft in drafts]
        self._append(rows, notes)

    async def note(self, name: str) -> str | None:
        """Return what was noted under a name."""
        found = self._query("SELECT value FROM log WHERE name = ?", (name,)).fetchone()
        return None if found is None else str(found[0])

    async def publish(self, outputs: Sequence[Output]) -> None:
        """Append outputs to their topics, durably."""
        self._append([Row(one.topic, one.partition, one.key, one.headers, one.value) for one in outputs])

    async def flush(self, partition: int) -> None:
        """Return: `publish` has made everything durable."""

    def _append(self, rows: Sequence[Row], notes: Mapping[str, str] | None = None) -> None:
        if rows or notes:
            try:
                log_file.append(self._connection, rows, self._clock(), notes)
            except sqlite3.OperationalError as error:
                msg = f"the log can't be written: {error}"
                raise StoreUnavailableError(msg) from error

    async def forget_before(self, instant: int, folded: Sequence[int]) -> None:
        """Delete records appended before `instant` (UTC ms), of `events` only those below the offsets in `folded`.

        The last record of each partition stays, as it tells the next offset; so does everybody's latest in `stages`.
        """
        for partition, offset in enumerate(folded):
            self._forget(EVENTS, partition, offset - 1, instant)
            for topic in _AGING:
                (last,) = self._query(
                    'SELECT max("offset") FROM records WHERE topic = ? AND "partition" = ?', (topic, partition)
                ).fetchone()
                self._forget(topic, partition, last or 0, instant)
        latest = 'SELECT max(id) FROM records WHERE topic = ? GROUP BY "partition", key'
        superseded = f"SELECT id FROM records WHERE topic = ? AND append_time < ? AND id NOT IN ({latest})"  # noqa: S608 - no values in it
        self._delete([one for (one,) in self._query(superseded, (STAGES, instant, STAGES)).fetchall()])

    def _forget(self, topic: str, partition: int, below: int, instant: int) -> None:
        """Delete a partition's oldest records while they are below an offset and appended before an instant."""
        while True:
            oldest = self._query(
                'SELECT id, append_time FROM records WHERE topic = ? AND "partition" = ? AND "offset" < ?'
                ' ORDER BY "offset" LIMIT ?',
                (topic, partition, below, _DELETED_AT_ONCE),
            ).fetchall()
            old = [one for one, append_time in oldest if append_time < instant]
            self._delete(old)
            if len(old) < _DELETED_AT_ONCE:
                return

    def _delete(self, ids: Sequence[int]) -> None:
        for start in range(0, len(ids), _DELETED_AT_ONCE):
            some = ids[start : start + _DELETED_AT_ONCE]
            self._query(f"DELETE FROM records WHERE id IN ({','.join('?' * len(some))})", some)  # noqa: S608 - marks only

    async def news(self, timeout_seconds: float) -> bool:
        """Wait until another connection has written to the log; return False where none did in time."""
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        while True:
            (version,) = self._query("PRAGMA data_version").fetchone()
            if version != self._seen:
                self._seen = version
                return True
            if asyncio.get_running_loop().time() >= deadline:
                return False
            await asyncio.sleep(_POLL_SECONDS)

    def latest(self, most_events: int) -> list[Record]:
        """Return the newest event blocks, the newest first, that hold some `most_events` events together."""
        rows = self._query(
            'SELECT "partition", "offset", append_time, headers, value FROM records'
            " WHERE topic = ? ORDER BY id DESC LIMIT ?",
            (EVENTS, most_events),
        )
        found: list[Record] = []
        count = 0
        for row in rows:
            record = _record(*row)
            if isinstance(record, Record) and record.draft.kind is Kind.EVENTS:
                found.append(record)
                count += record.draft.count
            if count >= most_events:
                break
        rows.close()
        return found

    async def changes(self, after: str, most: int) -> list[tuple[str, bytes]]:
        """Return at most `most` (cursor, stage change) pairs after a cursor, oldest first."""
        rows = self._query(
            "SELECT id, value FROM records WHERE topic = ? AND id > ? ORDER BY id LIMIT ?",
            (STAGE_CHANGES, _row_of(after), most),
        ).fetchall()
        return [(str(row), value) for row, value in rows]

    async def newest(self, after: str, most: int) -> list[tuple[str, bytes]]:
        """Return the last `most` of all that follows a cursor, oldest first."""
        rows = self._query(
            "SELECT id, value FROM records WHERE topic = ? AND id > ? ORDER BY id DESC LIMIT ?",
            (STAGE_CHANGES, _row_of(after), most),
        ).fetchall()
        return [(str(row), value) for row, value in reversed(rows)]

    async def cursor_at(self, instant: int) -> str:
        """Return the cursor after which everything published since `instant` (UTC ms) follows."""
        (before,) = self._query(
            "SELECT max(id) FROM records WHERE topic = ? AND append_time < ?", (STAGE_CHANGES, instant)
        ).fetchone()
        return str(before or 0)

    async def check(self, after: str) -> None:
        """Return if a text is a cursor of this log: the number of a row that there is, or was."""
        (last,) = self._query("SELECT max(id) FROM records WHERE topic = ?", (STAGE_CHANGES,)).fetchone()
        if _row_of(after) > (last or 0):
            msg = f"{after} lies beyond the end of the log, so it is another log's"
            raise BadCursorError(msg)


def _row_of(cursor: str) -> int:
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= _MOST_DIGITS):
        msg = f"{cursor} is no cursor"
        raise BadCursorError(msg)
    return int(cursor)


def _record(partition: int, offset: int, append_time: int, headers: str, value: bytes | None) -> Record | Unreadable:
    try:
        draft = read_headers(log_file.decode_headers(headers), value or b"")
    except UnreadableRecordError as error:
        newer = isinstance(error, NewerSchemaError)
        return Unreadable(partition, offset, str(error), value or b"", newer=newer, append_time=append_time)
    return Record(partition, offset, append_time, draft)
