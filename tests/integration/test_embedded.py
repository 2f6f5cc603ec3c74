"""`phasewatch up` and the commands beside it as processes: starting, stopping, importing, asking."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from collector.wire import log_file
from phasewatch.embedded_worker import shipped_definitions
from tests.integration.embedded_process import COMMAND, EmbeddedProcess, phasewatch, wait_until
from tests.integration.log_contents import LogContents, agrees_with_the_oracle, wait_until_folded

HOUR = 3_600_000
DAY = 24 * HOUR
SHOP = Path(__file__).parents[2] / "processors" / "definitions" / "fund-shop.toml"
DECIDING = [{"type": "submit", "page": {"path": "/orders/new"}}] * 2 + [
    {"type": "click", "element": {"text": "Invest"}}
]


@pytest.fixture
def process(tmp_path: Path) -> Iterator[EmbeddedProcess]:
    """A deployment on a directory of its own, not yet started."""
    process = EmbeddedProcess(tmp_path)
    yield process
    process.close()


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, timeout=20) as client:
        yield client


def events_of(user: str, *, name: str = "e") -> list[dict[str, Any]]:
    """Return what makes somebody decide."""
    return [{"id": f"{user}-{name}{n}", "user_id": user, **event} for n, event in enumerate(DECIDING)]


def post(client: httpx.Client, process: EmbeddedProcess, events: list[dict[str, Any]]) -> dict[str, Any]:
    answer = client.post(f"{process.collector}/v1/events?key=demo", content=json.dumps(events))
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


def history(path: Path, *, days: int, start: int) -> list[str]:
    """Write a file of some people's past, in order; return the ids in it."""
    lines = [
        {"id": f"past-{hour}-{person}-{n}", "ts": start + hour * HOUR + n * 1000, "user_id": f"past-{person}", **event}
        for hour in range(0, days * 24, 3)
        for n, (person, event) in enumerate([(hour % 7, one) for one in DECIDING] + [(hour % 5, DECIDING[-1])])
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return [str(line["id"]) for line in lines]


def noted(data: Path) -> int:
    """Return up to which byte an import has come."""
    if not (data / "log.sqlite").exists():
        return 0
    with closing(sqlite3.connect(data / "log.sqlite", timeout=10)) as connection:
        try:
            found = connection.execute("SELECT value FROM log WHERE name LIKE 'import:%'").fetchone()
        except sqlite3.OperationalError:  # not yet created
            return 0
    return 0 if found is None else int(found[0])


def test_the_answer_comes_after_the_commit(process: EmbeddedProcess, client: httpx.Client) -> None:
    """What another connection sees when the answer is there has been committed, and a commit is an fsync."""
    process.start()
    for n in range(20):
        assert post(client, process, events_of(f"p-{n}"))["accepted"] == 3
        with closing(sqlite3.connect(process.data / "log.sqlite")) as connection:
            query = "SELECT count(*) FROM records WHERE topic = 'events' AND instr(value, ?)"
            assert connection.execute(query, (f"p-{n}-e2".encode(),)).fetchone()[0] == 1
    with closing(sqlite3.connect(process.data / "log.sqlite", isolation_level=None)) as connection:
        log_file.create(connection, partitions=1, log_id="")
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,), "FULL"
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_what_was_acknowledged_before_a_kill_is_a_duplicate_after_it(
    process: EmbeddedProcess, client: httpx.Client
) -> None:
    process.start()
    events = [*events_of("anna"), {"id": "b", "type": "click", "anonymous_id": "device-1", "seq": 1}]
    assert post(client, process, events)["accepted"] == 4
    process.kill()
    process.start()
    answer = post(client, process, [*events, {"id": "c", "type": "click", "anonymous_id": "device-1", "seq": 2}])
    assert (answer["accepted"], answer["duplicates"]) == (1, [0, 1, 2, 3])
    wait_until_folded(process.data)
    assert process.stop()[0] == 0
    log = LogContents(process.data)
    assert set(log.copies().values()) == {1}
    agrees_with_the_oracle(log)


def test_sigterm_stops_cleanly_with_a_page_open(process: EmbeddedProcess, client: httpx.Client) -> None:
    process.start()
    with client.stream("GET", f"{process.console}/api/changes/stream") as stream:
        assert stream.status_code == 200
        post(client, process, events_of("anna"))
        code, seconds = process.stop()
        for _ in stream.iter_raw():
            pass
    assert code == 0
    assert seconds < 4, "less than the servers wait for answers under way"
    assert process.complaints() == []
    assert set(LogContents(process.data).copies()) == {event["id"] for event in events_of("anna")}


