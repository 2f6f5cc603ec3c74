"""One file of the spool: rows on their way to Kafka, in SQLite, of one process at a time.

A process makes a file of its own and holds it by a lock (flock) on a file beside it. When it dies the kernel gives the
lock up, and the next process that looks at the folder takes the file over, to send what is in it.

A file's name is random: containers that share a volume share process ids.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self
from zlib import crc32

from collector.wire.log_file import PRAGMAS, Row, decode_headers, encode_headers

Lane = tuple[str, int]
"""A topic and one of its partitions."""

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS rows (
    id INTEGER PRIMARY KEY,
    topic TEXT NOT NULL, "partition" INTEGER NOT NULL, size INTEGER NOT NULL, spooled_at INTEGER NOT NULL,
    checksum INTEGER NOT NULL, key BLOB, headers TEXT NOT NULL, value BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS rows_by_lane ON rows (topic, "partition", id, size);
CREATE TABLE IF NOT EXISTS damaged AS SELECT * FROM rows LIMIT 0;
"""
"""`checksum` is a CRC-32, which SQLite itself keeps of its write-ahead log alone; `damaged` has rows that failed it."""
PATTERN: Final = "*.spool"
LOCK_SUFFIX: Final = ".lock"
SET_ASIDE_SUFFIX: Final = ".set-aside"
_WAL_SUFFIX: Final = "-wal"
_SHM_SUFFIX: Final = "-shm"
MOST_ROWS: Final = 4096
"""Returned at once; SQLite takes 32,766 values in a statement."""
_LARGE_BYTES: Final = 1024 * 1024
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class SpoolFileError(Exception):
    """The file cannot be read or written right now; what is in it stays there."""


class DamagedFileError(Exception):
    """The file is no database any more, so that no later attempt would read it; it was set aside."""


@dataclass(slots=True, frozen=True)
class Spooled:
    """A row in a file; `size` is that of key and value."""

    id: int
    size: int
    row: Row

    @property
    def lane(self) -> Lane:
        """Where it goes."""
        return self.row.topic, self.row.partition


@dataclass(slots=True, frozen=True)
class Found:
    """What a look at a file from outside shows; `oldest` is when its first row was spooled, UTC ms."""

    path: Path
    held: bool
    rows: int
    bytes: int
    oldest: int | None
    fault: str = ""


