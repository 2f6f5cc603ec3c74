"""Bringing history into the log: hour by hour, so that the fold and what it derives catch up (architecture, 4)."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from collector.decode.decoded import RequestFacts
from collector.decode.native import decode_native
from collector.decode.times import read_time
from collector.wire.block import BlockBuilder
from collector.wire.event import Event
from collector.wire.record import HOUR_MS, Draft, Kind
from phasewatch.backend import HistoryLog
from phasewatch.errors import UsageError
from processors.engine.ports import Clock

SOURCE: Final = "import"
"""Stands as `source` in every imported event."""
_BLOCK_BYTES: Final = 256 * 1024
_HEAD_BYTES: Final = 64 * 1024
_PROBLEMS_KEPT: Final = 20


class _Line(msgspec.Struct):
    ts: str | int | float | None = None
    trusted: bool = True


_line_decoder = msgspec.json.Decoder(_Line)


@dataclass(slots=True)
class Report:
    """What an import did: events written, lines refused (the first of them with their reasons), hours advanced."""

    events: int = 0
    refused: int = 0
    hours: int = 0
    skipped: int = 0
    """Lines that an earlier run had written already."""
    problems: list[str] = field(default_factory=list)

    def refuse(self, number: int, why: str) -> None:
        """Note a line that is no event."""
        self.refused += 1
        if len(self.problems) < _PROBLEMS_KEPT:
            self.problems.append(f"line {number}: {why}")


@dataclass(slots=True)
class _Read:
    number: int
    end: int
    """Byte offset after the line."""
    ts: int
    raw: bytes
    trusted: bool


def check_order(path: Path) -> int:
    """Return how many lines a file has.

    Raises:
        UsageError: naming the first line that is earlier than the one before.
    """
    last = lines = 0
    for read in _lines(path, 0, Report()):
        if read.ts < last:
            msg = f"{path}, line {read.number}: its ts is earlier than the line's before. Sort the file by ts first"
            raise UsageError(msg)
        last, lines = read.ts, read.number
    return lines


def _lines(path: Path, start: int, report: Report) -> Iterator[_Read]:
    with path.open("rb") as file:
        number = sum(1 for _ in _take_bytes(file.read, start)) if start else 0
        file.seek(start)
        end = start
        for raw in file:
            number += 1
            end += len(raw)
            if not raw.strip():
                continue
            try:
                line = _line_decoder.decode(raw)
                ts = read_time(line.ts, "ts")
            except (msgspec.MsgspecError, ValueError) as error:
                report.refuse(number, str(error))
                continue
            if ts is None:
                report.refuse(number, "has no ts")
                continue
            yield _Read(number, end, ts, raw, line.trusted)


def _take_bytes(read: Callable[[int], bytes], count: int) -> Iterator[int]:
    """Yield once per newline among the next `count` bytes."""
    while count > 0 and (chunk := read(min(count, 1 << 20))):
        count -= len(chunk)
        yield from range(chunk.count(b"\n"))


class HistoryImport:
    """Writes one file into a log; `catch_up` makes or lets the fold come to the log's end."""

    def __init__(self, log: HistoryLog, clock: Clock, catch_up: Callable[[], Awaitable[None]]) -> None:
        self._log = log
        self._clock = clock
        self._catch_up = catch_up

    async def run(self, path: Path, *, more_follows: bool, progress: Callable[[int], None] = lambda _: None) -> Report:
        """Import a file from where an earlier run stopped; `progress` is told the bytes done.

        Raises:
            UsageError: if the lines are not in the order of `ts`; nothing was written.
        """
        report = Report()
        check_order(path)
        name = f"import:{_identity(path)}"
        start = int(await self._log.note(name) or 0)
        report.skipped = start
        batch: list[_Read] = []
        for read in _lines(path, start, report):
            if batch and read.ts // HOUR_MS != batch[0].ts // HOUR_MS:
                await self._hour(batch, name, report)
                progress(batch[-1].end)
                batch = []
            batch.append(read)
        if batch:
            await self._hour(batch, name, report)
            progress(batch[-1].end)
        if not more_follows:
            now = self._clock()
            await self._log.append([(n, Draft(Kind.LIVE, now, imported=True)) for n in range(self._log.partitions)])
            await self._catch_up()
        return report

    async def _hour(self, batch: list[_Read], name: str, report: Report) -> None:
        """Write one hour's events and wait for the fold; what was written is noted in the same transaction."""
        hour = batch[0].ts // HOUR_MS
        ticks = [(n, Draft(Kind.TICK, hour * HOUR_MS, imported=True)) for n in range(self._log.partitions)]
        await self._log.append(ticks)
        await self._catch_up()
        builder = BlockBuilder(self._log.partitions, max_bytes=_BLOCK_BYTES, imported=True)
        now = self._clock()
        for read in batch:
            event = _event(read, report, now)
            if event is not None:
                builder.add(event, read.ts)
                report.events += 1
        await self._log.append(builder.take(), {name: str(batch[-1].end)})
        await self._catch_up()
        report.hours += 1


def _event(read: _Read, report: Report, now: int) -> Event | None:
    if read.ts > now:
        report.refuse(read.number, "its ts lies in the future; history is what has happened")
        return None
    found = decode_native([read.raw], RequestFacts(SOURCE, read.trusted, read.ts))
    if found.rejections:
        rejection = found.rejections[0]
        report.refuse(read.number, f"{rejection.reason}: {rejection.detail}")
        return None
    return found.events[0][1]


def _identity(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.sha256(file.read(_HEAD_BYTES)).hexdigest()[:32]
