"""A real Kafka, Redis and Prometheus on loopback without containers, for a developer and for tests.

Standard library only. `deploy/local/bootstrap.sh kafka redis prometheus` installs the programs.
"""
# ruff: noqa: INP001, S603 - beside bootstrap.sh, no package; every command is put together in this file

from __future__ import annotations

import base64
import http.client
import socket
import struct
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from deploy.local.process import HOST, START_SECONDS, Service, ServiceError, free_ports, wait_until

ROOT = Path(__file__).resolve().parents[2]
KAFKA_LIBS = ROOT / ".venv/.kafka/libs"
"""Where bootstrap.sh puts Kafka's jars; a Java program that uses Kafka's client takes them from here too."""
HEAP = "-Xmx768m"
"""Of a broker: three of them fit beside everything else on a small machine."""
CLUSTER_ID = base64.urlsafe_b64encode(b"phasewatch-local").decode().rstrip("=")
"""Kafka wants the sixteen bytes of a UUID in base64."""
ANSWER_SECONDS = 2.0
"""How long an answer to a question of readiness may take."""


class KafkaBroker(Service):
    """One node of Kafka, broker and controller in one; alone it is a whole Kafka.

    Args:
        data: folder for everything it writes.
        port: for clients; 0 takes a free one.
        controller_port: for the other controllers; 0 takes a free one.
        node_id: its number in the cluster.
        settings: further lines of server.properties.
        users: passwords by name, of those who log in by SCRAM; they are made with the data folder.
    """

    name = "Kafka"
    programs = ("java",)

    def __init__(
        self,
        data: Path,
        *,
        port: int = 0,
        controller_port: int = 0,
        node_id: int = 1,
        settings: Mapping[str, str] | None = None,
        users: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(data, port)
        self._users = users or {}
        self.controller_port = controller_port or free_ports(1)[0]
        self.node_id = node_id
        self.settings = {
            "process.roles": "broker,controller",
            "node.id": str(node_id),
            "controller.quorum.voters": self.voter,
            "listeners": f"PLAINTEXT://{self.address},CONTROLLER://{HOST}:{self.controller_port}",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(self.data / "topics"),
            "auto.create.topics.enable": "false",
            "group.initial.rebalance.delay.ms": "0",
            # A broker that was killed is let in again when its old session is over: 9 s by default, most of a restart.
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "500",
            # Fifty partitions each by default: far more files and elections than one machine's few groups are worth.
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.num.partitions": "4",
            **_replication(1),
            **(settings or {}),
        }
        """Lines of server.properties at the next start."""

    @property
    def voter(self) -> str:
        """How the controllers of a cluster know it."""
        return f"{self.node_id}@{HOST}:{self.controller_port}"

    def missing(self) -> str:  # noqa: D102 - as of every service
        if not any(KAFKA_LIBS.glob("kafka_*.jar")):
            return f"Kafka's jars are not in {KAFKA_LIBS.relative_to(ROOT)}; `make test` fetches them or says how"
        return super().missing()

    def prepare(self) -> None:  # noqa: D102
        lines = [f"{key}={value}" for key, value in self.settings.items()]
        self._properties.write_text("\n".join(lines) + "\n", encoding="utf-8")
        if not (self.data / "topics/meta.properties").exists():
            self._format()

    def _format(self) -> None:
        options = ["--ignore-formatted", "-t", CLUSTER_ID, "-c", str(self._properties)]
        for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
            for name, password in self._users.items():
                options += ["--add-scram", f"{mechanism}=[name={name},password={password}]"]
        done = subprocess.run(
            [*_java("-XX:TieredStopAtLevel=1"), "kafka.tools.StorageTool", "format", *options],
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            message = f"{self}: its data folder {self.data} could not be formatted:\n{done.stdout}{done.stderr}"
            raise ServiceError(message)

    @property
    def _properties(self) -> Path:
        return self.data / "server.properties"

    def command(self) -> list[str]:  # noqa: D102
        logging = f"-Dlog4j2.configurationFile={Path(__file__).with_name('log4j2.properties')}"
        return [*_java(HEAP, logging), "kafka.Kafka", str(self._properties)]

    def answers(self) -> bool:  # noqa: D102
        return self.node_id in self.brokers()

    def brokers(self) -> set[int]:
        """Ask it which brokers of the cluster are in service; raise OSError when it does not answer."""
        with socket.create_connection((HOST, self.port), ANSWER_SECONDS) as connection:
            connection.settimeout(ANSWER_SECONDS)
            with connection.makefile("rwb") as stream:
                # Metadata, version 1 (https://kafka.apache.org/protocol): header, then an empty list of topics.
                stream.write(struct.pack(">ihhihi", 14, 3, 1, 0, -1, 0))
                stream.flush()
                size = _unpacked(">i", stream.read(4))
                return _brokers_of(stream.read(size))


def _unpacked(form: str, data: bytes) -> int:
    if len(data) < struct.calcsize(form):
        message = "the answer ends in the middle"
        raise ConnectionResetError(message)
    value: int = struct.unpack_from(form, data)[0]
    return value


def _brokers_of(answer: bytes) -> set[int]:
    """Return the node ids in a Metadata response, version 1: correlation id, brokers, and what is not of interest."""
    found = set()
    at = 8
    for _ in range(_unpacked(">i", answer[4:])):
        found.add(_unpacked(">i", answer[at:]))
        at += 4
        at += 2 + _unpacked(">h", answer[at:]) + 4  # host, port
        at += 2 + max(0, _unpacked(">h", answer[at:]))  # rack, which may be null
    return found


def _java(*options: str) -> list[str]:
    return ["java", *options, "-cp", f"{KAFKA_LIBS}/*"]


def _replication(copies: int) -> dict[str, str]:
    needed = str(max(1, copies - 1))
    return {
        "default.replication.factor": str(copies),
        "min.insync.replicas": needed,
        "offsets.topic.replication.factor": str(copies),
        "transaction.state.log.replication.factor": str(copies),
        "transaction.state.log.min.isr": needed,
    }


class KafkaCluster:
    """Several brokers that replicate: any one of three may die without loss.

    Args:
        data: folder for everything they write.
        size: number of brokers; topics get that many copies, and writes wait for all but one.
        settings: further lines of every broker's server.properties.
    """

    def __init__(self, data: Path, *, size: int = 3, settings: Mapping[str, str] | None = None) -> None:
        ports = free_ports(2 * size)
        self.brokers = [
            KafkaBroker(
                data / str(number),
                node_id=number,
                port=ports[number - 1],
                controller_port=ports[size + number - 1],
                settings=_replication(size) | dict(settings or {}),
            )
            for number in range(1, size + 1)
        ]
        voters = ",".join(broker.voter for broker in self.brokers)
        for broker in self.brokers:
            broker.settings["controller.quorum.voters"] = voters

    @property
    def address(self) -> str:
        """Every broker's, with commas between."""
        return ",".join(broker.address for broker in self.brokers)

    def missing(self) -> str:
        """Say what the machine lacks to run this, or return an empty text."""
        return self.brokers[0].missing()

    def start(self) -> None:
        """Start all of them and wait until each sees all others; raise ServiceError when one does not come."""
        with ThreadPoolExecutor(len(self.brokers)) as pool:  # one alone would wait for a majority in vain
            for _ in pool.map(KafkaBroker.start, self.brokers):
                pass
        self.wait_until_whole()

    def wait_until_whole(self) -> None:
        """Wait until every broker sees all of them in service; raise ServiceError after START_SECONDS."""
        everybody = {broker.node_id for broker in self.brokers}
        for broker in self.brokers:
            wait_until(partial(_sees, broker, everybody), f"{broker} sees all brokers", START_SECONDS)

    def close(self) -> None:
        """End all of them."""
        for broker in self.brokers:
            broker.close()


def _sees(broker: KafkaBroker, everybody: set[int]) -> bool:
    return broker.is_ready() and broker.brokers() == everybody


class _Redis(Service):
    """What a Redis and its Sentinel have in common: one program, a file that it rewrites itself, one protocol."""

    programs = ("redis-server",)

    def ask(self, command: str) -> str:
        """Send one command, words with spaces between, and return a simple or bulk answer's text; raises OSError."""
        with socket.create_connection((HOST, self.port), ANSWER_SECONDS) as connection:
            connection.settimeout(ANSWER_SECONDS)
            with connection.makefile("rwb") as stream:
                stream.write(command.encode() + b"\r\n")
                stream.flush()
                head = stream.readline().decode().rstrip("\r\n")
                return stream.read(int(head[1:])).decode() if head.startswith("$") and head != "$-1" else head

    @property
    def _configuration(self) -> Path:
        return self.data / "redis.conf"


class RedisServer(_Redis):
    """A Redis with the persistence that Phasewatch asks for.

    Args:
        data: folder for everything it writes.
        port: 0 takes a free one.
        replica_of: the Redis that it copies, at first; a Sentinel may change that for good.
        settings: further settings, by their names in redis.conf.
    """

    name = "Redis"

    def __init__(
        self,
        data: Path,
        *,
        port: int = 0,
        replica_of: RedisServer | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(data, port)
        self._replica_of = replica_of
        self.settings = {
            "bind": HOST,
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            **(settings or {}),
        }
        """Settings at the next start."""

    @property
    def url(self) -> str:
        """Of its first database."""
        return f"redis://{self.address}/0"

    def prepare(self) -> None:  # noqa: D102
        # Written once: a Sentinel lets the server rewrite it, and who is a replica has to outlive a restart.
        if not self._configuration.exists():
            first = f"replicaof {HOST} {self._replica_of.port}\n" if self._replica_of else ""
            self._configuration.write_text(first, encoding="utf-8")

    def command(self) -> list[str]:  # noqa: D102
        words = [word for name, value in self.settings.items() for word in (f"--{name}", value)]
        return ["redis-server", str(self._configuration), "--port", str(self.port), "--dir", str(self.data), *words]

    def answers(self) -> bool:  # noqa: D102
        if self.ask("PING") != "+PONG":  # it is still loading
            return False
        replication = self.ask("INFO replication")
        return "role:master" in replication or "master_link_status:up" in replication


class RedisSentinel(_Redis):
    """A Sentinel that watches one Redis.

    Args:
        data: folder for everything it writes.
        master: the Redis that it watches, with its replicas.
        quorum: how many Sentinels have to agree that it is down.
    """

    name = "Sentinel"
    master_name = "phasewatch"
    """Under which clients ask for the master."""
    down_after_ms = 1000

    def __init__(self, data: Path, *, master: RedisServer, quorum: int = 1) -> None:
        super().__init__(data, 0)
        self._master = master
        self._quorum = quorum

    def prepare(self) -> None:  # noqa: D102
        if self._configuration.exists():
            return
        lines = [
            f"bind {HOST}",
            f"port {self.port}",
            f"dir {self.data}",
            f"sentinel monitor {self.master_name} {HOST} {self._master.port} {self._quorum}",
            f"sentinel down-after-milliseconds {self.master_name} {self.down_after_ms}",
            f"sentinel failover-timeout {self.master_name} 10000",
        ]
        self._configuration.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def command(self) -> list[str]:  # noqa: D102
        return ["redis-server", str(self._configuration), "--sentinel"]

    def answers(self) -> bool:  # noqa: D102
        return "status=ok" in self.ask("INFO sentinel")

    def master_address(self) -> str:
        """Ask it for the master's host and port; raise OSError when it does not answer."""
        return self.ask("INFO sentinel").rpartition("address=")[2].partition(",")[0]


class Prometheus(Service):
    """A Prometheus over a configuration file of the caller's.

    Args:
        data: folder for everything it writes.
        configuration: its prometheus.yml.
    """

    name = "Prometheus"
    programs = ("prometheus",)

    def __init__(self, data: Path, configuration: Path) -> None:
        super().__init__(data, 0)
        self._configuration = configuration.resolve()

    @property
    def url(self) -> str:
        """Of its API and pages."""
        return f"http://{self.address}"

    def prepare(self) -> None:
        """Do nothing: the caller has written the configuration."""

    def command(self) -> list[str]:  # noqa: D102
        return [
            "prometheus",
            f"--config.file={self._configuration}",
            f"--storage.tsdb.path={self.data / 'tsdb'}",
            f"--web.listen-address={self.address}",
        ]

    def answers(self) -> bool:  # noqa: D102
        connection = http.client.HTTPConnection(HOST, self.port, timeout=ANSWER_SECONDS)
        try:
            connection.request("GET", "/-/ready")
            return connection.getresponse().status == http.HTTPStatus.OK
        finally:
            connection.close()
