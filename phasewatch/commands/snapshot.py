"""`phasewatch snapshot`: copies the states into a folder while everything runs, once or again and again."""

from __future__ import annotations

import asyncio
import fcntl
import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog
from rich.console import Console

from phasewatch.backend import Backend, open_backend
from phasewatch.data_dir import now_ms
from phasewatch.errors import FaultError, ServiceAwayError, StopError
from phasewatch.settings import Settings
from processors.adapters.files.snapshots import NOTE, Manifest, SnapshotError, prune, read_manifest, write_snapshot
from processors.engine.changes import rfc3339
from processors.engine.ports import CopyLostError

__all__ = ["run_snapshot", "summary"]

_logger = structlog.get_logger(__name__)


def run_snapshot(settings: Settings, folder: Path, *, keep: int, every_minutes: float | None, as_json: bool) -> int:
    """Write a snapshot, or one every so many minutes until told to stop; return the exit code."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            if every_minutes is None:
                manifest, path = asyncio.run(_snapshot(settings, folder, keep))
                _print(manifest, path, as_json=as_json)
            else:
                asyncio.run(_repeat(settings, folder, keep, every_minutes * 60))
    except OSError as error:
        raise FaultError(_cannot_write(folder, error)) from error
    return 0


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock: two writers would delete each other's."""
    with (folder / ".lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            msg = f"another `phasewatch snapshot` writes into {folder}. Wait for it, or end it if it is a forgotten one"
            raise ServiceAwayError(msg) from error
        yield


async def _snapshot(settings: Settings, folder: Path, keep: int) -> tuple[Manifest, Path]:
    """Write a snapshot, note it, and delete old ones.

    Raises:
        ServiceAwayError: if the store or the log does not answer, or could not be copied as it was at one moment.
        FaultError: if the store stands before the newest snapshot, or that is of another log.
        OSError: if the files can't be written.
    """
    async with open_backend(settings) as backend:
        taken_at = now_ms()
        try:
            path = await write_snapshot(folder, backend.store, backend.log, taken_at)
        except CopyLostError as error:
            msg = f"no snapshot was written: {error}. Repeat the command; those that there are stay as they are"
            raise ServiceAwayError(msg) from error
        except SnapshotError as error:
            msg = f"no snapshot was written: {error}"
            raise FaultError(msg) from error
        await _note(backend, taken_at)
    prune(folder, keep)
    return read_manifest(path), path


async def _note(backend: Backend, taken_at: int) -> None:
    await backend.history.append([], {NOTE: str(taken_at)})


async def _repeat(settings: Settings, folder: Path, keep: int, every_seconds: float) -> None:
    """Write one snapshot after the other until a signal comes; one that fails is logged, and the next is tried."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    while not stop.is_set():
        began = loop.time()
        writing = asyncio.create_task(_snapshot(settings, folder, keep))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({writing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not writing.done():  # told to stop: what is half written goes
            writing.cancel()
        try:
            manifest, path = await writing
            _logger.info("snapshot_written", **summary(manifest, path))
        except asyncio.CancelledError:
            break
        except StopError as error:
            _logger.warning("snapshot_failed", reason=str(error), again_seconds=every_seconds)
        except OSError as error:
            _logger.warning("snapshot_failed", reason=_cannot_write(folder, error), again_seconds=every_seconds)
        try:
            async with asyncio.timeout(max(0.0, began + every_seconds - loop.time())):
                await stopping
        except TimeoutError:
            continue


def _cannot_write(folder: Path, error: OSError) -> str:
    return (
        f"{folder} can't be written ({error.strerror}): no new snapshot is there, or old ones could not be deleted. "
        "Make room or mend that; complete snapshots stay as they are"
    )


def summary(manifest: Manifest, path: Path) -> dict[str, Any]:
    """Return what is told of a snapshot."""
    return {
        "snapshot": str(path),
        "taken_at": rfc3339(manifest.taken_at),
        "seconds": manifest.seconds,
        "partitions": manifest.partitions,
        "persons_and_links": manifest.people,
        "bytes": manifest.bytes,
    }


def _print(manifest: Manifest, path: Path, *, as_json: bool) -> None:
    console = Console()
    found = summary(manifest, path)
    if as_json:
        console.out(json.dumps(found, indent=2), highlight=False)
        return
    slowest = max(manifest.files, key=lambda entry: entry.seconds)
    console.print(
        f"{path}: {manifest.people:,} persons and links of {manifest.partitions} partitions, "
        f"{manifest.bytes / 1e6:,.1f} MB in {manifest.seconds:.1f} s (the slowest partition {slowest.seconds:.2f} s)",
        highlight=False,
        soft_wrap=True,
    )
