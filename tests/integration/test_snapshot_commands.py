"""`phasewatch snapshot` and `restore` as they are typed, over the embedded mode's files: what they refuse, and why."""

from __future__ import annotations

import asyncio
import fcntl
import json
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner, Result

from bench.simulator import DEFAULT_START, simulate
from phasewatch.cli import app
from phasewatch.commands import checks
from processors.adapters.files.snapshots import MANIFEST, newest, snapshots
from tests.harness import Deployment
from tests.integration.collector_process import bare_environment
from tests.integration.embedded_process import COMMAND, wait_until

PARTITIONS = 4
DAY = 86_400_000

Phasewatch = Callable[..., Result]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The files of a deployment that has folded some life."""
    folder = tmp_path / "data"
    folder.mkdir()
    asyncio.run(live(folder, 150))
    return folder


async def live(folder: Path, events: int, start: int = 0) -> dict[str, Any]:
    """Feed simulated events from a number on; return the states after it."""
    files = {"path": str(folder / "log.sqlite"), "store_path": str(folder / "states.sqlite")}
    deployment = Deployment(start=DEFAULT_START, partitions=PARTITIONS, **files)
    await deployment.start()
    await deployment.feed(islice(simulate(3, 40, DEFAULT_START, 5), start, start + events))
    await deployment.settle()
    states = await deployment.states()
    deployment.close()
    return states


@pytest.fixture
def phasewatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: Path) -> Phasewatch:
    monkeypatch.chdir(tmp_path)
    environment = {"COLUMNS": "300", "NO_COLOR": "1", "TERM": "dumb", "PHASEWATCH_LOG__PARTITIONS": str(PARTITIONS)}
    runner = CliRunner(env=environment)
    return lambda *words: runner.invoke(app, [*map(str, words), "--data-dir", str(data)])


def lose_states(data: Path) -> None:
    for path in data.glob("states.sqlite*"):
        path.unlink()


def test_states_come_back_and_go_on(tmp_path: Path, data: Path, phasewatch: Phasewatch) -> None:
    folder = tmp_path / "kept" / "snapshots"
    done = phasewatch("snapshot", folder)
    assert done.exit_code == 0, done.output
    assert "persons and links of 4 partitions" in done.output
    expected = asyncio.run(live(data, 150, 150))
    lose_states(data)
    done = phasewatch("restore", folder, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["records_behind"] > 10
    assert found["snapshot"] == str(newest(folder))
    assert asyncio.run(live(data, 0)) == expected
    done = phasewatch("restore", newest(folder) or "")
    assert done.exit_code == 2
    assert "the store holds states of 4 partitions" in done.stderr
    done = phasewatch("restore", newest(folder) or "", "--force")
    assert (done.exit_code, "records of the log follow" in done.output) == (0, True), done.output
    assert asyncio.run(live(data, 0)) == expected


def test_the_newest_so_many_are_kept(tmp_path: Path, phasewatch: Phasewatch) -> None:
    taken = []
    for _ in range(4):
        assert phasewatch("snapshot", tmp_path / "s", "--keep", 2).exit_code == 0
        taken.append(newest(tmp_path / "s"))
    assert snapshots(tmp_path / "s") == taken[2:]


def test_what_does_not_fit_is_refused_and_changes_nothing(tmp_path: Path, data: Path, phasewatch: Phasewatch) -> None:
    folder = tmp_path / "s"
    assert phasewatch("snapshot", folder).exit_code == 0
    snapshot = newest(folder)
    assert snapshot is not None
    lose_states(data)

    def refused(code: int, *words: str) -> None:
        done = phasewatch("restore", folder)
        assert done.exit_code == code, done.output
        assert not [word for word in words if word not in done.stderr], done.stderr
        if (data / "states.sqlite").exists():
            with sqlite3.connect(data / "states.sqlite") as states:
                assert states.execute("SELECT count(*) FROM partitions").fetchone() == (0,)
            states.close()

    shutil.copytree(snapshot, tmp_path / "whole")
    path = snapshot / "partition-2.zst"
    path.write_bytes(path.read_bytes()[:-9])
    refused(1, "partition-2.zst is torn or was changed", "Take another snapshot")
    shutil.copy(snapshot / "partition-1.zst", path)
    reseal(snapshot, 2)
    refused(1, "partition-2.zst is not what manifest.json says of it")
    shutil.rmtree(snapshot)
    shutil.copytree(tmp_path / "whole", snapshot)
    with sqlite3.connect(data / "log.sqlite") as log:
        log.execute("UPDATE records SET append_time = append_time + 1 WHERE topic = 'events' AND \"partition\" = 3")
        log.commit()
        refused(1, "of partition 3 is not the one that")
        log.execute('DELETE FROM records WHERE topic = \'events\' AND "partition" = 3 AND "offset" > 2')
        log.commit()
        refused(1, "the log was cut, or is another one")
        log.execute("DELETE FROM records WHERE topic = 'events' AND \"partition\" = 0")
        log.execute(
            'INSERT INTO records (topic, "partition", "offset", append_time, headers, value)'
            " VALUES ('events', 0, 99999, 1, '[]', '')"
        )
        log.commit()
        refused(1, "what follows the snapshot is gone already")
    log.close()
    shutil.rmtree(snapshot)
    refused(2, "there is no complete snapshot in")


def reseal(snapshot: Path, partition: int) -> None:
    """Let the manifest vouch for a partition's file as it is now."""
    path = snapshot / MANIFEST
    manifest = msgspec.json.decode(path.read_bytes())
    manifest["files"][partition]["sha256"] = manifest["files"][partition - 1]["sha256"]
    path.write_bytes(msgspec.json.encode(manifest))


