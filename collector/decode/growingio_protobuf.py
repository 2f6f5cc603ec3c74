"""Reads the protobuf messages of GrowingIO's Python SDK into the JSON objects that it sends otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from collector.errors import UnreadableBodyError

_EVENTS: Final = 1
_ITEMS: Final = 2
"""The one field of EventV3List, and of ItemDtoList."""

_EVENT_FIELDS: Final = {
    1: "deviceId", 2: "userId", 3: "gioId", 4: "sessionId", 5: "dataSourceId", 6: "eventType", 7: "platform",
    8: "timestamp", 9: "domain", 10: "path", 11: "query", 12: "title", 13: "referralPage", 14: "globalSequenceId",
    15: "eventSequenceId", 16: "screenHeight", 17: "screenWidth", 18: "language", 19: "sdkVersion", 20: "appVersion",
    22: "eventName", 24: "attributes", 26: "protocolType", 27: "textValue", 28: "xpath", 29: "index", 30: "hyperlink",
    53: "projectKey", 54: "sendTime", 55: "userKey",
}  # fmt: skip
_ITEM_FIELDS: Final = {1: "id", 2: "key", 3: "attributes", 4: "dataSourceId", 5: "projectKey"}

_EVENT_TYPES: Final = (
    "VISIT", "CUSTOM", "VISITOR_ATTRIBUTES", "LOGIN_USER_ATTRIBUTES", "CONVERSION_VARIABLES", "APP_CLOSED", "PAGE",
    "PAGE_ATTRIBUTES", "VIEW_CLICK", "VIEW_CHANGE", "FORM_SUBMIT",
)  # fmt: skip

_VARINT, _BITS_64, _BYTES, _BITS_32 = 0, 1, 2, 5
_MAX_VARINT_BYTES: Final = 10
_NEGATIVE: Final = 1 << 63

_encode = msgspec.json.Encoder().encode


def read_events(body: bytes) -> list[bytes]:
    """Return the events of an EventV3List, each as the JSON that the SDK would send without protobuf.

    Raises:
        UnreadableBodyError: if it is no complete message.
    """
    return [_encode(_event(message)) for message in _messages(body, _EVENTS)]


def read_items(body: bytes) -> list[bytes]:
    """Return the items of an ItemDtoList; otherwise as `read_events`."""
    return [_encode(_object(message, _ITEM_FIELDS)) for message in _messages(body, _ITEMS)]


def _messages(body: bytes, number: int) -> Iterator[bytes]:
    return (value for found, value in _fields(body) if found == number and isinstance(value, bytes))


def _event(message: bytes) -> dict[str, Any]:
    event = _object(message, _EVENT_FIELDS)
    kind = event.get("eventType", 0)  # what is 0 is left out
    event["eventType"] = _EVENT_TYPES[kind] if isinstance(kind, int) and 0 <= kind < len(_EVENT_TYPES) else str(kind)
    return event


def _object(message: bytes, names: Mapping[int, str]) -> dict[str, Any]:
    """Return a message by the names of its fields; those without a name here as `field_99`."""
    found: dict[str, Any] = {}
    attributes: dict[str, str] = {}
    for number, value in _fields(message):
        name = names.get(number) or f"field_{number}"
        if name == "attributes" and isinstance(value, bytes):
            entry = dict(_fields(value))
            attributes[_text(entry.get(1, b""))] = _text(entry.get(2, b""))
        else:
            found[name] = value if isinstance(value, int) else _text(value)
    if attributes:
        found["attributes"] = attributes
    return found


def _text(value: int | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and value of each field: an integer, or what has a length."""
    at, end = 0, len(message)
    while at < end:
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield number, value - 2 * _NEGATIVE if value >= _NEGATIVE else value
            continue
        if kind == _BYTES:
            size, at = _varint(message, at)
        elif kind in {_BITS_64, _BITS_32}:
            size = 8 if kind == _BITS_64 else 4
        else:
            raise _broken()
        at += size
        if at > end:
            raise _broken()
        found = message[at - size : at]
        yield number, found if kind == _BYTES else int.from_bytes(found, "little")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """Return the number at a place, 7 bits a byte, and the place after it."""
    if at < len(message) and message[at] < 0x80:  # noqa: PLR2004 - the highest bit says that more follow
        return message[at], at + 1
    value = 0
    for shift, byte in enumerate(message[at : at + _MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:  # noqa: PLR2004
            return value & (2 * _NEGATIVE - 1), at + shift + 1
    raise _broken()


def _broken() -> UnreadableBodyError:
    return UnreadableBodyError("the body is no complete protobuf message")
