"""The whole way over the production processes: from a request to the console, and every command beside them."""

from __future__ import annotations

import asyncio
import copy
import json
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from collector.wire.block import decode_events
from collector.wire.record import HOUR_MS, Kind
from deploy.local.services import RedisServer
from phasewatch.embedded_worker import shipped_definitions
from tests.agreement import differences
from tests.integration.collector_process import CollectorProcess, bare_environment
from tests.integration.embedded_process import COMMAND, free_ports, wait_until
from tests.integration.production import Console, Deployment, Inside, once
from tests.oracle import run

pytestmark = pytest.mark.services

PARTITIONS = 8
PATIENCE_SECONDS = 30
ORDERING = {"type": "submit", "page": {"path": "/orders/new"}}


class Running(NamedTuple):
    """A deployment with two workers, a collector and a console."""

    deployment: Deployment
    collector: CollectorProcess
    console: Console


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, kafka: str, redis_server: RedisServer) -> Iterator[Running]:
    deployment = Deployment(tmp_path_factory.mktemp("whole-way"), kafka, redis_server.url, partitions=PARTITIONS)
    try:
        yield Running(deployment, *deployment.start_everything())
        assert deployment.complaints() == []
    finally:
        deployment.close()


@pytest.fixture
def deployment(tmp_path: Path, kafka: str, redis_server: RedisServer) -> Iterator[Deployment]:
    """One of the test's own, of which nothing runs and no topic exists."""
    deployment = Deployment(tmp_path, kafka, redis_server.url, partitions=PARTITIONS)
    yield deployment
    deployment.close()


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, timeout=PATIENCE_SECONDS) as client:
        yield client


def ordering(user: str, count: int = 3) -> list[dict[str, Any]]:
    """Return submitted orders; three of them are a decision."""
    return [{"id": f"{user}-{n}", "user_id": user, **ORDERING} for n in range(count)]


def money(kind: str, user: str, order: str) -> list[dict[str, Any]]:
    return [{"id": f"{kind}-{order}", "type": kind, "user_id": user, "properties": {"order_id": order}}]


def post(client: httpx.Client, url: str, events: list[dict[str, Any]], key: str = "demo") -> None:
    answer = client.post(f"{url}/v1/events", json=events, headers={"Authorization": f"Bearer {key}"})
    assert (answer.status_code, answer.json()["accepted"]) == (200, len(events)), answer.text


def read_until_id(lines: Iterator[str]) -> None:
    """Read a stream up to its first id: from there on nothing is missed."""
    assert any(line.startswith("id: ") for line in lines)


