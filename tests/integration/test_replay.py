"""`phasewatch replay --verify` as a command: over files, and over Kafka and Redis while workers fold under load."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from bench.simulator import DEFAULT_START, simulate
from deploy.local.services import RedisServer
from phasewatch.cli import app
from phasewatch.embedded_worker import shipped_definitions
from processors.engine.codec import decode_person, decode_state, encode_person
from processors.engine.ports import Commit
from tests.agreement import assert_agrees
from tests.harness import Deployment
from tests.integration.production import Deployment as Production
from tests.integration.production import Inside

DAY = 24 * 3_600_000
OTHER = shipped_definitions().replace("weight = 2.5", "weight = 2.0")


async def live(folder: Path, people: int, days: int, tail_days: int, *, partitions: int = 32) -> Deployment:
    """Let people live over files, with other definitions from the middle of it on."""
    paths = {"path": str(folder / "log.sqlite"), "store_path": str(folder / "states.sqlite")}
    deployment = Deployment(partitions=partitions, start=DEFAULT_START, **paths)
    for one in (deployment.log, deployment.store):
        one._connection.execute("PRAGMA synchronous=OFF")  # noqa: SLF001 - a test's files need not outlive a power cut
    await deployment.start()
    events = list(simulate(1, people, DEFAULT_START, days, tail_days))
    await deployment.feed(events[: len(events) // 2])
    await deployment.publish(OTHER)
    await deployment.feed(events[len(events) // 2 :])
    return deployment


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the commands run; there is room for a deployment's files."""
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str | Path) -> Result:
    return CliRunner(env={"NO_COLOR": "1", "TERM": "dumb"}).invoke(app, list(map(str, arguments)))


def replay(*options: str | Path) -> Result:
    return run("replay", "--verify", "--max-cpu", "100", *options)


def test_exit_codes_and_what_they_say(folder: Path) -> None:
    """0: equal; 1: named and readable; 2: wrong use; 3: nothing there. What is on the disk stays as it is."""
    (folder / "phasewatch.toml").write_text("[log]\npartitions = 2\n")
    asyncio.run(live(folder / "data", 20, 3, 0, partitions=2)).close()
    done = replay()
    assert (done.exit_code, done.stderr) == (0, "")
    assert "equal: the states are what the log makes of them" in done.stdout
    key, value = a_person(folder / "data")
    person = decode_person(key, value)
    person.version += 3
    write_person(folder / "data", key, encode_person(person))
    before = digests(folder / "data")
    done = replay()
    assert done.exit_code == 1
    assert f"{key} (partition " in done.stdout
    assert f"  version: live {person.version} | replayed {person.version - 3}\n" in done.stdout
    assert "1 difference. What it can come from, and what to do: docs/verification.md" in done.stdout
    found = json.loads(replay("--json").stdout)
    assert (found["equal"], found["differences"], found["shown"][0]["subject"]) == (False, 1, key)
    assert digests(folder / "data") == before
    with closing(sqlite3.connect(folder / "data" / "log.sqlite")) as connection, connection:
        connection.execute("DELETE FROM records WHERE topic = 'events' AND \"offset\" < 3")
    done = replay()
    assert done.exit_code == 2
    assert "begins at offset 3" in done.stderr
    assert "--from" in done.stderr
    assert run("replay").exit_code == 2
    assert replay("--partitions", "one").exit_code == 2
    assert replay("--partitions", "2").exit_code == 2
    done = replay("--data-dir", "elsewhere")
    assert (done.exit_code, "nothing has run there yet" in done.stderr) == (3, True)


def a_person(data: Path) -> tuple[str, bytes]:
    with closing(sqlite3.connect(data / "states.sqlite")) as connection:
        found: tuple[str, bytes] = connection.execute("SELECT key, value FROM people WHERE key LIKE 'u:%'").fetchone()
    return found