class SpoolFile:
    """A file and its lock. Its methods block: they are for one thread.

    One that turns out to be damaged sets itself aside, under a name that nobody looks for, as it raises
    DamagedFileError; it does so once.
    """

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self.rows: Counter[Lane] = Counter()
        """What it held when it was opened; whoever opened it goes on counting."""
        self.is_closed = False
        self._lock = lock
        self._sent: dict[Lane, int] = {}
        self._undeleted: set[Lane] = set()
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)

    def _prepare(self) -> None:
        with self._translated():
            for pragma in PRAGMAS:
                self._connection.execute(pragma)
            self._connection.executescript(SCHEMA)
            found = self._connection.execute('SELECT topic, "partition", count(*) FROM rows GROUP BY 1, 2')
            self.rows.update({(topic, place): count for topic, place, count in found})

    @classmethod
    def create(cls, directory: Path) -> Self:
        """Make a new file and hold it.

        Raises:
            SpoolFileError: if nothing can be written there.
        """
        path = directory / f"{secrets.token_hex(8)}.spool"
        found = cls._open(path)
        if found is None:
            msg = f"the new spool file {path} is held by another process"
            raise SpoolFileError(msg)
        return found

    @classmethod
    def adopt(cls, path: Path) -> Self | None:
        """Take over a file that a dead process has left; None where a living one holds it, or it is gone.

        Raises:
            SpoolFileError: if it cannot be opened right now.
            DamagedFileError: if it is no spool file; it was set aside.
        """
        return cls._open(path) if path.exists() else None

    @classmethod
    def _open(cls, path: Path) -> Self | None:
        try:
            lock = _lock(path)
        except OSError as error:
            msg = f"the spool's folder {path.parent} cannot be written ({error.strerror}): see who may, and its disk"
            raise SpoolFileError(msg) from error
        if lock is None:
            return None
        found = cls(path, lock)
        try:
            found._prepare()
        except DamagedFileError:
            raise
        except BaseException:
            found._connection.close()
            os.close(lock)
            raise
        return found

    def append(self, rows: Sequence[Row], now: int) -> None:
        """Append in one transaction; durable when this returns. Raises as the class of the fault says.

        Args:
            rows: in order.
            now: UTC milliseconds.
        """
        with self._transaction():
            self._connection.executemany(
                'INSERT INTO rows (topic, "partition", size, spooled_at, checksum, key, headers, value)'
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [_values(row, now) for row in rows],
            )

    def first(self, lanes: Mapping[Lane, int], max_bytes: int) -> tuple[list[Spooled], list[Lane]]:
        """Return the oldest rows in the order they came in, all lanes mixed, and the lanes of unreadable ones.

        What cannot be read is kept in the table `damaged`, and does not come again.

        Args:
            lanes: those to look at, each with how many rows at most.
            max_bytes: of all together; one row is returned in any case.
        """
        with self._translated():
            chosen = self._choose(lanes, max_bytes)
            marks = ",".join("?" * len(chosen))
            found = self._connection.execute(
                'SELECT id, topic, "partition", size, checksum, key, headers, value FROM rows'  # noqa: S608 - marks
                f" WHERE id IN ({marks}) ORDER BY id",
                chosen,
            ).fetchall()
        good: list[Spooled] = []
        bad: list[tuple[int, Lane]] = []
        for number, topic, place, size, checksum, key, headers, value in found:
            if _checksum(topic, place, key, headers, value) == checksum:
                good.append(Spooled(number, size, Row(topic, place, key, decode_headers(headers), value)))
            else:
                bad.append((number, (topic, place)))
        if bad:
            self._keep_damaged([number for number, _ in bad])
        return good, [lane for _, lane in bad]

    def _choose(self, lanes: Mapping[Lane, int], max_bytes: int) -> list[int]:
        """Return ids; read from the index alone, so that a partition that nobody takes costs the others nothing."""
        near: list[tuple[int, int]] = []
        for (topic, place), limit in lanes.items():
            near += self._connection.execute(
                'SELECT id, size FROM rows WHERE topic = ? AND "partition" = ? AND id > ? ORDER BY id LIMIT ?',
                (topic, place, self._sent.get((topic, place), 0), limit),
            )
        chosen: list[int] = []
        for number, size in sorted(near):
            max_bytes -= size
            if chosen and (max_bytes < 0 or len(chosen) == MOST_ROWS):
                break
            chosen.append(number)
        return chosen

    def _keep_damaged(self, ids: Sequence[int]) -> None:
        with self._transaction():
            marks = ",".join("?" * len(ids))
            self._connection.execute(f"INSERT INTO damaged SELECT * FROM rows WHERE id IN ({marks})", ids)  # noqa: S608 - marks
            self._connection.execute(f"DELETE FROM rows WHERE id IN ({marks})", ids)  # noqa: S608 - marks

    def delete(self, sent: Sequence[Spooled]) -> None:
        """Delete what was sent, the first rows of their lanes.

        What cannot be deleted now, because even that needs room on the disk, does not come again and goes with more.
        """
        for one in sent:
            self._sent[one.lane] = one.id
            self._undeleted.add(one.lane)
        with self._transaction():
            self._connection.executemany(
                'DELETE FROM rows WHERE topic = ? AND "partition" = ? AND id <= ?',
                [(*lane, self._sent[lane]) for lane in self._undeleted],
            )
        self._undeleted.clear()
        self._sent.clear()  # SQLite may give an empty table the same ids again

    def _is_sent(self) -> bool:
        """Return whether nothing is left to be sent, whatever could not be deleted."""
        lanes = self._connection.execute('SELECT topic, "partition", max(id) FROM rows GROUP BY 1, 2')
        return all(last <= self._sent.get((topic, place), 0) for topic, place, last in lanes)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._translated():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # SQLite has already rolled back after a full disk
                    self._connection.execute("ROLLBACK")
                raise

    def probe(self) -> None:
        """Write something durably, to learn whether rows could be; raises as `append`."""
        with self._translated():
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
            self._connection.execute(f"PRAGMA user_version = {(version + 1) % 1000}")

    def used_bytes(self) -> int:
        """Return what it takes of the disk, without pages that are free to be used again."""
        with self._translated():
            pages, free, size = (
                self._connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("page_count", "freelist_count", "page_size")
            )
        return int((pages - free) * size) + _size(self.path, _WAL_SUFFIX)

    def oldest(self) -> int | None:
        """Return when its first row was spooled, UTC milliseconds; None where it has none."""
        with self._translated():
            found = self._connection.execute("SELECT spooled_at FROM rows ORDER BY id LIMIT 1").fetchone()
        return None if found is None else int(found[0])

    def give_back(self) -> None:
        """Remove the file if everything was sent and it takes much of the disk, which deleting does not give back."""
        size = _size(self.path) + _size(self.path, _WAL_SUFFIX)
        with self._translated():
            needless = self._is_sent() and (size > _LARGE_BYTES or bool(self._undeleted))
        if needless:
            self.close()

    def close(self) -> None:
        """Give it up: a sent one is removed, or set aside for damaged rows; another one is left to who comes next."""
        sent = damaged = False
        try:
            with self._translated():
                sent = self._is_sent()
                damaged = self._connection.execute("SELECT 1 FROM damaged LIMIT 1").fetchone() is not None
        finally:
            if not self.is_closed:
                self.is_closed = True
                self._connection.close()
                if sent and damaged:
                    _rename(self.path)
                elif sent:
                    for suffix in ("", _WAL_SUFFIX, _SHM_SUFFIX):  # those beside it stay where the disk is full
                        self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
                if sent:
                    _unlock(self.path, self._lock)
                else:
                    os.close(self._lock)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary code; the rest says where
            if code not in _DAMAGED:
                what = f"the spool file {self.path} cannot be used ({error})"
                msg = f"{what}: look at the disk's free space and at the disk itself"
                raise SpoolFileError(msg) from error
            self.is_closed = True
            self._connection.close()
            aside = _rename(self.path)
            _unlock(self.path, self._lock)
            msg = f"a spool file is damaged ({error}) and was set aside as {aside}"
            raise DamagedFileError(msg) from error