def next_change(lines: Iterator[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(next(line for line in lines if line.startswith("data: "))[6:])
    return found


def test_what_is_posted_is_on_the_stream_and_in_the_api(running: Running, client: httpx.Client) -> None:
    url, person = running.collector.url, f"{running.console.url}/api/persons/u:anna"
    waited: list[float] = []
    steps = (
        ("demo", ordering("anna"), ("prospect", "decision")),
        ("demo-secret", money("purchase", "anna", "o-1"), ("decision", "holding")),
        ("demo-secret", money("redeem", "anna", "o-1"), ("holding", "post_redemption")),
    )
    assert client.get(person).status_code == 404
    with client.stream("GET", f"{running.console.url}/api/changes/stream") as stream:
        lines = stream.iter_lines()
        read_until_id(lines)
        for version, (key, events, expected) in enumerate(steps, 1):
            began = time.monotonic()
            post(client, url, events, key)
            change = next_change(lines)
            waited.append(time.monotonic() - began)
            assert (change["person"], change["version"]) == ("u:anna", version)
            assert (change["from"], change["to"]) == expected
            found = client.get(person).json()
            assert (found["stage"], found["confirmed"]) == (expected[1], True)
    assert (found["funds"], found["customer"], found["score"]) == ("redeemed", "returning", 7.5)
    timeline = client.get(f"{person}/timeline").json()
    assert [one["to"] for one in timeline["changes"]] == ["decision", "holding", "post_redemption"]
    changes = client.get(f"{running.console.url}/api/changes").json()["changes"]
    assert [one["version"] for one in changes if one["person"] == "u:anna"] == [1, 2, 3]
    print("\nPOST to stream, s:", *(f"{one:.3f}" for one in waited))  # noqa: T201 - a figure


def test_commands_tell_of_it(running: Running, client: httpx.Client) -> None:
    post(client, running.collector.url, ordering("berta"))
    running.deployment.settle()
    deployment = running.deployment
    status = deployment.run("status", "--json")
    assert status.returncode == 0, status.stderr
    found = json.loads(status.stdout)
    assert (found["running"], found["partitions"], found["definitions"]) == (True, PARTITIONS, 1)
    assert (found["records_behind"], found["outputs_waiting"], found["blocks_spooled_here"]) == (0, 0, 0)
    assert found["stages"]["decision"] >= 1
    assert found["workers"].keys() == {"one", "two"}
    assert sorted(n for owned in found["workers"].values() for n in owned) == list(range(PARTITIONS))
    assert all(found["workers"].values()), "each has some"
    table = deployment.run("status")
    assert (table.returncode, "who folds" in table.stdout) == (0, True)
    for name in ("berta", "u:berta"):
        person = deployment.run("person", name, "--json")
        assert person.returncode == 0, person.stderr
        told = json.loads(person.stdout)
        assert (told["stage"], told["decision_score"]) == ("decision", 7.5)
        assert told["evidence"] == [{"behaviour": "order_submitted", "count": 3, "weight": 2.5}]
        assert [one["to"] for one in told["timeline"]["changes"]] == ["decision"]
    assert "order_submitted" in deployment.run("person", "berta").stdout
    nobody = deployment.run("person", "nobody")
    assert (nobody.returncode, nobody.stdout) == (1, "")
    assert "nothing is known of nobody" in nobody.stderr


def test_published_definitions_are_in_force_everywhere(running: Running, client: httpx.Client, tmp_path: Path) -> None:
    """At once when the command ends, and nobody is to be contacted for what they change."""
    people = [f"def-{number}" for number in range(20)]
    for user in people:
        post(client, running.collector.url, ordering(user, 1))
    deployment = running.deployment
    stricter, shipped = tmp_path / "stricter.toml", tmp_path / "shipped.toml"
    shipped.write_text(shipped_definitions(), encoding="utf-8")
    text = shipped_definitions()
    stricter.write_text(
        text.replace("strong_above = 5 ", "strong_above = 2 ").replace("keeps_at = 4 ", "keeps_at = 1 "), "utf-8"
    )
    for number, (file, stage) in enumerate(((stricter, "decision"), (shipped, "prospect")), 2):
        done = deployment.run("definitions", "publish", file)
        assert done.returncode == 0, done.stderr
        assert f"{file} is in force as definitions {number}" in done.stdout
        assert client.get(f"{running.console.url}/api/definitions").json()["number"] == number
        for user in people:
            assert client.get(f"{running.console.url}/api/persons/u:{user}").json()["stage"] == stage
    changes, _ = once(asyncio.run(_messages(deployment)))
    for user in people:
        assert [
            (one["to"], one["actionable"], one["definitions"], one["cause"]["kind"]) for one in changes[f"u:{user}"]
        ] == [("decision", False, 2, "definitions"), ("prospect", False, 3, "definitions")]
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(text.replace("strong_above = 5 ", 'strong_above = "five" '), encoding="utf-8")
    refused = deployment.run("definitions", "publish", wrong)
    assert (refused.returncode, "line 10" in refused.stderr) == (2, True)


async def _messages(deployment: Deployment) -> list[Any]:
    async with Inside.open(deployment) as inside:
        return await inside.messages("stage-changes")


def as_file(deployment: Deployment, directory: Path) -> tuple[Deployment, Path]:
    """Return a deployment's twin that gets nothing from the environment, and a file with its settings."""
    sections: dict[str, list[str]] = {}
    for name, value in deployment.environment.items():
        section, _, key = name.removeprefix("PHASEWATCH_").lower().partition("__")
        sections.setdefault(section, []).append(f"{key} = {value if value.isdigit() else json.dumps(value)}")
    file = directory / "shop.toml"
    file.write_text("".join(f"[{name}]\n" + "\n".join(lines) + "\n" for name, lines in sections.items()), "utf-8")
    twin = copy.copy(deployment)
    twin.directory, twin.environment, twin.workers = directory, {}, {}
    return twin, file


def test_a_settings_file_does_what_the_environment_does(running: Running, client: httpx.Client, tmp_path: Path) -> None:
    post(client, running.collector.url, ordering("carla"))
    running.deployment.settle()
    twin, file = as_file(running.deployment, tmp_path)
    assert twin.run("topics", "--check", "--settings", file).returncode == 0
    assert json.loads(twin.run("person", "carla", "--json", "--settings", file).stdout)["stage"] == "decision"
    without = twin.run("person", "carla", "--json")
    assert (without.returncode, without.stdout) == (3, "")
    worker = twin.worker("three", *COMMAND, "worker", "--settings", str(file))
    try:
        worker.wait_ready()
        status = json.loads(twin.run("status", "--json", "--settings", file).stdout)
        assert set(status["workers"]) == {"one", "two", "three"}
        file.rename(tmp_path / "phasewatch.toml")  # what is found where no file is named
        assert twin.run("status", "--json").returncode == 0
        assert worker.stop() == 0
    finally:
        worker.close()
    for one in running.deployment.workers.values():
        one.wait_ready()


def history(path: Path, *, hours: int, people: int) -> Counter[str]:
    """Write the past of some people, ended yesterday; return their scores in thousandths."""
    begin = (time.time_ns() // 1_000_000 // HOUR_MS - 24 - hours) * HOUR_MS
    scores: Counter[str] = Counter()
    with path.open("w", encoding="utf-8") as out:
        for hour in range(hours):
            for number in range(3):
                user = f"past-{(hour + number) % people}"
                event = {"ts": begin + hour * HOUR_MS + number * 1000, "user_id": user, **ORDERING}
                # Every other event has no id: what it is then known by has to be the same when it is sent again.
                named = {"id": f"past-{hour}-{number}"} if number % 2 else {}
                out.write(json.dumps(event | named) + "\n")
                scores[f"u:{user}"] += 2500
    return scores


@pytest.mark.long
def test_an_import_killed_half_way_goes_on_and_counts_once(deployment: Deployment, tmp_path: Path) -> None:
    file = tmp_path / "past.ndjson"
    scores = history(file, hours=48, people=7)
    deployment.create_topics()
    for name in ("one", "two"):
        deployment.worker(name)
    for worker in deployment.workers.values():
        worker.wait_ready()
    asyncio.run(_import_with_kills(deployment, file, scores))
    assert deployment.complaints() == []


def launch_import(deployment: Deployment, file: Path) -> subprocess.Popen[bytes]:
    with (deployment.directory / "import.log").open("wb") as output:
        return subprocess.Popen(
            [*COMMAND, "import", file],
            env=bare_environment() | deployment.environment,
            cwd=deployment.directory,
            stdout=output,
            stderr=output,
        )


async def _import_with_kills(deployment: Deployment, file: Path, scores: Counter[str]) -> None:
    async with Inside.open(deployment) as inside:
        await inside.settle()
        for _ in range(4):
            process = launch_import(deployment, file)
            try:
                await _grown(inside, process, 8 * PARTITIONS)
            finally:
                process.kill()
            assert process.wait(20) == -signal.SIGKILL
        done = await asyncio.to_thread(deployment.run, "import", file)
        assert (done.returncode, "an earlier run had begun with it" in done.stderr) == (0, True), done.stderr
        again = await asyncio.to_thread(deployment.run, "import", file)
        assert (again.returncode, "0 events imported" in again.stderr) == (0, True), again.stderr
        await inside.settle()
        records, states = await inside.records(), await inside.states()
        assert {person: round(found["score"] * 1000) for person, found in states.items()} == scores
        changes, _ = once(await inside.messages("stage-changes"))
        assert changes.keys() == scores.keys()
        assert not any(one["actionable"] for told in changes.values() for one in told)
        assert not differences(changes, states, run(records))
        written = sum(len(decode_events(one.draft.value)) for one in records if one.draft.kind == Kind.EVENTS)
        print(f"\n{written} events written of {sum(scores.values()) // 2500}")  # noqa: T201 - a figure


async def _grown(inside: Inside, process: subprocess.Popen[bytes], records: int) -> None:
    """Wait until the log has grown by so many records."""

    async def end() -> int:
        return sum(one for _, one in await inside.log.all_bounds())

    wanted = await end() + records
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await end() < wanted:
            assert process.poll() is None, "it has ended by itself"


COMMANDS: tuple[tuple[str, ...], ...] = (
    ("person", "anna"),
    ("status", "--json"),
    ("definitions", "publish", "own.toml"),
    ("import", "past.ndjson"),
)


OF_KAFKA_ALONE: tuple[tuple[str, ...], ...] = (("topics",), ("collector", "--port", "0", "--admin-port", "0"))


@pytest.mark.parametrize(
    ("away", "command"), [*product(["Kafka"], COMMANDS + OF_KAFKA_ALONE), *product(["Redis"], COMMANDS)]
)
def test_a_service_that_is_away_is_named(deployment: Deployment, away: str, command: tuple[str, ...]) -> None:
    """In one paragraph, with the address, and exit code 3."""
    if away == "Redis":
        deployment.create_topics()
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    where = {"Kafka": ("KAFKA__BROKERS", address), "Redis": ("REDIS__URL", f"redis://{address}/0")}[away]
    deployment.environment[f"PHASEWATCH_{where[0]}"] = where[1]
    (deployment.directory / "own.toml").write_text(shipped_definitions(), encoding="utf-8")
    history(deployment.directory / "past.ndjson", hours=1, people=1)
    began = time.monotonic()
    done = deployment.run(*command)
    print(f"\n{time.monotonic() - began:.1f} s: {done.stderr}")  # noqa: T201 - what a user reads
    assert (done.returncode, done.stdout) == (3, ""), done.stderr
    assert "Traceback" not in done.stderr
    [said] = [line for line in done.stderr.splitlines() if line.startswith("phasewatch: ")]
    assert away in said
    assert address in said


@pytest.mark.parametrize("command", COMMANDS)
def test_topics_that_are_not_there_are_named(deployment: Deployment, command: tuple[str, ...]) -> None:
    (deployment.directory / "own.toml").write_text(shipped_definitions(), encoding="utf-8")
    history(deployment.directory / "past.ndjson", hours=1, people=1)
    done = deployment.run(*command)
    assert (done.returncode, done.stdout) == (3, ""), done.stderr
    assert "`phasewatch topics` creates it" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("away", ["KAFKA__BROKERS", "REDIS__URL"])
def test_a_worker_and_a_console_wait_for_a_service_and_can_be_stopped(deployment: Deployment, away: str) -> None:
    deployment.create_topics()
    (port,) = free_ports(1)
    deployment.environment[f"PHASEWATCH_{away}"] = f"{'redis://' if away == 'REDIS__URL' else ''}127.0.0.1:{port}"
    worker, console = deployment.worker("one"), deployment.console()
    console.launch()
    part = "log" if away == "KAFKA__BROKERS" else "store"
    wait_until(lambda: f"127.0.0.1:{port}" in worker.ready()["not_ready"].get(part, ""), f"{part} is named")
    wait_until(lambda: "console_waits" in console.log.read_text("utf-8"), "the console says that it waits")
    for process in (worker, console):
        began = time.monotonic()
        assert process.stop() == 0, process.log.read_text("utf-8")
        assert time.monotonic() - began < 10
        assert "Traceback" not in process.log.read_text("utf-8")


def test_processes_start_and_stop_in_any_order(deployment: Deployment, client: httpx.Client) -> None:
    """A console and a worker before there are topics; a stop of the collector, then workers, then the console."""
    console, worker = deployment.console(), deployment.worker("one")
    console.launch()
    wait_until(lambda: "console_waits" in console.log.read_text("utf-8"), "the console waits for topics")
    wait_until(lambda: "phasewatch topics" in worker.ready()["not_ready"].get("log", ""), "the worker tells of them")
    deployment.create_topics()
    collector = deployment.collector(workers=2)
    collector.start()
    for process in (worker, console):
        process.wait_ready()
    deployment.settle()
    acknowledged: list[str] = []
    with client.stream("GET", f"{console.url}/api/changes/stream") as stream:
        lines = stream.iter_lines()
        read_until_id(lines)
        acknowledged += load_until_it_stops(client, collector)
        assert collector.process.wait(PATIENCE_SECONDS) == 0
        entered = {next_change(lines)["person"] for _ in acknowledged}
        assert entered == {f"u:{user}" for user in acknowledged}
        assert worker.stop() == 0
        person = client.get(f"{console.url}/api/persons/u:{acknowledged[-1]}")
        assert person.json()["stage"] == "decision", "the console needs neither"
        assert console.stop() == 0
        assert not any(lines), "its streams end properly"
    worker.launch()
    worker.wait_ready()
    collector.start()
    post(client, collector.url, ordering("late"))
    wait_until(lambda: json.loads(deployment.run("person", "late", "--json").stdout or "{}"), "late is known")
    waited = [one for one in deployment.complaints() if one["event"] not in {"console_waits", "worker_waits"}]
    assert waited == []


def load_until_it_stops(client: httpx.Client, collector: CollectorProcess) -> list[str]:
    """Let one after the other decide, tell the collector to stop, and return who was acknowledged until it did."""
    found: list[str] = []
    for number in range(10_000):
        if number == 100:
            collector.process.send_signal(signal.SIGTERM)
        try:
            post(client, collector.url, ordering(f"load-{number}"))
        except httpx.TransportError:
            return found
        found.append(f"load-{number}")
    pytest.fail("it did not stop")


def test_the_demo_runs_over_kafka_and_redis(deployment: Deployment, tmp_path: Path) -> None:
    """On a Kafka and a Redis that are empty, its usual ports taken; it leaves no process, and goes on with its data."""
    ports = free_ports(2)
    deployment.environment |= {
        "PHASEWATCH_COLLECTOR__PORT": str(ports[0]),
        "PHASEWATCH_CONSOLE__PORT": str(ports[1]),
    }
    twin, file = as_file(deployment, tmp_path)
    for run_number in (1, 2):
        with taken(8610), taken(8620):
            told = demo_until_it_has_told(twin, file, changes=3)
        assert "Traceback" not in told
        assert ("live 30 days first" in told) == (run_number == 1)
        heading, _, changes = told.partition("(Ctrl-C ends):")
        assert f"http://127.0.0.1:{ports[1]}" in heading
        assert changes.count("→") >= 3
        assert left_behind(file) == []
        status = twin.run("status", "--json", "--settings", file)
        assert (status.returncode, json.loads(status.stdout)["running"]) == (0, False)
        assert sum(json.loads(status.stdout)["stages"].values()) > 30


def demo_until_it_has_told(twin: Deployment, file: Path, *, changes: int) -> str:
    """Run the demo, press Ctrl-C once it has told so many changes, and return all that it said."""
    said = twin.directory / "demo.out"
    with said.open("wb") as out:
        demo = subprocess.Popen(
            [*COMMAND, "demo", "--settings", file, "--people", "60"],
            cwd=twin.directory,
            env=bare_environment() | twin.environment,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(lambda: said.read_text("utf-8").count("→") >= changes or demo.poll() is not None, "changes", 200)
        demo.send_signal(signal.SIGINT)
        assert demo.wait(PATIENCE_SECONDS) == 0, said.read_text("utf-8")
    finally:
        demo.kill()
        demo.wait()
    return said.read_text("utf-8")


@contextmanager
def taken(port: int) -> Iterator[None]:
    """See to it that a port is somebody's, if only our own."""
    try:
        listener = socket.create_server(("127.0.0.1", port))
    except OSError:
        yield
    else:
        with listener:
            yield


def left_behind(file: Path) -> list[str]:
    """Return the processes that have a deployment's settings in their environment or command line."""
    topic_prefix = next(line for line in file.read_text("utf-8").splitlines() if line.startswith("topic_prefix"))
    mark = json.loads(topic_prefix.partition(" = ")[2]).encode()
    found = []
    for one in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (one / "environ").read_bytes():
                found.append((one / "cmdline").read_text("utf-8"))
        except OSError:  # it has just ended, or is somebody else's
            continue
    return found


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.long
def test_a_demo_stopped_in_its_past_ends_what_it_started(
    deployment: Deployment, tmp_path: Path, sent: signal.Signals
) -> None:
    deployment.environment |= dict(
        zip(("PHASEWATCH_COLLECTOR__PORT", "PHASEWATCH_CONSOLE__PORT"), map(str, free_ports(2)), strict=True)
    )
    twin, file = as_file(deployment, tmp_path)
    told = tmp_path / "demo.log"
    with told.open("wb") as output:
        process = subprocess.Popen(
            [*COMMAND, "demo", "--settings", file, "--people", "300"],
            cwd=twin.directory,
            env=bare_environment() | {"PYTHONUNBUFFERED": "1"},
            stdout=output,
            stderr=output,
        )
    try:

        def past_begins() -> bool:
            assert process.poll() is None, told.read_text("utf-8")
            return "live 30 days first" in told.read_text("utf-8")

        wait_until(past_begins, "the past begins", 90)
        assert len(left_behind(file)) >= 4, "collector with its process, worker and console"
        process.send_signal(sent)
        assert process.wait(60) != 0
    finally:
        process.kill()
        process.wait()
    assert left_behind(file) == []
    assert "Traceback" not in told.read_text("utf-8")


def test_what_comes_before_the_first_worker_counts(tmp_path: Path, kafka: str, redis_server: RedisServer) -> None:
    """Every partition of a new log begins with definitions: nothing that was acknowledged is folded without any."""
    deployment = Deployment(tmp_path, kafka, redis_server.url, partitions=8)
    try:
        deployment.create_topics()
        collector = deployment.collector(workers=1)
        collector.start()
        with httpx.Client(trust_env=False) as client:
            post(client, collector.url, ordering("anna"))
        deployment.worker("one").wait_ready()
        deployment.settle()
        anna = json.loads(deployment.run("person", "anna", "--json").stdout)
        assert anna["stage"] == "decision"
    finally:
        deployment.close()
