"""Snapshots as folders of files: whole or not there, what is torn is named, any state comes back byte by byte."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.adapters.files.snapshots import (
    MANIFEST,
    SnapshotError,
    newest,
    prune,
    read_manifest,
    read_partition,
    snapshots,
    verify,
    write_snapshot,
)
from processors.adapters.sqlite.log import SqliteLog
from processors.adapters.sqlite.store import SqliteStore
from processors.engine.codec import encode_state
from processors.engine.outputs import Output
from processors.engine.ports import Commit, Copy, CopyLostError, Part
from processors.engine.state import PartitionState, Position

NOW = 1_790_000_000_000
PARTITIONS = 3


@pytest.fixture
def log() -> Iterator[SqliteLog]:
    log = SqliteLog(":memory:", partitions=PARTITIONS, log_id="one", clock=lambda: NOW)
    yield log
    log.close()


@pytest.fixture
def store() -> Iterator[SqliteStore]:
    store = SqliteStore(":memory:")
    yield store
    store.close()


def state_at(partition: int, position: Position) -> bytes:
    return encode_state(PartitionState(partition, PARTITIONS, position, appended=NOW - 1))


async def put(store: SqliteStore, partition: int, expected: Position, position: Position, **work: Any) -> None:
    token = (await store.acquire(partition)).token
    await store.commit(Commit(partition, token, expected, position, state_at(partition, position), **work))


async def fill(store: SqliteStore) -> None:
    people = {f"u:{n}": b"%d" % n * 20 for n in range(2500)} | {"l:1": b"link"}
    outputs = [(n, Output("stages", 0, None, (("h", b"1"),), None if n % 2 else b"{}")) for n in range(1300)]
    listings = {(n % 40, f"u:{n}"): True for n in range(2500)}
    await put(store, 1, Position(), Position(7, 2), people=people, listings=listings, outputs=outputs)
    await put(store, 2, Position(), Position(1), people={"a:1": b"\x00"})


async def contents(store: SqliteStore, partition: int) -> tuple[Any, ...]:
    copy = await store.copy(partition)
    parts = [part async for part in copy.parts]
    people = [one for part in parts for one in part.people]
    listings = [one for part in parts for one in part.listings]
    return copy.position, copy.state, people, listings, [one for part in parts for one in part.outputs]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def restore(snapshot: Path, store: SqliteStore) -> None:
    manifest = read_manifest(snapshot)
    verify(snapshot, manifest)
    for entry in manifest.files:
        header, parts = read_partition(snapshot / entry.name)
        await store.replace(entry.partition, header.position, header.state, parts)


async def test_what_is_restored_is_what_was_copied(tmp_path: Path, store: SqliteStore, log: SqliteLog) -> None:
    await fill(store)
    snapshot = await write_snapshot(tmp_path / "snapshots", store, log, NOW)
    assert snapshot == newest(tmp_path / "snapshots")
    assert snapshot.name == "20260921T141320.000Z"
    manifest = read_manifest(snapshot)
    assert (manifest.log_id, manifest.partitions, manifest.taken_at, manifest.people) == ("one", 3, NOW, 2502)
    assert [(one.offset, one.cursor, one.people, one.listings, one.outputs) for one in manifest.files] == [
        (0, 0, 0, 0, 0), (7, 2, 2501, 2500, 1300), (1, 0, 1, 0, 0),
    ]  # fmt: skip
    assert manifest.bytes == sum(path.stat().st_size for path in snapshot.glob("*.zst"))
    header, _ = read_partition(snapshot / "partition-1.zst")
    assert (header.position, header.appended, header.log_id) == (Position(7, 2), NOW - 1, "one")
    other = SqliteStore(":memory:")
    await put(other, 0, Position(), Position(3), people={"u:gone": b"1"})
    await restore(snapshot, other)
    for partition in range(PARTITIONS):
        assert await contents(other, partition) == await contents(store, partition)
    other.close()


KEYS = st.text(min_size=1, max_size=8)
VALUES = st.binary(max_size=300)
HEADERS = st.lists(st.tuples(KEYS, KEYS.map(str.encode)), max_size=2).map(tuple)
OUTPUTS = st.builds(Output, KEYS, st.integers(0, 99), st.none() | VALUES, HEADERS, st.none() | VALUES)


@settings(max_examples=60, deadline=None)
@given(
    people=st.dictionaries(KEYS, VALUES, max_size=30),
    listings=st.dictionaries(st.tuples(st.integers(0, 1 << 40), KEYS), st.just(value=True), max_size=30),
    outputs=st.lists(OUTPUTS, max_size=10),
    position=st.builds(Position, st.integers(0, 1 << 60), st.integers(0, 1 << 30)).filter(any),
)
def test_any_state_comes_back_byte_by_byte(
    people: dict[str, bytes | None],
    listings: dict[tuple[int, str], bool],
    outputs: list[Output],
    position: Position,
) -> None:
    async def there_and_back() -> None:
        log = SqliteLog(":memory:", partitions=PARTITIONS, log_id="one", clock=lambda: NOW)
        store, other = SqliteStore(":memory:"), SqliteStore(":memory:")
        with tempfile.TemporaryDirectory() as folder:
            numbered = list(enumerate(outputs, 5))
            await put(store, 2, Position(), position, people=people, listings=listings, outputs=numbered)
            await restore(await write_snapshot(Path(folder), store, log, NOW), other)
        assert await contents(other, 2) == await contents(store, 2)
        assert dict((await contents(other, 2))[2]) == people
        for one in (log, store, other):
            one.close()

    asyncio.run(there_and_back())


def cut(content: bytes) -> bytes:
    return content[: len(content) * 2 // 3]


def flip(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [cut, flip, lambda _: b""], ids=["cut", "flipped", "empty"])
async def test_a_damaged_file_is_named(
    tmp_path: Path, store: SqliteStore, log: SqliteLog, damage: Callable[[bytes], bytes]
) -> None:
    await fill(store)
    snapshot = await write_snapshot(tmp_path, store, log, NOW)
    manifest = read_manifest(snapshot)
    path = snapshot / "partition-1.zst"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(SnapshotError, match=r"partition-1\.zst is torn or was changed"):
        verify(snapshot, manifest)
    with pytest.raises(SnapshotError, match=r"partition-1\.zst is torn or was changed"):  # noqa: PT012 - here or there
        _, parts = read_partition(path)
        for _ in parts:
            pass
    path.unlink()
    with pytest.raises(SnapshotError, match=r"partition-1\.zst can't be read"):
        verify(snapshot, manifest)


async def test_a_manifest_that_is_damaged_or_newer_is_named(tmp_path: Path, store: SqliteStore, log: SqliteLog) -> None:
    snapshot = await write_snapshot(tmp_path, store, log, NOW)
    path = snapshot / MANIFEST
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"format": 1', b'"format": 2'))
    with pytest.raises(SnapshotError, match="has format 2, and this program reads 1"):
        read_manifest(snapshot)
    path.write_bytes(cut(content))
    with pytest.raises(SnapshotError, match=r"manifest\.json is torn"):
        read_manifest(snapshot)
    manifest = msgspec.json.decode(content)
    manifest["files"].pop(1)
    path.write_bytes(msgspec.json.encode(manifest))
    with pytest.raises(SnapshotError, match="does not list each of 3 partitions once"):
        verify(snapshot, read_manifest(snapshot))
    path.unlink()
    with pytest.raises(SnapshotError, match="is no snapshot"):
        read_manifest(snapshot)


async def test_old_ones_and_unfinished_ones_are_pruned(tmp_path: Path, store: SqliteStore, log: SqliteLog) -> None:
    written = [await write_snapshot(tmp_path, store, log, NOW + n) for n in range(5)]
    (tmp_path / ".unfinished-20260921T141320.000Z" / "x").mkdir(parents=True)
    (tmp_path / "notes.txt").touch()
    assert snapshots(tmp_path) == written
    assert prune(tmp_path, 2) == written[:3]
    assert names(tmp_path) == [written[3].name, written[4].name, "notes.txt"]
    assert prune(tmp_path, 2) == []


async def test_a_store_that_lost_states_displaces_no_snapshot(
    tmp_path: Path, store: SqliteStore, log: SqliteLog
) -> None:
    """Redis comes back empty at night: what is written every quarter of an hour would push the good ones out."""
    await fill(store)
    before = await write_snapshot(tmp_path, store, log, NOW)
    empty = SqliteStore(":memory:")
    with pytest.raises(SnapshotError, match="partition 1 of the store stands at offset 0, before offset 7"):
        await write_snapshot(tmp_path, empty, log, NOW + 1)
    damaged = tmp_path / "20260921T141320.001Z"
    damaged.mkdir()
    (damaged / MANIFEST).write_bytes(b"{")
    with pytest.raises(SnapshotError, match="before offset 7"):
        await write_snapshot(tmp_path, empty, log, NOW + 2)
    assert names(tmp_path) == [before.name, damaged.name]
    assert (await write_snapshot(tmp_path, store, log, NOW + 2)).name in names(tmp_path)
    empty.close()
    other = SqliteLog(":memory:", partitions=PARTITIONS, log_id="another", clock=lambda: NOW)
    with pytest.raises(SnapshotError, match="is of the log one with 3 partitions"):
        await write_snapshot(tmp_path, store, other, NOW + 1)
    other.close()


class LosingStore(SqliteStore):
    """Loses so many copies half-way."""

    losses = 0

    async def copy(self, partition: int) -> Copy:
        copy = await super().copy(partition)
        return Copy(copy.position, copy.state, self._lose(copy))

    async def _lose(self, copy: Copy) -> AsyncGenerator[Part, None]:
        async for part in copy.parts:
            yield part
            if self.losses:
                self.losses -= 1
                msg = "lost"
                raise CopyLostError(msg)


async def test_a_copy_that_is_lost_is_begun_anew_a_few_times(tmp_path: Path, log: SqliteLog) -> None:
    store = LosingStore(":memory:")
    await fill(store)
    store.losses = 2
    snapshot = await write_snapshot(tmp_path, store, log, NOW)
    verify(snapshot, read_manifest(snapshot))
    other = SqliteStore(":memory:")
    await restore(snapshot, other)
    assert await contents(other, 1) == await contents(store, 1)
    store.losses = 3
    with pytest.raises(CopyLostError):
        await write_snapshot(tmp_path, store, log, NOW + 1)
    assert names(tmp_path) == [snapshot.name]
    store.close()
    other.close()
