"""The spool of one process: a file of its own, written by one thread with one fsync for everything that waits.

Everything but the file's own work is done in one event loop, so that what is to be spooled has its place in the order
at once: `put` returns before anything was written.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Final, TypeVar

import structlog

from collector.metrics import SpoolMetrics
from collector.sinks.port import SinkUnavailableError
from collector.sinks.spool_file import DamagedFileError, Lane, SpoolFile, SpoolFileError, bytes_beside
from collector.wire.log_file import Row

_log = structlog.get_logger(__name__)

PROBE_BYTES: Final = 64 * 1024
"""Where there is no room for that, which is the largest event by default, the spool is as good as full."""
LOOK_SECONDS: Final = 1.0
"""How old the knowledge of the folder's size and of the disk may be."""

Result = TypeVar("Result")


class SpoolFullError(SinkUnavailableError):
    """There is no room left for what would have to be spooled."""


@dataclass(slots=True, frozen=True)
class SpoolLimits:
    """What a spool may take.

    Args:
        max_bytes: of the folder, whoever wrote it.
        min_free_bytes: what has to stay free on its disk.
    """

    max_bytes: int
    min_free_bytes: int


@dataclass(slots=True)
class _Put:
    rows: Sequence[Row]
    done: asyncio.Future[None]

    @property
    def lanes(self) -> list[Lane]:
        """Of each row."""
        return [(row.topic, row.partition) for row in self.rows]


@dataclass(slots=True)
class Room:
    """What is known of the folder; `limit` is what all of it may take as the disk is now."""

    looked: float
    taken: int
    limit: int