def test_another_logs_snapshot_is_refused(tmp_path: Path, data: Path, phasewatch: Phasewatch) -> None:
    folder = tmp_path / "s"
    assert phasewatch("snapshot", folder).exit_code == 0
    snapshot = newest(folder)
    assert snapshot is not None
    path = snapshot / MANIFEST
    path.write_bytes(path.read_bytes().replace(b'"log_id": "test"', b'"log_id": "else"'))
    lose_states(data)
    done = phasewatch("restore", folder)
    assert (done.exit_code, "is of the log else" in done.stderr) == (1, True), done.output
    done = phasewatch("snapshot", folder)
    assert (done.exit_code, "is of the log else" in done.stderr) == (1, True), done.output


def test_states_that_were_lost_are_not_written_over_those_that_were_kept(
    tmp_path: Path, data: Path, phasewatch: Phasewatch
) -> None:
    folder = tmp_path / "s"
    assert phasewatch("snapshot", folder).exit_code == 0
    kept = newest(folder)
    lose_states(data)
    done = phasewatch("snapshot", folder, "--keep", 1)
    assert (done.exit_code, "the store has lost states" in done.stderr) == (1, True), done.output
    assert newest(folder) == kept


def test_two_at_once_and_a_folder_that_cannot_be_written(tmp_path: Path, phasewatch: Phasewatch) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    with (folder / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        done = phasewatch("snapshot", folder)
        assert (done.exit_code, "another `phasewatch snapshot` writes into" in done.stderr) == (3, True), done.output
    (tmp_path / "file").touch()
    done = phasewatch("snapshot", tmp_path / "file" / "s")
    assert (done.exit_code, "can't be written" in done.stderr) == (1, True), done.output


def test_one_after_the_other_until_it_is_told_to_stop(tmp_path: Path, data: Path) -> None:
    folder = tmp_path / "s"
    arguments = [*COMMAND, "snapshot", str(folder), "--keep", "2", "--every", "0.01", "--data-dir", str(data)]
    environment = bare_environment() | {"PHASEWATCH_LOG__PARTITIONS": str(PARTITIONS)}
    with subprocess.Popen(arguments, env=environment, cwd=tmp_path, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        wait_until(lambda: len(snapshots(folder)) == 2, "two are written")
        first = snapshots(folder)
        lost = data.with_name("elsewhere")
        data.rename(lost)
        assert any(b"snapshot_failed" in line for line in process.stderr)
        lost.rename(data)
        wait_until(lambda: snapshots(folder)[0] > first[-1], "it goes on by itself")
        process.send_signal(signal.SIGTERM)
        process.stderr.read()
        assert process.wait(20) == 0
    assert len(snapshots(folder)) == 2
    assert not list(folder.glob(".unfinished-*"))


@pytest.mark.parametrize(
    ("taken_at", "result", "text"),
    [
        (None, "ok", "none is known"),
        (100 * DAY - 5_000, "ok", "5.0 s ago"),
        (99 * DAY - 1, "fault", "why `phasewatch snapshot` does not run"),
        (9 * DAY, "fault", "what followed it is gone"),
    ],
)
def test_doctor_says_how_old_the_newest_is(taken_at: int | None, result: str, text: str) -> None:
    found = checks.check_snapshot(taken_at, 100 * DAY, 90)
    assert (found.result, text in found.text) == (result, True), found.text
