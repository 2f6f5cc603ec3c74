"""`phasewatch doctor`: what is wrong with a deployment, what that means, and what to do."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Final, TypeVar

from rich.console import Console

from collector.guards.connections import open_files
from collector.sinks.spool_file import look_around
from collector.wire.record import Record
from phasewatch.access import kafka_access
from phasewatch.backend import group_of, open_kafka_log, open_redis_store
from phasewatch.commands import checks
from phasewatch.commands.checks import Check, Records, States
from phasewatch.commands.topics import wanted_topics
from phasewatch.data_dir import now_ms, open_log, open_store, require_data, spool_dir, store_file, worker_lock
from phasewatch.errors import ServiceAwayError, UsageError
from phasewatch.settings import Settings
from phasewatch.settings_source import DEFAULT_FILE, read_file
from processors.adapters.files.snapshots import NOTE as SNAPSHOT
from processors.adapters.kafka.group import group_members
from processors.adapters.kafka.log import KafkaLog
from processors.adapters.kafka.topics import RefusedError, TopicAdmin
from processors.adapters.redis.store import RedisStore
from processors.domain.rules import HOUR_MS
from processors.engine.ports import EventLog, StateStore, StoreUnavailableError, Unreadable
from processors.engine.query import Query

__all__ = ["run_doctor"]

PATIENCE_SECONDS: Final = 10.0
"""How long what passes by itself, such as partitions that are just handed over, is looked at again."""
_AGAIN_SECONDS: Final = 0.25

Seen = TypeVar("Seen")


def run_doctor(settings: Settings, file: Path | None = None, *, as_json: bool) -> int:
    """Print a line a check; return 3 where something does not answer, else 1 where something is wrong, else 0.

    Args:
        settings: of the deployment.
        file: that was named for them; `phasewatch.toml` of the working directory unless given.
        as_json: print JSON instead.
    """
    found = _look_at_file(file or DEFAULT_FILE)
    found += asyncio.run(_production(settings) if settings.kafka.brokers else _embedded(settings))
    console = Console()
    if as_json:
        console.out(json.dumps([asdict(one) for one in found], ensure_ascii=False, indent=2), highlight=False)
    else:
        for one in found:
            console.out(f"{one.result:<8} {one.name:<12} {one.text}", highlight=False)
    results = {one.result for one in found}
    return 3 if "away" in results else 1 if "fault" in results else 0


async def _production(settings: Settings) -> list[Check]:
    found = checks.check_settings(settings) + checks.check_open_files(settings, open_files()) + _look_at_spool(settings)
    async with AsyncExitStack() as stack:
        seen, there = await _look_at_kafka(settings)
        found += seen
        log: KafkaLog | None = None
        running = True
        if there:
            try:
                log = await open_kafka_log(settings)
                stack.push_async_callback(log.close)
                seen, running = await _look_at_workers(settings, log.partitions)
                found += seen
            except StoreUnavailableError as error:
                found.append(Check("kafka", "away", str(error)))
        store = open_redis_store(settings)
        stack.push_async_callback(store.close)
        seen, there = await _look_at_redis(store, settings.log.retention_days)
        return found + seen + await _look_inside(log, store if there else None, running=running)


async def _look_at_kafka(settings: Settings) -> tuple[list[Check], bool]:
    """Return what is to be said of brokers and topics, and whether topic `events` may be there."""
    found: list[Check] = []
    try:
        async with TopicAdmin(kafka_access(settings)) as admin:
            found += checks.check_brokers(settings, await admin.brokers_in_service())
            topics = await admin.compare(wanted_topics(settings))
    except StoreUnavailableError as error:
        return [*found, Check("kafka", "away", str(error))], False
    except (RefusedError, UsageError) as error:
        return [*found, Check("topics", "unknown", str(error))], True
    events = topics[0]
    return found + checks.check_topics(topics), events.state != "missing"


async def _look_at_workers(settings: Settings, partitions: int) -> tuple[list[Check], bool]:
    """Return what is to be said of the workers' group, and whether there is any."""
    group = group_of(settings)
    members = await _patiently(
        lambda: group_members(kafka_access(settings), group),
        lambda seen: not seen or not checks.unassigned(seen, partitions),
    )
    return [checks.check_workers(members, partitions, group)], bool(members)


async def _look_at_redis(store: RedisStore, retention_days: int) -> tuple[list[Check], bool]:
    """Return what is to be said of Redis, its clock and the snapshots of it, and whether it answers."""
    before = now_ms()
    try:
        health = await store.health()
        after = now_ms()
        taken_at = await store.note(SNAPSHOT)
    except StoreUnavailableError as error:
        return [Check("redis", "away", str(error))], False
    return [
        *checks.check_redis(health),
        checks.check_redis_clock(health.time_ms, before, after),
        checks.check_snapshot(None if taken_at is None else int(taken_at), after, retention_days),
    ], True


async def _embedded(settings: Settings) -> list[Check]:
    found = checks.check_settings(settings) + checks.check_open_files(settings, open_files()) + _look_at_disk(settings)
    with ExitStack() as stack:
        try:
            require_data(settings)
            log = open_log(settings)
            stack.callback(log.close)
            store = None
            if store_file(settings).exists():  # opening it would make it
                store = open_store(settings)
                stack.callback(store.close)
        except ServiceAwayError as error:
            return [*found, Check("log", "away", str(error))]
        except UsageError as error:
            return [*found, Check("log", "fault", str(error))]
        except StoreUnavailableError as error:
            text = f"{error}. See who may write it and whether the disk is full; a broken file has to come from a copy"
            return [*found, Check("log", "fault", text)]
        seen, running = _look_at_lock(settings)
        return [*found, seen, *await _look_inside(log, store, running=running)]