class Spool:
    """Used from one event loop; its file is made when the first row comes.

    How much waits to be written is bounded by who calls: the collector's ingest by `queue_bytes`.

    Args:
        directory: of all files, made where missing; on a local disk that outlives the process.
        limits: of what it may take.
        clock: returns UTC milliseconds.
        metrics: told of everything.
    """

    def __init__(self, directory: Path, limits: SpoolLimits, clock: Callable[[], int], metrics: SpoolMetrics) -> None:
        self.directory = directory
        self.metrics = metrics
        self.clock = clock
        self.grew = asyncio.Event()
        """Set when something was put into it."""
        self._limits = limits
        self._file: SpoolFile | None = None
        self._rows: Counter[Lane] = Counter()
        self._released: set[Lane] = set()
        self._thread = ThreadPoolExecutor(1, "spool")
        self._waiting: list[_Put] = []
        self._writing: list[_Put] = []
        self._commits: asyncio.Task[None] | None = None
        self._room = Room(-LOOK_SECONDS, 0, 0)

    # What is in it

    @property
    def file(self) -> SpoolFile | None:
        """This process's own, if it has one."""
        return None if self._file is None or self._file.is_closed else self._file

    @property
    def is_empty(self) -> bool:
        """Whether nothing is in this process's file, nor on its way there."""
        return not self._rows

    def rows(self, file: SpoolFile) -> Counter[Lane]:
        """Return how many rows of each lane are in a file, or on their way there."""
        return self._rows if file is self._file else file.rows

    def holds(self, lane: Lane) -> bool:
        """Return whether what comes now has to go behind what is in the file."""
        return lane in self._rows and lane not in self._released

    def release(self, lanes: Iterable[Lane]) -> None:
        """Let what comes now pass by the file: all that the file has of these has been handed on, in order."""
        self._released.update(lanes)

    def hold(self, lanes: Iterable[Lane]) -> None:
        """Take that back: what was handed on has failed."""
        self._released.difference_update(lanes)

    def gone(self, file: SpoolFile, lanes: Iterable[Lane]) -> None:
        """Note that these rows, a lane each, are no longer in a file."""
        if file is self._file:
            self._forget(lanes)
        else:
            _subtract(file.rows, lanes)

    def _forget(self, lanes: Iterable[Lane]) -> None:
        self._released.difference_update(_subtract(self._rows, lanes))

    # Into it

    def put(self, rows: Sequence[Row]) -> asyncio.Future[None]:
        """Take over rows behind all others; the future is done when they are on disk.

        It raises SinkUnavailableError if they could not be written; nothing of them is there then.
        """
        loop = asyncio.get_running_loop()
        put = _Put(rows, loop.create_future())
        self._rows.update(put.lanes)
        self.hold(put.lanes)
        self._waiting.append(put)
        if self._commits is None:
            self._commits = loop.create_task(self._commit())
        return put.done

    async def _commit(self) -> None:
        try:
            while self._waiting:
                puts = self._writing = self._waiting
                self._waiting = []
                error = await self._append([row for put in puts for row in put.rows])
                self._writing = []
                if error is not None:
                    self._forget([lane for put in puts for lane in put.lanes])
                for put in puts:
                    if put.done.done():  # the caller was cancelled meanwhile
                        continue
                    if error is None:
                        put.done.set_result(None)
                    else:
                        put.done.set_exception(error)
                self.grew.set()
        finally:
            self._commits = None

    async def _append(self, rows: Sequence[Row]) -> Exception | None:
        """Write rows in one transaction; return what went wrong."""
        try:
            await self.run(self._write, rows, self.clock())
        except DamagedFileError as error:
            self.lost(error)
            return SinkUnavailableError(f"{error}; a new one is used from now on")
        except SpoolFullError as error:
            self.metrics.refused.labels("full").inc()
            return error
        except SpoolFileError as error:
            self.metrics.refused.labels("error").inc()
            return SinkUnavailableError(str(error))
        except Exception as error:  # noqa: BLE001 - not swallowed: raised again in the tasks that wait for it
            return error
        self.metrics.spooled.inc(len(rows))
        return None

    def _write(self, rows: Sequence[Row], now: int) -> None:
        """Append if there is room; for the thread."""
        size = sum(len(row.value or b"") for row in rows)
        self._check_room(size)
        self._usable().append(rows, now)
        self._room.taken += size

    def _usable(self) -> SpoolFile:
        """Return the file, a new one where there is none; for the thread."""
        if self._file is None or self._file.is_closed:
            self._file = SpoolFile.create(self.directory)
        return self._file

    def _probe(self) -> None:
        self._check_room(PROBE_BYTES)
        self._usable().probe()

    def lost(self, error: DamagedFileError) -> None:
        """Note that this process's own file was set aside, with all that was in it; the next write makes a new one."""
        rows = Counter(lane for put in self._writing + self._waiting for lane in put.lanes)
        lost = sum(self._rows.values()) - sum(rows.values())
        self._rows = rows
        self._released.clear()
        self.metrics.set_aside.inc(max(1, lost))
        _log.error("spool_file_set_aside", rows=lost, reason=str(error))

    # Room

    def _check_room(self, size: int) -> None:
        """Raise SpoolFullError where `size` more bytes would be too much; for the thread."""
        room = self.look()
        if room.taken + size > room.limit:
            msg = (
                f"the spool in {self.directory} is full: {room.taken:,} bytes are taken, spool.max_bytes is "
                f"{self._limits.max_bytes:,}, and {self._limits.min_free_bytes:,} bytes of its disk have to stay free "
                "(spool.min_free_bytes). Nothing is taken until Kafka is back or there is more room"
            )
            raise SpoolFullError(msg)

    def look(self) -> Room:
        """Return what is known of the folder, looked at anew where that is old; for the thread.

        Raises:
            SpoolFileError: if the folder cannot be looked at.
        """
        if monotonic() - self._room.looked >= LOOK_SECONDS:
            try:
                self.directory.mkdir(parents=True, exist_ok=True)
                disk = os.statvfs(self.directory)
            except OSError as error:
                msg = (
                    f"the spool's folder {self.directory} cannot be used ({error.strerror}): see who may, and its disk"
                )
                raise SpoolFileError(msg) from error
            file = self.file
            taken = bytes_beside(self.directory, None if file is None else file.path)
            taken += 0 if file is None else file.used_bytes()
            spare = max(0, disk.f_bavail * disk.f_frsize - self._limits.min_free_bytes)
            self._room = Room(monotonic(), taken, min(self._limits.max_bytes, taken + spare))
        return self._room

    async def no_room(self) -> str | None:
        """Return why nothing could be spooled now, or None after something was written."""
        try:
            await self.run(self._probe)
        except DamagedFileError as error:
            self.lost(error)
            return str(error)
        except (SpoolFullError, SpoolFileError) as error:
            return str(error)
        return None

    async def run(self, work: Callable[..., Result], *arguments: object) -> Result:
        """Do a file's work in the one thread that files have; raises what it raises."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    async def close(self) -> None:
        """Write what waits, and give the file up: with what is in it, where something is."""
        if self._commits is not None:
            await self._commits
        try:
            if self.file is not None:
                await self.run(self.file.close)
        except (SpoolFileError, DamagedFileError) as error:
            _log.warning("spool_file_not_closed", reason=str(error))
        self._thread.shutdown()


def _subtract(rows: Counter[Lane], lanes: Iterable[Lane]) -> list[Lane]:
    """Count down, and return the lanes that have nothing left."""
    rows.subtract(lanes)
    done = [lane for lane, count in rows.items() if count <= 0]
    for lane in done:
        del rows[lane]
    return done
