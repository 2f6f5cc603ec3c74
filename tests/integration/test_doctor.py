"""`phasewatch doctor` and `status` over a real Kafka and Redis: a healthy deployment, and each fault made for real."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from deploy.local.services import KafkaBroker, RedisServer
from tests.integration.production import Deployment, Inside
from tests.services import StartService

pytestmark = pytest.mark.services

PARTITIONS = 4


@pytest.fixture
def deployment(kafka: str, redis_server: RedisServer, tmp_path: Path) -> Iterator[Deployment]:
    found = Deployment(tmp_path, kafka, redis_server.url, partitions=PARTITIONS)
    yield found
    found.close()


def examine(deployment: Deployment) -> tuple[int, dict[str, list[tuple[str, str]]]]:
    """Return the exit code, and by name of the check (result, text) of each line."""
    done = deployment.run("doctor", "--json")
    found: dict[str, list[tuple[str, str]]] = {}
    for one in json.loads(done.stdout):
        found.setdefault(one["name"], []).append((one["result"], one["text"]))
    return done.returncode, found


def results(found: dict[str, list[tuple[str, str]]]) -> dict[str, str]:
    """Return what is not ok, by name of the check."""
    return {name: result for name, lines in found.items() for result, _ in lines if result != "ok"}


def texts(found: list[tuple[str, str]]) -> str:
    return "\n".join(text for _, text in found)


def fold_definitions(deployment: Deployment, *names: str) -> None:
    """Start workers and return once each has partitions, and all that `phasewatch topics` brought is folded."""
    for name in names:
        deployment.worker(name)
    for name in names:
        deployment.workers[name].wait_ready()

    async def settle() -> None:
        async with Inside.open(deployment) as inside:
            await inside.settle()

    asyncio.run(settle())


def stop(deployment: Deployment, name: str) -> None:
    process = deployment.workers[name].process
    process.terminate()
    process.wait(30)


@asynccontextmanager
async def administrator(deployment: Deployment) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=deployment.settings.kafka.brokers)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def delete_topic(deployment: Deployment, name: str) -> None:
    """Delete a topic and return once Kafka knows it no longer."""
    topic = deployment.settings.kafka.topic_prefix + name
    deadline = time.monotonic() + 30
    async with administrator(deployment) as admin:
        await admin.delete_topics([topic])
        while True:
            if (await admin.describe_topics([topic]))[0]["error_code"] != 0:
                return
            assert time.monotonic() < deadline, f"{topic} is still there"
            await asyncio.sleep(0.05)


async def create_topic(deployment: Deployment, name: str, **settings: str) -> None:
    """Create a topic by another hand."""
    topic = NewTopic(deployment.settings.kafka.topic_prefix + name, PARTITIONS, 1, topic_configs=settings)
    async with administrator(deployment) as admin:
        answer = await admin.create_topics([topic])
        assert [error[1] for error in answer.topic_errors] == [0]


def status(deployment: Deployment) -> dict[str, Any]:
    done = deployment.run("status", "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_healthy_deployment_is_ok_until_its_workers_stop_and_its_log_is_made_anew(deployment: Deployment) -> None:
    deployment.create_topics()
    fold_definitions(deployment, "one", "two")
    code, found = examine(deployment)
    assert (code, results(found)) == (0, {}), found
    assert set(found) == {
        "settings", "kafka", "topics", "workers", "redis", "clocks", "states", "positions", "behind", "definitions",
        "overdue", "outbox", "spool", "snapshot",
    }  # fmt: skip
    assert "every partition has one: one has 2, two has 2" in texts(found["workers"])
    assert "number 1 is in force everywhere" in texts(found["definitions"])
    shown = status(deployment)
    assert (shown["running"], shown["partitions"], shown["definitions"]) == (True, PARTITIONS, 1)
    assert sorted(shown["workers"]) == ["one", "two"]
    assert sorted(number for own in shown["workers"].values() for number in own) == list(range(PARTITIONS))
    assert "who folds" in deployment.run("status").stdout

    stop(deployment, "one")
    stop(deployment, "two")
    shown = status(deployment)
    assert (shown["running"], shown["workers"]) == (False, {})
    code, found = examine(deployment)
    assert (code, results(found)) == (1, {"workers": "fault"})
    assert "Start `phasewatch worker`" in texts(found["workers"])

    asyncio.run(delete_topic(deployment, "events"))
    code, found = examine(deployment)
    assert (code, results(found)) == (1, {"topics": "fault", "states": "unknown"})
    assert "number 1 is in force everywhere" in texts(found["definitions"])
    deployment.create_topics()
    code, found = examine(deployment)
    assert (code, results(found)) == (1, {"workers": "fault", "states": "fault"})
    assert "Bring the old log back" in texts(found["states"])


@pytest.mark.long
def test_topics_that_endanger_are_told(deployment: Deployment) -> None:
    deployment.create_topics()
    for name in ("stages", "entered.holding", "stage-changes"):
        asyncio.run(delete_topic(deployment, name))
    asyncio.run(create_topic(deployment, "entered.holding"))
    kept = {"message.timestamp.type": "LogAppendTime", "retention.ms": "1000000"}
    asyncio.run(create_topic(deployment, "stage-changes", **kept))
    code, found = examine(deployment)
    assert (code, results(found)["topics"]) == (1, "fault")
    said = texts(found["topics"])
    prefix = deployment.settings.kafka.topic_prefix
    assert f"{prefix}stages is missing" in said
    assert f"{prefix}entered.holding: message.timestamp.type is CreateTime, not LogAppendTime" in said
    assert f"{prefix}stage-changes: retention.ms is 1000000" in said
    assert "`phasewatch topics` corrects it" in said


def test_a_redis_that_may_lose_states_is_told_and_a_fresh_one_is_not_bound(
    deployment: Deployment, start_service: StartService, tmp_path: Path
) -> None:
    careless = {"appendonly": "no", "maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"}
    redis = start_service(RedisServer(tmp_path / "redis", settings=careless))
    deployment.environment["PHASEWATCH_REDIS__URL"] = redis.url
    deployment.create_topics()
    code, found = examine(deployment)
    assert (code, results(found)) == (1, {"workers": "fault", "redis": "fault", "definitions": "unknown"})
    assert [result for result, _ in found["redis"]] == ["fault", "fault"]
    assert "appendonly no" in texts(found["redis"])
    assert "maxmemory-policy allkeys-lru" in texts(found["redis"])
    assert redis.ask("DBSIZE") == ":0"


@pytest.mark.timeout(240)
@pytest.mark.long
def test_what_can_be_said_without_a_service_is_said(start_service: StartService, tmp_path: Path) -> None:
    broker = start_service(KafkaBroker(tmp_path / "kafka"))
    own = start_service(RedisServer(tmp_path / "redis"))
    deployment = Deployment(tmp_path, broker.address, own.url, partitions=PARTITIONS)
    deployment.create_topics()
    code, found = examine(deployment)  # nobody was ever in a group of this Kafka
    assert (code, results(found)) == (1, {"workers": "fault", "definitions": "unknown"})
    fold_definitions(deployment, "one")
    stop(deployment, "one")

    own.kill()
    code, found = examine(deployment)
    assert (code, results(found)) == (3, {"workers": "fault", "redis": "away", "states": "unknown"})
    assert texts(found["topics"]) == "all 8 are as they have to be"
    assert "appended" in texts(found["clocks"])
    assert deployment.run("status").returncode == 3

    own.start()
    broker.kill()
    code, found = examine(deployment)
    assert (code, results(found)) == (3, {"kafka": "away", "states": "unknown"})
    assert f"Kafka at {broker.address} does not answer" in texts(found["kafka"])
    assert found["redis"][0][0] == "ok"
    assert "number 1 is in force everywhere" in texts(found["definitions"])

    own.kill()
    code, found = examine(deployment)
    assert (code, results(found)) == (3, {"kafka": "away", "redis": "away", "states": "unknown"})
    assert found["settings"][0][0] == "ok"
    deployment.close()
