"""The collector's settings: units in the names, default and reason beside each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, model_validator

from collector.masking.rules import Masking, masking_for

MIB = 1024 * 1024

BotPolicy = Literal["flag", "drop", "keep"]
AddressPolicy = Literal["kept", "truncated", "dropped"]

DialectName = Literal["native", "posthog", "segment", "rudder", "snowplow", "growingio", "sensors"]

Network = IPv4Network | IPv6Network


Kind = Literal["secret", "email", "phone", "id_number", "card"]
ParameterName = Annotated[str, StringConstraints(min_length=1, max_length=128)]


class MaskingSettings(BaseModel):
    """What of a source's events is masked before anything is written (docs/masking.md); ids never are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kinds: tuple[Kind, ...] = Field(
        default=("secret", "email", "phone", "id_number", "card"),
        description="what is masked; all, for what is in the log once stays there for as long as it is kept",
    )
    secret_names: tuple[ParameterName, ...] = Field(
        default=(), description="further parameters and properties whose values are always masked: `policy_no`"
    )
    kept_names: tuple[ParameterName, ...] = Field(
        default=(), description="parameters and properties whose values never are: `code`, where it is always a fund's"
    )

    @cached_property
    def rules(self) -> Masking:
        """What these settings ask for."""
        return masking_for(self.kinds, self.secret_names, self.kept_names)


class WriteKey(BaseModel):
    """Who may write: a public key stands in web pages, a trusted one only on the owner's servers (R4)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")] = Field(
        description="stands as `source` in every event and in the metrics, so that the key itself never has to"
    )
    key: SecretStr = Field(min_length=1, max_length=256, description="what the client sends")
    trusted: bool = Field(default=False, description="its money facts are confirmed at once; refused from browsers")
    origins: tuple[str, ...] = Field(
        default=(), description="exact origins of the pages that may use it, https://shop.example; empty: any"
    )
    dialects: tuple[DialectName, ...] = Field(
        default=(), description="the SDKs that may use it: native, posthog, segment, ...; empty: any"
    )
    masking: MaskingSettings = Field(default=MaskingSettings(), description="what is masked of its events")
    demo: bool = Field(default=False, description="known to everybody, hence refused behind a proxy")
    events_per_second: float | None = Field(
        default=None, gt=0, description="of all its clients together, divided by the processes; none: no limit"
    )
    burst_seconds: float = Field(default=10, gt=0, description="for how many seconds' worth may come at once")


def check_keys(keys: Sequence[WriteKey]) -> None:
    """Raise ValueError where two keys are the same, or have one name and differ in more than the key itself.

    One name for two is how a key is changed: the new one beside the old one, until all clients have it.
    """
    secrets = {key.key.get_secret_value() for key in keys}
    if len(secrets) != len(keys):
        msg = "two write keys have the same key: give each its own"
        raise ValueError(msg)
    named: dict[str, WriteKey] = {}
    for key in keys:
        same = named.setdefault(key.name, key)
        if key.model_copy(update={"key": same.key}) != same:
            msg = (
                f"two write keys have the same name {key.name} and differ in more than the key: give each its own "
                "name, or make them the old and the new key of one source"
            )
            raise ValueError(msg)


class Limits(BaseModel):
    """What one request and one event may weigh; beyond it 413, or `too_large` and `too_deep` for the event alone."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    body_bytes: int = Field(
        default=8 * MIB, ge=1024, description="a body as sent; SDKs batch up to 5 MiB and do not all survive a 413"
    )
    decompressed_bytes: int = Field(
        default=16 * MIB, ge=1024, description="a body unpacked; counted while unpacking, so a bomb stays small"
    )
    events: int = Field(default=5000, ge=1, description="events a request; about 60 ms of one core")
    event_bytes: int = Field(
        default=64 * 1024, ge=256, le=192 * 1024, description="one event's JSON; hundreds are usual"
    )
    text_chars: int = Field(default=8192, ge=64, description="a URL, title, text or selector; proxies cap URLs there")
    id_chars: int = Field(default=128, ge=36, description="an id; the longest an SDK makes is 56 (ajs-next-...)")
    depth: int = Field(default=32, ge=2, description="objects and arrays within each other, the event itself is 1")
    reading_bytes: int = Field(
        default=64 * MIB, ge=MIB, description="bodies of all requests that are being read; beyond it 503"
    )
    body_seconds: float = Field(default=30, gt=0, description="a body must have arrived by then, or it is given up")
    head_bytes: int = Field(
        default=64 * 1024,
        ge=1024,
        le=1024 * 1024,
        description="URL and headers; what h11 and nginx take (4 buffers of 16 KiB at most), and no browser sends",
    )


PRIVATE: tuple[Network, ...] = tuple(
    ip_network(one) for one in ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7")
)
"""This machine (RFC 1122, RFC 4291) and private networks (RFC 1918, RFC 4193)."""


