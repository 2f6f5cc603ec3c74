"""Every setting, declared once: its name with the unit, its default, the reason for it, and what is allowed.

Values come from `phasewatch.toml`, then from the environment (`PHASEWATCH_<SECTION>__<KEY>`), then from the command
line; the later one wins. What changes a result is no setting but a value of the definitions document, so that two
workers cannot disagree.
"""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from collector.settings import CollectorSettings, WriteKey
from console.settings import ConsoleSettings

__all__ = ["DEMO_KEYS", "Settings", "is_loopback"]

ENV_PREFIX: Final = "PHASEWATCH_"
SECTION_DELIMITER: Final = "__"

Port = Annotated[int, Field(ge=0, le=65535)]


DEMO_KEYS: Final = (
    WriteKey(name="demo", key=SecretStr("demo"), demo=True),
    WriteKey(name="demo-secret", key=SecretStr("demo-secret"), trusted=True, demo=True),
)
"""What is accepted without settings (contract, Commands); known to everybody, so on loopback only."""


class Section(BaseModel):
    """A table of the settings file; a key that it does not know is an error, not a silent default."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Deployment(Section):
    """Who this installation is, to those who read what it publishes."""

    name: str = Field(
        default="phasewatch",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,99}$",
        description="Name of this deployment, `ce_source` of every message: a reader of two can tell them apart.",
    )


class Logging(Section):
    """What is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least serious message shown. JSON lines, or columns at a terminal."
    )


class Store(Section):
    """Where the embedded mode keeps everything."""

    data_dir: Path = Field(
        default=Path("data"),
        description="Directory of the log, the states and the spool; one running process per directory.",
    )


def _whole_pair(section: str, certificate: Path | None, key: Path | None) -> None:
    """Raise ValueError where a certificate has no key, or a key no certificate."""
    if (certificate is None) != (key is None):
        msg = f"{section}.certificate_file and {section}.key_file belong together: set both or none"
        raise ValueError(msg)


class Kafka(Section):
    """Where the log and the topics for subscribers are; without brokers everything is in `store.data_dir`."""

    brokers: str = Field(
        default="",
        pattern=r"^$|^[^\s,]+:[0-9]+(,[^\s,]+:[0-9]+)*$",
        description="Kafka's addresses, host:port and commas between; empty: the embedded log is meant.",
    )
    security: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = Field(
        default="plaintext",
        description="How Kafka is spoken to: TLS with ssl, a login with sasl, both with sasl_ssl: what to take where "
        "others share the network.",
    )
    ca_file: Path | None = Field(
        default=None,
        description="PEM file of the authorities that may sign the brokers' certificates; unless set those of this "
        "system.",
    )
    certificate_file: Path | None = Field(
        default=None, description="PEM file of this side's certificate and its chain, where brokers ask for one."
    )
    key_file: Path | None = Field(default=None, description="PEM file of that certificate's key, without a password.")
    check_hostname: bool = Field(
        default=True, description="Whether a broker's certificate has to bear the name that the broker is reached by."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        default="SCRAM-SHA-512", description="How the login is proved; PLAIN shows the broker the password."
    )
    username: str = Field(default="", description="Who logs in.")
    password: SecretStr = Field(default=SecretStr(""), description="Password of that user.")
    topic_prefix: str = Field(
        default="phasewatch.",
        pattern=r"^[a-z0-9][a-z0-9-]*\.$",
        description="Begin of every topic's name; two deployments on one Kafka need two.",
    )
    replication_factor: int = Field(
        default=3,
        ge=1,
        le=9,
        description="Copies of each topic that `phasewatch topics` creates; 1 on a single broker.",
    )
    min_insync_replicas: int = Field(
        default=2,
        ge=1,
        le=9,
        description="Copies that must have a record before it is acknowledged; 2 of 3 survive the loss of any broker.",
    )

    @model_validator(mode="after")
    def _security_is_whole(self) -> Self:
        if self.security.startswith("sasl") != bool(self.username and self.password.get_secret_value()):
            msg = (
                f"kafka.security is {self.security}: sasl_ssl and sasl_plaintext need kafka.username and "
                "kafka.password, the others take none"
            )
            raise ValueError(msg)
        if "ssl" not in self.security.split("_") and (self.ca_file or self.certificate_file):
            msg = f"kafka.security is {self.security}, which is without TLS, so certificates have no use: take sasl_ssl"
            raise ValueError(msg)
        _whole_pair("kafka", self.certificate_file, self.key_file)
        return self


class Redis(Section):
    """Where the states of persons are, when `kafka.brokers` is set."""

    url: str = Field(
        default="redis://127.0.0.1:6379/0",
        pattern=r"^rediss?://[^@?\s]+$",
        description="The Redis; rediss:// for TLS. User and password have settings of their own, so that none shows.",
    )
    sentinels: tuple[str, ...] = Field(
        default=(),
        description="Addresses of Sentinels, host:port; they say where the Redis is, `url` only its db.",
    )
    sentinel_service: str = Field(default="phasewatch", description="The name under which the Sentinels know it.")
    username: str = Field(default="", description="User of the Redis (ACL); empty: the default user.")
    password: SecretStr = Field(default=SecretStr(""), description="Password of that user; empty: none.")
    ca_file: Path | None = Field(
        default=None,
        description="PEM file of the authorities that may sign its certificate and the Sentinels'; unless set those of "
        "this system.",
    )
    certificate_file: Path | None = Field(
        default=None, description="PEM file of this side's certificate and its chain, where Redis asks for one."
    )
    key_file: Path | None = Field(default=None, description="PEM file of that certificate's key, without a password.")
    check_hostname: bool = Field(
        default=True, description="Whether its certificate has to bear the name that it is reached by."
    )
    prefix: str = Field(
        default="phasewatch",
        pattern=r"^[A-Za-z0-9_.-]{1,64}$",
        description="Begin of every key; two deployments on one Redis need two.",
    )

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        if not self.url.startswith("rediss:") and (self.ca_file or self.certificate_file):
            msg = "redis.url begins with redis://, which is without TLS, so certificates have no use: take rediss://"
            raise ValueError(msg)
        _whole_pair("redis", self.certificate_file, self.key_file)
        return self


