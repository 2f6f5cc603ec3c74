"""The output topics' schema: what subscribers of stage changes read (contract, version 1)."""

from __future__ import annotations

import json
from typing import Annotated, Any, Final, Literal

import msgspec

STAGE_CHANGES: Final = "stage-changes"
STAGES: Final = "stages"
ENTERED: Final = {
    "decision": "entered.decision",
    "holding": "entered.holding",
    "post_redemption": "entered.post-redemption",
}
"""Topic of those who want one phase only, by stage."""

CHANGE_TYPE: Final = "phasewatch.stage-change.v1"

StageName = Literal["prospect", "decision", "holding", "post_redemption", "dormant"]


class Preference(msgspec.Struct):
    """The category with a marked share of the dwell in the window (R3)."""

    category: str
    share: Annotated[float, msgspec.Meta(ge=0, le=1)]


class Evidence(msgspec.Struct):
    """How often a behaviour with weight stands behind the decision score; counts x weights sum to it exactly (R3)."""

    behaviour: str
    count: Annotated[int, msgspec.Meta(ge=1)]
    weight: float


class Cause(msgspec.Struct, omit_defaults=True):
    """What led to the change; a money fact adds its order."""

    kind: Literal["event", "timer", "transfer", "definitions", "backfill", "erasure"]
    event_id: str | None = None
    trusted: bool | None = None
    order_id: str | None = None


class Place(msgspec.Struct):
    """Where in topic `events` the record stands that led to the change."""

    partition: Annotated[int, msgspec.Meta(ge=0)]
    offset: Annotated[int, msgspec.Meta(ge=0)]


class StageChange(msgspec.Struct, rename={"from_": "from"}):
    """One person's change of stage, or of whether it is confirmed; `to` is null when the life ended."""

    schema: Literal[1]
    id: str
    person: str
    user_id: str | None
    anonymous_id: str | None
    site: str
    life: str
    version: Annotated[int, msgspec.Meta(ge=1)]
    from_: StageName
    to: StageName | None
    at: str
    confirmed: bool
    retracts: str | None
    merged_into: str | None
    customer: Literal["new", "returning"]
    funds: Literal["none", "held", "redeemed"]
    score: float
    decision_score: float
    intent: Literal["strong", "medium", "weak"]
    tier: Literal["top", "next", "rest"] | None
    preference: Preference | None
    evidence: list[Evidence]
    cause: Cause
    actionable: bool
    definitions: int
    position: Place


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(StageChange)


def encode_change(change: StageChange) -> bytes:
    """Return the message as JSON bytes; equal messages have equal bytes."""
    return _encoder.encode(change)


def decode_change(value: bytes) -> StageChange:
    """Return the message in `value`; raises msgspec.ValidationError where it is none."""
    return _decoder.decode(value)


def change_headers(change: StageChange, deployment: str) -> list[tuple[str, bytes]]:
    """Return the CloudEvents 1.0 binary headers of a change, and the raw user id for joins."""
    headers = [
        ("ce_specversion", "1.0"),
        ("ce_type", CHANGE_TYPE),
        ("ce_source", deployment),
        ("ce_id", change.id),
        ("ce_time", change.at),
        ("content-type", "application/json"),
    ]
    if change.user_id is not None:
        headers.append(("user_id", change.user_id))
    return [(name, value.encode()) for name, value in headers]


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a stage change."""
    (schema,), components = msgspec.json.schema_components([StageChange], ref_template="#/$defs/{name}")
    document = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "$defs": components}
    loaded: dict[str, Any] = json.loads(json.dumps(document))
    return loaded
