"""A Kafka and a Redis that let nobody in without TLS, a login and a right, with an authority of their own."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.admin import CreateAclsRequest

from collector.wire.kafka_access import KafkaAccess
from deploy.local.certificates import EXPIRED, Authority, Certificate
from deploy.local.process import HOST, free_ports
from deploy.local.services import KafkaBroker, RedisSentinel, RedisServer
from phasewatch.access import kafka_access
from phasewatch.backend import open_redis_store
from phasewatch.settings import Settings
from tests.services import running

ROOT: Final = Path(__file__).parents[1]
ROLES: Final = ("collector", "worker", "console", "operator")
PASSWORDS: Final = {role: f"{role}-Pa55word" for role in ROLES}
REDIS_PASSWORD: Final = "redis-Pa55word"
PREFIX: Final = "secured"
"""Begin of topics, of Redis's keys, and the name of its user."""

_LOGIN: Final = "org.apache.kafka.common.security"
_RESOURCES: Final = {"topic": 2, "group": 3, "transactional id": 5}
_OPERATIONS: Final = {"Read": 3, "Write": 4, "Create": 5, "Describe": 8, "DescribeConfigs": 10, "AlterConfigs": 11}
_LITERAL, _PREFIXED, _ALLOW = 3, 4, 3


class SecuredKafka(KafkaBroker):
    """One node with a listener for each way in; that without TLS is for whoever sets it up.

    Args:
        data: folder for everything it writes.
        authority: signs what it shows.
        passwords: by user.
    """

    WAYS: Final = {"secured": "SASL_SSL", "clear": "SASL_PLAINTEXT", "mutual": "SSL", "expired": "SASL_SSL"} | {
        "misnamed": "SASL_SSL"
    }

    def __init__(self, data: Path, authority: Authority, passwords: Mapping[str, str]) -> None:
        super().__init__(data, users=passwords)
        ports = dict(zip(self.WAYS, free_ports(len(self.WAYS)), strict=True))
        self.ways = {name: f"{HOST}:{port}" for name, port in ports.items()}
        """Addresses by the name of the listener."""
        shown = {
            "secured": authority.sign("secured"),
            "mutual": authority.sign("mutual"),
            "expired": authority.sign("expired", validity=EXPIRED),
            "misnamed": authority.sign("misnamed", names="DNS:kafka.example"),
        }
        self.settings |= {
            "listeners": ",".join([self.settings["listeners"], *(f"{name}://{at}" for name, at in self.ways.items())]),
            "listener.security.protocol.map": ",".join(
                ["PLAINTEXT:PLAINTEXT", "CONTROLLER:PLAINTEXT", *(f"{name}:{way}" for name, way in self.WAYS.items())]
            ),
            "inter.broker.listener.name": "PLAINTEXT",
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(authority.certificate),
            "listener.name.mutual.ssl.client.auth": "required",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
        }
        users = " ".join(f'user_{name}="{password}"' for name, password in passwords.items())
        for name, way in self.WAYS.items():
            if way.startswith("SASL"):
                scram = f"{_LOGIN}.scram.ScramLoginModule required;"
                logins = {
                    "plain": f"{_LOGIN}.plain.PlainLoginModule required {users};",
                    "scram-sha-256": scram,
                    "scram-sha-512": scram,
                }
                self.settings |= {
                    f"listener.name.{name}.{mechanism}.sasl.jaas.config": login for mechanism, login in logins.items()
                }
        for name, certificate in shown.items():
            self.settings |= {
                f"listener.name.{name}.ssl.keystore.type": "PEM",
                f"listener.name.{name}.ssl.keystore.location": str(certificate.both),
            }

    async def allow(self, user: str, rights: Iterable[tuple[str, str, str]], prefix: str) -> None:
        """Give a user rights: operation, kind of thing, its name; one that ends with * is the begin of a name."""
        client = AIOKafkaClient(bootstrap_servers=self.address)
        try:
            await client.bootstrap()
            for operation, kind, name in rights:
                own = name.replace("phasewatch.", prefix).replace("phasewatch-", f"{prefix[:-1]}-")
                pattern = _PREFIXED if own.endswith("*") else _LITERAL
                request = CreateAclsRequest(
                    _RESOURCES[kind], own.rstrip("*"), pattern, f"User:{user}", "*", _OPERATIONS[operation], _ALLOW
                )
                answer: Any = await client.send(client.get_random_node(), request)
                assert [one[0] for one in answer.creation_responses] == [0], answer
        finally:
            await client.close()


