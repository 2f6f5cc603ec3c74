"""The collector's settings: units in the names, default and reason beside each."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, model_validator

from collector.masking.rules import Masking, masking_for

MIB = 1024 * 1024

DialectName = Literal["native", "posthog", "segment", "rudder", "snowplow", "growingio", "sensors"]


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
