"""From what a client says, in native terms, to events ready for the log: what all dialects share."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, cast
from uuid import uuid4

import msgspec

from collector.context.channel import NO_ARRIVAL, Arrival
from collector.decode.decoded import Decoded, Reason, RejectedEventError, Rejection, RequestFacts
from collector.decode.identity import read_id, read_person_id
from collector.decode.lenient_json import nests_deeper
from collector.decode.money import check_money
from collector.decode.ordinary import MAX_SEQ
from collector.decode.page import page_facts
from collector.decode.properties import encode_properties
from collector.decode.texts import check_texts, mask_element
from collector.decode.times import occurred_at, quoted, read_time
from collector.settings import Limits
from collector.wire.event import (
    DEFAULT_SITE,
    EVENT_TYPES,
    MONEY_TYPES,
    NO_PROPERTIES,
    Context,
    Element,
    Event,
    EventType,
    Page,
)

Id = str | int | None


class NativeEvent(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A native event as a client sends it; times and ids as clients write them."""

    type: str
    id: Id = None
    ts: Any = None
    anonymous_id: Id = None
    user_id: Id = None
    session_id: Id = None
    seq: int | None = None
    name: str | None = None
    page: Page | None = None
    element: Element | None = None
    properties: dict[str, Any] | None = None


Said = tuple[NativeEvent, int | None]
"""What one record of a request says, and when it was sent by the client's clock (UTC milliseconds)."""


class _Identified(msgspec.Struct, gc=False):
    """What the dialects call an event's id."""

    id: Id = None
    uuid: Id = None
    messageId: Id = None  # noqa: N815 - Segment's and RudderStack's
    eid: Id = None


_as_identified = msgspec.json.Decoder(_Identified)
_canonical = msgspec.json.Encoder(order="sorted").encode


def a_new_id() -> str:
    """Return an id for an event that nothing protects from repeats (R7)."""
    return str(uuid4())


