"""The collector's settings: units in the names, default and reason beside each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, model_validator

MIB = 1024 * 1024

BotPolicy = Literal["flag", "drop", "keep"]
AddressPolicy = Literal["kept", "truncated", "dropped"]

DialectName = Literal["native", "posthog", "segment", "rudder", "snowplow", "growingio", "sensors"]


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
    demo: bool = Field(default=False, description="known to everybody, hence refused behind a proxy")


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
    limits: Limits = Field(default=Limits(), description="what one request and one event may weigh")
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
        description="in which your CDN says the country, then the city: CF-IPCountry; it takes away what clients send",
    )
    place_database: Path | None = Field(
        default=None,
        description="an .mmdb file, GeoLite2-City.mmdb or its kind, for places; a new one is found in 30 s",
    )

    @model_validator(mode="after")
    def _no_two_alike(self) -> Self:
        for what, values in (
            ("names", [key.name for key in self.keys]),
            ("keys", [key.key.get_secret_value() for key in self.keys]),
        ):
            if len(set(values)) != len(values):
                msg = f"two write keys have the same {what[:-1]}: give each its own"
                raise ValueError(msg)
        reserved = ("/healthz", self.autocapture_path)
        if self.events_path in reserved or self.autocapture_path == "/healthz":
            msg = "events_path, autocapture_path and /healthz must differ"
            raise ValueError(msg)
        return self