def look_around(directory: Path) -> list[Found]:
    """Return what is in a spool's folder, for who only looks; what is set aside has a fault, without being read."""
    found = [_look(path) for path in sorted(directory.glob(PATTERN))]
    found += [
        Found(path, held=False, rows=0, bytes=_size(path), oldest=None, fault="it was set aside as damaged")
        for path in sorted(directory.glob(PATTERN + SET_ASIDE_SUFFIX))
    ]
    return found


def _look(path: Path) -> Found:
    size = _size(path) + _size(path, _WAL_SUFFIX)
    held = _is_held(path)
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            rows, oldest = connection.execute("SELECT count(*), min(spooled_at) FROM rows").fetchone()
        finally:
            connection.close()
    except sqlite3.Error as error:
        return Found(path, held, 0, size, None, f"it cannot be read ({error})")
    return Found(path, held, rows, size, oldest)


def bytes_beside(directory: Path, own: Path | None) -> int:
    """Return what the files take beside one's own, those that are set aside too."""
    return sum(
        _size(path) + _size(path, _WAL_SUFFIX)
        for pattern in (PATTERN, PATTERN + SET_ASIDE_SUFFIX)
        for path in directory.glob(pattern)
        if path != own
    )


def _values(row: Row, now: int) -> tuple[object, ...]:
    headers, value = encode_headers(row.headers), row.value or b""
    size = len(value) + len(row.key or b"")
    checksum = _checksum(row.topic, row.partition, row.key, headers, value)
    return row.topic, row.partition, size, now, checksum, row.key, headers, value


def _checksum(topic: str, partition: int, key: bytes | None, headers: str, value: bytes) -> int:
    return crc32(value, crc32(f"{topic} {partition} {(key or b'').hex()} {headers}".encode()))


def _size(path: Path, suffix: str = "") -> int:
    try:
        return path.with_name(path.name + suffix).stat().st_size
    except OSError:
        return 0


def _lock(path: Path) -> int | None:
    """Return the lock's file descriptor, None where another process has it."""
    beside = path.with_name(path.name + LOCK_SUFFIX)
    lock = os.open(beside, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        mine = os.fstat(lock).st_ino == beside.stat().st_ino  # else the one before has just removed it
    except (BlockingIOError, FileNotFoundError):
        mine = False
    except BaseException:
        os.close(lock)
        raise
    if mine:
        return lock
    os.close(lock)
    return None


def _is_held(path: Path) -> bool:
    try:
        lock = os.open(path.with_name(path.name + LOCK_SUFFIX), os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _unlock(path: Path, lock: int) -> None:
    path.with_name(path.name + LOCK_SUFFIX).unlink(missing_ok=True)
    os.close(lock)


def _rename(path: Path) -> Path:
    """Move a file, and what SQLite keeps beside it, to names that nobody looks for."""
    aside = path.with_name(path.name + SET_ASIDE_SUFFIX)
    for suffix in ("", _WAL_SUFFIX):
        beside = path.with_name(path.name + suffix)
        if beside.exists():
            beside.rename(aside.with_name(aside.name + suffix))
    path.with_name(path.name + _SHM_SUFFIX).unlink(missing_ok=True)
    return aside
