"""Takes what a record says out of its fields: what is left then is what has no place of its own in an event."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from collector.decode.decoded import Reason, RejectedEventError
from collector.decode.events import Id
from collector.decode.times import quoted

_MAX_SECONDS: Final = 1e10
"""Three hundred years: times since 1970 are less, and nobody stays as long."""

_as_object = msgspec.json.Decoder(dict[str, Any])


def read_fields(raw: bytes) -> dict[str, Any]:
    """Return the fields of a record.

    Raises:
        RejectedEventError: `malformed`, if it is no JSON object.
    """
    try:
        return _as_object.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RejectedEventError(Reason.MALFORMED, "", f"is no JSON object: {error}") from error


def take_kind(fields: dict[str, Any], name: str) -> str:
    """Take the text that tells what happened.

    Raises:
        RejectedEventError: `malformed`, if it is no text, or an empty one.
    """
    kind = fields.pop(name, None)
    if type(kind) is str and kind:
        return kind
    problem = f"is {quoted(kind)}; expected a text" if kind else "is missing; it tells what happened"
    raise RejectedEventError(Reason.MALFORMED, f".{name}", problem)


def take_id(fields: dict[str, Any], name: str) -> Id:
    """Take an id; an empty one is none.

    Raises:
        RejectedEventError: `malformed`, if it is neither a text nor a whole number.
    """
    value = fields.pop(name, None)
    if type(value) is str or type(value) is int or value is None:
        return None if value == "" else value
    raise RejectedEventError(Reason.MALFORMED, f".{name}", f"is {quoted(value)}; expected a text or a whole number")


def take_text(fields: dict[str, Any], name: str) -> str | None:
    """Take a text; what is none stays where it is, an empty one is none."""
    value = fields.get(name)
    if type(value) is not str:
        return None
    del fields[name]
    return value or None


def take_seconds(fields: dict[str, Any], name: str) -> int | None:
    """Take seconds, as milliseconds; what is no number of them stays where it is."""
    seconds = fields.get(name)
    if (type(seconds) is not int and type(seconds) is not float) or not 0 <= seconds < _MAX_SECONDS:
        return None
    del fields[name]
    return round(seconds * 1000)


def take_dwell(properties: dict[str, Any], name: str, fields: dict[str, Any]) -> None:
    """Let seconds among the properties be native `ms`; a caller's own of that name is left to `keep_rest`."""
    ms = take_seconds(properties, name)
    if ms is not None:
        if "ms" in properties:
            fields["ms"] = properties["ms"]
        properties["ms"] = ms


def take_properties(fields: dict[str, Any], name: str) -> dict[str, Any]:
    """Take the caller's own properties; what is no object is one of them. PHP writes an empty object as `[]`."""
    given = fields.pop(name, None)
    if type(given) is dict:
        return given
    return {name: given} if given else {}


def drop_key(fields: dict[str, Any], name: str, key: bytes | None) -> None:
    """Drop a field that holds the write key."""
    value = fields.get(name)
    if key is not None and isinstance(value, str | int) and str(value).encode("utf-8", "replace") == key:
        del fields[name]


def keep_rest(properties: dict[str, Any], fields: dict[str, Any]) -> None:
    """Keep what is left of a record beside the caller's properties, which keep their names.

    What says nothing, or what the properties say already, is not kept.
    """
    for name, value in fields.items():
        if value is None or value in ("", {}):
            continue
        if name in properties:
            if properties[name] == value:
                continue
            while name in properties:
                name = f"${name}"  # noqa: PLW2901 - the next free one
        properties[name] = value
