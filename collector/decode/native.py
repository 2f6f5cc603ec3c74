"""The native dialect: `POST /v1/events`, and the lines of an import."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, cast
from uuid import uuid4

import msgspec

from collector.decode.decoded import Decoded, Reason, RejectedEventError, Rejection, RequestFacts
from collector.decode.identity import read_id, read_person_id
from collector.decode.money import check_money
from collector.decode.ordinary import MAX_SEQ, decode_ordinary
from collector.decode.page import page_facts
from collector.decode.properties import encode_properties
from collector.decode.texts import check_texts
from collector.decode.times import occurred_at, quoted, read_time
from collector.errors import TooLargeBodyError, UnreadableBodyError
from collector.masking import mask_url
from collector.settings import Limits
from collector.wire.event import EVENT_TYPES, MONEY_TYPES, NO_PROPERTIES, Context, Element, Event, EventType, Page

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


class _Identified(msgspec.Struct, gc=False):
    id: str | int | None = None


class _Envelope(msgspec.Struct, gc=False):
    events: list[msgspec.Raw]
    sent_at: Any = None


FIELDS: Final = frozenset(NativeEvent.__struct_fields__)
_as_envelope = msgspec.json.Decoder(_Envelope)
_as_list = msgspec.json.Decoder(list[msgspec.Raw])
_as_event = msgspec.json.Decoder(NativeEvent)
_as_identified = msgspec.json.Decoder(_Identified)
_as_object = msgspec.json.Decoder(dict[str, Any])
_canonical = msgspec.json.Encoder(order="sorted").encode

_KEPT_DEPTH: Final = 100
_TOKENS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{}]|[^"\[\]{}]++', re.DOTALL)
_ESCAPES = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)


def decode_request(body: bytes, request: RequestFacts, limits: Limits) -> Decoded:
    """Return what a native request's body, already unpacked, holds.

    Raises:
        UnreadableBodyError: if it is neither `{"events": [...]}` nor an array.
        TooLargeBodyError: if it holds too many events.
    """
    body = body.removeprefix(b"\xef\xbb\xbf").lstrip()
    ordinary = decode_ordinary(body, request, limits)
    if ordinary is not None:
        return ordinary
    return decode_exactly(body, request, limits)


def decode_exactly(body: bytes, request: RequestFacts, limits: Limits) -> Decoded:
    """Return what any request's body holds, event by event; raises as `decode_request`."""
    raws, sent_at = read_envelope(body)
    if len(raws) > limits.events:
        msg = f"{len(raws)} events in one request; {limits.events} is the limit: send them in several"
        raise TooLargeBodyError(msg)
    return decode_native(raws, request, sent_at=sent_at, limits=limits)


def read_envelope(body: bytes) -> tuple[Sequence[msgspec.Raw], object]:
    """Return the events of a body, each still JSON, and its `sent_at` as sent.

    A half of a surrogate pair becomes U+FFFD (JavaScript makes them by cutting a text in an emoji), and nesting so
    deep that no parser follows is cut off, still too deep for its event: neither may cost the neighbours.

    Raises:
        UnreadableBodyError: if it is neither `{"events": [...]}` nor an array.
    """
    try:
        return _parse(body)
    except RecursionError:
        return _parse_or_refuse(_without_half_pairs(_cut_off(body)))
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return _parse_or_refuse(_without_half_pairs(body))


def _parse(body: bytes) -> tuple[Sequence[msgspec.Raw], object]:
    if body.startswith(b"["):
        return _as_list.decode(body), None
    envelope = _as_envelope.decode(body)
    return envelope.events, envelope.sent_at


