"""Everything over TLS, with logins no more rights than documented; and what is said where they do not fit."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from processors.adapters.kafka.topic_ids import identify_topic
from processors.adapters.kafka.topics import TopicAdmin
from processors.engine.ports import StoreUnavailableError
from tests.integration.collector_process import CollectorProcess
from tests.integration.embedded_process import wait_until
from tests.integration.production import Deployment
from tests.kafka_topics import read_topic
from tests.secured import PASSWORDS, PREFIX, REDIS_PASSWORD, Secured, SecuredSentinel
from tests.services import StartService

pytestmark = [
    pytest.mark.services,
    # asyncio closes a TLS connection rounds after who closed it; a loop that ends before leaves that to the collector.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]

PARTITIONS = 4
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
COMMANDS = (
    ("doctor", "--json"),
    ("topics", "--check"),
    ("status",),
    ("person", "42"),
    ("snapshot", "snapshots"),
    ("replay", "--verify"),
    ("balance",),
)


@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_every_login_is_supported(secured: Secured, mechanism: str) -> None:
    async with TopicAdmin(secured.access(sasl_mechanism=mechanism)) as admin:
        assert await admin.brokers_in_service() == 1


async def test_a_login_without_tls_is_supported(secured: Secured) -> None:
    kafka = secured.access(brokers=secured.kafka.ways["clear"], security="sasl_plaintext", ca_file=None)
    async with TopicAdmin(kafka) as admin:
        assert await admin.brokers_in_service() == 1


async def test_a_certificate_of_ones_own_is_a_login(secured: Secured) -> None:
    kafka = secured.access(
        brokers=secured.kafka.ways["mutual"],
        security="ssl",
        username=None,
        password=None,
        certificate_file=secured.client.certificate,
        key_file=secured.client.key,
    )
    async with TopicAdmin(kafka) as admin:
        assert await admin.brokers_in_service() == 1


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"password": "wrong"}, "does not know user operator with this password by SCRAM-SHA-512"),
        ({"username": "nobody"}, "does not know user nobody"),
        ({"password": "wrong", "sasl_mechanism": "PLAIN"}, "does not know user operator with this password by PLAIN"),
        ({"ca_file": "other"}, "comes from no authority that this side knows: let kafka.ca_file name"),
        ({"ca_file": None}, "comes from no authority that this side knows: let kafka.ca_file name"),
        ({"brokers": "expired"}, "its certificate has expired"),
        ({"brokers": "misnamed"}, "its certificate is for other names"),
        ({"brokers": "plaintext"}, "ends the connection at once: see whether that port is for TLS"),
        (
            {"security": "sasl_plaintext", "ca_file": None},
            "ends the connection at once: see whether that port asks for TLS",
        ),
        ({"brokers": "mutual"}, "or asks for a certificate of ours"),
    ],
)
async def test_who_is_not_let_in_is_told_why(
    secured: Secured, changed: dict[str, str | None], said: str, logged_errors: list[str]
) -> None:
    places = {"other": secured.other.certificate, "plaintext": secured.kafka.address, **secured.kafka.ways}
    kafka = secured.access(**{name: places.get(str(value), value) for name, value in changed.items()})
    with pytest.raises(StoreUnavailableError, match=r"Kafka at 127") as refused:
        await identify_topic(kafka, f"{PREFIX}.events")
    assert said in str(refused.value)
    assert all(one.startswith("aiokafka") for one in logged_errors)
    assert not any(password in f"{refused.value} {logged_errors}" for password in PASSWORDS.values())


@pytest.mark.parametrize(
    "command",
    [
        "doctor",
        "collector",
        pytest.param("status", marks=pytest.mark.long),
        pytest.param("topics", marks=pytest.mark.long),
    ],
)
def test_a_command_that_is_not_let_in_ends_with_3(secured: Secured, tmp_path: Path, command: str) -> None:
    deployment = Deployment(tmp_path, secured.kafka.ways["secured"], secured.redis.secured_url, partitions=PARTITIONS)
    deployment.environment |= secured.environment("operator") | {"PHASEWATCH_KAFKA__PASSWORD": "wr0ng-Pa55word"}
    done = deployment.run(command)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "does not know user operator with this password" in done.stdout + done.stderr
    assert "Pa55word" not in done.stdout + done.stderr


def test_a_worker_that_is_not_let_in_says_so_and_waits(secured: Secured, tmp_path: Path) -> None:
    deployment = Deployment(tmp_path, secured.kafka.ways["secured"], secured.redis.secured_url, partitions=PARTITIONS)
    deployment.environment |= secured.environment("worker") | {"PHASEWATCH_KAFKA__PASSWORD": "wr0ng-Pa55word"}
    try:
        worker = deployment.worker("one")
        said = "does not know user worker with this password"
        wait_until(lambda: said in str(worker.ready()["not_ready"]), "it says why")
        assert any(said in str(one) for one in worker.complaints())
        assert worker.stop() == 0
        assert "Pa55word" not in worker.log.read_text("utf-8")
    finally:
        deployment.close()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"password": "wrong"}, "check redis.username and redis.password"),
        ({"ca_file": "other"}, "let redis.ca_file name"),
        ({"ca_file": None}, "let redis.ca_file name"),
        ({"url": "clear"}, "see whether that port asks for TLS"),
        ({"url": "misnamed"}, "its certificate is for other names"),
    ],
)
async def test_who_is_not_let_into_redis_is_told_why(
    secured: Secured, changed: dict[str, str | None], said: str
) -> None:
    port = secured.redis.tls_port
    places = {"other": secured.other.certificate, "clear": f"redis://127.0.0.1:{port}/0"}
    places |= {"misnamed": f"rediss://localhost:{port}/0"}
    given = {name: places.get(str(value), value) for name, value in changed.items()}
    with pytest.raises(StoreUnavailableError) as refused:
        await secured.ask_redis(**given)
    assert said.lower() in str(refused.value).lower()
    assert REDIS_PASSWORD not in str(refused.value)


async def test_sentinels_are_asked_by_tls(secured: Secured, tmp_path: Path, start_service: StartService) -> None:
    sentinel = start_service(SecuredSentinel(tmp_path / "sentinel", secured.authority, secured.redis))
    own = {"certificate_file": secured.client.certificate, "key_file": secured.client.key}
    await secured.ask_redis(sentinels=[f"127.0.0.1:{sentinel.tls_port}"], **own)
    with pytest.raises(StoreUnavailableError, match=r"redis\.ca_file"):
        await secured.ask_redis(sentinels=[f"127.0.0.1:{sentinel.tls_port}"], ca_file=secured.other.certificate)


@pytest.mark.parametrize("commands", [COMMANDS[:1], pytest.param(COMMANDS, marks=pytest.mark.long)])
def test_the_whole_way_needs_the_documented_rights_alone(
    secured: Secured, tmp_path: Path, commands: Sequence[Sequence[str]]
) -> None:
    deployment = Deployment(tmp_path, secured.kafka.ways["secured"], secured.redis.secured_url, partitions=PARTITIONS)
    deployment.environment |= secured.environment("operator")
    collector = CollectorProcess(tmp_path, deployment.environment | secured.environment("collector"), workers=1)
    try:
        deployment.create_topics()
        deployment.environment |= secured.environment("worker")
        worker = deployment.worker("one")
        deployment.environment |= secured.environment("console")
        console = deployment.console()
        console.launch()
        deployment.environment |= secured.environment("operator")
        collector.start()
        worker.wait_ready()
        console.wait_ready()
        deployment.settle()
        orders = [
            {"id": f"o-{n}", "user_id": "42", "type": "submit", "page": {"path": "/orders/new"}} for n in range(3)
        ]
        assert post(collector.url, orders) == 3
        wait_until(lambda: "u:42" in changes_of(console.url), "the change is told")
        assert "u:42" in asyncio.run(changes_on_topic(secured))
        for words in commands:
            done = deployment.run(*words)
            assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        assert [one for one in deployment.complaints() if "assigned" not in str(one)] == []
    finally:
        collector.close()
        deployment.close()


def post(url: str, events: Sequence[Mapping[str, object]]) -> int:
    request = urllib.request.Request(f"{url}/v1/events", json.dumps(events).encode(), {"Authorization": "Bearer demo"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return int(json.load(answer)["accepted"])


def changes_of(url: str) -> list[str]:
    with urllib.request.urlopen(f"{url}/api/changes", timeout=30) as answer:
        return [one["person"] for one in json.load(answer)["changes"]]


async def changes_on_topic(secured: Secured) -> list[str]:
    found = [await read_topic(secured.kafka.address, f"{PREFIX}.stage-changes", n) for n in range(PARTITIONS)]
    return [json.loads(one.value)["person"] for records in found for one in records]