def kafka_rights(role: str) -> list[tuple[str, str, str]]:
    """Return what docs/kafka.md says that a role needs: operation, kind of thing, name."""
    page = (ROOT / "docs/kafka.md").read_text(encoding="utf-8")
    found = []
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and cells[0] == role:
            things = re.findall(r"`([^`]+)`", cells[2])
            found += [(operation, cells[1], thing) for operation in cells[3].split(", ") for thing in things]
    assert found, role
    return found


def redis_commands() -> list[str]:
    """Return what docs/redis.md says that the user needs, in the words of ACL SETUSER."""
    page = (ROOT / "docs/redis.md").read_text(encoding="utf-8")
    (words,) = re.findall(r"the commands `([A-Z|\s]+)`", page)
    return [f"+{word.lower()}" for word in words.split()]


class SecuredSentinel(RedisSentinel):
    """A Sentinel that answers by TLS alone, and watches a Redis by TLS."""

    def __init__(self, data: Path, authority: Authority, master: SecuredRedis) -> None:
        super().__init__(data, master=master)
        (self.tls_port,) = free_ports(1)
        self._tls = [*_tls_lines(authority, "sentinel").items(), ("tls-port", str(self.tls_port))]
        self._watched = master.tls_port

    def prepare(self) -> None:
        lines = [f"bind {HOST}", f"port {self.port}", f"dir {self.data}"]
        lines += [f"{name} {value}" for name, value in self._tls]
        lines += ["tls-replication yes", f"sentinel monitor {self.master_name} {HOST} {self._watched} 1"]
        self._configuration.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _tls_lines(authority: Authority, name: str) -> dict[str, str]:
    """Return the settings by which a Redis or Sentinel shows a certificate, and takes one of the same authority."""
    shown = authority.sign(name, names=f"IP:{HOST}")
    files = {"cert": shown.certificate, "key": shown.key, "ca-cert": authority.certificate}
    return {f"tls-{what}-file": str(path) for what, path in files.items()} | {"tls-auth-clients": "optional"}


class SecuredRedis(RedisServer):
    """A Redis that answers by TLS too, to one user with the documented rights; in the clear to whoever sets it up.

    Args:
        data: folder for everything it writes.
        authority: signs what it shows.
        user: name of the user.
        password: of the user.
        prefix: begin of the keys that are the user's.
    """

    def __init__(self, data: Path, authority: Authority, *, user: str, password: str, prefix: str) -> None:
        (self.tls_port,) = free_ports(1)
        super().__init__(data, settings={**_tls_lines(authority, "redis"), "tls-port": str(self.tls_port)})
        self._user = " ".join(["user", user, "on", f">{password}", f"~{prefix}:*", *redis_commands()])

    def prepare(self) -> None:
        super().prepare()
        self._configuration.write_text(f"{self._user}\n", encoding="utf-8")

    @property
    def secured_url(self) -> str:
        """Of its first database, by TLS."""
        return f"rediss://{HOST}:{self.tls_port}/0"


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

    async def ask_redis(self, **changed: object) -> None:
        """Open the state store by TLS, with some of its settings changed, and ask it something."""
        given = self._section("redis", "worker") | changed
        if str(given["url"]).startswith("redis:"):
            del given["ca_file"]
        store = open_redis_store(Settings.model_validate({"redis": given}))
        try:
            await store.note("nothing")
        finally:
            await store.close()
            for _ in range(5):  # asyncio closes the socket of a handshake that has failed in its next rounds
                await asyncio.sleep(0)

    def access(self, **changed: object) -> KafkaAccess:
        """Return the way of the operator, with some of its settings changed."""
        given = self._section("kafka", "operator") | changed
        return kafka_access(
            Settings.model_validate({"kafka": {name: value for name, value in given.items() if value is not None}})
        )

    def _section(self, section: str, role: str) -> dict[str, object]:
        prefix = f"PHASEWATCH_{section.upper()}__"
        given = self.environment(role).items()
        return {name.removeprefix(prefix).lower(): value for name, value in given if name.startswith(prefix)}


@pytest.fixture(scope="session")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("secured")
    authority, other = Authority(folder / "authority"), Authority(folder / "other")
    kafka = SecuredKafka(folder / "kafka", authority, PASSWORDS)
    redis = SecuredRedis(folder / "redis", authority, user=PREFIX, password=REDIS_PASSWORD, prefix=PREFIX)
    with running(redis), running(kafka):
        for role in ROLES:
            asyncio.run(kafka.allow(role, kafka_rights(role), f"{PREFIX}."))
        yield Secured(authority, kafka, redis, other, authority.sign("client"))
