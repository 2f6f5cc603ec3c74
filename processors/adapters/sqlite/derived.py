"""What a replay derived and what the log has of it, matched in a scratch file by the place that each came from."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from processors.engine.ports import StoreUnavailableError
from processors.engine.replay import Derived, Mismatch, Origin

_SCHEMA: Final = """
CREATE TABLE derived (
    source INTEGER, "offset" INTEGER, number INTEGER, target INTEGER, kind TEXT NOT NULL, digest BLOB NOT NULL,
    made INTEGER NOT NULL, place INTEGER, value BLOB, PRIMARY KEY (source, "offset", number, target)
) WITHOUT ROWID;
"""

_PRAGMAS: Final = ("PRAGMA journal_mode=OFF", "PRAGMA synchronous=OFF", "PRAGMA cache_size=-16000")
"""A scratch file: what dies with it is made anew."""

_SELECT: Final = (
    'SELECT digest, made, place, value FROM derived WHERE source = ? AND "offset" = ? AND number = ? AND target = ?'
)
_SETTLE: Final = (
    "UPDATE derived SET digest = ?, made = ?, place = ?, value = ?"
    ' WHERE source = ? AND "offset" = ? AND number = ? AND target = ?'
)


class DerivedFile:
    """Derived records in a new file; some 50 bytes each, and a transfer's value until its other side is there."""

    def __init__(self, path: Path | str) -> None:
        self._path = str(path)
        self._connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        for pragma in _PRAGMAS:
            self._connection.execute(pragma)
        self._connection.executescript(_SCHEMA)

    def close(self) -> None:
        """Give up the file."""
        self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            self._connection.execute("BEGIN")
            yield self._connection
            self._connection.execute("COMMIT")
        except sqlite3.OperationalError as error:  # the disk is full; nothing goes on with this file
            msg = f"the replay's scratch file {self._path}: {error}"
            raise StoreUnavailableError(msg) from error

    def made(self, records: Sequence[Derived]) -> list[Mismatch]:
        """Take in what the replay's fold derived; see the port."""
        return self._take(records, made=True, known_only=False)

    def found(self, records: Sequence[Derived], *, known_only: bool = False) -> list[Mismatch]:
        """Take in what stands in the log; see the port."""
        return self._take(records, made=False, known_only=known_only)

    def _take(self, records: Sequence[Derived], *, made: bool, known_only: bool) -> list[Mismatch]:
        mismatches = []
        with self._transaction() as connection:
            for one in records:
                key = (*one.origin, one.target)
                before = connection.execute(_SELECT, key).fetchone()
                if before is None:
                    if not known_only:
                        row = (*key, one.kind, one.digest, made, one.place, one.value)
                        connection.execute("INSERT INTO derived VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
                    continue
                digest, was_made, place, value = before
                if digest != one.digest:
                    ours, theirs = (one.value, value) if made else (value, one.value)
                    at = place if one.place is None else one.place
                    mismatches.append(Mismatch(one.kind, one.origin, one.target, at, made=ours, found=theirs))
                settled = (one.digest if made else digest, made or was_made, place if one.place is None else one.place)
                both = settled[1] and settled[2] is not None
                connection.execute(_SETTLE, (*settled, None if both else value, *key))
        return mismatches

    def lacking(self, *, made: bool) -> Iterator[Derived]:
        """Yield what only one side has; see the port."""
        where = "made AND place IS NULL" if made else "NOT made"
        rows = self._connection.execute(
            f'SELECT source, "offset", number, target, kind, digest, place, value FROM derived WHERE {where}'  # noqa: S608 - no values in it
        )
        for source, offset, number, target, kind, digest, place, value in rows:
            yield Derived(Origin(source, offset, number), target, kind, digest, place, value)
