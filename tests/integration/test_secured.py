"""Everything over TLS, with logins and no more rights than the documented ones; and what is said where they do not fit."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from collector.wire.kafka_access import KafkaAccess
from deploy.local.certificates import Authority, Certificate
from phasewatch.access import kafka_access
from phasewatch.errors import UsageError
from phasewatch.settings import Settings
from processors.adapters.kafka.topic_ids import identify_topic
from processors.adapters.kafka.topics import TopicAdmin
from processors.engine.ports import StoreUnavailableError
from tests.integration.collector_process import CollectorProcess
from tests.integration.embedded_process import wait_until
from tests.integration.production import Deployment
from tests.kafka_topics import read_topic
from tests.secured import ROLES, SecuredKafka, SecuredRedis, kafka_rights
from tests.services import running

pytestmark = pytest.mark.services

PARTITIONS = 4
PASSWORDS = {role: f"{role}-Pa55word" for role in ROLES}
REDIS_PASSWORD = "redis-Pa55word"
PREFIX = "secured"
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


@dataclass(frozen=True, slots=True)
class Secured:
    """A Kafka and a Redis, and the authority that both show a certificate of."""

    authority: Authority
    kafka: SecuredKafka
    redis: SecuredRedis
    other: Authority
    """One that has signed nothing of theirs."""
    client: Certificate

    def environment(self, role: str) -> dict[str, str]:
        """Return the settings of a process in a role."""
        return {
            "PHASEWATCH_KAFKA__BROKERS": self.kafka.ways["secured"],
            "PHASEWATCH_KAFKA__SECURITY": "sasl_ssl",
            "PHASEWATCH_KAFKA__CA_FILE": str(self.authority.certificate),
            "PHASEWATCH_KAFKA__SASL_MECHANISM": "SCRAM-SHA-512",
            "PHASEWATCH_KAFKA__USERNAME": role,
            "PHASEWATCH_KAFKA__PASSWORD": PASSWORDS[role],
            "PHASEWATCH_KAFKA__TOPIC_PREFIX": f"{PREFIX}.",
            "PHASEWATCH_REDIS__URL": self.redis.secured_url,
            "PHASEWATCH_REDIS__CA_FILE": str(self.authority.certificate),
            "PHASEWATCH_REDIS__USERNAME": PREFIX,
            "PHASEWATCH_REDIS__PASSWORD": REDIS_PASSWORD,
            "PHASEWATCH_REDIS__PREFIX": PREFIX,
        }

    def access(self, **changed: object) -> KafkaAccess:
        """Return the way of the operator, with some of its settings changed."""
        given = {
            name.removeprefix("PHASEWATCH_KAFKA__").lower(): value
            for name, value in self.environment("operator").items()
            if name.startswith("PHASEWATCH_KAFKA__")
        }
        given |= {name: value for name, value in changed.items() if value is not None}
        for name in (name for name, value in changed.items() if value is None):
            del given[name]
        return kafka_access(Settings.model_validate({"kafka": given}))


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("secured")
    authority, other = Authority(folder / "authority"), Authority(folder / "other")
    kafka = SecuredKafka(folder / "kafka", authority, PASSWORDS)
    redis = SecuredRedis(folder / "redis", authority, user=PREFIX, password=REDIS_PASSWORD, prefix=PREFIX)
    with running(redis), running(kafka):
        for role in ROLES:
            asyncio.run(kafka.allow(role, kafka_rights(role), f"{PREFIX}."))
        yield Secured(authority, kafka, redis, other, authority.sign("client"))


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
        ({"security": "sasl_plaintext", "ca_file": None}, "ends the connection at once: see whether that port asks for TLS"),
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
