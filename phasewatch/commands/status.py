"""`phasewatch status`: what runs, how far behind it is, and what is due."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from rich.console import Console
from rich.table import Table

from phasewatch.data_dir import now_ms, open_log, open_store, require_data, worker_lock
from phasewatch.settings import Settings
from processors.domain.rules import HOUR_MS
from processors.engine.changes import rfc3339
from processors.engine.query import Query

__all__ = ["run_status"]


def run_status(settings: Settings, *, as_json: bool) -> int:
    """Print the state of a deployment; return the exit code."""
    require_data(settings)
    with worker_lock(settings) as free:
        running = not free
    found = {"running": running} | asyncio.run(_status(settings))
    console = Console()
    if as_json:
        console.out(json.dumps(found, indent=2), highlight=False)
        return 0
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in found.items():
        if name != "stages":
            table.add_row(name.replace("_", " "), "-" if value is None else str(value))
    console.print(table)
    stages = Table("stage", "persons", title="people per stage", title_justify="left")
    for stage, count in found["stages"].items():
        stages.add_row(stage, f"{count:,}")
    console.print(stages)
    return 0


async def _status(settings: Settings) -> dict[str, Any]:
    log, store = open_log(settings), open_store(settings)
    try:
        query = Query(store, log.partitions)
        behind = waiting = live = 0
        slowest: int | None = None
        due: list[int] = []
        for partition in range(log.partitions):
            state = await query.state(partition)
            _, end = await log.bounds(partition)
            behind += end - (0 if state is None else state.position.offset)
            waiting += len(await store.outbox(partition, 1000))
            if state is not None and state.tau:
                live += state.live
                slowest = state.tau if slowest is None else min(slowest, state.tau)
            first = await store.first_due(partition)
            if first is not None:
                due.append(first)
        return {
            "partitions": log.partitions,
            "partitions_live": live,
            "records_behind": behind,
            "outputs_waiting": waiting,
            "earliest_stream_time": None if slowest is None else rfc3339(slowest),
            "next_due": rfc3339(min(due) * HOUR_MS) if due else None,
            "now": rfc3339(now_ms()),
            "definitions": (await query.definitions())["number"],
            "stages": await query.stages(),
        }
    finally:
        store.close()
        log.close()
