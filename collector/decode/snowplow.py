"""Snowplow's tracker protocol, version 2: `payload_data` in a body, or one event in a query."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from collector.decode.decoded import Decoded, Reason, RejectedEventError, RequestFacts
from collector.decode.dialect import Dialect, Envelope, Post, dialect
from collector.decode.events import NativeEvent, Said
from collector.decode.fields import drop_key, read_fields
from collector.decode.lenient_json import parse_leniently
from collector.decode.packed import form_values
from collector.decode.page import page_of
from collector.decode.records import trimmed
from collector.decode.snowplow_json import take_contexts, take_event
from collector.decode.snowplow_schemas import VENDOR, drop_typed_values, meaning_of
from collector.decode.times import first_time, quoted
from collector.errors import UnreadableBodyError
from collector.keys import KEY_PARAMETERS, sent_key
from collector.settings import Limits

LEAST_PING_MS: Final = 1000
"""What a page ping stands for at least: trackers take their heartbeat in whole seconds, and do not tell it."""

HEARTBEAT: Final = "iglu:com.phasewatch/heartbeat/"
"""The context with which a site tells it: `{"ms": 10000}`."""

SESSION: Final = f"iglu:{VENDOR}/client_session/"
NOBODY: Final = "00000000-0000-0000-0000-000000000000"
"""The user of a session that is tracked anonymously."""

TYPES: Final = {"pv": "page", "pp": "dwell"}
NAMES: Final = {"tr": "transaction", "ti": "transaction_item"}
"""Snowplow's names of its kinds of events."""


class _Payload(msgspec.Struct, gc=False):
    data: list[msgspec.Raw]


class _OfApp(msgspec.Struct, gc=False):
    aid: str | int | None = None


_as_payload = msgspec.json.Decoder(_Payload)
_as_of_app = msgspec.json.Decoder(_OfApp)
_encode = msgspec.json.Encoder().encode


def _open(post: Post, _limits: Limits) -> Envelope:
    """Return the events of a body or of a query; the key is the app's id unless the request's head has one."""
    body = trimmed(post.body)
    if body:
        records: Sequence[bytes] = parse_leniently(body, _records, '{"schema": ..., "data": [...]}')
        keyed = sent_key(post.headers, post.query) is not None
    elif post.query:
        fields = form_values(post.query)
        in_query = {fields.pop(name, b"") for name in KEY_PARAMETERS}
        keyed = in_query != {b""} or sent_key(post.headers, b"") is not None
        records = (_encode({_text(name): _text(value) for name, value in fields.items()}),)
    else:
        msg = "neither a body nor a query: send payload_data, or an event in the query"
        raise UnreadableBodyError(msg)
    return Envelope(records, None if keyed else _app_id(records))


def _text(value: bytes) -> str:
    return value.decode(errors="replace")


def _records(body: bytes) -> list[bytes]:
    return list(map(bytes, _as_payload.decode(body).data))


def _app_id(records: Sequence[bytes]) -> bytes | None:
    """Return the app's id that the first event with one says."""
    for raw in records:
        try:
            found = _as_of_app.decode(raw).aid
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue
        if found is not None:
            return str(found).encode()
    return None