def write_person(data: Path, key: str, value: bytes) -> None:
    with closing(sqlite3.connect(data / "states.sqlite")) as connection, connection:
        connection.execute("UPDATE people SET value = ? WHERE key = ?", (value, key))


def digests(data: Path) -> list[Any]:
    """Return everything that the two files hold."""
    found = []
    for name, tables in (("log", ("log", "records")), ("states", ("log", "partitions", "people", "due", "outbox"))):
        with closing(sqlite3.connect(data / f"{name}.sqlite")) as connection:
            found += [connection.execute(f"SELECT * FROM {table}").fetchall() for table in tables]
    return found


@pytest.mark.long
@pytest.mark.timeout(900)
def test_equal_where_product_and_oracle_agree(folder: Path) -> None:
    """Hundreds of people with identity, money, timers and a change of definitions; and again from a snapshot."""

    async def agreed() -> None:
        deployment = await live(folder / "data", 400, 12, 50)
        await assert_agrees(deployment, await deployment.records())
        deployment.close()

    asyncio.run(agreed())
    done = replay("--json")
    assert done.exit_code == 0, done.stdout
    print("\n" + done.stdout)  # noqa: T201 - figures
    assert run("snapshot", "snapshots").exit_code == 0
    (snapshot,) = [one for one in (folder / "snapshots").iterdir() if one.is_dir()]
    found = json.loads(replay("--json", "--from", snapshot).stdout)
    assert (found["equal"], found["records"]) == (True, 0)
    assert found["persons"] > 100


@pytest.mark.services
@pytest.mark.timeout(600)
async def test_equal_over_kafka_and_redis_while_a_worker_folds(
    tmp_path: Path, kafka: str, redis_server: RedisServer
) -> None:
    deployment = Production(tmp_path, kafka, redis_server.url, partitions=3)
    deployment.create_topics()
    try:
        worker = deployment.worker("one")
        await asyncio.to_thread(worker.wait_ready)
        async with Inside.open(deployment) as inside:
            await inside.feed(simulate(1, 20, DEFAULT_START, 2, 0), settle_every=12)
            later = (one | {"arrives": one["arrives"] + 20 * DAY} for one in simulate(2, 100, DEFAULT_START, 9, 0))
            feeding = asyncio.create_task(inside.feed(later, settle_every=3))
            done = await asyncio.to_thread(deployment.run, "replay", "--verify", "--json", "--max-cpu", "30")
            assert done.returncode == 0, done.stdout + done.stderr
            found = json.loads(done.stdout)
            async with asyncio.timeout(60):
                while found["records"] >= sum([end for _, end in await inside.log.all_bounds()]):
                    assert not feeding.done(), "the load ended before the verification"
                    await asyncio.sleep(0.01)
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
            await inside.settle()
            assert found["persons"] > 5
            await tamper(inside)
            done = await asyncio.to_thread(deployment.run, "replay", "--verify", "--max-cpu", "100")
            assert (done.returncode, done.stdout.count("version: live")) == (1, 1), done.stdout + done.stderr
        assert deployment.complaints() == []
    finally:
        deployment.close()


async def tamper(inside: Inside) -> None:
    """Change somebody in the live store; the worker that is refused for it takes the partition over again."""
    for partition in range(inside.log.partitions):
        async for key, value in inside.store.people(partition):
            acquired = await inside.store.acquire(partition)
            assert acquired.state is not None
            person, at = decode_person(key, value), decode_state(partition, 3, acquired.state).position
            person.version += 1
            people: dict[str, bytes | None] = {key: encode_person(person)}
            await inside.store.commit(Commit(partition, acquired.token, at, at, acquired.state, people))
            return


def test_a_kafka_that_is_away(folder: Path, logged_errors: list[str]) -> None:
    (folder / "phasewatch.toml").write_text('[kafka]\nbrokers = "127.0.0.1:9"\n')
    done = replay()
    assert done.exit_code == 3
    assert "127.0.0.1:9" in done.stderr
    assert all(one.startswith("aiokafka: ") for one in logged_errors)
