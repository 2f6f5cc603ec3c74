"""`phasewatch topics`: create Kafka's topics as the guarantees need them, or compare those that are there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from phasewatch.access import kafka_access
from phasewatch.backend import open_kafka_log, require_kafka
from phasewatch.embedded import read_definitions
from phasewatch.embedded_worker import ensure_definitions
from phasewatch.errors import FaultError, ServiceAwayError, UsageError
from phasewatch.settings import Settings
from processors.adapters.kafka.topics import Finding, RefusedError, Topic, TopicAdmin, topics
from processors.engine.ports import StoreUnavailableError

__all__ = ["run_topics", "wanted_topics"]


def wanted_topics(settings: Settings) -> list[Topic]:
    """Return the deployment's topics.

    Raises:
        UsageError: if the settings name no Kafka, or more copies to wait for than there are.
    """
    kafka = settings.kafka
    require_kafka(settings, "topics")
    if kafka.min_insync_replicas > kafka.replication_factor:
        msg = (
            f"kafka.min_insync_replicas = {kafka.min_insync_replicas} is more than kafka.replication_factor = "
            f"{kafka.replication_factor}: nothing could ever be acknowledged; lower the one or raise the other"
        )
        raise UsageError(msg)
    return topics(
        prefix=kafka.topic_prefix,
        partitions=settings.log.partitions,
        retention_days=settings.log.retention_days,
        replication_factor=kafka.replication_factor,
        min_insync_replicas=kafka.min_insync_replicas,
    )


def run_topics(settings: Settings, *, check: bool, as_json: bool, definitions: Path | None = None) -> int:
    """Create or compare, and print each topic; return the exit code: 1 where something still differs."""
    document = None if definitions is None else read_definitions(definitions)
    findings = asyncio.run(_findings(settings, wanted_topics(settings), check=check))
    if not check:
        asyncio.run(_give_meaning(settings, document))
    console = Console()
    if as_json:
        console.out(json.dumps([_plain(one) for one in findings], indent=2), highlight=False)
    else:
        _print(console, findings)
    return 1 if any(one.state in {"missing", "differs"} for one in findings) else 0


async def _findings(settings: Settings, wanted: Sequence[Topic], *, check: bool) -> list[Finding]:
    try:
        async with TopicAdmin(kafka_access(settings)) as admin:
            return await (admin.compare(wanted) if check else admin.create(wanted))
    except StoreUnavailableError as error:
        raise ServiceAwayError(str(error)) from error
    except RefusedError as error:
        msg = f"{error}; see kafka.replication_factor, and what the brokers allow"
        raise FaultError(msg) from error


async def _give_meaning(settings: Settings, document: str | None) -> None:
    """Let a new log begin with definitions, ahead of every event: what is folded without any counts for nothing."""
    try:
        log = await open_kafka_log(settings)
        try:
            await ensure_definitions(log, document)
        finally:
            await log.close()
    except StoreUnavailableError as error:
        raise ServiceAwayError(str(error)) from error


def _plain(finding: Finding) -> dict[str, Any]:
    return {
        "topic": finding.topic.name,
        "partitions": finding.partitions,
        "state": finding.state,
        "differences": [
            {"what": one.what, "found": one.found, "wanted": one.wanted, "meaning": one.meaning}
            for one in finding.differences
        ],
    }


def _print(console: Console, findings: Sequence[Finding]) -> None:
    table = Table("topic", "partitions", "state", box=None, pad_edge=False)
    for one in findings:
        table.add_row(one.topic.name, "-" if one.partitions is None else str(one.partitions), one.state)
    console.print(table)
    for one in findings:
        if one.state == "missing":
            console.out(f"\n{one.topic.name} is missing: run `phasewatch topics` to create it.", highlight=False)
        for found in one.differences:
            text = f"\n{one.topic.name}: {found.what} is {found.found}, not {found.wanted}: {found.meaning}."
            console.out(text, highlight=False)