class Log(Section):
    """The log that everything is computed from."""

    partitions: int = Field(
        default=32,
        ge=1,
        le=1024,
        description="Partitions of topic `events`. Fixed when the log is created: a person's place depends on it.",
    )
    retention_days: int = Field(
        default=90,
        ge=1,
        le=3650,
        description="How long records are kept. States do not need them; replay and new definitions for the past do.",
    )


class Collector(CollectorSettings):
    """Where events come in."""

    host: str = Field(
        default="127.0.0.1", description="Address to listen on; 0.0.0.0 for all, which needs write keys of your own."
    )
    port: Port = Field(default=8600, description="The public port; 0 takes any free one.")
    keys: tuple[WriteKey, ...] = Field(
        default=DEMO_KEYS,
        description="Who may write. The default two are known to everybody and only accepted on this machine; with "
        "`keys_file` there are none.",
    )

    @model_validator(mode="before")
    @classmethod
    def _keys_of_a_file_instead(cls, given: object) -> object:
        if isinstance(given, dict) and given.get("keys_file") is not None:
            return {"keys": (), **given}
        return given

    @model_validator(mode="after")
    def _somebody_may_write(self) -> Self:
        if not self.keys and self.keys_file is None:
            msg = "collector.keys is empty: nobody could write; name a key, or a keys_file"
            raise ValueError(msg)
        return self


class Spool(Section):
    """Where `phasewatch collector` keeps what it accepts while Kafka does not take it."""

    dir: Path | None = Field(
        default=None,
        description="Folder on a local disk that outlives the process and the container: what is in it has been "
        "acknowledged. Unless set `spool` in store.data_dir.",
    )
    max_bytes: int = Field(
        default=4 * 1024**3,
        ge=16 * 1024**2,
        description="Of the folder; beyond it 503. About three hours of 1,000 events a second.",
    )
    min_free_bytes: int = Field(
        default=512 * 1024**2,
        ge=0,
        description="What the spool leaves free on its disk for everything else there.",
    )
    drain_bytes_per_second: int = Field(
        default=8 * 1024**2,
        ge=64 * 1024,
        description="What each process sends to Kafka of what is spooled; about 20,000 events. More would delay what "
        "comes in.",
    )


class Worker(Section):
    """How the log is folded."""

    name: str = Field(
        default="",
        pattern=r"^$|^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$",
        description="Name of a worker among those of a deployment, the same after a restart, which then takes its "
        "partitions back within seconds; empty: the host's name and the first number that no other worker here has.",
    )

    leave_on_stop: bool = Field(
        default=True,
        description="A worker that is told to stop leaves the group, so that others take over within a second; false "
        "where it is started again at once, as in a rolling restart: its partitions then wait for it.",
    )
    batch_records: int = Field(
        default=500,
        ge=1,
        le=10_000,
        description="Records folded per commit at most. More is faster when behind and takes more memory.",
    )
    tick_interval_seconds: int = Field(
        default=10,
        ge=1,
        le=600,
        description="A partition with something due gets a tick at most this often: how late a timer may fire.",
    )
    tick_settle_ms: int = Field(
        default=5_000,
        ge=0,
        le=600_000,
        description="What is due on a whole hour waits this long after it, so that events on their way come first.",
    )


class Console(ConsoleSettings):
    """Query API and live page."""

    host: str = Field(
        default="127.0.0.1", description="Address to listen on; one that is not loopback needs users and TLS."
    )
    port: Port = Field(default=8601, description="Port of the query API and the live page; 0 takes any free one.")


class Admin(Section):
    """Metrics, readiness and debugging."""

    host: str = Field(default="127.0.0.1", description="Address to listen on; for operators, never for the public.")
    port: Port | None = Field(
        default=None,
        description="Port of `/metrics` and `/readyz`; 0 takes any free one. Unless set 8610 for the collector, 8620 "
        "for a worker, 8630 for the embedded process, 8640 for the console.",
    )


class Settings(BaseSettings):
    """All sections. Made by `phasewatch.settings_source.load`, which alone knows where values come from."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix=ENV_PREFIX, env_nested_delimiter=SECTION_DELIMITER
    )

    deployment: Deployment = Deployment()
    collector: Collector = Collector()
    kafka: Kafka = Kafka()
    redis: Redis = Redis()
    log: Log = Log()
    spool: Spool = Spool()
    store: Store = Store()
    worker: Worker = Worker()
    console: Console = Console()
    admin: Admin = Admin()
    logging: Logging = Logging()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic-settings' signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take only what is handed in, so that constructing settings in a test never reads this machine's."""
        return (init_settings,)

    @model_validator(mode="after")
    def _demo_keys_on_loopback_only(self) -> Self:
        known = {key.key.get_secret_value() for key in DEMO_KEYS}
        if not any(key.demo or key.key.get_secret_value() in known for key in self.collector.keys):
            return self
        for section, host in (
            ("collector", self.collector.host),
            ("console", self.console.host),
            ("admin", self.admin.host),
        ):
            if not is_loopback(host):
                msg = (
                    f"{section}.host is {host}, but collector.keys holds a demo key, which everybody knows: whoever "
                    "reaches this machine could write purchases. Set write keys of your own, or listen on 127.0.0.1."
                )
                raise ValueError(msg)
        return self


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address to listen on; of names, only localhost is trusted."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
