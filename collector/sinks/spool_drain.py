"""Sends what is spooled: this process's own rows and those of dead ones, in the order they came, at a bounded rate.

A partition that fails is left alone for a while, and then tried with one row, on a connection of the drain's own: no
request waits for that. What is left of a partition at its end goes over the connection of the requests, and what comes
after it goes the same way behind it: so its order holds, however fast more comes in.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import structlog

from collector.sinks.port import LanedSink
from collector.sinks.spool import Spool
from collector.sinks.spool_file import PATTERN, DamagedFileError, Lane, Spooled, SpoolFile, SpoolFileError
from collector.wire.log_file import Row

_log = structlog.get_logger(__name__)

SCAN_SECONDS: Final = 1.0
"""How often files of dead processes are looked for, and metrics brought up to date."""
FIRST_WAIT_SECONDS: Final = 0.25
LONGEST_WAIT_SECONDS: Final = 5.0
"""Between two tries of a partition that fails: Kafka's coming back is found out as late as this."""
LANE_ROWS: Final = 64
"""Rows of one partition in one step: none gets far ahead of the others."""
STEP_SECONDS: Final = 0.1
"""What goes out in one step is what the rate allows in so much time: requests share the event loop."""


class Drain:
    """Runs as one task beside the requests; used from one event loop.

    Args:
        spool: of this process.
        live: over which requests go.
        own: a second connection to the same Kafka, for what may have to wait long.
        bytes_per_second: of keys and values, at most.
    """

    def __init__(self, spool: Spool, live: LanedSink, own: LanedSink, *, bytes_per_second: int) -> None:
        self.kafka_away = False
        """Whether Kafka as a whole took nothing when it was last tried: then nobody else needs to try."""
        self.reason = ""
        """Why something failed last."""
        self._spool = spool
        self._live = live
        self._own = own
        self._rate = bytes_per_second
        self._adopted: list[SpoolFile] = []
        self._warned: set[Path] = set()
        self._waits: dict[Lane, tuple[float, float]] = {}

    # What fails

    def failed(self, lanes: Iterable[Lane], error: Exception) -> None:
        """Leave partitions alone for a while, each time for longer."""
        now = asyncio.get_running_loop().time()
        self.reason = str(error)
        for lane in set(lanes):
            seconds = min(2 * self._waits.get(lane, (FIRST_WAIT_SECONDS / 2, 0))[0], LONGEST_WAIT_SECONDS)
            self._waits[lane] = seconds, now + seconds

    def rows_waiting(self) -> int:
        """Return how many rows wait, in this process's file and in those it has taken over."""
        return sum(sum(self._spool.rows(file).values()) for file in self._files())

    def _files(self) -> list[SpoolFile]:
        own = self._spool.file
        return self._adopted if own is None else [*self._adopted, own]

    def _succeeded(self, lanes: Iterable[Lane]) -> None:
        self.kafka_away = False
        for lane in lanes:
            self._waits.pop(lane, None)
        if not self._waits:
            self.reason = ""

    # The task

    async def run(self) -> None:
        """Send and look around until cancelled."""
        loop = asyncio.get_running_loop()
        look_at = 0.0
        while True:
            self._spool.grew.clear()
            if loop.time() >= look_at:
                await self._look_around()
                look_at = loop.time() + SCAN_SECONDS
            began = loop.time()
            sent = await self._step_all()
            if sent:
                await asyncio.sleep(max(0.0, sent / self._rate - (loop.time() - began)))
            elif self._spool.is_empty:
                await self._wait_for_more(look_at)
            else:  # each waits for its next try; what comes meanwhile mostly does too
                await asyncio.sleep(FIRST_WAIT_SECONDS)

    async def _wait_for_more(self, until: float) -> None:
        try:
            async with asyncio.timeout_at(until):
                await self._spool.grew.wait()
        except TimeoutError:
            return

    async def _look_around(self) -> None:
        """Take over what dead processes have left, and say how all stands."""
        spool = self._spool
        known = {file.path for file in self._files()}
        try:
            paths = [path for path in sorted(spool.directory.glob(PATTERN)) if path not in known]
        except OSError as error:
            _log.warning("spool_folder_unreadable", reason=str(error))
            return
        for path in paths:
            adopting = asyncio.create_task(self._adopt(path))
            try:
                await asyncio.shield(adopting)
            except asyncio.CancelledError:
                await adopting  # else a file that its thread has just taken over would be held by nobody
                raise
        await self._measure()

    async def _adopt(self, path: Path) -> None:
        try:
            file = await self._spool.run(SpoolFile.adopt, path)
        except DamagedFileError as error:
            self._spool.metrics.set_aside.inc()
            _log.error("spool_file_set_aside", reason=str(error))
        except SpoolFileError as error:
            self._warn(path, error)
        else:
            if file is not None:
                self._adopted.append(file)
                _log.info("spool_file_adopted", file=str(path), rows=sum(file.rows.values()))

    async def _measure(self) -> None:
        spool, metrics = self._spool, self._spool.metrics
        used, oldest = 0, spool.clock()
        for file in self._files():
            try:
                if not spool.rows(file):
                    await spool.run(file.give_back)
                if file.is_closed:
                    continue
                used += await spool.run(file.used_bytes)
                first = await spool.run(file.oldest)
                oldest = oldest if first is None else min(oldest, first)
            except DamagedFileError as error:
                self._lost(file, error)
            except SpoolFileError as error:
                self._warn(file.path, error)
        try:
            metrics.limit.set((await spool.run(spool.look)).limit)
        except DamagedFileError as error:
            spool.lost(error)
        except SpoolFileError as error:
            metrics.limit.set(0)
            _log.warning("spool_folder_not_measured", reason=str(error))
        metrics.bytes.set(used)
        metrics.rows.set(self.rows_waiting())
        metrics.oldest_seconds.set((spool.clock() - oldest) / 1000)

    # Sending

    def _due(self, file: SpoolFile) -> dict[Lane, int]:
        """Return the partitions whose rows may be sent now, and how many of each."""
        now = asyncio.get_running_loop().time()
        return {
            lane: 1 if lane in self._waits else LANE_ROWS
            for lane in self._spool.rows(file)
            if lane not in self._waits or self._waits[lane][1] <= now
        }

    async def _step_all(self) -> int:
        """Send a little of each file; return how many bytes Kafka has acknowledged."""
        due = {file: self._due(file) for file in self._files()}
        files = [file for file, lanes in due.items() if lanes or not self._spool.rows(file)]
        share = int(self._rate * STEP_SECONDS / max(1, len(files)))
        return sum([await self._step(file, due[file], share) for file in files])

    async def _step(self, file: SpoolFile, due: dict[Lane, int], max_bytes: int) -> int:
        spool = self._spool
        sent: list[Spooled] = []
        try:
            if due:
                spooled, damaged = await spool.run(file.first, due, max_bytes)
                self._lose(file, damaged)
                sent = await self._send(file, spooled)
                spool.gone(file, [one.lane for one in sent])
                spool.metrics.drained.inc(len(sent))
                await self._delete(file, sent)
            if file in self._adopted and not file.rows:
                await spool.run(file.close)
                self._adopted.remove(file)
        except DamagedFileError as error:
            self._lost(file, error)
        except SpoolFileError as error:
            self.failed(due, error)
            self._warn(file.path, error)
        return sum(one.size for one in sent)

    async def _delete(self, file: SpoolFile, sent: Sequence[Spooled]) -> None:
        try:
            await self._spool.run(file.delete, sent)
        except SpoolFileError as error:  # the disk is full: it goes on, and the file is removed as a whole
            self._warn(file.path, error)

    def _warn(self, path: Path, error: SpoolFileError) -> None:
        """Tell it once for each file."""
        if path not in self._warned:
            self._warned.add(path)
            _log.warning("spool_file_unusable", file=str(path), reason=str(error))

    async def _send(self, file: SpoolFile, spooled: Sequence[Spooled]) -> list[Spooled]:
        """Send rows and return those that were acknowledged."""
        last = self._last(file, spooled)
        behind = [one for one in spooled if one.lane not in last]
        failed: set[Lane] = set()

        def note(rows: Sequence[Row], error: Exception) -> None:
            lanes = {(row.topic, row.partition) for row in rows}
            failed.update(lanes)
            self._spool.hold(lanes)
            self.failed(lanes, error)

        self._spool.release(last)
        waits = []
        for sink, rows in (
            (self._live, [one.row for one in spooled if one.lane in last]),
            (self._own, [one.row for one in behind]),
        ):
            if rows:
                waits.append(sink.send(rows, note))
        await asyncio.gather(*waits)
        sent = [one for one in spooled if one.lane not in failed]
        if sent:
            self._succeeded({one.lane for one in sent})
        return sent

    def _last(self, file: SpoolFile, spooled: Sequence[Spooled]) -> set[Lane]:
        """Return the partitions of this process's own rows of which nothing is left behind, and that do not fail."""
        if file is not self._spool.file or self.kafka_away:
            return set()
        counts = Counter(one.lane for one in spooled)
        rows = self._spool.rows(file)
        return {lane for lane, count in counts.items() if count == rows[lane] and lane not in self._waits}

    def _lose(self, file: SpoolFile, lanes: Sequence[Lane]) -> None:
        if not lanes:
            return
        self._spool.gone(file, lanes)
        self._spool.metrics.set_aside.inc(len(lanes))
        _log.error("spool_rows_set_aside", file=str(file.path), rows=len(lanes))

    def _lost(self, file: SpoolFile, error: DamagedFileError) -> None:
        if file not in self._adopted:
            self._spool.lost(error)
            return
        self._adopted.remove(file)
        rows = sum(file.rows.values())
        self._spool.metrics.set_aside.inc(max(1, rows))
        _log.error("spool_file_set_aside", rows=rows, reason=str(error))

    async def close(self) -> None:
        """Give up the files of others, with what is in them, and the connection; the task has ended."""
        for file in self._adopted:
            try:
                await self._spool.run(file.close)
            except (SpoolFileError, DamagedFileError) as error:
                _log.warning("spool_file_not_closed", reason=str(error))
        await self._own.abandon()