def test_nothing_acknowledged_is_lost_when_it_is_stopped_in_mid_load(
    process: EmbeddedProcess, client: httpx.Client
) -> None:
    process.start()
    acknowledged: set[str] = set()
    stopping = False
    for n in range(10_000):
        events = events_of(f"p-{n % 20}", name=str(n))
        try:
            post(client, process, events)
        except httpx.TransportError:
            break
        acknowledged |= {event["id"] for event in events}
        if n >= 100 and not stopping:
            process.process.send_signal(signal.SIGTERM)
            stopping = True
    assert process.process.wait(20) == 0
    assert acknowledged <= set(LogContents(process.data).copies())
    process.start()
    wait_until_folded(process.data)
    process.stop()
    agrees_with_the_oracle(LogContents(process.data))
    assert process.complaints() == []


def test_a_second_one_on_the_same_data_is_refused(process: EmbeddedProcess, tmp_path: Path) -> None:
    process.start()
    ports = ["--port", "0", "--console-port", "0", "--admin-port", "0"]
    second = phasewatch("up", *ports, "--data-dir", process.data, cwd=tmp_path)
    assert second.returncode == 2
    assert second.stderr == (
        f"phasewatch: another phasewatch is running on {process.data}; stop it, or use another --data-dir\n"
    )
    taken = phasewatch("up", *ports, "--port", str(process.port), "--data-dir", tmp_path / "other", cwd=tmp_path)
    assert taken.returncode == 2
    assert taken.stderr.startswith(f"phasewatch: nothing can listen on 127.0.0.1:{process.port} (")
    assert taken.stderr.count("\n") == 1


