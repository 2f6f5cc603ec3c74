"""The embedded log as a sink: one writer thread, one transaction and one fsync for everything that waits."""

from __future__ import annotations

import asyncio
import sqlite3
from asyncio import AbstractEventLoop, Future
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Final, Self

from collector.sinks.port import SinkUnavailableError
from collector.wire import log_file
from collector.wire.record import Draft

MAX_GROUP_ROWS: Final = 4096
"""Rows in one transaction; beyond that one more fsync weighs nothing."""
PROBE_SECONDS: Final = 2.0
"""A write that takes longer is as good as none to who asks for readiness."""


@dataclass(slots=True)
class _Write:
    rows: Sequence[log_file.Row]
    loop: AbstractEventLoop
    done: Future[None]

    def finish(self, error: Exception | None) -> None:
        """Tell the waiting task, in its own loop."""
        if self.done.done():  # the task was cancelled meanwhile
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)


class SqliteSink:
    """Appends to a log file of `collector.wire.log_file`; open it with `SqliteSink.open`.

    How much waits is bounded by who calls: the collector's ingest by `queue_bytes`.
    """

    def __init__(self, connection: sqlite3.Connection, partitions: int, clock: Callable[[], int]) -> None:
        self._connection = connection
        self._partitions = partitions
        self._clock = clock
        self._queue: SimpleQueue[_Write | None] = SimpleQueue()
        self._closed = False
        self._thread = Thread(target=self._run, name="sqlite-sink", daemon=True)
        self._thread.start()

    @classmethod
    def open(cls, path: Path, *, partitions: int, log_id: str, clock: Callable[[], int]) -> Self:
        """Open or create the log file.

        Args:
            path: of the file; its directory exists.
            partitions: of topic `events` when the file is created; an existing one keeps its own.
            log_id: likewise.
            clock: returns the log's own append time, UTC milliseconds.

        Raises:
            SinkUnavailableError: if the file cannot be opened or is no log.
        """
        try:
            connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            try:
                found, _ = log_file.create(connection, partitions=partitions, log_id=log_id)
            except BaseException:
                connection.close()
                raise
        except sqlite3.Error as error:
            raise _unavailable(error) from error
        return cls(connection, found, clock)

    @property
    def partitions(self) -> int:
        """The number of partitions of topic `events`."""
        return self._partitions

    async def write(self, blocks: Sequence[tuple[int, Draft]]) -> None:
        """Append (partition, block) pairs in order; returns after the fsync.

        Raises:
            SinkUnavailableError: if the file is locked, the disk is full or the sink is closed.
        """
        await self._append(
            [log_file.Row(log_file.EVENTS, place, None, draft.headers(), draft.value) for place, draft in blocks]
        )

    async def write_rejected(self, rejected: Sequence[tuple[str, bytes]]) -> None:
        """Append (write key's name, JSON) pairs to topic `rejected`; raises as `write`."""
        await self._append([log_file.Row(log_file.REJECTED, 0, name.encode(), (), value) for name, value in rejected])

    async def not_ready(self) -> str | None:
        """Return why nothing can be made durable right now, or None after a transaction that was."""
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                await self._append([])
        except SinkUnavailableError as error:
            return str(error)
        except TimeoutError:
            return f"the log file has not answered for {PROBE_SECONDS:g} s"
        return None

    async def close(self) -> None:
        """Finish what was accepted, then close the file."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join)

    async def _append(self, rows: Sequence[log_file.Row]) -> None:
        if self._closed:
            msg = "the log file is closed: the process is stopping"
            raise SinkUnavailableError(msg)
        loop = asyncio.get_running_loop()
        done: Future[None] = loop.create_future()
        self._queue.put(_Write(rows, loop, done))
        await done

    def _run(self) -> None:
        """Write groups until told to stop; runs in the writer thread."""
        last = False
        while not last:
            group, last = self._take()
            if not group:
                continue
            error = self._commit(group)
            for write in group:
                try:
                    write.loop.call_soon_threadsafe(write.finish, error)
                except RuntimeError:  # its loop is closed: nobody waits any more
                    continue
        self._connection.close()

    def _take(self) -> tuple[list[_Write], bool]:
        """Return everything that waits, at least one write, and whether it is the last."""
        group: list[_Write] = []
        rows = 0
        write = self._queue.get()
        while write is not None:
            group.append(write)
            rows += len(write.rows)
            if rows >= MAX_GROUP_ROWS:
                return group, False
            try:
                write = self._queue.get_nowait()
            except Empty:
                return group, False
        return group, True

    def _commit(self, group: Sequence[_Write]) -> Exception | None:
        rows = [row for write in group for row in write.rows]
        try:
            if any(not write.rows for write in group):
                log_file.probe(self._connection, self._clock())
            if rows:
                log_file.append(self._connection, rows, self._clock())
        except sqlite3.Error as error:
            return _unavailable(error)
        except Exception as error:  # noqa: BLE001 - not swallowed: raised again in the tasks that wait for it
            return error
        return None


def _unavailable(error: sqlite3.Error) -> SinkUnavailableError:
    return SinkUnavailableError(
        f"the log file cannot be written ({error}): check the disk's free space, and whether another program locks it"
    )
