"""The dialect of Sensors Data's SDKs: forms with base64 in them, in the query of a pixel or in a body."""

from __future__ import annotations

from typing import Any, Final

from collector.decode.decoded import RequestFacts
from collector.decode.dialect import Envelope, Post, dialect
from collector.decode.elements import FIELDS, take_href, take_index
from collector.decode.events import NativeEvent, Said
from collector.decode.fields import drop_key, keep_rest, read_fields, take_dwell, take_kind, take_properties, take_text
from collector.decode.numbered import numbered_id
from collector.decode.packed import form_values, from_base64
from collector.decode.page import page_of
from collector.decode.records import is_json, read_records, trimmed
from collector.decode.sensors_people import take_people
from collector.decode.times import first_time
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
_UNKNOWN: Final = ("取值异常", "未取到值")
"""The web SDK's words for "could not be read" and "has none"."""


def _open(post: Post, limits: Limits) -> Envelope:
    """Return the records of a form or of plain JSON, and the query's token, else its project, as their key.

    Raises:
        UnreadableBodyError: if there are none.
        TooLargeBodyError: if they unpack to too much.
    """
    parameters = form_values(post.query)
    key = parameters.get(b"token") or parameters.get(b"project") or b"default"
    body = trimmed(post.body)
    if not is_json(body):
        form = form_values(body) if body else parameters
        packed = form.get(b"data_list") or form.get(b"data")
        if not packed:
            msg = "expected a form with data or data_list"
            raise UnreadableBodyError(msg)
        body = packed if is_json(packed) else from_base64(packed, limits.decompressed_bytes)
    records = read_records(body, "a record or an array of records")
    if post.path.endswith(DEBUG_PATH) and post.headers.get(b"dry-run", b"").lower() == b"true":
        records = []
    return Envelope(records, key)


def _read(raw: bytes, envelope: Envelope, _request: RequestFacts) -> Said:
    """Return what one record says; what has no place of its own is kept under `properties`.

    Raises:
        RejectedEventError: `malformed`, if it is no object, or its type or a person's id is of another kind.
    """
    fields = read_fields(raw)
    kind, name = take_kind(fields, "type"), take_text(fields, "event")
    properties = take_properties(fields, "properties")
    number, sent_at = fields.pop("_track_id", None), first_time(fields.pop("_flush_time", None))
    ts, distinct_id = fields.pop("time", None), fields.get("distinct_id")
    user_id, anonymous_id = take_people(fields, properties, kind)
    # A `_track_id` is drawn from 100,000 and ends in the clock's last digits: it comes again on a busy site.
    event = NativeEvent("custom", numbered_id(number, ts, distinct_id, kind, name), ts, anonymous_id, user_id)
    event.session_id = _take_known(properties, "$event_session_id")
    event.page = _take_page(properties)
    _name(event, kind, name, fields)
    if event.type == "click":
        event.element = _take_element(properties, event.page)
    elif event.type == "dwell":
        take_dwell(properties, "event_duration", fields)
    event.properties = properties
    _keep(fields, properties, envelope.key)
    return event, sent_at


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
    return page_of(
        _take_known(properties, "$url"),
        _take_known(properties, "$url_path"),
        _take_known(properties, "$title"),
        _take_known(properties, "$referrer"),
    )


def _take_element(properties: dict[str, Any], page: Page | None) -> Element:
    tag, text = _take_known(properties, "$element_type"), _take_known(properties, "$element_content")
    return Element(
        tag,
        None if (tag or "").casefold() in FIELDS else text,
        _take_known(properties, "$element_selector"),
        take_href(properties, "$element_target_url", page.url if page is not None else None),
        take_index(properties, "$element_position"),
    )


def _take_known(properties: dict[str, Any], name: str) -> str | None:
    """Take a text; what the SDK did not find out stays where it is."""
    return None if properties.get(name) in _UNKNOWN else take_text(properties, name)


def _keep(fields: dict[str, Any], properties: dict[str, Any], key: bytes | None) -> None:
    """Keep what is left of a record beside the caller's properties."""
    fields.pop("token", None)
    drop_key(fields, "project", key)
    lib = fields.get("lib")
    if isinstance(lib, dict):  # most of it stands among the properties as well
        fields["lib"] = {name: value for name, value in lib.items() if properties.get(name) != value}
    keep_rest(properties, fields)


SENSORS: Final = dialect("sensors", _open, _read)
