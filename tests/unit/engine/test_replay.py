"""What a verification finds, and what it takes for equal: the log folded anew against the states of a live store."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncGenerator, Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from bench.simulator import DEFAULT_START, simulate
from collector.wire.log_file import encode_headers
from collector.wire.partition import partition_of
from collector.wire.record import Draft, Kind, Record
from phasewatch.backend import Backend
from phasewatch.errors import FaultError, UsageError
from phasewatch.replay import Choice, verify_backend
from processors.adapters.files.snapshots import read_manifest, write_snapshot
from processors.adapters.sqlite.store import SqliteStore
from processors.domain.person import Link
from processors.engine.codec import decode_person, decode_state, encode_link, encode_person, encode_state
from processors.engine.differences import Field
from processors.engine.outputs import EVENTS
from processors.engine.ports import Commit, Copy, CopyLostError, LogMismatchError, Part, StoreUnavailableError
from processors.engine.query import Query
from processors.engine.replay import SHOWN, Difference, Report
from processors.engine.state import Position
from processors.engine.unit import PartitionUnit
from processors.engine.worker import WorkerOptions, settle
from tests.harness import Deployment, Kept
from tests.unit.engine.partition import DAY, SHIPPED, PartitionLog, fold

PEOPLE, DAYS, PARTITIONS = 40, 5, 3
CHOICE = Choice(max_cpu=100)


class Silent:
    """Progress that is only counted."""

    def __init__(self) -> None:
        self.total = self.done = 0

    def begin(self, records: int) -> None:
        self.total = records

    def folded(self, records: int) -> None:
        self.done += records


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The log and states of some people's week, with money, identity, timers and a change of definitions."""
    folder = tmp_path_factory.mktemp("deployment")

    async def make() -> None:
        deployment = _open(folder)
        await deployment.start()
        events = list(simulate(1, PEOPLE, DEFAULT_START, DAYS, 0))
        await deployment.feed(events[: len(events) // 2])
        await deployment.publish(SHIPPED.replace("weight = 2.5", "weight = 2.0"))
        await deployment.feed(events[len(events) // 2 :])
        deployment.close()

    asyncio.run(make())
    return folder


def _open(folder: Path) -> Deployment:
    paths = {"path": str(folder / "log.sqlite"), "store_path": str(folder / "states.sqlite")}
    deployment = Deployment(partitions=PARTITIONS, start=DEFAULT_START, **paths)
    for one in (deployment.log, deployment.store):
        one._connection.execute("PRAGMA synchronous=OFF")  # noqa: SLF001 - a test's files need not outlive a power cut
    return deployment


@pytest.fixture
def deployment(files: Path, tmp_path: Path) -> Iterator[Deployment]:
    for file in files.iterdir():
        shutil.copy(file, tmp_path)
    deployment = _open(tmp_path)
    yield deployment
    deployment.close()


async def verified(deployment: Deployment, choice: Choice = CHOICE, progress: Silent | None = None) -> Report:
    log = deployment.log
    backend = Backend(log, deployment.store, deployment.query, log, log)
    return await verify_backend(backend, choice, progress or Silent())


async def somebody(deployment: Deployment, prefix: str = "u:") -> tuple[int, str, bytes]:
    """Return partition, key and value of somebody there is."""
    for partition in range(PARTITIONS):
        copy = await deployment.store.copy(partition)
        async for part in copy.parts:
            for key, value in part.people:
                if key.startswith(prefix):
                    return partition, key, value
    raise AssertionError(prefix)


async def tamper(deployment: Deployment, partition: int, state: bytes | None = None, **changed: Any) -> None:
    """Write into the live store as nobody should, at the position where it stands unless another one is given."""
    store = deployment.store
    acquired = await store.acquire(partition)
    assert acquired.state is not None
    expected = decode_state(partition, PARTITIONS, acquired.state).position
    changed.setdefault("position", expected)
    await store.commit(Commit(partition, acquired.token, expected, state=state or acquired.state, **changed))


def rewrite(deployment: Deployment, record: Record, draft: Draft) -> None:
    """Put another record in the place of one in the log."""
    deployment.log._connection.execute(  # noqa: SLF001 - nothing of ours rewrites a log
        'UPDATE records SET headers = ?, value = ? WHERE topic = ? AND "partition" = ? AND "offset" = ?',
        (encode_headers(draft.headers()), draft.value, EVENTS, record.partition, record.offset),
    )


async def transfers(deployment: Deployment) -> list[Record]:
    return [one for one in await deployment.records() if one.draft.kind is Kind.TRANSFER]


def only(report: Report) -> Difference:
    assert report.differences == len(report.shown) == 1, report.shown
    return report.shown[0]


async def test_equal_with_everything_counted(deployment: Deployment) -> None:
    progress = Silent()
    report = await verified(deployment, progress=progress)
    assert report.shown == []
    records = await deployment.records()
    assert (report.partitions, report.records) == (PARTITIONS, len(records))
    assert progress.total == progress.done == len(records)
    assert report.persons == len(await deployment.states()) > 15
    derived = [one.draft.kind.value for one in records if one.draft.source is not None]
    assert report.derived == {kind: derived.count(kind) for kind in ("claim", "definitions", "forward", "transfer")}
    assert min(report.derived.values()) > 5
    assert report.links > 5
    assert report.waiting == set()


async def test_however_the_live_commits_were_cut(deployment: Deployment) -> None:
    await refold(deployment, WorkerOptions("test", batch_records=3, slice_persons=7))
    assert (await verified(deployment)).shown == []


async def refold(deployment: Deployment, options: WorkerOptions) -> None:
    """Fold the log as it stands into the live store anew; what that derives is in the log already."""
    for partition in range(PARTITIONS):
        await deployment.store.replace(partition, Position(), None, [])
    await settle(await deployment._workers(deployment.store, Kept(), options))  # noqa: SLF001 - the harness is ours


@pytest.mark.parametrize("cut", [1, None])
async def test_a_repeat_after_a_silence_leaves_the_same_bytes_however_commits_are_cut(cut: int | None) -> None:
    """It changes nothing, and what had left the window by then is gone from the state with it, or not, alike."""
    log = PartitionLog()
    event = log.make(0, "submit", anonymous_id="d", seq=0)
    for at in (0, 20 * DAY):
        log.block(at, event)
    assert (await fold(log.records, cut=cut)).people == (await fold(log.records, cut=2)).people


async def test_one_field_of_one_person(deployment: Deployment) -> None:
    partition, key, value = await somebody(deployment)
    person = decode_person(key, value)
    person.version += 1
    person.milestones[0] = 1
    await tamper(deployment, partition, people={key: encode_person(person)})
    found = only(await verified(deployment))
    assert (found.partition, found.subject) == (partition, key)
    assert found.offset == (await deployment.log.bounds(partition))[1]
    assert Field("version", str(person.version), str(person.version - 1)) in found.fields
    assert [one.name for one in found.fields] == ["version", "milestones"]


async def test_one_byte_of_some_persons(deployment: Deployment) -> None:
    """Wherever it is in the value, and whether or not that can still be read."""
    copy = await deployment.store.copy(0)
    people = [one async for part in copy.parts for one in part.people]
    broken = {}
    for at, (key, value) in enumerate(people):
        broken[key] = value[: at * 7 % len(value)] + b"\xa5" + value[at * 7 % len(value) + 1 :]
    changed = {key for key, value in people if broken[key] != value}
    await tamper(deployment, 0, people=broken)
    report = await verified(deployment, Choice((0,), max_cpu=100))
    assert report.differences == len(changed) > 5
    assert {one.subject for one in report.shown} <= changed
    assert all(field.live != field.replayed for one in report.shown for field in one.fields)


@pytest.mark.parametrize("prefix", ["u:", "a:", "l:"])
async def test_somebody_who_is_gone(deployment: Deployment, prefix: str) -> None:
    partition, key, _ = await somebody(deployment, prefix)
    await tamper(deployment, partition, people={key: None})
    found = only(await verified(deployment))
    assert found.subject == key
    assert found.fields[0].live == "-"


async def test_somebody_too_many(deployment: Deployment) -> None:
    partition, _, value = await somebody(deployment)
    await tamper(
        deployment,
        partition,
        people={"u:nobody": value, "l:none": encode_link(Link("", "1", shared=False, last_record=1))},
    )
    report = await verified(deployment)
    assert {one.subject for one in report.shown} == {"u:nobody", "l:none"}
    assert all(one.fields[0].replayed == "-" for one in report.shown)


async def test_a_lost_timer(deployment: Deployment) -> None:
    partition, key, value = await somebody(deployment)
    hour = decode_person(key, value).listed
    assert hour
    await tamper(deployment, partition, listings={(hour, key): False})
    assert only(await verified(deployment)).subject == f"timer of {key}"


async def test_a_tally_of_the_partition(deployment: Deployment) -> None:
    value = await deployment.store.state(2)
    assert value is not None
    state = decode_state(2, PARTITIONS, value)
    state.stages["decision"] += 1
    state.outputs -= 1
    await tamper(deployment, 2, encode_state(state))
    found = only(await verified(deployment))
    assert (found.subject, [one.name for one in found.fields]) == ("partition 2", ["stages", "outputs"])


async def test_a_transfer_that_was_changed_in_the_log(deployment: Deployment) -> None:
    """Whoever folds it makes of the user what it says; only its source tells that it should say something else."""
    record = (await transfers(deployment))[0]
    body = json.loads(record.draft.value)
    body["state"][2] += 5
    rewrite(deployment, record, replace(record.draft, value=json.dumps(body).encode()))
    await refold(deployment, WorkerOptions("test"))
    found = only(await verified(deployment))
    assert found.subject == f"transfer {record.draft.source}"
    assert (found.partition, found.offset) == (record.partition, record.offset)
    assert [(one.name, int(one.live) - int(one.replayed)) for one in found.fields] == [("version", 5)]


async def test_a_transfer_that_can_not_be_read_any_more(deployment: Deployment) -> None:
    record = (await transfers(deployment))[0]
    rewrite(deployment, record, replace(record.draft, value=b"{"))
    await refold(deployment, WorkerOptions("test"))
    report = await verified(deployment)
    assert only(report).subject == f"transfer {record.draft.source}"
    assert report.set_aside == 1


async def test_a_transfer_that_is_missing_and_one_that_nobody_made(deployment: Deployment) -> None:
    record = (await transfers(deployment))[0]
    assert record.draft.source is not None
    source = record.draft.source.replace("/0", "/7")
    rewrite(deployment, record, replace(record.draft, source=source))
    await refold(deployment, WorkerOptions("test"))
    report = await verified(deployment)
    assert {one.subject for one in report.shown} == {f"transfer {record.draft.source}", f"transfer {source}"}


async def test_a_repeat_with_other_bytes(deployment: Deployment) -> None:
    record = (await transfers(deployment))[0]
    await deployment.log.append([(record.partition, record.draft)])
    await deployment.start()
    await deployment.settle()
    assert (await verified(deployment)).shown == []
    await deployment.log.append([(record.partition, replace(record.draft, imported=True))])
    await deployment.start()
    await deployment.settle()
    assert only(await verified(deployment)).subject == f"transfer {record.draft.source}"


async def test_what_waits_in_the_outbox_is_no_difference(deployment: Deployment) -> None:
    """Killed between its commit and publishing: whoever acquires the partition next sends it."""
    partition, key, _ = await somebody(deployment, "a:")
    offset = (await deployment.log.bounds(partition))[1]
    claim = json.dumps({"anonymous_id": key[2:], "user_id": "somebody"}).encode()
    await deployment.log.append([(partition, Draft(Kind.CLAIM, deployment.now, claim))])
    acquired = await deployment.store.acquire(partition)
    unit = PartitionUnit(partition, PARTITIONS, deployment.store, acquired, "test")
    await unit.take(await deployment.log.read(partition, offset, 1))
    report = await verified(deployment)
    assert (report.shown, len(report.waiting)) == ([], 1)
    await deployment.start()
    await deployment.settle()
    report = await verified(deployment)
    assert (report.shown, len(report.waiting)) == ([], 0)


async def test_a_live_store_that_moves_on_meanwhile(deployment: Deployment) -> None:
    """Events, timers and identities go on being folded while each partition is replayed."""
    await deployment.start()
    progress = Silent()
    feeding = asyncio.create_task(feed_slowly(deployment))
    report = await verified(deployment, progress=progress)
    assert not feeding.done()
    feeding.cancel()
    await asyncio.gather(feeding, return_exceptions=True)
    await deployment.settle()
    assert report.shown == []
    assert progress.done > progress.total
    assert (await verified(deployment)).shown == []


async def feed_slowly(deployment: Deployment) -> None:
    """Let others go on after each quarter of an hour of more people's life."""
    later = (one | {"arrives": one["arrives"] + 40 * DAY} for one in simulate(2, 60, DEFAULT_START, DAYS, 0))
    for _, some in groupby(later, lambda one: one["arrives"] // 900_000):
        await deployment.feed(some)
        await asyncio.sleep(0)


async def test_half_way_in_a_sweep_it_waits_and_then_says_so(deployment: Deployment) -> None:
    value = await deployment.store.state(1)
    assert value is not None
    state = decode_state(1, PARTITIONS, value)
    state.position = Position(state.position.offset, 1)
    await tamper(deployment, 1, encode_state(state), position=state.position)
    backend = Backend(deployment.log, deployment.store, deployment.query, deployment.log, deployment.log)
    with pytest.raises(StoreUnavailableError, match="partition 1 stand half-way in record"):
        await verify_backend(backend, CHOICE, Silent(), patience_seconds=0.1)


class LosingStore(SqliteStore):
    """A store whose copies are lost half-way, so many times."""

    def __init__(self, path: Path, times: int) -> None:
        super().__init__(path)
        self.times = times

    async def copy(self, partition: int) -> Copy:
        copy = await super().copy(partition)
        if not self.times:
            return copy
        self.times -= 1

        async def parts() -> AsyncGenerator[Part, None]:
            yield await anext(copy.parts)
            await copy.parts.aclose()
            msg = "another copy was begun"
            raise CopyLostError(msg)

        return Copy(copy.position, copy.state, parts())


async def test_a_copy_that_is_lost_half_way(deployment: Deployment, tmp_path: Path) -> None:
    """It is made anew, and what was compared with the first one is not counted; never for ever."""
    partition, key, value = await somebody(deployment)
    await tamper(deployment, partition, people={key: None, "u:nobody": value})
    expected = await verified(deployment)
    store = LosingStore(tmp_path / "states.sqlite", 2)
    backend = Backend(deployment.log, store, Query(store, PARTITIONS), deployment.log, deployment.log)
    report = await verify_backend(backend, CHOICE, Silent(), patience_seconds=1)
    assert (report.shown, report.persons) == (expected.shown, expected.persons)
    assert report.differences == 2
    store.times = 1000
    with pytest.raises(StoreUnavailableError, match="another copy was begun"):
        await verify_backend(backend, CHOICE, Silent(), patience_seconds=1)
    store.close()


async def test_some_partitions_alone(deployment: Deployment) -> None:
    report = await verified(deployment, Choice((2, 1), max_cpu=100))
    assert (report.shown, report.partitions) == ([], 2)
    _, key, _ = await somebody(deployment)
    await tamper(deployment, 0, people={key: None})
    assert (await verified(deployment, Choice((2, 1), max_cpu=100))).shown == []
    with pytest.raises(UsageError, match="partitions 0 to 2"):
        await verified(deployment, Choice((3,)))


async def test_a_log_that_no_longer_has_its_begin(deployment: Deployment, tmp_path: Path) -> None:
    """Then a snapshot is where to begin: links, heard sources and lives of before are in it."""
    snapshot = await write_snapshot(tmp_path / "snapshots", deployment.store, deployment.log, 0)
    await deployment.start()
    await deployment.feed(one | {"arrives": one["arrives"] + 40 * DAY} for one in simulate(2, 30, DEFAULT_START, 3, 0))
    folded = [one.position.offset for one in deployment.workers]
    ends = [end for _, end in await deployment.log.all_bounds()]
    manifest = read_manifest(snapshot)
    await deployment.log.forget_before(deployment.now, [entry.offset for entry in manifest.files])
    with pytest.raises(UsageError, match=r"begins at offset \d+.*--from"):
        await verified(deployment)
    report = await verified(deployment, Choice(snapshot=snapshot, max_cpu=100))
    assert report.shown == []
    assert report.records == sum(folded) - sum(entry.offset for entry in manifest.files)
    assert folded == ends
    _, key, value = await somebody(deployment)
    person = decode_person(key, value)
    person.version += 1
    await tamper(deployment, partition_of(key, PARTITIONS), people={key: encode_person(person)})
    assert only(await verified(deployment, Choice(snapshot=snapshot, max_cpu=100))).subject == key
    (snapshot / manifest.files[2].name).write_bytes(b"torn")
    with pytest.raises(UsageError, match="torn"):
        await verified(deployment, Choice(snapshot=snapshot))


async def test_a_snapshot_of_another_log(deployment: Deployment, tmp_path: Path) -> None:
    other = Deployment(partitions=PARTITIONS - 1, start=DEFAULT_START)
    snapshot = await write_snapshot(tmp_path / "snapshots", other.store, other.log, 0)
    other.close()
    with pytest.raises(UsageError, match="is of the log test with 2 partitions"):
        await verified(deployment, Choice(snapshot=snapshot))


async def test_a_snapshot_from_the_midst_of_new_definitions(deployment: Deployment, tmp_path: Path) -> None:
    """Whom a sweep has reached by then depends on the store's own order, so another one can't go on with it."""
    value = await deployment.store.state(1)
    assert value is not None
    state = decode_state(1, PARTITIONS, value)
    state.position, state.sweep = Position(state.position.offset - 1, 1), "u:4"
    await tamper(deployment, 1, encode_state(state), position=state.position)
    snapshot = await write_snapshot(tmp_path / "snapshots", deployment.store, deployment.log, 0)
    with pytest.raises(UsageError, match="while definitions came into force in partition 1"):
        await verified(deployment, Choice(snapshot=snapshot, max_cpu=100))


async def test_states_of_another_log(deployment: Deployment) -> None:
    deployment.store._connection.execute("UPDATE log SET id = 'other'")  # noqa: SLF001 - nothing of ours does that
    with pytest.raises(FaultError, match="belong to the log other"):
        await verified(deployment)


async def test_a_log_that_ends_before_the_states(deployment: Deployment) -> None:
    deployment.log._connection.execute(  # noqa: SLF001 - nothing of ours does that
        'DELETE FROM records WHERE topic = ? AND "partition" = 1 AND "offset" > 5', (EVENTS,)
    )
    with pytest.raises(LogMismatchError, match="ends at offset 6"):
        await verified(deployment)


async def test_only_so_many_are_shown(deployment: Deployment) -> None:
    for partition in range(PARTITIONS):
        copy = await deployment.store.copy(partition)
        keys = [key async for part in copy.parts for key, _ in part.people]
        await tamper(deployment, partition, people=dict.fromkeys(keys))
    report = await verified(deployment)
    assert report.differences == report.persons + report.links
    assert len(report.shown) == SHOWN
