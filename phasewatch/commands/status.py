"""`phasewatch status`: what runs, how far behind it is, and what is due."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from collector.sinks.spool_file import look_around
from phasewatch.access import kafka_access
from phasewatch.backend import group_of, open_backend
from phasewatch.data_dir import now_ms, spool_dir, worker_lock
from phasewatch.settings import Settings
from processors.adapters.kafka.group import group_members
from processors.domain.rules import HOUR_MS
from processors.engine.changes import rfc3339

__all__ = ["run_status"]


def run_status(settings: Settings, *, as_json: bool) -> int:
    """Print the state of a deployment; return the exit code."""
    found = asyncio.run(_status(settings))
    console = Console()
    if as_json:
        console.out(json.dumps(found, indent=2), highlight=False)
        return 0
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in found.items():
        if name not in ("stages", "workers"):
            table.add_row(name.replace("_", " "), "-" if value is None else str(value))
    console.print(table)
    if found.get("workers"):
        workers = Table("worker", "partitions", title="who folds", title_justify="left")
        for name, partitions in sorted(found["workers"].items()):
            workers.add_row(Text(name), ", ".join(map(str, partitions)))
        console.print(workers)
    stages = Table("stage", "persons", title="people per stage", title_justify="left")
    for stage, count in found["stages"].items():
        stages.add_row(stage, f"{count:,}")
    console.print(stages)
    return 0


async def _status(settings: Settings) -> dict[str, Any]:
    async with open_backend(settings) as backend:
        query, store = backend.query, backend.store
        behind = waiting = live = 0
        slowest: int | None = None
        due: list[int] = []
        for partition, (_, end) in enumerate(await backend.log.all_bounds()):
            state = await query.state(partition)
            behind += end - (0 if state is None else state.position.offset)
            waiting += len(await store.outbox(partition, 1000))
            if state is not None and state.tau:
                live += state.live
                slowest = state.tau if slowest is None else min(slowest, state.tau)
            first = await store.first_due(partition)
            if first is not None:
                due.append(first)
        return await _who_runs(settings) | {
            "partitions": backend.log.partitions,
            "partitions_live": live,
            "records_behind": behind,
            "outputs_waiting": waiting,
            "earliest_stream_time": None if slowest is None else rfc3339(slowest),
            "next_due": rfc3339(min(due) * HOUR_MS) if due else None,
            "now": rfc3339(now_ms()),
            "definitions": (await query.definitions())["number"],
            "stages": await query.stages(),
        }


async def _who_runs(settings: Settings) -> dict[str, Any]:
    if not settings.kafka.brokers:
        with worker_lock(settings) as free:
            return {"running": not free}
    workers = await group_members(kafka_access(settings), group_of(settings))
    return {
        "running": bool(workers),
        "workers": {one.name: one.partitions for one in workers},
        "blocks_spooled_here": sum(one.rows for one in look_around(spool_dir(settings))),
    }
