"""PostHog's dialect: posthog-js of all ages, its server SDKs, and what any of them calls capture v1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from collector.decode.decoded import Reason, RejectedEventError, RequestFacts
from collector.decode.dialect import Envelope, Post, dialect
from collector.decode.elements import absolute_href
from collector.decode.elements_chain import Described, read_chain, read_list
from collector.decode.events import NativeEvent, Said
from collector.decode.fields import (
    drop_key,
    keep_rest,
    read_fields,
    take_dwell,
    take_id,
    take_kind,
    take_properties,
    take_seconds,
    take_text,
)
from collector.decode.lenient_json import parse_leniently
from collector.decode.packed import form_values, from_base64
from collector.decode.page import page_of
from collector.decode.posthog_people import ALIASES, LINKING, take_people
from collector.decode.records import is_json, split_array, trimmed
from collector.decode.times import first_time, quoted
from collector.errors import UnreadableBodyError
from collector.masking.rules import Masking
from collector.settings import Limits
from collector.wire.event import Element, EventType, Page

EXPECTED: Final = '{"api_key", "batch": [...]}, an array of events, or one event'

_TYPES: Final[Mapping[str, EventType]] = {
    "$pageview": "page",
    "$screen": "page",
    "$pageleave": "dwell",
    "$rageclick": "click",
    **dict.fromkeys(LINKING, "identify"),
}
_CAPTURED: Final[Mapping[str, EventType]] = {
    "click": "click",
    "touch": "click",
    "change": "change",
    "submit": "submit",
}
"""What `$event_type` of `$autocapture` may be."""

_MARKED: Final = frozenset({"$rageclick", *ALIASES})
"""Kept as a property: else nothing would tell them from a click, or from a login."""
_ENVELOPE_FIELDS: Final = ("api_key", "token", "sent_at", "sentAt")
"""What a lone event carries beside its own fields."""


class _Body(msgspec.Struct, gc=False):
    """A batch and what is said of all in it, or an event itself; fields of another type say nothing."""

    batch: list[msgspec.Raw] | None = None
    api_key: Any = None
    token: Any = None
    sent_at: Any = None
    sentAt: Any = None  # noqa: N815 - posthog-python until 3.x


class _KeyedProperties(msgspec.Struct, gc=False):
    token: Any = None


class _Keyed(msgspec.Struct, gc=False):
    api_key: Any = None
    token: Any = None
    properties: _KeyedProperties | None = None


_as_body = msgspec.json.Decoder(_Body)
_as_keyed = msgspec.json.Decoder(_Keyed)


def _open(post: Post, limits: Limits) -> Envelope:
    """Return the events of a request; the key is the envelope's, else that of its first event."""
    query = form_values(post.query) if post.query else {}
    return parse_leniently(_json_of(post.body, query, limits), partial(_parse, post.headers, query), EXPECTED)


def _json_of(body: bytes, query: Mapping[bytes, bytes], limits: Limits) -> bytes:
    """Return the JSON of a request: the body, or `data` of a form or of the query, plain or in base64."""
    body = trimmed(body)
    if is_json(body):
        return body
    data = (form_values(body).get(b"data", body) if body else query.get(b"data", b"")).lstrip()
    if not data:
        msg = f"nothing was sent; expected {EXPECTED}"
        raise UnreadableBodyError(msg)
    return data if is_json(data) else from_base64(data, limits.decompressed_bytes).lstrip()


def _parse(headers: Mapping[bytes, bytes], query: Mapping[bytes, bytes], body: bytes) -> Envelope:
    records: Sequence[bytes]
    if body.startswith(b"["):
        whole, records = _Body(), split_array(body)
    else:
        whole = _as_body.decode(body)
        records = (body,) if whole.batch is None else list(map(bytes, whole.batch))
    key = _first_text(whole.api_key, whole.token)
    if key is None and records:
        key = _key_of(records[0])
    sent_at = first_time(whole.sent_at, whole.sentAt, query.get(b"_"), headers.get(b"posthog-request-timestamp"))
    sdk = headers.get(b"posthog-sdk-info", b"").decode("latin-1")
    return Envelope(records, None if key is None else key.encode(), sent_at, sdk)


