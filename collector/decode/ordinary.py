"""The native dialect's fast way: a request in which everything is as the SDKs send it, decoded in one go.

What it takes, it takes exactly as `collector.decode.native` would, of which it is a part and to which it leaves every
request with anything else in it, good or bad: the exact way takes three times as long (docs/benchmarks.md).
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from collector.context.said import NAMES
from collector.decode.decoded import Decoded, RejectedEventError, RequestFacts
from collector.decode.identity import is_junk
from collector.decode.page import page_facts
from collector.decode.properties import encode_properties
from collector.decode.texts import check_texts, mask_element
from collector.decode.times import EARLIEST_MS, LATEST_MS, occurred_at, read_time
from collector.settings import Limits
from collector.wire.event import DEFAULT_SITE, NO_PROPERTIES, Context, Element, Event, Page

MAX_SEQ: Final = 2**53
"""What a browser can count to exactly."""

InteractionType = Literal["page", "click", "change", "submit", "dwell", "identify", "custom"]
Time: TypeAlias = int | float | str | None
Scalar: TypeAlias = str | int | float | bool | None


class _Page(Page, forbid_unknown_fields=True, gc=False):
    pass


class _Element(Element, forbid_unknown_fields=True, gc=False):
    index: Annotated[int, msgspec.Meta(ge=0, lt=MAX_SEQ)] | None = None


class _Interaction(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """An interaction with an id; nothing in it nests, so that no depth has to be counted."""

    type: InteractionType
    id: Annotated[str, msgspec.Meta(min_length=1)]
    ts: Time = None
    anonymous_id: str | None = None
    user_id: str | None = None
    session_id: str | None = None
    seq: Annotated[int, msgspec.Meta(ge=0, lt=MAX_SEQ)] | None = None
    name: str | None = None
    page: _Page | None = None
    element: _Element | None = None
    properties: dict[str, Scalar] | None = None


class _Envelope(msgspec.Struct, gc=False):
    events: list[_Interaction]
    sent_at: Time = None


_as_envelope = msgspec.json.Decoder(_Envelope)
_as_list = msgspec.json.Decoder(list[_Interaction])


class _LookCloserError(Exception):
    """Something in the request is for the exact way to judge."""


def decode_ordinary(body: bytes, request: RequestFacts, limits: Limits) -> Decoded | None:
    """Return what an ordinary request's body holds; None if anything about it needs a closer look.

    Args:
        body: unpacked, without a byte order mark or space before it.
        request: who sent it, and when it was received (UTC milliseconds).
        limits: sizes, as in the settings.
    """
    if len(body) > limits.event_bytes or request.around.is_bot:
        return None  # one of its events may be too large, or all are to be flagged or dropped
    try:
        sent_at, interactions = _parse(body)
        if len(interactions) > limits.events:
            return None
        if len(body) > limits.text_chars:
            for one in interactions:
                check_texts(one, one.page, one.element, limits.text_chars)
        ordinary = _Ordinary(request, read_time(sent_at, "sent_at"), limits.id_chars)
        return Decoded([*enumerate(map(ordinary.event, interactions))], [], ordinary.masked)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, RejectedEventError, _LookCloserError):
        return None


def _parse(body: bytes) -> tuple[Time, list[_Interaction]]:
    if body.startswith(b"["):
        return None, _as_list.decode(body)
    envelope = _as_envelope.decode(body)
    return envelope.sent_at, envelope.events


class _Ordinary:
    """Turns the interactions of one request into events; what they repeat, it looks at once."""

    def __init__(self, request: RequestFacts, sent_at: int | None, id_chars: int) -> None:
        self.source, self.trusted, self.received_at = request.source, request.trusted, request.received_at
        self.masking = request.masking
        self.sent_at = sent_at
        self.id_chars = id_chars
        self.masked: Counter[str] = Counter()
        self.people: set[str] = set()
        self.sessions: set[str] = set()
        self.as_sent: Page | None = None
        self.page: Page | None = None
        self.around = request.around
        self.bare = request.around.bare
        self.context: Context | None = None
        self.kinds: tuple[str, ...] = ()

    def event(self, one: _Interaction) -> Event:
        event_id, kind, ts, page, element = one.id, one.type, one.ts, one.page, one.element
        user_id, anonymous_id, session_id = one.user_id, one.anonymous_id, one.session_id
        if (
            len(event_id) > self.id_chars
            or not event_id.isprintable()
            or (user_id is None and (anonymous_id is None or kind == "identify"))
            or (kind == "custom" and not one.name)
            or (one.properties is not None and not one.properties.keys().isdisjoint(NAMES))
        ):
            raise _LookCloserError
        if user_id is not None and user_id not in self.people:
            self.check_person(user_id)
        if anonymous_id is not None and anonymous_id not in self.people:
            self.check_person(anonymous_id)
        if session_id is not None and session_id not in self.sessions:
            self.check_session(session_id)
        if type(ts) is not int or not EARLIEST_MS <= ts < LATEST_MS:
            ts = read_time(ts, ".ts")
        if page is not None:
            if page != self.as_sent:
                self.read_page(page)
            if self.kinds:
                self.masked.update(self.kinds)
        return Event(  # by position: by name it costs 0.5 µs more, a quarter of all that is done here
            event_id,
            kind,
            occurred_at(ts, self.sent_at, self.received_at),
            self.received_at,
            ts,
            anonymous_id,
            user_id,
            session_id or None,
            one.name if one.name is None else self.mask_text(one.name),
            self.source,
            self.trusted,
            DEFAULT_SITE,
            one.seq,
            None if page is None else self.page,
            None if element is None else self.mask_element(element),
            self.bare if page is None else self.context,
            encode_properties(one.properties, self.masking, self.masked) if one.properties else NO_PROPERTIES,
        )

    def check_person(self, text: str) -> None:
        if is_junk(text) or len(text) > self.id_chars or not text.isprintable():
            raise _LookCloserError
        self.people.add(text)

    def check_session(self, text: str) -> None:
        if len(text) > self.id_chars or not text.isprintable():
            raise _LookCloserError
        self.sessions.add(text)

    def read_page(self, page: Page) -> None:
        url, path, title, referrer, self.kinds, arrival = page_facts(page, self.masking)
        self.context = self.around.context(arrival)
        self.as_sent, self.page = page, Page(url, path, title, referrer)

    def mask_element(self, element: Element) -> Element:
        kinds = mask_element(element, self.masking)
        if kinds:
            self.masked.update(kinds)
        return element

    def mask_text(self, text: str) -> str:
        masked, kinds = self.masking.text(text)
        if kinds:
            self.masked.update(kinds)
        return masked