def _look_at_file(file: Path) -> list[Check]:
    if not file.exists():
        return []
    return checks.check_settings_file(file, file.stat().st_mode, read_file(file))


def _look_at_spool(settings: Settings) -> list[Check]:
    directory = spool_dir(settings)
    if not directory.exists():
        return [Check("spool", "ok", f"there is none on this machine: no collector has run over {directory}")]
    try:
        free_bytes = shutil.disk_usage(directory).free
        return checks.check_spool(look_around(directory), free_bytes, settings.spool, now_ms())
    except OSError as error:
        return [Check("spool", "unknown", f"{directory} can't be looked at ({error.strerror})")]


def _look_at_disk(settings: Settings) -> list[Check]:
    data_dir = settings.store.data_dir
    if not data_dir.exists():
        return []
    try:
        with tempfile.TemporaryFile(dir=data_dir):
            return [checks.check_free(shutil.disk_usage(data_dir).free)]
    except OSError as error:
        text = f"{data_dir} can't be written ({error.strerror}): no event can be kept. Mend that, or name another one"
        return [Check("data", "fault", text)]


def _look_at_lock(settings: Settings) -> tuple[Check, bool]:
    """Return what is to be said of the process on these files, and whether there is one."""
    try:
        with worker_lock(settings) as free:
            text = "nothing folds this log now: `phasewatch up` does" if free else "a process folds this log"
            return Check("running", "ok", text), not free
    except OSError as error:
        return Check("running", "unknown", f"the lock of {settings.store.data_dir} can't be opened: {error}"), False


async def _look_inside(log: EventLog | None, store: StateStore | None, *, running: bool) -> list[Check]:
    """Compare log and states; say of the one what can be said of it where the other is away."""
    found: list[Check] = []
    try:
        bound = None if store is None else await store.bound_to()
        partitions = log.partitions if log is not None else 0 if bound is None else bound[1]
        states = [] if store is None else await _states(store, partitions, running=running)
        records = [] if log is None else await _records(log, states)
        if store is None:
            text = (
                "without them nothing can be said of positions, definitions, what is due and what waits in the outbox"
            )
            found.append(Check("states", "unknown", text))
        elif log is None:
            found.append(Check("states", "unknown", "they can't be compared with the log"))
        else:
            found.append(checks.check_binding(bound, log.log_id, partitions))
            if found[-1].result == "ok":
                found += checks.check_positions(states, records)
                found.append(checks.check_behind(states, records, now_ms(), running=running))
        if store is not None and states:
            found.append(checks.check_definitions(states, running=running))
            found.append(checks.check_overdue(states, now_ms(), running=running))
            stuck = await _stuck(store, partitions, running=running)
            found.append(checks.check_outbox(stuck, PATIENCE_SECONDS, running=running))
        if log is not None:
            found.append(checks.check_log_clock(records, now_ms()))
    except StoreUnavailableError as error:
        found.append(Check("states", "away", str(error)))
    return found


async def _states(store: StateStore, partitions: int, *, running: bool) -> list[States]:
    """Return what the store has of each partition, looked at again while new definitions spread."""
    query = Query(store, partitions)

    async def look() -> list[States]:
        found = []
        for partition in range(partitions):
            due = await store.first_due(partition)
            found.append(States(partition, await query.state(partition), None if due is None else due * HOUR_MS))
        return found

    return await _patiently(look, lambda seen: not running or checks.same_definitions(seen))


async def _records(log: EventLog, states: Sequence[States]) -> list[Records]:
    """Return what the log has of each partition; asked after the states, so that it is never behind them."""
    positions = [one.position for one in states] or [0] * log.partitions
    found = []
    for partition, (first, end) in enumerate(await log.all_bounds()):
        position = positions[partition]
        near = await log.read(partition, max(first, position - 1), 2) if first <= position <= end else []
        newest = near if position == end else await log.read(partition, end - 1, 1) if first < end else []
        at = {one.offset: one for one in near}
        found.append(
            Records(
                first, end, at.get(position - 1), _appended(at.get(position)), _appended(newest[-1] if newest else None)
            )
        )
    return found


def _appended(record: Record | Unreadable | None) -> int | None:
    return record.append_time if isinstance(record, Record) else None


async def _stuck(store: StateStore, partitions: int, *, running: bool) -> set[int]:
    """Return the partitions in which one and the same output waits to be published."""
    first = await _heads(store, range(partitions))

    async def look() -> set[int]:
        now = await _heads(store, sorted(first))
        return {partition for partition, number in first.items() if now.get(partition) == number}

    return await _patiently(look, lambda seen: not running or not seen)


async def _heads(store: StateStore, partitions: Iterable[int]) -> dict[int, int]:
    """Return the number of the first output that waits, by partition."""
    found = {partition: await store.outbox(partition, 1) for partition in partitions}
    return {partition: outputs[0][0] for partition, outputs in found.items() if outputs}


async def _patiently(look: Callable[[], Awaitable[Seen]], is_fine: Callable[[Seen], bool]) -> Seen:
    """Look until what is seen is fine, PATIENCE_SECONDS at most."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE_SECONDS
    while True:
        seen = await look()
        if is_fine(seen) or loop.time() >= deadline:
            return seen
        await asyncio.sleep(_AGAIN_SECONDS)
