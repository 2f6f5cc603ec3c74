"""The dialect of GrowingIO's SDKs: one event a request from pages, arrays of them from programs."""

from __future__ import annotations

import re
from typing import Any, Final

from collector.decode import growingio_protobuf
from collector.decode.decoded import RequestFacts
from collector.decode.dialect import Envelope, Post, dialect
from collector.decode.elements import CHOICES, take_href, take_index
from collector.decode.events import Id, NativeEvent, Said
from collector.decode.fields import drop_key, keep_rest, read_fields, take_id, take_kind, take_properties, take_text
from collector.decode.growingio_packed import parameters_of, unpacked
from collector.decode.numbered import numbered_id
from collector.decode.page import page_of
from collector.decode.records import is_json, read_records
from collector.decode.times import first_time
from collector.settings import Limits
from collector.wire.event import Element, Page

_TYPES: Final = {"PAGE": "page", "VIEW_CLICK": "click", "VIEW_CHANGE": "change", "FORM_SUBMIT": "submit"}
_PAGES: Final = ("web", "wxwv")
"""Platforms whose `domain` is a host: pages in a browser, and in WeChat's."""
_ON_ELEMENTS: Final = ("click", "change", "submit")
_LOGIN: Final = "LOGIN_USER_ATTRIBUTES"
_ITEM: Final = "item"
_CHECKED: Final = ("(true)", "(false)")
_TAG: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]*+")


def _open(post: Post, limits: Limits) -> Envelope:
    """Return the events, the project in the path as their key, and `stm`.

    Raises:
        UnreadableBodyError: if they are no array of events.
        TooLargeBodyError: if they unpack to too much.
    """
    parameters = parameters_of(post.query)
    body = unpacked(post, parameters, limits)
    parts = post.path.split("/")
    key = parts[parts.index("projects") + 1].encode()
    sent_at = first_time(parameters.get(b"stm"))
    if b"protobuf" in post.headers.get(b"content-type", b"") and not is_json(body):
        read = growingio_protobuf.read_items if post.path.endswith("/item") else growingio_protobuf.read_events
        return Envelope(read(body), key, sent_at)
    return Envelope(read_records(body, "an array of events"), key, sent_at)


def _read(raw: bytes, envelope: Envelope, _request: RequestFacts) -> Said:
    """Return what one event says; what has no place of its own is kept under `properties`.

    Raises:
        RejectedEventError: `malformed`, if it is no object, or its type or a person's id is of another kind.
    """
    fields = read_fields(raw)
    kind = _ITEM if "key" in fields and "eventType" not in fields else take_kind(fields, "eventType")
    event = NativeEvent(
        _TYPES.get(kind, "custom"),
        ts=fields.pop("timestamp", None),
        anonymous_id=take_id(fields, "deviceId"),
        user_id=take_id(fields, "userId"),
        session_id=take_text(fields, "sessionId"),
    )
    # Tabs number their events from one counter without a lock, and it starts again: hence type and time.
    event.id = numbered_id(fields.get("eventSequenceId"), event.ts, event.anonymous_id, event.session_id, kind)
    event.page = _take_page(fields)
    if kind == _LOGIN and event.user_id is not None:
        event.type = "identify"
    elif event.type in _ON_ELEMENTS:
        event.element = _take_element(fields, event.type, event.page)
    elif event.type == "custom":
        event.name = take_text(fields, "eventName") if kind == "CUSTOM" else kind
    event.properties = _properties(fields, envelope.key, event.user_id)
    return event, envelope.sent_at


def _take_page(fields: dict[str, Any]) -> Page | None:
    title, referrer, path = (take_text(fields, name) for name in ("title", "referralPage", "path"))
    query, protocol, domain = (take_text(fields, name) for name in ("query", "protocolType", "domain"))
    if domain is not None and protocol is None and fields.get("platform") in _PAGES:
        protocol = "https"  # only PAGE says it
    if domain is not None and protocol is None:
        fields["domain"], domain = domain, None  # an app's name
    url = f"{protocol}://{domain}{path or '/'}" if domain is not None else path if query is None else path or ""
    if query is not None:
        url = f"{url}?{query}"
    return page_of(url, path, title, referrer)


def _take_element(fields: dict[str, Any], kind: str, page: Page | None) -> Element:
    """Return the element; a changed one without its text, which is what somebody chose."""
    path, marked, text = (take_text(fields, name) for name in ("xpath", "xcontent", "textValue"))
    found = _TAG.search((path or "").rpartition("/")[2])
    tag = found[0].lower() if found is not None else None
    if kind == "change" or tag in CHOICES or (tag == "input" and text is not None and text.endswith(_CHECKED)):
        text = None
    if path is not None and marked is not None:
        fields["xpath"] = path
    href = take_href(fields, "hyperlink", page.url if page is not None else None)
    return Element(tag, text, marked or path, href, take_index(fields, "index"))


def _properties(fields: dict[str, Any], key: bytes | None, user_id: Id) -> dict[str, Any]:
    """Return the caller's attributes, and what is left of the event beside them."""
    if user_id is not None and fields.get("gioId") == user_id:
        del fields["gioId"]
    drop_key(fields, "projectKey", key)
    properties = take_properties(fields, "attributes")
    keep_rest(properties, fields)
    return properties


GROWINGIO: Final = dialect("growingio", _open, _read)
