"""The shape that Segment's and RudderStack's SDKs share: JSON events, one in a request or a batch of them.

What has no place of its own in an event is kept under `properties`; nothing is kept twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from collector.decode.decoded import RejectedEventError, RequestFacts
from collector.decode.dialect import Envelope, Post
from collector.decode.events import NativeEvent, Said
from collector.decode.fields import keep_rest, read_fields, take_id, take_kind, take_properties, take_text
from collector.decode.lenient_json import parse_leniently
from collector.decode.records import split_array, trimmed
from collector.decode.segment_page import take_page
from collector.decode.times import first_time
from collector.settings import Limits

TYPES: Final = ("track", "identify", "page", "group", "alias", "screen")
"""What an event can be; RudderStack, and Segment's HTTP API, also name a path after each."""

_AUTOTRACKED: Final = "autotrack"
_TYPE_OF_PATH: Final = {path: name for name in TYPES for path in (f"/v1/{name}", f"/v1/{name[0]}")}
_NULL: Final = msgspec.Raw(b"null")


class _Body(msgspec.Struct, rename="camel", gc=False):
    """A batch and what is said of all in it, or an event itself."""

    batch: list[msgspec.Raw] | None = None
    type: Any = None
    write_key: Any = None
    sent_at: Any = None
    context: msgspec.Raw = _NULL
    integrations: msgspec.Raw = _NULL


class _Keyed(msgspec.Struct, rename="camel", gc=False):
    write_key: Any = None


_as_body = msgspec.json.Decoder(_Body)
_as_keyed = msgspec.json.Decoder(_Keyed)
_encode = msgspec.json.Encoder().encode


def open_request(post: Post, _limits: Limits) -> Envelope:
    """Return the events of `{"batch": [...]}` or of an array, or the one event that the body is.

    The key is the body's `writeKey`, else that of its first event; `sentAt` is the body's, else RudderStack's header.

    Raises:
        UnreadableBodyError: if the body is none of them.
    """
    expected = '{"batch": [...]}, an array of events, or one event'
    return parse_leniently(trimmed(post.body), partial(_parse, post), expected)


def _parse(post: Post, body: bytes) -> Envelope:
    records: Sequence[bytes]
    if body.startswith(b"["):
        whole, records = _Body(), split_array(body)
    else:
        whole = _as_body.decode(body)
        records = _records(whole, body, post.path)
    key = whole.write_key
    if key is None and records:
        key = _key_of(records[0])
    sent_at = first_time(whole.sent_at, post.headers.get(b"sentat"))
    return Envelope(records, key.encode() if isinstance(key, str) else None, sent_at)


def _records(whole: _Body, body: bytes, path: str) -> Sequence[bytes]:
    if whole.batch is None:
        named = _TYPE_OF_PATH.get(path)
        return (body if whole.type is not None or named is None else _completed({"type": named}, body),)
    records = list(map(bytes, whole.batch))
    if whole.context == whole.integrations == _NULL:
        return records
    common = {"context": msgspec.json.decode(whole.context), "integrations": msgspec.json.decode(whole.integrations)}
    return [_completed(common, record) for record in records]


def _completed(common: Mapping[str, Any], record: bytes) -> bytes:
    """Return a record with what the request says of it and it does not say itself."""
    try:
        fields = read_fields(record)
    except RejectedEventError:
        return record  # to be rejected by itself
    for name, value in common.items():
        own = fields.get(name)
        if own is None:
            fields[name] = value
        elif isinstance(own, dict) and isinstance(value, dict):
            fields[name] = {**value, **own}
    return _encode(fields)


def _key_of(record: bytes) -> object:
    try:
        return _as_keyed.decode(record).write_key
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def read_record(raw: bytes, envelope: Envelope, _request: RequestFacts) -> Said:
    """Return what one event says, in native terms.

    Raises:
        RejectedEventError: `malformed`, if it is no object, or its type, name or an id is of another kind.
    """
    fields = read_fields(raw)
    fields.pop("writeKey", None)
    own_sent_at = fields.pop("sentAt", None)
    sent_at = envelope.sent_at if envelope.sent_at is not None else first_time(own_sent_at)
    kind = take_kind(fields, "type")
    event = NativeEvent(
        "custom",
        id=take_id(fields, "messageId"),
        ts=_take_time(fields),
        anonymous_id=take_id(fields, "anonymousId"),
        user_id=take_id(fields, "userId"),
    )
    _name(event, kind, fields)
    _take_properties(event, fields)
    return event, sent_at


def _name(event: NativeEvent, kind: str, fields: dict[str, Any]) -> None:
    """Give an event its native type, and a custom one its name."""
    if kind == "track":
        event.name = take_text(fields, "event")
    elif kind == "page":
        event.type = "page"
    elif kind == "identify" and event.user_id is not None:
        event.type = "identify"
    elif kind == "alias" and event.user_id is not None:
        event.type = "identify"
        fields["type"] = kind  # else nothing would tell it from an identify
        _take_alias(event, fields)
    else:
        event.name = kind


def _take_alias(event: NativeEvent, fields: dict[str, Any]) -> None:
    """Let the id before stand as the anonymous one.

    Segment's browser SDK sends the user's id as both once there is one: then the anonymous id is the one before.
    """
    previous, anonymous_id = take_id(fields, "previousId"), event.anonymous_id
    if previous is None or str(previous) == str(event.user_id):
        return
    event.anonymous_id = previous
    if anonymous_id is not None and anonymous_id != previous:
        fields["anonymousId"] = anonymous_id


def _take_properties(event: NativeEvent, fields: dict[str, Any]) -> None:
    """Take page and session out of what is left, the rest as properties."""
    properties, context = take_properties(fields, "properties"), _object(fields.get("context"))
    event.page = take_page(properties if event.type == "page" else {}, _object(context.get("page")))
    if context.get("page") == {}:
        del context["page"]
    if type(context.get("sessionId")) in {str, int}:
        event.session_id = context.pop("sessionId")
    if fields.get("traits") and context.get("traits") == fields["traits"]:
        del context["traits"]  # rudder-sdk-node sends them twice
    if event.name == _AUTOTRACKED:
        _drop_typed(properties)
    keep_rest(properties, fields)
    event.properties = properties


def _drop_typed(properties: dict[str, Any]) -> None:
    """Take what was typed out of what rudder-analytics.js 1.x tracked by itself: the elements around a click."""
    elements = properties.get("elements")
    for one in [properties, *(elements if isinstance(elements, list) else [])]:
        if isinstance(one, dict):
            for name in ("value", "attr__value"):
                one.pop(name, None)


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _take_time(fields: dict[str, Any]) -> object:
    """Take when it happened: `timestamp`, where a caller of rudder-sdk-node gave one, before `originalTimestamp`."""
    given, original = fields.pop("timestamp", None), fields.pop("originalTimestamp", None)
    if given is None:
        return original
    if original != given:
        fields["originalTimestamp"] = original
    return given
