"""What a decoder makes of a request: events ready for the log, and one error for each that is not."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from collector.context.around import NOTHING_AROUND, Around
from collector.masking.rules import EVERYTHING, Masking
from collector.wire.event import Event


class Reason(StrEnum):
    """Why an event was rejected; a closed list that only grows (contract)."""

    MALFORMED = "malformed"
    """A field is missing or of another type than documented."""
    UNKNOWN_TYPE = "unknown_type"
    MISSING_IDENTITY = "missing_identity"
    """Neither id, or no user id where one is needed."""
    JUNK_IDENTITY = "junk_identity"
    """An id that many people would share, as `undefined`."""
    MISSING_ORDER_ID = "missing_order_id"
    BAD_AMOUNT = "bad_amount"
    """An amount that is no decimal string."""
    BAD_TIME = "bad_time"
    TOO_LARGE = "too_large"
    TOO_DEEP = "too_deep"
    SUPPRESSED = "suppressed"
    """About somebody who is not to be recorded."""
    UNTRUSTED_SOURCE = "untrusted_source"
    """Something that only a trusted key may say."""
    BOT = "bot"
    """Sent by a bot, where the settings say that bots are dropped."""


class RequestFacts(NamedTuple):
    """What a decoder may know about a request beside its body.

    `source` is the write key's name, `trusted` its kind, `received_at` the collector's clock in UTC milliseconds,
    `masking` what the key's settings let nobody write, `around` what its head says of the person's side.
    """

    source: str
    trusted: bool
    received_at: int
    masking: Masking = EVERYTHING
    around: Around = NOTHING_AROUND


class RejectedEventError(Exception):
    """One event is rejected; its neighbours are not.

    `place` is the field within the event, `.user_id`, empty for the event itself; `problem` goes on: `is "null"`.
    """

    def __init__(self, reason: Reason, place: str, problem: str) -> None:
        super().__init__(f"{place} {problem}")
        self.reason = reason
        self.event_id: str | None = None


@dataclass(slots=True)
class Rejection:
    """A rejected event: its place in the request, its id where readable, why, and its JSON as sent."""

    index: int
    id: str | None
    reason: Reason
    detail: str
    raw: bytes


@dataclass(slots=True)
class Decoded:
    """A request's events with their places in it, its rejections, and counts of masked values and of bots' events."""

    events: list[tuple[int, Event]] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    masked: Counter[str] = field(default_factory=Counter)
    bots: int = 0