def _parse_or_refuse(body: bytes) -> tuple[Sequence[msgspec.Raw], object]:
    try:
        return _parse(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        msg = f'expected {{"events": [...]}} or an array of events: {error}'
        raise UnreadableBodyError(msg) from error


def _without_half_pairs(body: bytes) -> bytes:
    return _ESCAPES.sub(lambda match: rb"\ufffd" if match[1] else match[0], body)


def _cut_off(body: bytes) -> bytes:
    depth = 0
    kept: list[bytes] = []
    for match in _TOKENS.finditer(body):
        token = match[0]
        depth += token in (b"[", b"{")
        if depth <= _KEPT_DEPTH:
            kept.append(token)
        depth -= token in (b"]", b"}")
    return b"".join(kept)


def decode_native(
    raws: Sequence[msgspec.Raw | bytes],
    request: RequestFacts,
    *,
    sent_at: object = None,
    limits: Limits | None = None,
    new_id: Callable[[], str] = lambda: str(uuid4()),
) -> Decoded:
    """Return the events of a request, or of an import, and an error for each that is not fit for the log.

    Args:
        raws: one JSON object each, in order.
        request: who sent them, and when they were received (UTC milliseconds).
        sent_at: when the client says it sent them, as sent: RFC 3339 or epoch milliseconds.
        limits: sizes, as in the settings.
        new_id: makes the id of an event that has neither `id` nor `ts`, which nothing protects from repeats (R7).
    """
    decoder = _Decoder(request, limits or Limits(), new_id)
    out = decoder.out
    try:
        decoder.sent_at = read_time(sent_at, "sent_at")
    except RejectedEventError as error:
        out.rejections = [Rejection(i, None, error.reason, str(error), bytes(raw)) for i, raw in enumerate(raws)]
        return out
    for index, one in enumerate(raws):
        raw = bytes(one)
        try:
            out.events.append((index, decoder.event(raw)))
        except RejectedEventError as error:
            out.rejections.append(Rejection(index, error.event_id, error.reason, f"events[{index}]{error}", raw))
    return out


class _Decoder:
    """Decodes the events of one request."""

    def __init__(self, request: RequestFacts, limits: Limits, new_id: Callable[[], str]) -> None:
        self.request = request
        self.limits = limits
        self.new_id = new_id
        self.sent_at: int | None = None
        self.out = Decoded()
        self.equals: Counter[bytes] = Counter()

    def event(self, raw: bytes) -> Event:
        try:
            return self._checked(raw)
        except RejectedEventError as error:
            error.event_id = _id_of(raw, self.limits.id_chars)
            raise

    def _checked(self, raw: bytes) -> Event:
        if len(raw) > self.limits.event_bytes:
            problem = f"has {len(raw)} bytes; {self.limits.event_bytes} is the limit"
            raise RejectedEventError(Reason.TOO_LARGE, "", problem)
        if raw.count(b"{") + raw.count(b"[") > self.limits.depth and _depth(raw) > self.limits.depth:
            problem = f"nests deeper than {self.limits.depth} objects and arrays"
            raise RejectedEventError(Reason.TOO_DEEP, "", problem)
        return self._event(_read(raw), raw)

    def _event(self, native: NativeEvent, raw: bytes) -> Event:
        kind, max_chars = native.type, self.limits.id_chars
        if kind not in EVENT_TYPES:
            raise RejectedEventError(Reason.UNKNOWN_TYPE, ".type", f"is {quoted(kind)}")
        user_id = read_person_id(native.user_id, ".user_id", max_chars)
        anonymous_id = read_person_id(native.anonymous_id, ".anonymous_id", max_chars)
        if user_id is None:
            _check_anonymous(kind, anonymous_id)
        if len(raw) > self.limits.text_chars:
            check_texts(native, native.page, native.element, self.limits.text_chars)
        if native.seq is not None and not 0 <= native.seq < MAX_SEQ:
            raise RejectedEventError(Reason.MALFORMED, ".seq", f"is {native.seq}; expected 0, 1, 2, ...")
        ts = read_time(native.ts, ".ts")
        event_id = read_id(native.id, ".id", max_chars) or self._made_id(native, ts)
        if kind in MONEY_TYPES:
            self._check_money(native)
        elif kind == "custom" and not native.name:
            raise RejectedEventError(Reason.MALFORMED, ".name", "is missing; a custom event needs one")
        return Event(
            id=event_id,
            type=cast("EventType", kind),
            occurred_at=self._occurred_at(kind, ts),
            received_at=self.request.received_at,
            ts=ts,
            anonymous_id=anonymous_id,
            user_id=user_id,
            session_id=read_id(native.session_id, ".session_id", max_chars) or None,
            name=native.name,
            source=self.request.source,
            trusted=self.request.trusted,
            seq=native.seq,
            context=self._mask_page(native.page) if native.page is not None else None,  # masks the page given below
            page=native.page,
            element=self._mask_element(native.element) if native.element is not None else None,
            properties=encode_properties(native.properties, self.out.masked) if native.properties else NO_PROPERTIES,
        )

    def _occurred_at(self, kind: str, ts: int | None) -> int:
        taken_as_is = self.request.trusted and kind in MONEY_TYPES  # a ledger says when it happened
        return occurred_at(ts, None if taken_as_is else self.sent_at, self.request.received_at)

    def _made_id(self, native: NativeEvent, ts: int | None) -> str:
        if ts is None:
            return self.new_id()
        content = hashlib.blake2b(_canonical(native), digest_size=16)
        self.equals[content.digest()] += 1
        content.update(b"%d" % self.equals[content.digest()])
        return f"h-{content.hexdigest()}"

    def _check_money(self, native: NativeEvent) -> None:
        if self.request.trusted and not native.id:
            problem = f"is missing; a {native.type} from a trusted key needs one"
            raise RejectedEventError(Reason.MALFORMED, ".id", problem)
        if native.properties is None:
            native.properties = {}
        check_money(native.properties, self.limits.id_chars)

    def _mask_page(self, page: Page) -> Context | None:
        facts = page_facts(page.url, page.path, page.referrer)
        page.url, page.path, page.referrer = facts.url, facts.path, facts.referrer
        if facts.masked:
            self.out.masked.update(facts.masked)
        return facts.context

    def _mask_element(self, element: Element) -> Element:
        if element.href:
            element.href, kinds = mask_url(element.href)
            if kinds:
                self.out.masked.update(kinds)
        return element


def _read(raw: bytes) -> NativeEvent:
    """Return the event; fields without a meaning here are kept under `properties`."""
    try:
        return _as_event.decode(raw)
    except msgspec.ValidationError:
        pass  # most often an unknown field: look closer
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RejectedEventError(Reason.MALFORMED, "", f"is no JSON: {error}") from error
    try:
        given = _as_object.decode(raw)
        unknown = {name: given.pop(name) for name in list(given) if name not in FIELDS}
        native = msgspec.convert(given, NativeEvent)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _located(str(error)) from error
    native.properties = {**unknown, **(native.properties or {})}
    return native


def _id_of(raw: bytes, max_chars: int) -> str | None:
    """Return the id of an event that is rejected, where it can be read."""
    try:
        found = _as_identified.decode(raw).id
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return None if found is None else str(found)[:max_chars]


def _located(message: str) -> RejectedEventError:
    what, _, place = message.partition(" - at `$")
    return RejectedEventError(Reason.MALFORMED, place.removesuffix("`"), f"is not as documented: {what}")


def _depth(raw: bytes) -> int:
    depth = deepest = 0
    for match in _TOKENS.finditer(raw):
        token = match[0]
        depth += (token in (b"[", b"{")) - (token in (b"]", b"}"))
        deepest = max(deepest, depth)
    return deepest


def _check_anonymous(kind: str, anonymous_id: str | None) -> None:
    if kind == "identify" or kind in MONEY_TYPES:
        raise RejectedEventError(Reason.MISSING_IDENTITY, ".user_id", f"is missing; {kind} needs one")
    if anonymous_id is None:
        raise RejectedEventError(Reason.MISSING_IDENTITY, "", "has neither user_id nor anonymous_id")
