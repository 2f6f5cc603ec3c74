"""`phasewatch doctor`: what each check makes of what was seen, and the whole command on files."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from collector.sinks.spool_file import Found
from collector.wire.record import Draft, Kind, Record
from phasewatch.cli import app
from phasewatch.commands import checks, doctor
from phasewatch.commands.checks import Check, Records, States
from phasewatch.data_dir import open_log, worker_lock
from phasewatch.settings import Settings, Spool
from processors.adapters.kafka.group import Member
from processors.adapters.kafka.topics import Difference, Finding, topics
from processors.adapters.redis.health import read_health
from processors.engine.state import PartitionState, Position
from tests.unit.console.door import USERS

NOW = 1_760_000_000_000
MINUTE = 60_000


def settings(**given: dict[str, Any]) -> Settings:
    return Settings.model_validate(given)


def held(partition: int, offset: int = 10, *, due: int | None = None, **state: Any) -> States:
    found = PartitionState(partition, 4, Position(offset), **({"definitions": 1, "live": True} | state))
    return States(partition, found, due)


def logged(end: int = 10, *, first: int = 0, since: int | None = None, appended: int = NOW) -> Records:
    folded = Record(0, end - 1, appended, Draft(Kind.TICK, appended))
    return Records(first, end, folded, since, appended)


def results(*found: Check) -> list[str]:
    return [one.result for one in found]


@pytest.mark.parametrize(
    ("copies", "in_sync", "brokers", "said"),
    [
        (1, 1, 1, ["its only broker answers"]),
        (3, 2, 3, ["3 brokers are in service"]),
        (3, 2, 2, ["2 of at least 3 brokers"]),
        (1, 1, 3, ["kafka.replication_factor is 1", "kafka.min_insync_replicas is 1"]),
        (3, 1, 3, ["kafka.min_insync_replicas is 1 though there are 3 brokers"]),
    ],
)
def test_too_few_copies_are_a_fault_where_there_are_brokers_for_more(
    copies: int, in_sync: int, brokers: int, said: list[str]
) -> None:
    kafka = {"brokers": "k:9092", "replication_factor": copies, "min_insync_replicas": in_sync}
    found = checks.check_brokers(settings(kafka=kafka), brokers)
    assert [text in one.text for text, one in zip(said, found, strict=True)] == [True] * len(said)
    assert {one.result for one in found} == ({"ok"} if said[0].startswith(("its", "3")) else {"fault"})


def test_settings_that_endanger_are_said() -> None:
    assert results(*checks.check_settings(settings())) == ["ok"]
    kafka = {"brokers": "127.0.0.1:9092", "replication_factor": 1}
    (found,) = checks.check_settings(settings(kafka=kafka))
    assert (found.result, "nothing could ever be acknowledged" in found.text) == ("fault", True)
    keys = [{"name": "web", "key": "pk-1"}]
    (found,) = checks.check_settings(settings(collector={"keys": keys}, console={"host": "0.0.0.0"}))
    assert (found.result, "no console starts with these settings: console.host is 0.0.0.0" in found.text) == (
        "ok",
        True,
    )
    plain = {"host": "0.0.0.0", "users": USERS, "allow_plain_http": True}
    (found,) = checks.check_settings(settings(collector={"keys": keys}, console=plain))
    assert (found.result, "console.allow_plain_http" in found.text) == ("ok", True)
    proxied = {"host": "0.0.0.0", "users": USERS, "proxies": ["10.0.0.0/8"]}
    (found,) = checks.check_settings(settings(collector={"keys": keys}, console=proxied, admin={"host": "0.0.0.0"}))
    assert (found.result, "admin.host is 0.0.0.0" in found.text) == ("ok", True)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"kafka": {"brokers": "127.0.0.1:9092"}, "redis": {"url": "redis://localhost/0"}}, []),
        ({"kafka": {"brokers": "[::1]:9092"}, "redis": {"url": "redis://[::1]:6379/0"}}, []),
        ({"redis": {"url": "redis://r:6379/0"}}, []),
        ({"kafka": {"brokers": "127.0.0.1:9092,k:9092"}}, ["neither TLS nor a login"]),
        ({"kafka": {"brokers": "k:9092", "security": "ssl"}}, []),
        (
            {"kafka": {"brokers": "k:9092", "security": "sasl_plaintext", "username": "u", "password": "p"}},
            ["nothing is encrypted"],
        ),
        (
            {"kafka": {"brokers": "[::1]:9092"}, "redis": {"url": "redis://r/0"}},
            ["without TLS (rediss:// in redis.url) and a password"],
        ),
        ({"kafka": {"brokers": "[::1]:9092"}, "redis": {"url": "rediss://r/0"}}, ["without a password"]),
        ({"kafka": {"brokers": "[::1]:9092"}, "redis": {"url": "rediss://r/0", "password": "p"}}, []),
        ({"kafka": {"brokers": "[::1]:9092"}, "redis": {"sentinels": ["s:26379"], "password": "p"}}, ["without TLS"]),
    ],
)
def test_what_others_of_a_network_could_read_is_said(given: dict[str, Any], said: list[str]) -> None:
    found = checks.check_settings(settings(**given))
    assert {one.result for one in found} == {"ok"}
    texts = [one.text for one in found if "nothing in them endangers" not in one.text]
    assert [text in one for text, one in zip(said, texts, strict=True)] == [True] * len(said)


@pytest.mark.parametrize(
    ("mode", "given", "told"),
    [
        (0o644, {"collector": {"keys": [{"name": "web", "key": "pk-1"}]}}, True),
        (0o640, {"collector": {"keys": [{"name": "web", "key": "pk-1"}]}}, False),
        (0o604, {"redis": {"password": "p"}}, True),
        (0o644, {"collector": {"port": 1}}, False),
    ],
)
def test_a_settings_file_that_everybody_may_read_is_said(mode: int, given: dict[str, Any], *, told: bool) -> None:
    found = checks.check_settings_file(Path("own.toml"), mode, given)
    assert [one.text.endswith("chmod o= own.toml") for one in found] == [True] * told
    assert "pk-1" not in str(found)


def test_more_connections_than_open_files_are_said() -> None:
    assert checks.check_open_files(settings(), 20_000) == []
    (found,) = checks.check_open_files(settings(), 4096)
    assert (found.result, "3840 connections and not 10000" in found.text) == ("ok", True)


def test_what_topics_lack_is_said_with_its_meaning() -> None:
    wanted = topics(prefix="p.", partitions=4, retention_days=1, replication_factor=1, min_insync_replicas=1)
    short = Difference("retention.ms", "1", "2", "shorter, history is gone", mended=True)
    found = checks.check_topics([Finding(wanted[0], None, state="missing"), Finding(wanted[1], 4, [short], "differs")])
    assert results(*found) == ["fault", "fault"]
    assert "p.events is missing" in found[0].text
    assert found[1].text.endswith("retention.ms is 1, not 2: shorter, history is gone. `phasewatch topics` corrects it")
    assert results(*checks.check_topics([Finding(wanted[0], 4)])) == ["ok"]


def test_what_a_managed_redis_hides_is_unknown_and_no_fault() -> None:
    assert results(*checks.check_redis(read_health({}))) == ["ok", "unknown"]
    assert checks.check_redis_clock(read_health({}).time_ms, NOW, NOW).result == "unknown"


def test_a_redis_near_its_limit_is_a_fault() -> None:
    info = {"aof_enabled": 1, "maxmemory_policy": "noeviction", "maxmemory": 100, "used_memory": 81}
    (found,) = checks.check_redis(read_health(info))
    assert (found.result, "81 of its 100 bytes" in found.text) == ("fault", True)
    assert results(*checks.check_redis(read_health(info | {"used_memory": 80}))) == ["ok"]
    assert results(*checks.check_redis(read_health(info | {"maxmemory": 0}))) == ["ok"]


@pytest.mark.parametrize(
    ("said", "result"),
    [(NOW + 5, "ok"), (NOW - 1_900, "ok"), (NOW + 1_900, "ok"), (NOW - 2_001, "fault"), (NOW + 2_011, "fault")],
)
def test_clocks_apart_are_a_fault_but_not_what_the_way_to_redis_takes(said: int, result: str) -> None:
    assert checks.check_redis_clock(said, NOW, NOW + 10).result == result


def test_the_logs_clock_is_only_seen_to_run_ahead() -> None:
    assert checks.check_log_clock([logged(), logged(appended=NOW - 9)], NOW - 1_999).result == "ok"
    assert checks.check_log_clock([logged()], NOW + 90 * MINUTE).result == "ok"
    assert "5.0 s in this machine's future" in checks.check_log_clock([logged()], NOW - 5_000).text
    assert checks.check_log_clock([Records(0, 0, None, None, None)], NOW).result == "unknown"


def test_states_have_to_be_of_this_log() -> None:
    assert results(
        checks.check_binding(None, "a", 4),
        checks.check_binding(("a", 4), "a", 4),
        checks.check_binding(("b", 4), "a", 4),
    ) == ["ok", "ok", "fault"]


def test_positions_have_to_lie_within_the_log() -> None:
    fine, cut, aged = logged(10), logged(9), logged(20, first=11)
    found = checks.check_positions([held(0), held(1), held(2), States(3, None, None)], [fine, cut, aged, logged(5)])
    assert results(*found) == ["fault", "fault"]
    assert "partition 1 of the log holds offsets 0 to 9, but its states stand at 10" in found[0].text
    anew = checks.check_positions([held(0, appended=NOW - 1)], [fine])
    assert "record 9 of partition 0 is not the one that was folded" in anew[0].text
    assert results(*checks.check_positions([held(0, appended=NOW)], [fine])) == ["ok"]


def test_definitions_have_to_be_the_same_everywhere() -> None:
    def check(*numbers: int, running: bool = True) -> Check:
        return checks.check_definitions([held(n, definitions=one) for n, one in enumerate(numbers)], running=running)

    assert check(2, 2).text == "number 2 is in force everywhere"
    assert (check(0, 0).result, "none are in force" in check(0, 0).text) == ("fault", True)
    assert "(number 1 in partitions 1; number 2 in partitions 0, 2-3; 0 is none)" in check(2, 1, 2, 2).text
    assert results(check(2, 1), check(2, 1, running=False)) == ["fault", "ok"]
    assert checks.check_definitions([States(0, None, None)], running=True).result == "unknown"


def test_every_partition_has_to_be_somebodys() -> None:
    assert "Start `phasewatch worker`" in checks.check_workers([], 4, "g").text
    lacking = checks.check_workers([Member("a", [1]), Member("b", [])], 5, "g")
    assert (lacking.result, "partitions 0, 2-4:" in lacking.text) == ("fault", True)
    assert results(checks.check_workers([Member("a", [0, 1]), Member("b", [2])], 3, "g")) == ["ok"]


def test_being_behind_is_a_fault_once_it_lasts() -> None:
    def check(since: int, *, running: bool = True) -> Check:
        return checks.check_behind([held(0)], [logged(12, since=since)], NOW, running=running)

    assert results(check(NOW - MINUTE), check(NOW - 2 * MINUTE), check(0, running=False)) == ["ok", "fault", "ok"]
    assert "2, in partitions 0 since 120.0 s" in check(NOW - 2 * MINUTE).text
    assert checks.check_behind([held(0)], [logged(10)], NOW, running=True).text == "everything in the log is folded"


def test_somebody_overdue_is_a_fault_where_time_passes() -> None:
    def check(due: int, *, running: bool = True, live: bool = True) -> Check:
        return checks.check_overdue([held(0, due=due, live=live)], NOW, running=running)

    late = NOW - 2 * MINUTE
    assert results(check(NOW - MINUTE), check(late), check(late, live=False)) == ["ok", "fault", "ok"]
    assert results(check(late, running=False)) == ["ok"]


def test_what_stays_in_the_outbox_is_a_fault() -> None:
    found = [
        checks.check_outbox(stuck, 10, running=running)
        for stuck, running in [(set[int](), True), ({1, 2}, True), ({1}, False)]
    ]
    assert results(*found) == ["ok", "fault", "ok"]
    assert "partitions 1-2 are committed and not published for 10 s" in found[1].text


def test_what_waits_in_a_spool_is_told_and_a_fault_once_it_lasts() -> None:
    def found(*files: Found, free_bytes: int = 10**12, now: int = 10_000) -> list[tuple[str, str]]:
        checked = checks.check_spool(files, free_bytes, Spool(), now)
        return [(one.result, one.text) for one in checked]

    waits = Found(Path("a.spool"), held=True, rows=1200, bytes=10**6, oldest=5_000)
    assert found() == [("ok", "nothing waits in it on this machine")]
    assert found(waits) == [("ok", "1,200 blocks wait in it")]
    ((result, text),) = found(waits, now=100_000)
    assert (result, "for 95.0 s" in text) == ("fault", True)
    ((result, text),) = found(replace(waits, held=False))
    assert (result, "are nobody's" in text) == ("fault", True)
    ((result, text),) = found(replace(waits, bytes=Spool().max_bytes))
    assert (result, "events are refused once" in text) == ("fault", True)
    ((result, text),) = found(waits, free_bytes=0)
    assert (result, "events are refused once" in text) == ("fault", True)
    ((result, text),) = found(replace(waits, rows=0, oldest=None, fault="it was set aside as damaged"))
    assert (result, text.startswith("a.spool: it was set aside")) == ("fault", True)


def test_a_full_disk_is_a_fault() -> None:
    assert results(checks.check_free(600_000_000), checks.check_free(400_000_000)) == ["ok", "fault"]


class Files:
    """An embedded deployment of four partitions into which some history was imported, and the command on it."""

    def __init__(self, directory: Path) -> None:
        self.data = directory / "data"
        self._run = CliRunner(env={"PHASEWATCH_LOG__PARTITIONS": "4", "COLUMNS": "200"})
        history = directory / "history.ndjson"
        lines = [
            {
                "id": f"e{n}",
                "type": "page",
                "ts": NOW + n,
                "user_id": f"{100 + n}",
                "page": {"path": "/products/bond/b1"},
            }
            for n in range(20)
        ]
        history.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        done = self._run.invoke(app, ["import", str(history), "--data-dir", str(self.data)])
        assert done.exit_code == 0, done.output

    @property
    def settings(self) -> Settings:
        return settings(store={"data_dir": self.data}, log={"partitions": 4})

    def doctor(self, **environment: str) -> tuple[int, dict[str, Check]]:
        """Return the exit code, and by name the worst of what was said."""
        done = self._run.invoke(app, ["doctor", "--json", "--data-dir", str(self.data)], env=environment)
        said = [Check(**one) for one in json.loads(done.stdout)]
        return done.exit_code, {one.name: one for one in sorted(said, key=lambda one: one.result == "fault")}

    def change(self, file: str, statement: str) -> None:
        with closing(sqlite3.connect(self.data / file)) as connection, connection:
            connection.execute(statement)

    @contextmanager
    def somebody_runs(self) -> Iterator[None]:
        """Hold the lock, as a process does that stands still."""
        with worker_lock(self.settings) as free:
            assert free
            yield


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "PATIENCE_SECONDS", 0.3)
    return Files(tmp_path)


def test_files_without_a_fault_are_ok_and_stay_as_they_are(files: Files) -> None:
    before = {path.name for path in files.data.iterdir()}
    code, found = files.doctor()
    assert (code, {one.result for one in found.values()}) == (0, {"ok"})
    assert set(found) == {
        "settings", "data", "running", "states", "positions", "behind", "definitions", "overdue", "outbox", "clocks",
    }  # fmt: skip
    assert "nothing folds this log now" in found["running"].text
    with files.somebody_runs():
        assert files.doctor()[1]["running"].text == "a process folds this log"
    assert {path.name for path in files.data.iterdir()} == before


def test_a_line_a_check_is_printed(files: Files) -> None:
    done = CliRunner(env={"PHASEWATCH_LOG__PARTITIONS": "4"}).invoke(app, ["doctor", "--data-dir", str(files.data)])
    assert done.exit_code == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["ok"] * 10


def test_where_nothing_has_run_nothing_is_made(files: Files, tmp_path: Path) -> None:
    files.data = tmp_path / "elsewhere"
    code, found = files.doctor()
    assert (code, found["log"].result) == (3, "away")
    assert not files.data.exists()


def test_a_directory_that_cannot_be_written_is_a_fault(files: Files) -> None:
    files.data = Path("/proc/self")
    code, found = files.doctor()
    assert (code, found["data"].result) == (3, "fault")
    assert "/proc/self can't be written" in found["data"].text


def test_states_that_are_gone_are_said_and_not_made(files: Files) -> None:
    (files.data / "states.sqlite").unlink()
    code, found = files.doctor()
    assert (code, found["states"].result) == (0, "unknown")
    assert not (files.data / "states.sqlite").exists()


@pytest.mark.parametrize("file", ["log.sqlite", "states.sqlite"])
def test_a_broken_file_is_a_fault(files: Files, file: str) -> None:
    (files.data / file).write_bytes(b"no database" * 1000)
    code, found = files.doctor()
    assert (code, found["log"].result) == (1, "fault")
    assert f"{file} can't be opened: file is not a database" in found["log"].text


def test_another_number_of_partitions_is_a_fault(files: Files) -> None:
    code, found = files.doctor(PHASEWATCH_LOG__PARTITIONS="8")
    assert (code, found["log"].result) == (1, "fault")
    assert "set log.partitions = 4" in found["log"].text


def test_states_of_another_log_are_a_fault(files: Files) -> None:
    files.change("log.sqlite", "UPDATE log SET value = 'another' WHERE name = 'id'")
    code, found = files.doctor()
    assert (code, found["states"].result) == (1, "fault")
    assert "not to another with 4" in found["states"].text


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("""DELETE FROM records WHERE topic = 'events' AND "partition" = 2""", "partition 2 of the log holds offsets"),
        ("UPDATE records SET append_time = append_time - 1 WHERE topic = 'events'", "is not the one that was folded"),
    ],
)
def test_a_log_that_was_cut_or_made_anew_is_a_fault(files: Files, statement: str, said: str) -> None:
    files.change("log.sqlite", statement)
    code, found = files.doctor()
    assert (code, found["positions"].result, said in found["positions"].text) == (1, "fault", True)


async def _append(files: Files, draft: Draft) -> None:
    with closing(open_log(files.settings)) as log:
        await log.append([(1, draft)])


def test_a_process_that_stands_still_is_told_from_none(files: Files) -> None:
    """What waits is a fault only where something runs that should have done it."""
    asyncio.run(_append(files, Draft(Kind.TICK, int(time.time() * 1000))))
    long_ago = int(time.time() * 1000) - 5 * MINUTE
    files.change("log.sqlite", f"UPDATE records SET append_time = {long_ago} WHERE id = (SELECT max(id) FROM records)")
    files.change("states.sqlite", "INSERT INTO outbox VALUES (1, 99, 'stage-changes', 1, NULL, '[]', NULL)")
    files.change("states.sqlite", "INSERT INTO due VALUES (1, 1, 'u:1')")
    code, found = files.doctor()
    assert (code, {one.result for one in found.values()}) == (0, {"ok"})
    assert "records not yet folded: 1;" in found["behind"].text
    with files.somebody_runs():
        code, found = files.doctor()
    assert code == 1
    faults = {name for name, one in found.items() if one.result == "fault"}
    assert faults == {"behind", "overdue", "outbox"}


def test_a_record_from_the_future_is_a_fault(files: Files) -> None:
    files.change(
        "log.sqlite",
        f"UPDATE records SET append_time = {int(time.time() * 1000) + 5 * MINUTE} WHERE id = "
        """(SELECT max(id) FROM records WHERE topic = 'events')""",
    )
    code, found = files.doctor()
    assert (code, found["clocks"].result) == (1, "fault")
