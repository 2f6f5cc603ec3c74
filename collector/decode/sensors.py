"""The dialect of Sensors Data's SDKs: forms with base64 in them, in the query of a pixel or in a body."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from xxhash import xxh3_64_hexdigest

from collector.decode.decoded import Reason, RejectedEventError, RequestFacts
from collector.decode.dialect import Envelope, Post, dialect
from collector.decode.events import Id, NativeEvent, Said
from collector.decode.lenient_json import parse_leniently
from collector.decode.ordinary import MAX_SEQ
from collector.decode.packed import form_values, from_base64
from collector.decode.sensors_people import take_people
from collector.decode.times import read_time
from collector.errors import UnreadableBodyError
from collector.settings import Limits
from collector.wire.event import Element, Page

DEBUG_PATH: Final = "debug"
"""The last segment of the path to which SDKs under test send: `Dry-Run: true` means that nothing shall be kept."""

_TYPES: Final = {
    "$pageview": "page", "$AppViewScreen": "page", "$MPViewScreen": "page",
    "$WebClick": "click", "$AppClick": "click", "$MPClick": "click",
    "$WebPageLeave": "dwell", "$WebStay": "dwell", "$AppPageLeave": "dwell", "$MPPageLeave": "dwell",
}  # fmt: skip
_OBVIOUS: Final = frozenset({"$pageview", "$WebClick"})
"""What a native type says as much of as the name."""
_LOGINS: Final = frozenset({"track_signup", "track_id_bind"})
_UNKNOWN: Final = frozenset({"取值异常", "未取到值"})
"""The web SDK's words for "could not be read" and "has none"."""
_CHOICES: Final = frozenset({"select", "option", "textarea"})
"""Elements whose text is what somebody chose or wrote."""
_LONGEST_SECONDS: Final = 1e9
_JSON: Final = (b"[", b"{")

_as_list = msgspec.json.Decoder(list[msgspec.Raw])
_as_raw = msgspec.json.Decoder(msgspec.Raw)
_as_object = msgspec.json.Decoder(dict[str, Any])


def _open(post: Post, limits: Limits) -> Envelope:
    """Return the records of a form or of plain JSON, and the query's token, else its project, as their key.

    Raises:
        UnreadableBodyError: if there are none.
        TooLargeBodyError: if they unpack to too much.
    """
    parameters = form_values(post.query)
    key = parameters.get(b"token") or parameters.get(b"project") or b"default"
    body = post.body.lstrip()
    if not body.startswith(_JSON):
        form = form_values(body) if body else parameters
        packed = form.get(b"data_list") or form.get(b"data")
        if not packed:
            msg = "expected a form with data or data_list"
            raise UnreadableBodyError(msg)
        body = packed if packed.startswith(_JSON) else from_base64(packed, limits.decompressed_bytes)
    records = parse_leniently(body, _parse, "a record or an array of records")
    if post.path.endswith(DEBUG_PATH) and post.headers.get(b"dry-run", b"").lower() == b"true":
        records = []
    return Envelope([*map(bytes, records)], key)


def _parse(body: bytes) -> list[msgspec.Raw]:
    body = body.lstrip()
    return [_as_raw.decode(body)] if body.startswith(b"{") else _as_list.decode(body)


def _read(raw: bytes, envelope: Envelope, _request: RequestFacts) -> Said:
    """Return what one record says; what has no place of its own is kept under `properties`.

    Raises:
        RejectedEventError: `malformed`, if it is no object, or its type or a person's id is of another kind.
    """
    try:
        fields = _as_object.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RejectedEventError(Reason.MALFORMED, "", f"is no JSON object: {error}") from error
    kind, name = _take_text(fields, "type"), _take_text(fields, "event")
    if kind is None:
        raise RejectedEventError(Reason.MALFORMED, ".type", "is missing")
    given = fields.pop("properties", None)
    properties = given if isinstance(given, dict) else {} if given is None else {"properties": given}
    number, sent_at = fields.pop("_track_id", None), _readable_time(fields.pop("_flush_time", None))
    ts, distinct_id = fields.pop("time", None), fields.get("distinct_id")
    user_id, anonymous_id = take_people(fields, properties, kind)
    event = NativeEvent("custom", _id(number, ts, distinct_id, kind, name), ts, anonymous_id, user_id)
    event.session_id = _take_text(properties, "$event_session_id")
    event.page = _take_page(properties)
    _name(event, kind, name, fields)
    if event.type == "click":
        event.element = _take_element(properties)
    elif event.type == "dwell":
        _take_seconds(properties, fields)
    event.properties = properties
    _keep(fields, properties, envelope.key)
    return Said(event, sent_at)