def _read(raw: bytes, envelope: Envelope, _request: RequestFacts) -> Said:
    fields = read_fields(raw)
    kind = _take(fields, "e")
    if kind is None:
        raise RejectedEventError(Reason.MALFORMED, ".e", "is missing; it tells the kind of event")
    drop_key(fields, "aid", envelope.key)
    contexts = take_contexts(fields)
    session = _session_of(contexts)
    if kind == "pp":
        fields["ms"] = _heartbeat_ms(contexts)
    if contexts:
        fields["contexts"] = contexts
    anonymous_id = _id_of(session, "userId", _take(fields, "duid"))
    url, title, referrer = _take(fields, "url"), _take(fields, "page"), _take(fields, "refr")
    sent, true_time = _take(fields, "stm"), _take(fields, "ttm")
    native = NativeEvent(
        type=TYPES.get(kind, "custom"),
        id=_take(fields, "eid"),
        ts=_take(fields, "dtm") if true_time is None else true_time,
        anonymous_id=anonymous_id or _take(fields, "tnuid") or _take(fields, "nuid"),
        user_id=_take(fields, "uid"),
        session_id=_id_of(session, "sessionId", _take(fields, "sid")),
        page=page_of(url, None, title, referrer),
        properties=fields,
    )
    if kind == "ue":
        _describe(native, fields)
    elif kind == "se":
        native.name = _take(fields, "se_ac") or "se"
    elif native.type == "custom":
        native.name = NAMES.get(kind, kind)
    # A true time is nothing that a clock could be wrong about.
    return native, first_time(sent) if true_time is None else None


def _take(fields: dict[str, Any], name: str) -> str | None:
    """Take a field that is a text; None for an empty one. Some trackers send numbers as numbers."""
    value = fields.pop(name, None)
    if value is None or type(value) is str:
        return value or None
    if isinstance(value, int | float):
        return str(value)
    raise RejectedEventError(Reason.MALFORMED, f".{name}", f"is {quoted(value)}; expected a text")


def _add(fields: dict[str, Any], said: dict[str, Any]) -> None:
    """Add what the site says; where the tracker uses one of its names, the tracker's own gets `sp_` before it."""
    for name in said:
        if name in fields:
            fields[f"sp_{name}"] = fields.pop(name)
    fields.update(said)


def _describe(native: NativeEvent, fields: dict[str, Any]) -> None:
    event = take_event(fields)
    meaning = meaning_of(event)
    native.type, native.name, native.element = meaning.type, meaning.name, meaning.element
    fields["schema"] = event.schema
    _add(fields, meaning.properties)


def _session_of(contexts: list[Any]) -> dict[str, Any]:
    for one in reversed(contexts):  # trackers put it last
        found = _data_of(one, SESSION)
        if found is not None:
            return found
    return {}


def _heartbeat_ms(contexts: list[Any]) -> int | float:
    """Return the visible time that a page ping stands for, as a context says it, which is not kept twice."""
    for at, one in enumerate(contexts):
        ms = (_data_of(one, HEARTBEAT) or {}).get("ms")
        if isinstance(ms, int | float) and not isinstance(ms, bool) and ms >= 0:
            del contexts[at]
            return ms
    return LEAST_PING_MS


def _data_of(context: object, schema: str) -> dict[str, Any] | None:
    """Return what a context says, None for one of another schema."""
    if type(context) is dict and str(context.get("schema")).startswith(schema):
        data = context.get("data")
        return data if type(data) is dict else None
    return None


def _id_of(session: dict[str, Any], name: str, own: str | None) -> str | None:
    """Return an event's own id, else its session's; the session does not repeat it."""
    found = session.get(name)
    if isinstance(found, str) and found not in {"", NOBODY} and own in {None, found}:
        del session[name]
        return found
    return own


_DIALECT: Final = dialect("snowplow", _open, _read)


def _decode(envelope: Envelope, request: RequestFacts, limits: Limits) -> Decoded:
    """Decode, and take what somebody typed into a form out of what was rejected as well."""
    decoded = _DIALECT.decode(envelope, request, limits)
    for rejection in decoded.rejections:
        if b"ue_p" in rejection.raw:
            rejection.raw = _without_typed_values(rejection.raw)
    return decoded


def _without_typed_values(raw: bytes) -> bytes:
    try:
        fields = read_fields(raw)
    except (RejectedEventError, RecursionError):
        return raw
    try:
        event = take_event(fields)
    except RejectedEventError:
        return _encode({name: value for name, value in fields.items() if name not in {"ue_pr", "ue_px"}})
    return _encode({**fields, "ue_pr": event}) if drop_typed_values(event) else raw


SNOWPLOW: Final = Dialect("snowplow", _open, _decode)
