"""Verifying a deployment: its log folded anew into scratch files, and compared with what its store holds."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from collector.wire.record import NewerSchemaError
from phasewatch.backend import Backend, open_backend
from phasewatch.errors import FaultError, UsageError
from phasewatch.settings import Settings
from processors.adapters.files.snapshots import SnapshotError, read_manifest, read_partition
from processors.adapters.files.snapshots import verify as verify_files
from processors.adapters.sqlite.derived import DerivedFile
from processors.adapters.sqlite.store import SqliteStore
from processors.domain.definitions import NewerFoldError
from processors.engine.codec import decode_state
from processors.engine.ports import Part
from processors.engine.replay import (
    PATIENCE_SECONDS,
    LogBeginsLaterError,
    PartitionReplay,
    PartitionVerification,
    Report,
    Sides,
    Span,
    match_rest,
)


@dataclass(frozen=True, slots=True)
class Choice:
    """What to verify, and how."""

    partitions: Sequence[int] | None = None
    """None: all of them."""
    snapshot: Path | None = None
    """The folder of the snapshot that the replay begins with; None: it begins with the log."""
    max_cpu: int = 50
    """Per cent of one core."""


class Progress(Protocol):
    """Told how much there is to fold, and how much was."""

    def begin(self, records: int) -> None:
        """Say how many records there are to fold."""
        ...

    def folded(self, records: int) -> None:
        """Say how many more were folded."""
        ...


async def verify(settings: Settings, choice: Choice, progress: Progress) -> Report:
    """Fold the log of a deployment anew and compare; whatever runs there may go on running.

    Raises:
        UsageError: if the log, or the snapshot, is nothing to begin with.
        FaultError: if the states are not of this log, or stand where the log has nothing.
        ServiceAwayError: if something does not answer, or does not go on.
    """
    async with open_backend(settings) as backend:
        return await verify_backend(backend, choice, progress)


async def verify_backend(
    backend: Backend, choice: Choice, progress: Progress, *, patience_seconds: float = PATIENCE_SECONDS
) -> Report:
    """Do the same with a log and states that are open already; those raise the engine's errors where they are away."""
    try:
        await _check_binding(backend)
        return await _verify(backend, choice, progress, patience_seconds)
    except (LogBeginsLaterError, SnapshotError) as error:
        raise UsageError(str(error)) from error
    except (NewerSchemaError, NewerFoldError) as error:
        msg = f"{error}: the log holds records of a newer version. Verify with the version that the workers run"
        raise UsageError(msg) from error


async def _check_binding(backend: Backend) -> None:
    bound, log = await backend.store.bound_to(), backend.log
    if bound not in (None, (log.log_id, log.partitions)):
        msg = (
            f"the states belong to the log {bound[0]} with {bound[1]} partitions, not to {log.log_id} with "
            f"{log.partitions}: there is nothing to compare. See `phasewatch doctor`"
        )
        raise FaultError(msg)


async def _verify(backend: Backend, choice: Choice, progress: Progress, patience_seconds: float) -> Report:
    partitions = _chosen(choice.partitions, backend.log.partitions)
    begins = dict.fromkeys(partitions, 0)
    if choice.snapshot is not None:
        offsets = _snapshot_offsets(choice.snapshot, backend)
        begins = {partition: offsets[partition] for partition in partitions}
    report, spans = Report(), dict[int, Span]()
    with (
        tempfile.TemporaryDirectory(prefix="phasewatch-replay-") as name,
        closing(DerivedFile(Path(name) / "derived.sqlite")) as derived,
    ):
        rest, chosen = _resting(choice.max_cpu), frozenset(partitions)
        sides = Sides(backend.log, backend.store, derived, chosen, rest, progress.folded, patience_seconds)
        progress.begin(await _records_to_fold(backend, begins))
        for partition in partitions:
            with _scratch(Path(name), partition) as store:
                if choice.snapshot is not None:
                    await _restore(choice.snapshot, partition, backend.log.partitions, store)
                replay = PartitionReplay(partition, sides, store, report)
                await replay.begin()
                await PartitionVerification(replay, sides, report).run()
                spans[partition] = replay.span()
        await match_rest(sides, spans, report)
    return report


def _chosen(wanted: Sequence[int] | None, partitions: int) -> list[int]:
    found = list(range(partitions)) if wanted is None else sorted(set(wanted))
    if wrong := [one for one in found if not 0 <= one < partitions]:
        msg = f"--partitions {wrong[0]}: the log has partitions 0 to {partitions - 1}"
        raise UsageError(msg)
    return found


def _snapshot_offsets(snapshot: Path, backend: Backend) -> dict[int, int]:
    """Return where a snapshot stands in each partition, once it is known to be whole and of this log."""
    manifest, log = read_manifest(snapshot), backend.log
    if (manifest.log_id, manifest.partitions) != (log.log_id, log.partitions):
        msg = (
            f"{snapshot} is of the log {manifest.log_id} with {manifest.partitions} partitions, not of {log.log_id} "
            f"with {log.partitions}: name one that was taken here"
        )
        raise UsageError(msg)
    verify_files(snapshot, manifest)
    return {entry.partition: entry.offset for entry in manifest.files}


async def _records_to_fold(backend: Backend, begins: Mapping[int, int]) -> int:
    total = 0
    for partition, begin in begins.items():
        state = await backend.query.state(partition)
        total += max(0, (0 if state is None else state.position.offset) - begin)
    return total


@contextmanager
def _scratch(folder: Path, partition: int) -> Iterator[SqliteStore]:
    """Lend a store for one partition, and delete it: what all of them would take together is never on the disk."""
    path = folder / f"partition-{partition}"
    path.mkdir()
    store = SqliteStore(path / "states.sqlite")
    try:
        yield store
    finally:
        store.close()
        shutil.rmtree(path)


async def _restore(snapshot: Path, partition: int, partitions: int, store: SqliteStore) -> None:
    """Put a snapshot's states of a partition into a store, without what was on its way out."""
    entry = next(one for one in read_manifest(snapshot).files if one.partition == partition)
    header, parts = read_partition(snapshot / entry.name)
    if header.state is not None and decode_state(partition, partitions, header.state).sweep is not None:
        msg = (
            f"{snapshot} was taken while definitions came into force in partition {partition}, half of its people "
            "measured by the old ones: begin with another snapshot"
        )
        raise UsageError(msg)
    incoming = (Part(people=part.people, listings=part.listings) for part in parts)
    await store.replace(partition, header.position, header.state, incoming)


def _resting(max_cpu: int) -> Callable[[], Awaitable[None]]:
    """Return what to await after each piece of work so that all of it takes so many per cent of one core."""
    done = time.process_time()

    async def rest() -> None:
        nonlocal done
        await asyncio.sleep((time.process_time() - done) * (100 - max_cpu) / max_cpu)
        done = time.process_time()

    return rest
