"""`phasewatch import`: history into the log, beside a running process or alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from phasewatch.backend import open_backend
from phasewatch.data_dir import now_ms
from phasewatch.embedded_worker import ensure_definitions
from phasewatch.history import HistoryImport, Report
from phasewatch.settings import Settings

__all__ = ["run_import"]


def run_import(settings: Settings, file: Path, *, more_follows: bool) -> int:
    """Import a file, with progress; return 0, or 1 where lines were refused."""
    report = import_with_progress(settings, file, more_follows=more_follows)
    return 1 if report.refused else 0


def import_with_progress(settings: Settings, file: Path, *, more_follows: bool) -> Report:
    """Import a file, show how far it is, and say what came of it; see `import_file`."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(f"importing {file.name}", total=file.stat().st_size)

        def progress(done: int) -> None:
            bar.update(task, completed=done)

        report = asyncio.run(import_file(settings, file, more_follows=more_follows, progress=progress))
    console.print(
        f"{report.events:,} events imported, in {report.hours:,} hours that had some"
        + (" (an earlier run had begun with it)" if report.skipped else "")
        + (f"; {report.refused:,} lines refused:" if report.refused else ""),
        soft_wrap=True,
    )
    for problem in report.problems:
        console.print(f"  {problem}", markup=False, highlight=False, soft_wrap=True)
    if report.refused:
        console.print(
            "Correct these lines and import them alone, in a file of their own: the whole file again would count what "
            "is in the log already a second time, as far as it lies more than a day back",
            soft_wrap=True,
        )
    return report


async def import_file(
    settings: Settings, file: Path, *, more_follows: bool, progress: Callable[[int], None] = lambda _: None
) -> Report:
    """Import a file; this process folds what it writes where no other one does that already."""
    async with open_backend(settings, write=True) as backend:
        await ensure_definitions(backend.log)
        await backend.settle()
        history = HistoryImport(backend.history, now_ms, backend.settle)
        return await history.run(file, more_follows=more_follows, progress=progress)
