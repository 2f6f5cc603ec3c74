"""A strict reading of the log's lines, written from the documents and without the decoders.

It says what is wrong with a line; the fuzzer calls a line wrong that this one refuses, whatever the decoders thought.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

TYPES: Final = frozenset({
    "page", "click", "change", "submit", "dwell", "identify", "custom", "purchase", "redeem", "purchase_cancelled",
    "redeem_cancelled",
})  # fmt: skip
MONEY: Final = frozenset({"purchase", "redeem", "purchase_cancelled", "redeem_cancelled"})
FIELDS: Final = frozenset({
    "id", "type", "occurred_at", "received_at", "ts", "anonymous_id", "user_id", "session_id", "name", "source",
    "trusted", "site", "seq", "page", "element", "context", "properties",
})  # fmt: skip
PAGE: Final = frozenset({"url", "path", "title", "referrer"})
ELEMENT: Final = frozenset({"tag", "text", "selector", "href", "index"})

YEAR_2000: Final = 946_684_800_000
YEAR_2200: Final = 7_258_118_400_000
ID_CHARS: Final = 128
TEXT_CHARS: Final = 8192
DEPTH: Final = 32
CARRIED: Final = 4
"""What is kept under `properties` may have stood further out, or in a text of its own (Snowplow's contexts)."""
SEQ: Final = 2**53
LINE_BYTES: Final = 4 * 64 * 1024
"""Four times the largest event as sent: by no way of writing it does one grow more (docs/spool.md, block sizes)."""
CONTEXT_CHARS: Final = 512

NOBODY: Final = frozenset({
    "", "null", "undefined", "none", "nil", "nan", "guest", "anonymous", "unknown", "[object object]", "true", "false",
})  # fmt: skip
_AROUND: Final = " \t\u00a0\u2003\u3000\"'`"
_BREAKS: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
_AMOUNT: Final = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?", re.ASCII)
_MASKED_PARTS: Final = ("page", "element", "properties")


class NotStrictError(Exception):
    """What a line holds that no line may hold."""


def read_line(line: bytes, received_at: int) -> dict[str, Any]:
    """Return the event of a line.

    Args:
        line: of a block's value, its newline included.
        received_at: the collector's clock when it came, UTC milliseconds.

    Raises:
        NotStrictError: if it is not as documented.
    """
    _must(line.endswith(b"\n") and line.count(b"\n") == 1 and b"\r" not in line, "is no line")
    _must(len(line) <= LINE_BYTES, f"has {len(line)} bytes")
    try:
        event: dict[str, Any] = json.loads(
            line.decode("utf-8", "strict"), object_pairs_hook=_no_name_twice, parse_constant=_no_constant
        )
    except (ValueError, RecursionError) as error:
        raise NotStrictError(f"is no strict JSON: {error}") from error  # noqa: EM102, TRY003
    _must(isinstance(event, dict), "is no object")
    _must(set(event) <= FIELDS, f"has unknown fields: {set(event) - FIELDS}")
    _people(event)
    _times(event, received_at)
    _texts(event)
    properties = event.get("properties", {})
    _must(isinstance(properties, dict), "properties are no object")
    _must(_depth(properties) <= DEPTH + CARRIED, "properties nest too deep")
    _no_half_pairs(event)
    if event["type"] in MONEY:
        _money(properties)
    return event


def _must(holds: bool, problem: str) -> None:  # noqa: FBT001 - an assertion that -O leaves in
    if not holds:
        raise NotStrictError(problem)


def _no_name_twice(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    _must(len(found) == len(pairs), "has a name twice")
    return found


def _no_constant(name: str) -> None:
    raise NotStrictError(f"holds {name}")  # noqa: EM102, TRY003


def _people(event: Mapping[str, Any]) -> None:
    _must(event.get("type") in TYPES, f"is of type {event.get('type')!r}")
    _identifier(event, "id", required=True)
    user, anonymous = (_identifier(event, name) for name in ("user_id", "anonymous_id"))
    _identifier(event, "session_id")
    for name, value in (("user_id", user), ("anonymous_id", anonymous)):
        _must(value is None or not stands_for_nobody(value), f"{name} is {value!r}")
    if event["type"] in MONEY or event["type"] == "identify":
        _must(user is not None, "needs a user")
    _must(user is not None or anonymous is not None, "is about nobody")
    _must(event.get("trusted", False) in {True, False}, "trusted is no flag")
    _must(isinstance(event.get("source"), str) and bool(event["source"]), "has no source")


def _identifier(event: Mapping[str, Any], name: str, *, required: bool = False) -> str | None:
    value = event.get(name)
    if value is None:
        _must(not required and name not in event, f"{name} is missing")
        return None
    _must(isinstance(value, str) and 0 < len(value) <= ID_CHARS, f"{name} is {value!r:.200}")
    _must(not any(unicodedata.category(char) in _BREAKS for char in value), f"{name} is {value!r}, which breaks a line")
    return str(value)


def stands_for_nobody(text: str) -> bool:
    """Return whether an id is what broken integrations send in place of one."""
    seen = "".join(char for char in text if unicodedata.category(char) != "Cf")
    plain = seen.strip(_AROUND).casefold()
    return plain in NOBODY or not plain.replace("0", "").replace("-", "")


def _times(event: Mapping[str, Any], received_at: int) -> None:
    for name in ("occurred_at", "received_at"):
        _must(type(event.get(name)) is int, f"{name} is {event.get(name)!r}")
    _must(event["received_at"] == received_at, "was not received now")
    _must(YEAR_2000 <= event["occurred_at"] <= received_at, f"occurred at {event['occurred_at']}")
    if "ts" in event:
        _must(type(event["ts"]) is int and YEAR_2000 <= event["ts"] < YEAR_2200, f"ts is {event['ts']!r}")
    if "seq" in event:
        _must(type(event["seq"]) is int and 0 <= event["seq"] < SEQ, f"seq is {event['seq']!r}")


def _texts(event: Mapping[str, Any]) -> None:
    _text(event, "name", "name")
    _must(event["type"] != "custom" or bool(event.get("name")), "a custom event has no name")
    for part, fields in (("page", PAGE), ("element", ELEMENT)):
        value = event.get(part)
        if value is None:
            continue
        _must(isinstance(value, dict) and fields >= set(value), f"{part} is {value!r:.200}")
        for name in fields - {"index"}:
            _text(value, name, f"{part}.{name}")
    index = (event.get("element") or {}).get("index")
    _must(index is None or (type(index) is int and 0 <= index < SEQ), f"element.index is {index!r:.50}")
    for name, value in (event.get("context") or {}).items():  # it only gains fields
        _must(isinstance(name, str) and len(str(value)) <= CONTEXT_CHARS, f"context.{name} is {value!r:.200}")


def _text(of: Mapping[str, Any], name: str, place: str) -> None:
    value = of.get(name)
    _must(value is None or isinstance(value, str), f"{place} is no text")
    most = 3 * TEXT_CHARS if value is not None and "***" in value else TEXT_CHARS  # a mask may be longer than a value
    _must(value is None or len(value) <= most, f"{place} has {len(value or '')} characters")


def _depth(value: Any) -> int:
    deepest, here = 0, [(value, 1)]
    while here:
        one, depth = here.pop()
        if isinstance(one, dict | list):
            deepest = max(deepest, depth)
            here += [(inner, depth + 1) for inner in (one.values() if isinstance(one, dict) else one)]
    return deepest


def _no_half_pairs(event: Mapping[str, Any]) -> None:
    try:
        for text in _all_texts(event):
            text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise NotStrictError("holds half of a surrogate pair") from error  # noqa: EM101, TRY003


def _all_texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, one in value.items():
            yield name
            yield from _all_texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _all_texts(one)


def _money(properties: Mapping[str, Any]) -> None:
    for name in ("order_id", "redemption_id"):
        value = properties.get(name)
        if value is None:
            _must(name != "order_id", "a money fact has no order_id")
            continue
        _must(isinstance(value, str) and len(value) <= ID_CHARS, f"{name} is {value!r:.200}")
        _must(not any(unicodedata.category(char) in _BREAKS for char in value), f"{name} is {value!r}")
        _must(name != "order_id" or bool(value.strip()), "order_id is blank")
    for name in ("amount", "remaining"):
        value = properties.get(name)
        _must(
            value is None or (isinstance(value, str) and _AMOUNT.fullmatch(value) is not None),
            f"{name} is {value!r:.80}",
        )
    due = properties.get("matures_at")
    _must(due is None or (type(due) is int and YEAR_2000 <= due < YEAR_2200), f"matures_at is {due!r:.80}")


def masked_fields(event: Mapping[str, Any]) -> Iterator[str]:
    """Yield the texts of an event in which nothing secret or personal may stand: all but ids."""
    yield event.get("name") or ""
    for part in _MASKED_PARTS:
        yield from _all_texts(event.get(part))
