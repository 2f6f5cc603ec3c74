"""One interaction or money fact, as it stands in topic `events` (one NDJSON line)."""

from __future__ import annotations

from typing import Final, Literal, get_args

import msgspec
from xxhash import xxh3_64_intdigest

MONEY_TYPES: Final = frozenset({"purchase", "redeem", "purchase_cancelled", "redeem_cancelled"})
"""Types that state a fact about money (R4); every other type is an interaction (R6)."""

EventType = Literal[
    "page",
    "click",
    "change",
    "submit",
    "dwell",
    "identify",
    "custom",
    "purchase",
    "redeem",
    "purchase_cancelled",
    "redeem_cancelled",
]

EVENT_TYPES: Final[frozenset[str]] = frozenset(get_args(EventType))
"""Every type an event may have (contract, native event)."""

_TRUSTED: Final = 1 << 63

DEFAULT_SITE: Final = "default"


NO_PROPERTIES: Final = msgspec.Raw(b"{}")
"""The default; this very object is left out of an event's JSON."""


class Page(msgspec.Struct, omit_defaults=True, gc=False):
    """The page on which something happened; URL and referrer are masked before they get here."""

    url: str | None = None
    path: str | None = None
    title: str | None = None
    referrer: str | None = None


class Element(msgspec.Struct, omit_defaults=True, gc=False):
    """The element that was clicked, changed or submitted; never its value."""

    tag: str | None = None
    text: str | None = None
    selector: str | None = None
    href: str | None = None
    index: int | None = None


class Context(msgspec.Struct, omit_defaults=True, gc=False):
    """What the collector knows of the person's side beside the event itself (docs/context.md)."""

    device: str | None = None
    channel: str | None = None
    place: str | None = None
    medium: str | None = None
    campaign: str | None = None
    browser: str | None = None
    os: str | None = None
    bot: str | None = None
    address: str | None = None


class Event(msgspec.Struct, omit_defaults=True, gc=False):
    """One event; times are UTC milliseconds, `properties` is a JSON object kept as its bytes.

    `occurred_at` is the client's clock corrected by the request's `sent_at`; `ts` is what the client said.
    """

    id: str
    type: EventType
    occurred_at: int
    received_at: int
    ts: int | None = None
    anonymous_id: str | None = None
    user_id: str | None = None
    session_id: str | None = None
    name: str | None = None
    source: str = ""
    trusted: bool = False
    site: str = DEFAULT_SITE
    seq: int | None = None
    page: Page | None = None
    element: Element | None = None
    context: Context | None = None
    properties: msgspec.Raw = NO_PROPERTIES


def person_key(user_id: str | None, anonymous_id: str | None) -> str:
    """Return `u:` + user id when there is one, else `a:` + anonymous id (architecture, section 4).

    Raises:
        ValueError: if both are missing.
    """
    if user_id is not None:
        return f"u:{user_id}"
    if anonymous_id is not None:
        return f"a:{anonymous_id}"
    msg = "an event needs a user_id or an anonymous_id"
    raise ValueError(msg)


def known_as(event: Event) -> str:
    """Return what an event is remembered by: its id, apart for trusted and public ones (ADR 0004).

    Else whoever has the public key could say a ledger's next id first, and the ledger's event would be the repeat.
    """
    return f"\0{event.id}" if event.trusted else event.id


def remembered_as(event: Event) -> int:
    """Return the number by which a fold remembers an event: 63 bits of its id's hash, above them whether it is trusted.

    A number takes a quarter of an id's room in every state and transfer. Two of a person's last 256 ids are the same
    number in one of 10^14 persons; whoever looks for such ids can only repeat public events of their own making, as
    trusted ones have numbers of their own (ADR 0004, ADR 0007).
    """
    number = xxh3_64_intdigest(event.id.encode()) >> 1
    return number | _TRUSTED if event.trusted else number


def session_number(session_id: str) -> int:
    """Return the number by which a fold remembers a session."""
    return xxh3_64_intdigest(session_id.encode())


def routing_key(event: Event) -> str:
    """Return the person key whose partition the event is written to.

    `identify` goes to the anonymous id's partition, where the link is decided (R8); all else to its person's.
    """
    if event.type == "identify" and event.anonymous_id is not None:
        return f"a:{event.anonymous_id}"
    return person_key(event.user_id, event.anonymous_id)


class _Dwell(msgspec.Struct, gc=False):
    ms: int | float = 0


_dwell_decoder = msgspec.json.Decoder(_Dwell)


def dwell_ms(event: Event) -> int:
    """Return the visible milliseconds of a `dwell` event as it says them, truncated; 0 where it says no number."""
    try:
        return int(_dwell_decoder.decode(event.properties).ms)
    except (msgspec.MsgspecError, OverflowError):
        return 0
