"""`phasewatch restore`: puts a snapshot's states into the store; the workers fold the log from there."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

from rich.console import Console

from phasewatch.backend import Backend, open_backend
from phasewatch.commands.snapshot import summary
from phasewatch.errors import FaultError, ServiceAwayError, UsageError
from phasewatch.settings import Settings
from processors.adapters.files.snapshots import (
    MANIFEST,
    NOTE,
    Header,
    Manifest,
    SnapshotError,
    newest,
    read_manifest,
    read_partition,
    verify,
)
from processors.engine.ports import EventLog, StateStore, StoreUnavailableError

__all__ = ["run_restore"]


def run_restore(settings: Settings, path: Path, *, force: bool, as_json: bool) -> int:
    """Restore a snapshot, or the newest one in a folder of them; return the exit code.

    Raises:
        UsageError: if there is no snapshot, or the store is not empty and that is not forced.
        FaultError: if the snapshot is damaged or does not fit the log; nothing was changed.
    """
    started = time.monotonic()
    snapshot = _find(path)
    try:
        manifest = read_manifest(snapshot)
        verify(snapshot, manifest)
        behind = asyncio.run(_restore(settings, snapshot, manifest, force=force))
    except SnapshotError as error:
        msg = f"{error}. Take another snapshot of {snapshot.parent}: `phasewatch restore {snapshot.parent}/NAME`"
        raise FaultError(msg) from error
    seconds = time.monotonic() - started
    console = Console()
    if as_json:
        found = summary(manifest, snapshot) | {"seconds": round(seconds, 3), "records_behind": behind}
        console.out(json.dumps(found, indent=2), highlight=False)
        return 0
    console.print(
        f"{snapshot}: {manifest.people:,} persons and links of {manifest.partitions} partitions restored in "
        f"{seconds:.1f} s. {behind:,} records of the log follow, which workers fold now; what was published after the "
        "snapshot is published again, with the same bytes under the same ids",
        highlight=False,
        soft_wrap=True,
    )
    return 0


def _find(path: Path) -> Path:
    if (path / MANIFEST).exists():
        return path
    found = newest(path)
    if found is None:
        msg = (
            f"there is no complete snapshot in {path}: name the folder that `phasewatch snapshot` writes into, or one "
            "snapshot in it"
        )
        raise UsageError(msg)
    return found


async def _restore(settings: Settings, snapshot: Path, manifest: Manifest, *, force: bool) -> int:
    """Check everything, then replace partition by partition; return how many records of the log are to be folded."""
    async with open_backend(settings) as backend:
        log, store = backend.log, backend.store
        _check_log(snapshot, manifest, log)
        headers = [_header(snapshot, manifest, partition) for partition in range(manifest.partitions)]
        behind = 0
        for header in headers:
            behind += await _check_bounds(snapshot, header, log)
        if not force:
            await _check_empty(store, manifest.partitions)
        await _replace(backend, snapshot, manifest)
        return behind


def _check_log(snapshot: Path, manifest: Manifest, log: EventLog) -> None:
    if (manifest.log_id, manifest.partitions) != (log.log_id, log.partitions):
        msg = (
            f"{snapshot} is of the log {manifest.log_id} with {manifest.partitions} partitions, and the settings name "
            f"the log {log.log_id} with {log.partitions}: its states mean nothing there. Name a snapshot of this log, "
            "or the settings of that one"
        )
        raise FaultError(msg)


def _header(snapshot: Path, manifest: Manifest, partition: int) -> Header:
    entry = manifest.files[partition]
    header, parts = read_partition(snapshot / entry.name)
    parts.close()
    expected = (manifest.log_id, manifest.partitions, entry.partition, entry.offset, entry.cursor)
    if (header.log_id, header.partitions, header.partition, header.offset, header.cursor) != expected:
        msg = f"{snapshot / entry.name} is not what {MANIFEST} says of it: it is of another snapshot"
        raise SnapshotError(msg)
    return header


async def _check_bounds(snapshot: Path, header: Header, log: EventLog) -> int:
    """Return how many records follow a partition's position.

    Raises:
        FaultError: if the log does not hold them all, or is not the log that was folded.
    """
    first, end = await log.bounds(header.partition)
    offset = header.offset
    if not first <= offset <= end:
        msg = (
            f"{snapshot} has partition {header.partition} at offset {offset}, and the log holds {first} to {end}: "
            + (
                "what follows the snapshot is gone already. Restore a newer one; without any, the persons' past "
                "before the log's begin is lost (docs/recovery.md)"
                if offset < first
                else "the log was cut, or is another one under the same name. Bring the log back"
            )
        )
        raise FaultError(msg)
    if offset > first and header.appended:
        (last,) = await log.read(header.partition, offset - 1, 1)
        if last.append_time not in (0, header.appended):
            msg = (
                f"record {offset - 1} of partition {header.partition} is not the one that {snapshot} was folded from: "
                "the log was cut or made anew under the same name. Bring the old log back"
            )
            raise FaultError(msg)
    return end - offset


async def _check_empty(store: StateStore, partitions: int) -> None:
    held = [partition for partition in range(partitions) if await store.state(partition) is not None]
    if held:
        msg = (
            f"the store holds states of {len(held)} partitions (the first is {held[0]}): they would be thrown away and "
            "folded anew from the snapshot on. If that is meant, for instance since workers began to fill an emptied "
            "Redis again, repeat the command with --force; workers may go on running"
        )
        raise UsageError(msg)


async def _replace(backend: Backend, snapshot: Path, manifest: Manifest) -> None:
    for entry in manifest.files:
        header, parts = read_partition(snapshot / entry.name)
        try:
            await backend.store.replace(entry.partition, header.position, header.state, parts)
        except StoreUnavailableError as error:
            msg = (
                f"{entry.partition} of {manifest.partitions} partitions are restored, then {error}. Repeat the command "
                "with --force"
            )
            raise ServiceAwayError(msg) from error
    await backend.history.append([], {NOTE: str(manifest.taken_at)})
