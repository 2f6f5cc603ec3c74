"""What the query API answers, field by field; the OpenAPI document is made from here and from `processors.wire`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from processors.wire import StageName

Instant = str
"""RFC 3339, UTC, with milliseconds."""


class Error(BaseModel):
    """The body of every answer that is an error."""

    error: str = Field(description="The HTTP status in words.")
    code: str = Field(description="What went wrong, for programs: one of a closed list.")
    message: str = Field(description="What went wrong, for people.")
    detail: str = Field(description="What exactly, and what to do; may be empty.")


class MarkedPreference(BaseModel):
    """The category with a marked share of the dwell in the last 14 days."""

    category: str = Field(description="A category of the definitions.")
    share: float = Field(ge=0, le=1, description="Its share of all visible dwell.")


class CountedBehaviour(BaseModel):
    """One row of the evidence; counts times weights sum to `decision_score` exactly."""

    behaviour: str = Field(description="Name of the behaviour in the definitions.")
    count: int = Field(ge=1, description="How often it stands behind the decision score.")
    weight: float = Field(description="Its weight under the definitions in force.")


class Closing(BaseModel):
    """Why a position is closed: a redemption, or that it has matured."""

    at: Instant = Field(description="When it was closed.")
    confirmed: bool = Field(description="Whether a trusted source has said so.")


class Position(BaseModel):
    """One order that was bought; open while it has no closing."""

    product_id: str | None = Field(description="The product that was bought.")
    category: str | None = Field(description="The product's category.")
    amount: str | None = Field(description="Decimal string, as the order said; information only.")
    currency: str | None = Field(description="As the order said.")
    purchased_at: Instant = Field(description="When it was bought.")
    matures_at: Instant | None = Field(description="When the money comes back by itself, if it does.")
    confirmed: bool = Field(description="Whether a trusted source has confirmed the purchase.")
    closings: list[Closing] = Field(description="What has closed it; empty while it is held.")


class Person(BaseModel):
    """Everything known about one person, as of the stream time of her partition."""

    person: str = Field(description="`u:` + user id or `a:` + anonymous id.")
    linked_to: str | None = Field(description="For an anonymous id that was linked: the user's key.")
    life: str = Field(description="Names this life of the person; a forgotten person who returns begins another.")
    version: int = Field(ge=0, description="Number of changes published in this life.")
    stage: StageName = Field(description="Where the person stands now.")
    confirmed: bool = Field(description="False while the stage rests on facts that no trusted source has confirmed.")
    customer: Literal["new", "returning"] = Field(description="Whether the person has ever purchased.")
    funds: Literal["none", "held", "redeemed"] = Field(description="What became of the purchases.")
    score: float = Field(description="Sum of count x weight over the last 14 days.")
    decision_score: float = Field(description="The same since the latest purchase or closing of a position.")
    intent: Literal["strong", "medium", "weak"] = Field(description="The score against the absolute thresholds.")
    tier: Literal["top", "next", "rest"] | None = Field(description="Place in the population; null before a tier cut.")
    preference: MarkedPreference | None = Field(description="The preferred category; null where none is marked.")
    evidence: list[CountedBehaviour] = Field(description="What makes up the decision score, the heaviest first.")
    positions: dict[str, Position] = Field(description="Standing purchases by order id.")
    milestones: dict[str, Instant] = Field(description="When each milestone was first reached, by name.")
    visits_30_days: int = Field(ge=0, description="Visits in the last 30 days.")
    last_visit: Instant | None = Field(description="Begin of the latest visit.")
    last_activity: Instant | None = Field(description="The latest interaction or money fact.")
    last_place: str | None = Field(description="Where the last visit came from.")
    channel: str | None = Field(description="Channel of the first touch.")
    devices: list[str] = Field(description="Anonymous ids that belong to the person, the latest last.")
    next_due: Instant | None = Field(description="When something changes although nothing happens.")
    as_of: Instant = Field(description="Stream time of the partition.")
    definitions: int = Field(description="Number of the definitions in force.")


class LinkedAnonymousId(BaseModel):
    """An anonymous id that is no person of its own any more: it belongs to a user."""

    person: str = Field(description="`a:` + anonymous id.")
    linked_to: str = Field(description="The user's key: ask for that.")


class PastChange(BaseModel):
    """One published change of the person's stage, in short."""

    version: int = Field(ge=1, description="Its number in this life.")
    at: Instant = Field(description="When it became known, or was due.")
    from_: StageName = Field(alias="from", description="The stage that was left.")
    to: StageName | None = Field(description="The stage that was entered; null where the life ended.")
    confirmed: bool = Field(description="Whether trusted facts alone stand behind it.")


class HourOfBehaviour(BaseModel):
    """What a person did in one hour."""

    hour: Instant = Field(description="Begin of the hour.")
    counts: dict[str, int] = Field(description="How often, by behaviour.")


class Timeline(BaseModel):
    """A person's latest changes, and what she did in each hour of the last 14 days."""

    person: str = Field(description="The person's key.")
    changes: list[PastChange] = Field(description="At most 20, the oldest first.")
    hours: list[HourOfBehaviour] = Field(description="Hours in which something was counted, the oldest first.")


class Stages(BaseModel):
    """How many persons are in each stage."""

    stages: dict[StageName, int] = Field(description="Every stage, also those of nobody.")
    as_of: Instant = Field(description="When it was counted.")


class Definitions(BaseModel):
    """The definitions in force."""

    number: int = Field(ge=0, description="0 before the first was published.")
    toml: str | None = Field(description="The document as it was published; null before the first.")