class AddressLimits(BaseModel):
    """What one address may send, an IPv6 address with all of its /64; beyond it 429, or what the SDK survives."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    requests_per_second: float | None = Field(
        default=500,
        gt=0,
        description="an office or a mobile carrier shares an address: hundreds of people at once; none: no limit",
    )
    events_per_second: float | None = Field(
        default=5000, gt=0, description="as many as a tenth of a core takes; none: no limit"
    )
    burst_seconds: float = Field(default=10, gt=0, description="for how many seconds' worth may come at once")
    exempt: tuple[Network, ...] = Field(
        default=PRIVATE,
        description="networks without these limits: by default this machine and private networks, where servers of "
        "yours are, or a proxy that `proxies` does not name",
    )
    remembered: int = Field(
        default=100_000, ge=100, description="addresses whose rates are known, in each process; about 300 bytes each"
    )


class ConnectionLimits(BaseModel):
    """How many connections each process holds, and how long."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    most: int = Field(
        default=10_000,
        ge=100,
        description="beyond it the one that has been quiet longest is closed; less where fewer files may be open",
    )
    of_address: int = Field(
        default=1000,
        ge=1,
        description="of one address (IPv6: a /64); beyond it new ones are closed. Not of `addresses.exempt` and "
        "`proxies`",
    )
    idle_seconds: int = Field(
        default=5, ge=1, description="between requests; more than that of a proxy in front, or it meets closed ones"
    )


class CollectorSettings(BaseModel):
    """Settings of the collector's public port."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    events_path: str = Field(
        default="/v1/events", pattern=r"^/[!-~]*$", description="rename it where ad blockers know the default"
    )
    autocapture_path: str = Field(
        default="/autocapture.js", pattern=r"^/[!-~]*$", description="rename it where ad blockers know the default"
    )
    autocapture_max_age_seconds: int = Field(
        default=3600, ge=0, description="how long browsers keep autocapture.js without asking; a fix arrives in an hour"
    )
    keys: tuple[WriteKey, ...] = Field(default=(), description="who may write")
    keys_file: Path | None = Field(
        default=None,
        description="TOML with more of them, [[keys]]; read again within seconds of a change, so that a key comes or "
        "goes without a restart",
    )
    suppressed_file: Path | None = Field(
        default=None,
        description="who is not recorded, one a line: user ID, device ID, address IP; read again within seconds of a "
        "change. `phasewatch suppress` writes it",
    )
    proxies: tuple[Network, ...] = Field(
        default=(),
        description="networks of the proxies in front, 10.0.0.0/8; of others no forwarding header counts, as anybody "
        "may send one",
    )
    client_address_header: str = Field(
        default="x-forwarded-for",
        pattern=r"^[a-z][a-z0-9-]{0,63}$",
        description="in which those proxies name the client: x-forwarded-for, forwarded (RFC 7239), cf-connecting-ip, "
        "...; only this one counts, because a proxy passes others on as they came",
    )
    limits: Limits = Field(default=Limits(), description="what one request and one event may weigh")
    addresses: AddressLimits = Field(default=AddressLimits(), description="what one address may send")
    connections: ConnectionLimits = Field(default=ConnectionLimits(), description="how many connections, how long")
    tls_certificate: Path | None = Field(
        default=None,
        description="PEM file with the certificate and its chain, to answer HTTPS without a proxy; renewed without a "
        "restart. None: plain HTTP, for this machine or behind a proxy",
    )
    tls_key: Path | None = Field(default=None, description="PEM file with the certificate's private key")
    linger_ms: float = Field(
        default=5, ge=0, le=1000, description="events arriving within it share one fsync; it delays each answer by that"
    )
    queue_bytes: int = Field(
        default=64 * MIB, ge=MIB, description="encoded events that wait for the sink; beyond it 503 instead of memory"
    )
    block_bytes: int = Field(
        default=512 * 1024,
        ge=1024,
        le=768 * 1024,
        description="a block's value; half of Kafka's default limit for a record",
    )
    recent_ids: int = Field(
        default=100_000, ge=2, description="durable events remembered to answer `duplicate`; about 200 bytes each"
    )

    bots: BotPolicy = Field(
        default="flag",
        description="events of bots: flag (context.device is bot), drop (rejected as bot), or keep (not looked at)",
    )
    event_addresses: AddressPolicy = Field(
        default="truncated",
        description="IP addresses in events: kept, truncated (to /24, of IPv6 /48: a site's network), or dropped",
    )
    own_hosts: tuple[Annotated[str, StringConstraints(pattern=r"^[a-z0-9.-]{1,253}$")], ...] = Field(
        default=(),
        max_length=100,
        description="hosts, those within them too, from which nobody arrives: your login and payment pages elsewhere",
    )
    place_headers: tuple[Annotated[str, StringConstraints(pattern=r"^[!-9;-~]{1,64}$")], ...] = Field(
        default=(),
        max_length=2,
        description="in which your CDN says the country, then the city: CF-IPCountry; believed from `proxies` alone",
    )
    place_database: Path | None = Field(
        default=None,
        description="an .mmdb file, GeoLite2-City.mmdb or its kind, for places; a new one is found in 30 s",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        check_keys(self.keys)
        if self.place_headers and not self.proxies:
            msg = "place_headers count where a proxy of yours sends them: set proxies to the networks they stand in"
            raise ValueError(msg)
        if (self.tls_certificate is None) != (self.tls_key is None):
            msg = "tls_certificate and tls_key belong together: set both, or none"
            raise ValueError(msg)
        reserved = ("/healthz", self.autocapture_path)
        if self.events_path in reserved or self.autocapture_path == "/healthz":
            msg = "events_path, autocapture_path and /healthz must differ"
            raise ValueError(msg)
        return self
