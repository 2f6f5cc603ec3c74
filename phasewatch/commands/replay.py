"""`phasewatch replay --verify`: whether the states are what the log makes of them, shown for people or programs."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from phasewatch.errors import ServiceAwayError, UsageError
from phasewatch.replay import Choice, verify
from phasewatch.settings import Settings
from processors.engine.replay import Difference, Report

__all__ = ["run_replay"]


def run_replay(
    settings: Settings, *, verifying: bool, partitions: str | None, snapshot: Path | None, max_cpu: int, as_json: bool
) -> int:
    """Verify a deployment, with progress at a terminal; return 0 where nothing differs, else 1."""
    if not verifying:
        msg = (
            "phasewatch replay does nothing by itself yet: phasewatch replay --verify compares the states with the log"
        )
        raise UsageError(msg)
    choice = Choice(_numbers(partitions), snapshot, max_cpu)
    began, cpu = time.monotonic(), time.process_time()
    with _Bar() as bar:
        report = asyncio.run(_verify(settings, choice, bar))
    seconds, cpu = time.monotonic() - began, time.process_time() - cpu
    console = Console()
    if as_json:
        console.out(json.dumps(_as_json(report, seconds, cpu), ensure_ascii=False, indent=2), highlight=False)
    else:
        for line in _lines(report, seconds, cpu):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    return 1 if report.differences else 0


async def _verify(settings: Settings, choice: Choice, bar: _Bar) -> Report:
    """Verify until it is done or told to stop; either way the scratch files are deleted."""
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        return await verify(settings, choice, bar)
    except asyncio.CancelledError as error:
        msg = "it was told to stop before it was done, and says nothing about the states. Repeat it"
        raise ServiceAwayError(msg) from error


class _Bar:
    """Progress on standard error, where that is a terminal."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        console = Console(stderr=True)
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begin(self, records: int) -> None:
        """Say how many records there are to fold."""
        self._task = self._progress.add_task("records folded anew", total=records)

    def folded(self, records: int) -> None:
        """Say how many more were folded."""
        if self._task is not None:
            self._progress.advance(self._task, records)


def _numbers(partitions: str | None) -> Sequence[int] | None:
    if partitions is None:
        return None
    try:
        return [int(one) for one in partitions.split(",")]
    except ValueError as error:
        msg = f"--partitions {partitions}: give numbers with commas between, such as 1,5"
        raise UsageError(msg) from error


def _as_json(report: Report, seconds: float, cpu: float) -> dict[str, object]:
    return {
        "equal": not report.differences,
        "partitions": report.partitions,
        "records": report.records,
        "events": report.events,
        "records_set_aside": report.set_aside,
        "persons": report.persons,
        "links": report.links,
        "derived": dict(sorted(report.derived.items())),
        "derived_waiting": len(report.waiting),
        "seconds": round(seconds, 3),
        "cpu_seconds": round(cpu, 3),
        "differences": report.differences,
        "shown": [
            {
                "partition": one.partition,
                "subject": one.subject,
                "offset": one.offset,
                "fields": [field._asdict() for field in one.fields],
            }
            for one in report.shown
        ],
    }


def _lines(report: Report, seconds: float, cpu: float) -> list[str]:
    each = f", {cpu / report.events * 1e6:.0f} µs of CPU an event" if report.events else ""
    folded = (
        f"{report.records:,} records of {report.partitions} partitions folded anew ({report.events:,} events, "
        f"{report.set_aside:,} records set aside) in {seconds:,.1f} s{each}"
    )
    derived = ", ".join(f"{count:,} {kind}" for kind, count in sorted(report.derived.items())) or "none"
    compared = f"compared: {report.persons:,} persons, {report.links:,} links; derived records: {derived}"
    if report.waiting:
        compared += f" ({len(report.waiting):,} were still waiting to be published)"
    if not report.differences:
        return [folded, compared, "equal: the states are what the log makes of them"]
    shown = [line for one in report.shown for line in ("", *_told(one))]
    few = f", the first {len(report.shown)} of them above" if report.differences > len(report.shown) else ""
    found = "difference" if report.differences == 1 else "differences"
    what = f"{report.differences:,} {found}{few}. What it can come from, and what to do: docs/verification.md"
    return [folded, compared, *shown, "", what]


def _told(one: Difference) -> list[str]:
    where = "" if one.offset is None else f" at offset {one.offset}"
    return [
        f"{one.subject} (partition {one.partition}{where})",
        *(f"  {field.name}: live {field.live} | replayed {field.replayed}" for field in one.fields),
    ]
