"""`phasewatch definitions check` and `publish`."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from phasewatch.data_dir import now_ms, open_log, open_store, require_data, worker_lock
from phasewatch.embedded import read_definitions
from phasewatch.embedded_worker import acquire_all, in_force_everywhere, publish_definitions
from phasewatch.errors import UsageError
from phasewatch.history import wait_for_fold
from phasewatch.settings import Settings
from processors.domain.definitions import DefinitionsError, Problem
from processors.domain.document import parse
from processors.engine.query import Query
from processors.engine.worker import settle

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
    require_data(settings)
    document = read_definitions(path)
    with worker_lock(settings) as alone:
        number = asyncio.run(_publish(settings, document, alone=alone))
    Console().print(f"{path} is in force as definitions {number}", markup=False, highlight=False, soft_wrap=True)
    return 0


async def _publish(settings: Settings, document: str, *, alone: bool) -> int:
    log, store = open_log(settings), open_store(settings)
    query = Query(store, log.partitions)
    try:
        await publish_definitions(log, document, clock=now_ms())
        if alone:
            await settle(await acquire_all(log, store, settings))
        else:
            await wait_for_fold(log, store, query)
        return await in_force_everywhere(query, log.partitions)
    finally:
        store.close()
        log.close()
