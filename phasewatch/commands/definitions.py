"""`phasewatch definitions check` and `publish`."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from phasewatch.backend import open_backend
from phasewatch.data_dir import now_ms, require_data
from phasewatch.embedded import read_definitions
from phasewatch.embedded_worker import in_force_everywhere, publish_definitions
from phasewatch.errors import UsageError
from phasewatch.settings import Settings
from processors.domain.definitions import DefinitionsError, Problem
from processors.domain.document import parse

__all__ = ["run_check", "run_publish"]


def run_check(path: Path, *, as_json: bool) -> int:
    """Print every problem of a document with its position; return 0 where there is none, else 1."""
    problems: tuple[Problem, ...] = ()
    try:
        parse(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        msg = f"{path} is no UTF-8 text: {error.reason} at byte {error.start}"
        raise UsageError(msg) from error
    except DefinitionsError as error:
        problems = error.problems
    console = Console()
    if as_json:
        console.out(
            json.dumps([asdict(problem) for problem in problems], ensure_ascii=False, indent=2), highlight=False
        )
    elif problems:
        for problem in problems:
            text = f"{path}:{problem.line}:{problem.column}: {problem.path}: {problem.message}"
            console.print(text, markup=False, highlight=False, soft_wrap=True)
    else:
        console.print(f"{path} is valid", markup=False, highlight=False, soft_wrap=True)
    return 1 if problems else 0


def run_publish(settings: Settings, path: Path) -> int:
    """Publish a document and wait until it is in force everywhere; return the exit code."""
    if not settings.kafka.brokers:
        require_data(settings)
    document = read_definitions(path)
    number = asyncio.run(_publish(settings, document))
    Console().print(f"{path} is in force as definitions {number}", markup=False, highlight=False, soft_wrap=True)
    return 0


async def _publish(settings: Settings, document: str) -> int:
    async with open_backend(settings, write=True) as backend:
        await publish_definitions(backend.log, document, clock=now_ms())
        await backend.settle()
        return await in_force_everywhere(backend.query, backend.log.partitions)
