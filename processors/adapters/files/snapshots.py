"""Snapshots: a folder each, a file a partition, the manifest last.

Inside the folder of all snapshots, `20261123T082558.123Z/` is one of them: `partition-0.zst` ... and `manifest.json`.
It is written under another name, every file is fsynced, and renamed when it is whole: a folder under such a name is a
complete snapshot, whatever was killed on the way. Each partition's file is of one position in that partition's log;
different partitions' positions need not be of one instant, as what one derives for another goes through the log.

A partition's file is one zstd frame (with zstd's checksum) of msgpack values, each behind its length in four bytes,
big-endian: a `Header`; then `Part`s, as [persons and links, listings, outputs]; then a `Tally` of what came before.
Values of persons and links, and the partition's state, are the bytes that processors/engine/codec.py makes, whichever
store they come from.

To read one:

    snapshot = newest(folder)             # or a folder that somebody named; None where there is none
    manifest = read_manifest(snapshot)    # log id, number of partitions, when it was taken, what is in it
    verify(snapshot, manifest)            # every file whole and unchanged, before anything is done with it
    for entry in manifest.files:
        header, parts = read_partition(snapshot / entry.name)
        header.position                   # fold the partition's log from here on
        header.state                      # decode_state(...), or None where nothing was ever committed
        for part in parts:                # lazily, some 1,000 persons each; the last one checks the counts
            part.people                   # (key, value) of persons and links: decode_person, decode_link
            part.listings, part.outputs   # (due hour, key); (number, Output)

All of these raise SnapshotError, naming the file, where it is torn, changed, or not what its manifest says.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from collections.abc import Generator, Iterator
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final

import msgspec
import zstandard

from processors.engine.codec import decode_state
from processors.engine.outputs import Output
from processors.engine.ports import Copy, CopyLostError, EventLog, Part, StateStore
from processors.engine.state import Position

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
NOTE: Final = "snapshot"
"""Under this name it is noted when the newest snapshot was begun, UTC ms: for doctor and the alert SnapshotOld."""
_NAME: Final = re.compile(r"\d{8}T\d{6}\.\d{3}Z")
_UNFINISHED: Final = re.compile(r"\.unfinished-.+")
_LEVEL: Final = 3
"""zstd's: 100,000 people's states in some 0.4 s; level 9 takes five times that for a tenth less."""
_LENGTH: Final = 4
_MOST_BYTES: Final = 1 << 30
"""Of one value: a length above is no length. A part is one hash of the store, or 1,000 rows."""
_ATTEMPTS: Final = 3


class SnapshotError(Exception):
    """A snapshot is torn, changed, or not what it should be; the text names the file."""


class Header(msgspec.Struct, array_like=True, frozen=True):
    """What a partition's file begins with."""

    format: int
    log_id: str
    partitions: int
    partition: int
    offset: int
    cursor: int
    appended: int
    """Append time of the last folded record (UTC ms), by which another log is told apart; 0: none."""
    state: bytes | None

    @property
    def position(self) -> Position:
        """Where the partition's log is folded up to."""
        return Position(self.offset, self.cursor)


class Tally(msgspec.Struct, array_like=True):
    """What a partition's file holds."""

    people: int = 0
    """Persons and links."""
    listings: int = 0
    outputs: int = 0


class Entry(msgspec.Struct, frozen=True):
    """One file in the manifest."""

    name: str
    partition: int
    offset: int
    cursor: int
    people: int
    listings: int
    outputs: int
    bytes: int
    sha256: str
    seconds: float
    """How long it took to copy."""


class Manifest(msgspec.Struct, frozen=True):
    """What a snapshot is of, and what it consists of."""

    format: int
    log_id: str
    partitions: int
    taken_at: int
    """When it was begun, UTC ms: nothing that it holds is older than what the store held then."""
    seconds: float
    files: list[Entry]

    @property
    def people(self) -> int:
        """How many persons and links there are in it."""
        return sum(entry.people for entry in self.files)

    @property
    def bytes(self) -> int:
        """How much its files take on disk."""
        return sum(entry.bytes for entry in self.files)


_WirePart = tuple[
    list[tuple[str, bytes]],
    list[tuple[int, str]],
    list[tuple[int, tuple[str, int, bytes | None, tuple[tuple[str, bytes], ...], bytes | None]]],
]
_encoder = msgspec.msgpack.Encoder()
_header_decoder = msgspec.msgpack.Decoder(Header)
_part_decoder = msgspec.msgpack.Decoder(_WirePart)
_tally_decoder = msgspec.msgpack.Decoder(Tally)
_manifest_decoder = msgspec.json.Decoder(Manifest)