class EventMaker:
    """Makes the events of one request; `out` is what has become of its records.

    Args:
        request: who sent them, and when they were received.
        limits: sizes, as in the settings.
        read: returns what a record says; raises RejectedEventError where it says nothing that can be read.
        new_id: makes the id of an event that has neither `id` nor `ts`.
    """

    def __init__(
        self,
        request: RequestFacts,
        limits: Limits,
        read: Callable[[bytes], Said],
        new_id: Callable[[], str] = a_new_id,
    ) -> None:
        self._request = request
        self._limits = limits
        self._read = read
        self._new_id = new_id
        self._equals: dict[bytes, int] = {}
        self.out = Decoded()

    def take(self, index: int, raw: bytes) -> None:
        """Add the record at a place in the request to `out`: as an event, or as a rejection."""
        try:
            self.out.events.append((index, self._checked(raw)))
        except RejectedEventError as error:
            event_id = (error.event_id or _id_of(raw) or "")[: self._limits.id_chars] or None
            kept = b"" if error.reason is Reason.BOT else raw  # nobody mends what a bot sends
            self.out.rejections.append(Rejection(index, event_id, error.reason, f"events[{index}]{error}", kept))

    def _checked(self, raw: bytes) -> Event:
        if len(raw) > self._limits.event_bytes:
            problem = f"has {len(raw)} bytes; {self._limits.event_bytes} is the limit"
            raise RejectedEventError(Reason.TOO_LARGE, "", problem)
        if nests_deeper(raw, self._limits.depth):
            problem = f"nests deeper than {self._limits.depth} objects and arrays"
            raise RejectedEventError(Reason.TOO_DEEP, "", problem)
        native, sent_at = self._read(raw)
        try:
            return self._event(native, sent_at, raw)
        except RejectedEventError as error:
            error.event_id = None if native.id is None else str(native.id)
            raise

    def _event(self, native: NativeEvent, sent_at: int | None, raw: bytes) -> Event:
        kind, max_chars = native.type, self._limits.id_chars
        if kind not in EVENT_TYPES:
            raise RejectedEventError(Reason.UNKNOWN_TYPE, ".type", f"is {quoted(kind)}")
        user_id = read_person_id(native.user_id, ".user_id", max_chars)
        anonymous_id = read_person_id(native.anonymous_id, ".anonymous_id", max_chars)
        if user_id is None:
            _check_anonymous(kind, anonymous_id)
        if len(raw) > self._limits.text_chars:
            check_texts(native, native.page, native.element, self._limits.text_chars)
        _check_counts(native)
        ts = read_time(native.ts, ".ts")
        event_id = read_id(native.id, ".id", max_chars) or self._made_id(native, ts)
        if kind in MONEY_TYPES:
            self._check_money(native)
        elif kind == "custom" and not native.name:
            raise RejectedEventError(Reason.MALFORMED, ".name", "is missing; a custom event needs one")
        arrival = self._mask_page(native.page) if native.page is not None else NO_ARRIVAL  # masks the page given below
        context = self._context(arrival, native)
        return Event(  # by position, as in `ordinary`
            event_id,
            cast("EventType", kind),
            self._occurred_at(kind, ts, sent_at),
            self._request.received_at,
            ts,
            anonymous_id,
            user_id,
            read_id(native.session_id, ".session_id", max_chars) or None,
            self._mask_text(native.name) if native.name else native.name,
            self._request.source,
            self._request.trusted,
            DEFAULT_SITE,
            native.seq,
            native.page,
            self._mask_element(native.element) if native.element is not None else None,
            context,
            encode_properties(native.properties, self._request.masking, self.out.masked)
            if native.properties
            else NO_PROPERTIES,
        )

    def _context(self, arrival: Arrival, native: NativeEvent) -> Context | None:
        around = self._request.around
        context = around.context_of(arrival, native.properties)
        if context is not None and context.bot is not None:
            if around.drops_bots:
                raise RejectedEventError(Reason.BOT, "", "comes from a bot, and collector.bots is drop")
            self.out.bots += 1
        return context

    def _occurred_at(self, kind: str, ts: int | None, sent_at: int | None) -> int:
        taken_as_is = self._request.trusted and kind in MONEY_TYPES  # a ledger says when it happened
        return occurred_at(ts, None if taken_as_is else sent_at, self._request.received_at)

    def _made_id(self, native: NativeEvent, ts: int | None) -> str:
        if ts is None:
            return self._new_id()
        content = hashlib.blake2b(_canonical(native), digest_size=16)
        digest = content.digest()
        number = self._equals[digest] = self._equals.get(digest, 0) + 1
        content.update(b"%d" % number)
        return f"h-{content.hexdigest()}"

    def _check_money(self, native: NativeEvent) -> None:
        if self._request.trusted and native.id in {None, ""}:
            problem = f"is missing; a {native.type} from a trusted key needs one"
            raise RejectedEventError(Reason.MALFORMED, ".id", problem)
        if native.properties is None:
            native.properties = {}
        check_money(native.properties, self._limits.id_chars)

    def _mask_page(self, page: Page) -> Arrival:
        facts = page_facts(page, self._request.masking)
        page.url, page.path, page.title, page.referrer = facts.url, facts.path, facts.title, facts.referrer
        if facts.masked:
            self.out.masked.update(facts.masked)
        return facts.arrival

    def _mask_element(self, element: Element) -> Element:
        kinds = mask_element(element, self._request.masking)
        if kinds:
            self.out.masked.update(kinds)
        return element

    def _mask_text(self, text: str) -> str:
        masked, kinds = self._request.masking.text(text)
        if kinds:
            self.out.masked.update(kinds)
        return masked


def _id_of(raw: bytes) -> str | None:
    """Return the id of an event that says nothing else that can be read."""
    try:
        found = _as_identified.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return next((str(one) for one in (found.id, found.uuid, found.messageId, found.eid) if one is not None), None)


def _check_counts(native: NativeEvent) -> None:
    index = None if native.element is None else native.element.index
    for place, number in ((".seq", native.seq), (".element.index", index)):
        if number is not None and not 0 <= number < MAX_SEQ:
            raise RejectedEventError(Reason.MALFORMED, place, f"is {quoted(number)}; expected 0, 1, 2, ...")


def _check_anonymous(kind: str, anonymous_id: str | None) -> None:
    if kind == "identify" or kind in MONEY_TYPES:
        raise RejectedEventError(Reason.MISSING_IDENTITY, ".user_id", f"is missing; {kind} needs one")
    if anonymous_id is None:
        raise RejectedEventError(Reason.MISSING_IDENTITY, "", "has neither user_id nor anonymous_id")