def _key_of(record: bytes) -> str | None:
    try:
        keyed = _as_keyed.decode(record)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return _first_text(keyed.api_key, keyed.token, keyed.properties.token if keyed.properties is not None else None)


def _first_text(*values: object) -> str | None:
    return next((value for value in values if isinstance(value, str) and value), None)


def _read(raw: bytes, envelope: Envelope, request: RequestFacts) -> Said:
    """Return what one event says, in native terms."""
    fields = read_fields(raw)
    for name in _ENVELOPE_FIELDS:
        fields.pop(name, None)
    properties = take_properties(fields, "properties")
    event = _event(fields, properties, envelope, request.masking)
    event.id = take_id(fields, "uuid") or take_id(properties, "$insert_id")
    event.ts, sent_at = _take_times(fields, properties, envelope.sent_at, request.received_at)
    drop_key(properties, "token", envelope.key)
    keep_rest(properties, fields)
    event.properties = properties
    return event, sent_at


def _event(fields: dict[str, Any], properties: dict[str, Any], envelope: Envelope, masking: Masking) -> NativeEvent:
    """Return the event but for its id, times and properties."""
    name = take_kind(fields, "event")
    if envelope.sdk:
        properties.setdefault("$lib", envelope.sdk.partition("/")[0])
        properties.setdefault("$lib_version", envelope.sdk.partition("/")[2])
    captured = properties.get("$event_type") if name == "$autocapture" else None
    kind = _CAPTURED.get(captured) if isinstance(captured, str) else _TYPES.get(name)
    user_id, anonymous_id = take_people(name, fields, properties)
    event = NativeEvent(
        kind or "custom",
        user_id=user_id,
        anonymous_id=anonymous_id,
        session_id=take_id(properties, "$session_id") or take_id(fields, "session_id"),
        name=None if kind is not None else name,
        page=_take_page(properties, with_title=kind == "page"),
    )
    if name in {"$autocapture", "$rageclick"} and kind is not None:
        properties.pop("$event_type", None)
        event.element = _take_element(properties, kind, event.page, masking)
    if name in _MARKED:
        properties[name] = True
    elif kind == "dwell":
        take_dwell(properties, "$prev_pageview_duration", fields)
    return event


def _take_page(properties: dict[str, Any], *, with_title: bool) -> Page | None:
    return page_of(
        take_text(properties, "$current_url"),
        take_text(properties, "$pathname"),
        take_text(properties, "title") if with_title else None,  # anybody's own property on other events
        take_text(properties, "$referrer"),
    )


def _take_element(properties: dict[str, Any], kind: EventType, page: Page | None, masking: Masking) -> Element:
    chain, elements, nearest = properties.get("$elements_chain"), properties.get("$elements"), kind == "click"
    described = Described()
    if isinstance(chain, str):
        described, properties["$elements_chain"] = read_chain(chain, masking, nearest=nearest)
    elif isinstance(elements, list):
        described = read_list(elements, nearest=nearest)
    text, inner = described.text, properties.get("$el_text")
    if described.typed:
        properties.pop("$el_text", None)
    elif isinstance(inner, str) and (text is None or text == inner):
        text = properties.pop("$el_text")
    href = absolute_href(described.href, page.url if page is not None else None)
    return Element(described.tag, text or None, described.selector, href, described.place)


def _take_times(
    fields: dict[str, Any], properties: dict[str, Any], sent_at: int | None, received_at: int
) -> tuple[object, int | None]:
    """Return when it happened and when it was sent, both by the client's clock."""
    ts, offset = fields.pop("timestamp", None), fields.pop("offset", None)
    options = fields.get("options")
    if isinstance(options, dict) and options.get("disable_skew_correction") is True:
        sent_at = None
    if ts is not None and ts != "":
        return ts, sent_at
    if offset is not None:
        if isinstance(offset, bool) or not isinstance(offset, int | float):
            raise RejectedEventError(Reason.BAD_TIME, ".offset", f"is {quoted(offset)}; expected milliseconds")
        sent_at = received_at if sent_at is None else sent_at
        return sent_at - int(offset), sent_at
    return take_seconds(properties, "$time"), sent_at


POSTHOG: Final = dialect("posthog", _open, _read)