async def write_snapshot(folder: Path, store: StateStore, log: EventLog, now_ms: int) -> Path:
    """Copy every partition of a store, one after the other, while its owners go on; return the snapshot's folder.

    Args:
        folder: of all snapshots; made where it is not there.
        store: to copy.
        log: that the store belongs to.
        now_ms: UTC, the snapshot's name.

    Raises:
        CopyLostError: if a partition could not be copied three times over.
        SnapshotError: if the newest snapshot there is of another log, or the store stands before it: then states were
            lost, and what would be written now would in time displace the snapshots that still have them.
        StoreUnavailableError: if the store does not answer.
        OSError: if the files can't be written; nothing is left of them but where the process was killed.
    """
    started = time.monotonic()
    name = datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y%m%dT%H%M%S.") + f"{now_ms % 1000:03}Z"
    before = _before(folder, log)
    unfinished = folder / f".unfinished-{name}"
    unfinished.mkdir(parents=True)
    try:
        entries = []
        for partition in range(log.partitions):
            entry = await _copy_partition(unfinished, store, log, partition)
            if before is not None:
                _check_not_before(entry, before[0], before[1].files[partition])
            entries.append(entry)
        seconds = round(time.monotonic() - started, 3)
        manifest = Manifest(FORMAT, log.log_id, log.partitions, now_ms, seconds, entries)
        with (unfinished / MANIFEST).open("xb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")
            _sync(file)
        _sync_folder(unfinished)
        unfinished.rename(folder / name)
        _sync_folder(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return folder / name


def _before(folder: Path, log: EventLog) -> tuple[Path, Manifest] | None:
    """Return the newest snapshot that can be read: a damaged one must not stop those that are to follow."""
    for path in reversed(snapshots(folder)):
        with suppress(SnapshotError):
            found = read_manifest(path)
            break
    else:
        return None
    if (found.log_id, found.partitions) != (log.log_id, log.partitions):
        msg = (
            f"{path} is of the log {found.log_id} with {found.partitions} partitions, and this one is {log.log_id} "
            f"with {log.partitions}. Give each log a folder of its own"
        )
        raise SnapshotError(msg)
    return path, found


def _check_not_before(entry: Entry, path: Path, before: Entry) -> None:
    if (entry.offset, entry.cursor) < (before.offset, before.cursor):
        msg = (
            f"partition {entry.partition} of the store stands at offset {entry.offset}, before offset {before.offset} "
            f"where {path} has it: the store has lost states. Where workers are folding them again and all of the log "
            f"is still there, wait; else restore that snapshot (docs/recovery.md)"
        )
        raise SnapshotError(msg)


async def _copy_partition(folder: Path, store: StateStore, log: EventLog, partition: int) -> Entry:
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return await _write_partition(
                folder / f"partition-{partition}.zst", await store.copy(partition), log, partition
            )
        except CopyLostError:
            if attempt == _ATTEMPTS:
                raise
    raise AssertionError


async def _write_partition(path: Path, copy: Copy, log: EventLog, partition: int) -> Entry:
    started = time.monotonic()
    appended = 0 if copy.state is None else decode_state(partition, log.partitions, copy.state).appended
    header = Header(FORMAT, log.log_id, log.partitions, partition, *copy.position, appended, copy.state)
    tally = Tally()
    with path.open("w+b") as file:
        packer = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
        with packer.stream_writer(file, closefd=False) as out:
            _write_value(out, header)
            async with aclosing(copy.parts) as parts:
                async for part in parts:
                    _write_value(out, (part.people, part.listings, [(n, _wire(one)) for n, one in part.outputs]))
                    tally.people += len(part.people)
                    tally.listings += len(part.listings)
                    tally.outputs += len(part.outputs)
            _write_value(out, tally)
        _sync(file)
        size = file.tell()
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    seconds = round(time.monotonic() - started, 3)
    return Entry(
        path.name, partition, *copy.position, tally.people, tally.listings, tally.outputs, size, digest, seconds
    )


def _wire(output: Output) -> tuple[Any, ...]:
    return output.topic, output.partition, output.key, output.headers, output.value


def _write_value(out: zstandard.ZstdCompressionWriter, value: object) -> None:
    encoded = _encoder.encode(value)
    out.write(len(encoded).to_bytes(_LENGTH, "big"))
    out.write(encoded)


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def snapshots(folder: Path) -> list[Path]:
    """Return the complete snapshots in a folder, the oldest first."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name) and path.is_dir())


def newest(folder: Path) -> Path | None:
    """Return the newest complete snapshot in a folder, None where there is none."""
    return next(reversed(snapshots(folder)), None)


def prune(folder: Path, keep: int) -> list[Path]:
    """Delete all snapshots but the newest so many, and what killed writers left; return what was deleted.

    Nobody else may be writing a snapshot into the folder.
    """
    for path in [path for path in folder.iterdir() if _UNFINISHED.fullmatch(path.name)]:
        shutil.rmtree(path)
    old = snapshots(folder)[:-keep]
    for path in old:
        shutil.rmtree(path.rename(folder / f".unfinished-{path.name}"))  # what is half deleted is no snapshot
    return old


def read_manifest(snapshot: Path) -> Manifest:
    """Return what a snapshot consists of.

    Raises:
        SnapshotError: if the folder holds none, or one of a newer format.
    """
    path = snapshot / MANIFEST
    try:
        raw = path.read_bytes()
    except OSError as error:
        msg = f"{snapshot} is no snapshot: its {MANIFEST} can't be read ({error.strerror})"
        raise SnapshotError(msg) from error
    try:
        found = msgspec.json.decode(raw, type=dict[str, Any])
        if found.get("format") == FORMAT:
            return _manifest_decoder.decode(raw)
    except msgspec.MsgspecError as error:
        msg = f"{path} is torn or was changed: {error}"
        raise SnapshotError(msg) from error
    msg = f"{path} has format {found.get('format')}, and this program reads {FORMAT}: restore it with the newer one"
    raise SnapshotError(msg)


def verify(snapshot: Path, manifest: Manifest) -> None:
    """Return if every file is there, whole and unchanged.

    Raises:
        SnapshotError: naming the first file that is not.
    """
    if [entry.partition for entry in manifest.files] != list(range(manifest.partitions)):
        msg = f"{snapshot / MANIFEST} does not list each of {manifest.partitions} partitions once: it was changed"
        raise SnapshotError(msg)
    for entry in manifest.files:
        path = snapshot / entry.name
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            msg = f"{path} can't be read ({error.strerror}), and the snapshot is of no use without it"
            raise SnapshotError(msg) from error
        if digest != entry.sha256:
            msg = f"{path} is torn or was changed: it is not the file of which {MANIFEST} has the checksum"
            raise SnapshotError(msg)


def read_partition(path: Path) -> tuple[Header, Generator[Part, None, None]]:
    """Return a partition's header, and its parts as they are read.

    Raises:
        SnapshotError: here or from the iterator, if the file is torn or of a newer format.
    """
    values = _values(path)
    try:
        header = _header_decoder.decode(next(values))
    except (StopIteration, msgspec.MsgspecError) as error:
        raise _torn(path, str(error)) from error
    if header.format != FORMAT:
        msg = f"{path} has format {header.format}, and this program reads {FORMAT}: restore it with the newer one"
        raise SnapshotError(msg)
    return header, _parts(path, values)


def _parts(path: Path, values: Iterator[bytes]) -> Generator[Part, None, None]:
    tally, last = Tally(), None
    try:
        for value in values:
            if last is not None:
                people, listings, outputs = _part_decoder.decode(last)
                part = Part(people, listings, [(number, Output(*one)) for number, one in outputs])
                tally.people += len(people)
                tally.listings += len(listings)
                tally.outputs += len(outputs)
                yield part
            last = value
        found = _tally_decoder.decode(last or b"")
    except msgspec.MsgspecError as error:
        raise _torn(path, str(error)) from error
    if found != tally:
        raise _torn(path, f"it should hold {found} and holds {tally}")


def _values(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as unpacked:
            while head := _read(unpacked, _LENGTH, path):
                size = int.from_bytes(head, "big")
                if size > _MOST_BYTES:
                    raise _torn(path, f"a value of {size} bytes")
                yield _read(unpacked, size, path)
    except (OSError, zstandard.ZstdError) as error:
        raise _torn(path, str(error)) from error


def _read(unpacked: zstandard.ZstdDecompressionReader, size: int, path: Path) -> bytes:
    """Return so many bytes, or none at the very end."""
    found = unpacked.read(size)
    while len(found) < size and (more := unpacked.read(size - len(found))):
        found += more
    if found and len(found) < size:
        raise _torn(path, "it ends within a value")
    return found


def _torn(path: Path, why: str) -> SnapshotError:
    return SnapshotError(f"{path} is torn or was changed: {why}")