def _readable_time(value: object) -> int | None:
    try:
        return read_time(value, "_flush_time")
    except RejectedEventError:
        return None


def _id(number: object, ts: object, distinct_id: object, kind: str, name: str | None) -> Id:
    """Return what tells a record from all others; None where only its content does, as of Python programs.

    A `_track_id` is drawn from 100,000 and ends in the clock's last digits: it comes again on a busy site.
    """
    if type(number) is not int or type(ts) is not int:
        return None
    rest = f"{distinct_id}\0{kind}\0{name}".encode("utf-8", "replace")
    return f"{number}-{ts}-{xxh3_64_hexdigest(rest)}"


def _name(event: NativeEvent, kind: str, name: str | None, fields: dict[str, Any]) -> None:
    """Give an event its native type, and a custom one its name."""
    if kind == "track":
        event.type = _TYPES.get(name or "", "custom")
        if event.type == "custom":
            event.name = name
        elif name not in _OBVIOUS:
            fields["event"] = name
    elif kind in _LOGINS and event.user_id is not None:
        event.type = "identify"
        if kind != "track_signup":
            fields["type"] = kind  # else nothing would tell it from a login
    else:
        event.name = name or kind


def _take_page(properties: dict[str, Any]) -> Page | None:
    url, path = _take_text(properties, "$url"), _take_text(properties, "$url_path")
    title, referrer = _take_text(properties, "$title"), _take_text(properties, "$referrer")
    if url is path is title is referrer is None:
        return None
    return Page(url, path, title, referrer)


def _take_element(properties: dict[str, Any]) -> Element:
    tag, text = _take_text(properties, "$element_type"), _take_text(properties, "$element_content")
    selector, href = _take_text(properties, "$element_selector"), _take_text(properties, "$element_target_url")
    index = properties.get("$element_position")
    if type(index) is int and 0 <= index < MAX_SEQ:
        del properties["$element_position"]
    else:
        index = None
    return Element(tag, None if tag in _CHOICES else text, selector, href, index)


def _take_seconds(properties: dict[str, Any], fields: dict[str, Any]) -> None:
    """Turn the seconds that somebody stayed into milliseconds."""
    seconds = properties.get("event_duration")
    if isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 <= seconds < _LONGEST_SECONDS:
        if "ms" in properties:
            fields["ms"] = properties["ms"]
        del properties["event_duration"]
        properties["ms"] = round(seconds * 1000)


def _keep(fields: dict[str, Any], properties: dict[str, Any], key: bytes | None) -> None:
    """Keep what is left of a record beside the caller's properties, which keep their names."""
    fields.pop("token", None)
    lib = fields.get("lib")
    if isinstance(lib, dict):  # most of it stands among the properties as well
        fields["lib"] = {name: value for name, value in lib.items() if properties.get(name) != value} or None
    for name, value in fields.items():
        if value is None or value == "":
            continue
        if name == "project" and isinstance(value, str) and value.encode("utf-8", "replace") == key:
            continue
        while name in properties:
            name = f"${name}"  # noqa: PLW2901
        properties[name] = value


def _take_text(fields: dict[str, Any], name: str) -> str | None:
    """Take a text; what is none stays where it is, an empty one is none."""
    value = fields.get(name)
    if not isinstance(value, str) or value in _UNKNOWN:
        return None
    del fields[name]
    return value or None


SENSORS: Final = dialect("sensors", _open, _read)