def test_it_ends_by_itself(tmp_path: Path) -> None:
    began = time.monotonic()
    ports = ["--port", "0", "--console-port", "0", "--admin-port", "0"]
    done = phasewatch("up", *ports, "--seconds", "0.5", "--data-dir", tmp_path / "d", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began >= 0.5
    [line] = map(json.loads, done.stderr.splitlines())
    assert line["event"] == "up"
    assert {line[name].rsplit(":", 1)[0] for name in ("collector", "console", "admin")} == {"http://127.0.0.1"}


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside a running process"])
def test_an_import_killed_half_way_goes_on(process: EmbeddedProcess, tmp_path: Path, beside: bool) -> None:  # noqa: FBT001
    file = tmp_path / "past.ndjson"
    ids = history(file, days=12, start=time.time_ns() // 1_000_000 // HOUR * HOUR - 13 * DAY)
    if beside:
        process.start()
    with (tmp_path / "import.log").open("wb") as output:
        first = subprocess.Popen(
            [*COMMAND, "import", file, "--data-dir", process.data], cwd=tmp_path, stdout=output, stderr=output
        )
        wait_until(lambda: noted(process.data) > 1000 or first.poll() is not None, "some hours are imported")
        first.kill()
    assert first.wait(20) == -signal.SIGKILL, (tmp_path / "import.log").read_text("utf-8")
    assert 0 < noted(process.data) < file.stat().st_size
    second = phasewatch("import", file, "--data-dir", process.data, cwd=tmp_path)
    assert second.returncode == 0, second.stderr
    assert "an earlier run had begun with it" in second.stderr
    again = phasewatch("import", file, "--data-dir", process.data, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "0 events imported" in again.stderr
    if beside:
        assert process.stop()[0] == 0
        assert process.complaints() == []
    log = LogContents(process.data)
    assert log.copies() == dict.fromkeys(ids, 1)
    changes, _ = agrees_with_the_oracle(log)
    told = [change for of_one in changes.values() for change in of_one]
    assert len(told) >= 7
    assert not any(change["actionable"] for change in told)


def test_an_unordered_file_is_refused_whole(process: EmbeddedProcess, tmp_path: Path) -> None:
    file = tmp_path / "past.ndjson"
    history(file, days=1, start=time.time_ns() // 1_000_000 - 2 * DAY)
    lines = file.read_text("utf-8").splitlines()
    file.write_text("\n".join([*lines[:4], lines[9], *lines[4:]]) + "\n", encoding="utf-8")
    done = phasewatch("import", file, "--data-dir", process.data, cwd=tmp_path)
    assert done.returncode == 2
    assert f"{file}, line 6: its ts is earlier than the line's before. Sort the file by ts first" in done.stderr
    assert "Traceback" not in done.stderr
    assert LogContents(process.data).events() == []


def test_a_line_that_is_no_event_is_named(process: EmbeddedProcess, tmp_path: Path) -> None:
    file = tmp_path / "past.ndjson"
    history(file, days=1, start=time.time_ns() // 1_000_000 - 2 * DAY)
    with file.open("a", encoding="utf-8") as out:
        out.write(json.dumps({"id": "x", "type": "nonsense", "ts": time.time_ns() // 1_000_000 - 1000}) + "\nrubbish\n")
    done = phasewatch("import", file, "--data-dir", process.data, cwd=tmp_path)
    assert done.returncode == 1
    assert "2 lines refused" in done.stderr
    assert "line 33: " in done.stderr
    assert "line 34: " in done.stderr


def test_asking_a_running_and_a_stopped_one(process: EmbeddedProcess, client: httpx.Client, tmp_path: Path) -> None:
    where = ("--data-dir", process.data)
    assert phasewatch("status", *where, cwd=tmp_path).returncode == 3
    assert phasewatch("person", "anna", *where, cwd=tmp_path).returncode == 3
    process.start()
    post(client, process, events_of("anna"))
    wait_until_folded(process.data)
    for is_running in (True, False):
        status = phasewatch("status", "--json", *where, cwd=tmp_path)
        assert status.returncode == 0
        found = json.loads(status.stdout)
        assert (found["running"], found["records_behind"], found["stages"]["decision"]) == (is_running, 0, 1)
        person = phasewatch("person", "anna", "--json", *where, cwd=tmp_path)
        assert person.returncode == 0
        assert json.loads(person.stdout)["decision_score"] == 6.5
        assert "decision" in phasewatch("person", "u:anna", *where, cwd=tmp_path).stdout
        nobody = phasewatch("person", "nobody", *where, cwd=tmp_path)
        assert (nobody.returncode, nobody.stdout) == (1, "")
        if is_running:
            assert process.stop()[0] == 0


def test_definitions_take_effect_in_a_running_and_a_stopped_one(
    process: EmbeddedProcess, client: httpx.Client, tmp_path: Path
) -> None:
    where = ("--data-dir", process.data)
    heavier = tmp_path / "heavier.toml"
    heavier.write_text(SHOP.read_text("utf-8").replace("strong_above = 5 ", "strong_above = 1 "), encoding="utf-8")
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(SHOP.read_text("utf-8").replace("strong_above = 5 ", 'strong_above = "five" '), encoding="utf-8")
    check = phasewatch("definitions", "check", wrong, cwd=tmp_path)
    assert check.returncode == 1
    assert check.stdout.startswith(f"{wrong}:10:")
    assert phasewatch("definitions", "check", heavier, cwd=tmp_path).returncode == 0
    process.start()
    post(client, process, events_of("anna")[:1])
    refused = phasewatch("definitions", "publish", wrong, *where, cwd=tmp_path)
    assert refused.returncode == 2
    assert "line 10" in refused.stderr
    published = phasewatch("definitions", "publish", heavier, *where, cwd=tmp_path)
    assert published.returncode == 0, published.stderr
    assert "in force as definitions 2" in published.stdout
    assert client.get(f"{process.console}/api/persons/u:anna").json()["stage"] == "decision"
    process.stop()
    again = phasewatch("definitions", "publish", SHOP, *where, cwd=tmp_path)
    assert "in force as definitions 3" in again.stdout
    changes, _ = agrees_with_the_oracle(LogContents(process.data))
    assert [(one["to"], one["actionable"], one["definitions"]) for one in changes["u:anna"]] == [
        ("decision", False, 2),
        ("prospect", False, 3),
    ]


def test_a_wrong_directory_or_number_of_partitions_is_refused(tmp_path: Path) -> None:
    """Each in one paragraph that says what to do, without a traceback."""
    (tmp_path / "file").touch()
    ports = ("--port", "0", "--console-port", "0", "--admin-port", "0")
    refused = phasewatch("up", *ports, "--data-dir", tmp_path / "file", cwd=tmp_path)
    assert (refused.returncode, "Traceback" in refused.stderr) == (2, False)
    assert "--data-dir" in refused.stderr
    assert phasewatch("up", *ports, "--seconds", "0.1", "--data-dir", tmp_path / "d", cwd=tmp_path).returncode == 0
    (tmp_path / "phasewatch.toml").write_text("[log]\npartitions = 8\n", encoding="utf-8")
    refused = phasewatch("up", *ports, "--seconds", "0.1", "--data-dir", tmp_path / "d", cwd=tmp_path)
    assert (refused.returncode, "Traceback" in refused.stderr) == (2, False)
    assert "set log.partitions = 32" in refused.stderr


def test_publishing_where_nothing_ran_creates_nothing(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(shipped_definitions(), encoding="utf-8")
    away = phasewatch("definitions", "publish", "own.toml", "--data-dir", tmp_path / "mistyped", cwd=tmp_path)
    assert away.returncode == 3
    assert not (tmp_path / "mistyped").exists()
