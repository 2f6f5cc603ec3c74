"""The dialect of GrowingIO's SDKs: one event a request from pages, arrays of them from programs."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec
from xxhash import xxh3_64_hexdigest

from collector.decode import growingio_protobuf
from collector.decode.decoded import Reason, RejectedEventError, RequestFacts
from collector.decode.dialect import Envelope, Post, dialect
from collector.decode.events import Id, NativeEvent, Said
from collector.decode.growingio_packed import parameters_of, unpacked
from collector.decode.lenient_json import parse_leniently
from collector.decode.ordinary import MAX_SEQ
from collector.decode.times import quoted, read_time
from collector.settings import Limits
from collector.wire.event import Element, Page

_TYPES: Final = {"PAGE": "page", "VIEW_CLICK": "click", "VIEW_CHANGE": "change", "FORM_SUBMIT": "submit"}
_PAGES: Final = ("web", "wxwv")
"""Platforms whose `domain` is a host: pages in a browser, and in WeChat's."""
_ON_ELEMENTS: Final = ("click", "change", "submit")
_LOGIN: Final = "LOGIN_USER_ATTRIBUTES"
_ITEM: Final = "item"
_CHOICES: Final = frozenset({"select", "option", "textarea"})
"""Elements whose text is what somebody chose or wrote."""
_CHECKED: Final = ("(true)", "(false)")
_LAST_TAG: Final = re.compile(r"([A-Za-z][A-Za-z0-9-]*)[^/]*$")
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"

_as_list = msgspec.json.Decoder(list[msgspec.Raw])
_as_raw = msgspec.json.Decoder(msgspec.Raw)
_as_object = msgspec.json.Decoder(dict[str, Any])


def _open(post: Post, limits: Limits) -> Envelope:
    """Return the events, the project in the path as their key, and `stm`.

    Raises:
        UnreadableBodyError: if they are no array of events.
        TooLargeBodyError: if they unpack to too much.
    """
    parameters = parameters_of(post.query)
    body = unpacked(post, parameters, limits).removeprefix(_BYTE_ORDER_MARK)
    parts = post.path.split("/")
    key = parts[parts.index("projects") + 1].encode()
    sent_at = _readable_time(parameters.get(b"stm", b"").decode("latin-1"))
    if b"protobuf" in post.headers.get(b"content-type", b"") and not body.startswith((b"[", b"{")):
        read = growingio_protobuf.read_items if post.path.endswith("/item") else growingio_protobuf.read_events
        return Envelope(read(body), key, sent_at)
    return Envelope([*map(bytes, parse_leniently(body, _parse, "an array of events"))], key, sent_at)


def _parse(body: bytes) -> list[msgspec.Raw]:
    body = body.lstrip()
    return [_as_raw.decode(body)] if body.startswith(b"{") else _as_list.decode(body)


def _readable_time(value: str) -> int | None:
    try:
        return read_time(value or None, "stm")
    except RejectedEventError:
        return None


def _read(raw: bytes, envelope: Envelope, _request: RequestFacts) -> Said:
    """Return what one event says; what has no place of its own is kept under `properties`.

    Raises:
        RejectedEventError: `malformed`, if it is no object, or its type or a person's id is of another kind.
    """
    try:
        fields = _as_object.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RejectedEventError(Reason.MALFORMED, "", f"is no JSON object: {error}") from error
    said = _take_text(fields, "eventType")
    if not said and "key" not in fields:
        raise RejectedEventError(Reason.MALFORMED, ".eventType", "is missing")
    kind = said or _ITEM
    event = NativeEvent(
        _TYPES.get(kind, "custom"),
        ts=fields.pop("timestamp", None),
        anonymous_id=_take_id(fields, "deviceId"),
        user_id=_take_id(fields, "userId"),
        session_id=_take_text(fields, "sessionId"),
    )
    event.id = _id(event, kind, fields.get("eventSequenceId"))
    event.page = _take_page(fields)
    if kind == _LOGIN and event.user_id is not None:
        event.type = "identify"
    elif event.type in _ON_ELEMENTS:
        event.element = _take_element(fields, event.type)
    elif event.type == "custom":
        event.name = _take_text(fields, "eventName") if kind == "CUSTOM" else kind
    event.properties = _properties(fields, envelope.key, event.user_id)
    return Said(event, envelope.sent_at)


def _id(event: NativeEvent, kind: str, number: object) -> str | None:
    """Return what tells an event from all others of its device, None where only its content does.

    Tabs number their events from one counter without a lock, and it starts again: hence type and time.
    """
    if type(number) is not int or type(event.ts) is not int:
        return None
    rest = f"{event.anonymous_id}\0{event.session_id}\0{kind}".encode("utf-8", "replace")
    return f"{number}-{event.ts}-{xxh3_64_hexdigest(rest)}"


def _take_page(fields: dict[str, Any]) -> Page | None:
    title, referrer, path = (_take_text(fields, name) for name in ("title", "referralPage", "path"))
    query, protocol, domain = (_take_text(fields, name) for name in ("query", "protocolType", "domain"))
    if domain is not None and protocol is None and fields.get("platform") in _PAGES:
        protocol = "https"  # only PAGE says it
    if domain is not None and protocol is None:
        fields["domain"], domain = domain, None  # an app's name
    if domain is path is query is title is referrer is None:
        return None
    url = f"{protocol}://{domain}{path or '/'}" if domain is not None else path if query is None else path or ""
    if query is not None:
        url = f"{url}?{query}"
    return Page(url, path, title, referrer)


def _take_element(fields: dict[str, Any], kind: str) -> Element:
    """Return the element; a changed one without its text, which is what somebody chose."""
    path, marked, text = (_take_text(fields, name) for name in ("xpath", "xcontent", "textValue"))
    found = _LAST_TAG.search(path or "")
    tag = found[1].lower() if found is not None else None
    if kind == "change" or tag in _CHOICES or (tag == "input" and text is not None and text.endswith(_CHECKED)):
        text = None
    if path is not None and marked is not None:
        fields["xpath"] = path
    index = fields.get("index")
    if type(index) is int and 0 <= index < MAX_SEQ:
        del fields["index"]
    else:
        index = None
    return Element(tag, text, marked or path, _take_text(fields, "hyperlink"), index)


def _properties(fields: dict[str, Any], key: bytes | None, user_id: Id) -> dict[str, Any]:
    """Return the caller's attributes, and what is left of the event beside them."""
    given = fields.pop("attributes", None)
    properties = given if isinstance(given, dict) else {} if given is None else {"attributes": given}
    for name, value in fields.items():
        if value is None or value == "" or (name == "gioId" and value == user_id):
            continue
        if name == "projectKey" and isinstance(value, str) and value.encode("utf-8", "replace") == key:
            continue
        while name in properties:
            name = f"${name}"  # noqa: PLW2901 - the caller's own keep their names
        properties[name] = value
    return properties


def _take_id(fields: dict[str, Any], name: str) -> Id:
    """Take a person's id; an empty one is none."""
    value = fields.pop(name, None)
    if value is None or value == "":
        return None
    if type(value) is str or type(value) is int:
        return value
    raise RejectedEventError(Reason.MALFORMED, f".{name}", f"is {quoted(value)}; expected a text or a whole number")


def _take_text(fields: dict[str, Any], name: str) -> str | None:
    """Take a text; what is none stays where it is, an empty one is none."""
    value = fields.get(name)
    if not isinstance(value, str):
        return None
    del fields[name]
    return value or None


GROWINGIO: Final = dialect("growingio", _open, _read)
