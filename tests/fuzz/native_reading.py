"""A second reading of native requests, by Python's own JSON and rules written out here: what may be accepted."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum
from math import inf, isinf
from typing import Any, Final

from tests.fuzz.strict import (
    DEPTH,
    ELEMENT,
    ID_CHARS,
    MONEY,
    PAGE,
    SEQ,
    TEXT_CHARS,
    TYPES,
    YEAR_2000,
    YEAR_2200,
    NotStrictError,
)

EVENT_BYTES: Final = 64 * 1024
EVENTS: Final = 5000
_RFC3339: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):?(\d\d))", re.ASCII
)
_DECIMAL: Final = re.compile(r"[+-]?[0-9]{1,30}(\.[0-9]{1,18})?", re.ASCII)
_DIGITS: Final = re.compile(r"[0-9]+(\.[0-9]*)?|\.[0-9]+", re.ASCII)
_QUOTED: Final = re.compile(r'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_BEYOND: Final = re.compile(r"[0-9][eE]\+?[0-9]{3}|[0-9]{4300}")
"""What may be a number beyond all: whoever skips it does not see it."""
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_JUNK: Final = frozenset({
    "", "null", "(null)", "<null>", "undefined", "none", "nil", "nan", "guest", "anonymous", "anon", "unknown", "n/a",
    "-1", "[object object]", "object object", "true", "false", "id", "distinctid", "distinct_id", "not_authenticated",
    "email",
})  # fmt: skip

_READ_DIGITS: Final = 4000
_DOUBTFUL: Final = re.compile(
    r"[^\w]*(inf|infinity|none|not set|visitor|nobody|null|\W*|u?user_?id|device_?id)[^\w]*|[{$%<].*", re.DOTALL
)
"""What else may stand for nobody: the list of such words only grows."""


class Verdict(Enum):
    """What must become of an event."""

    TAKEN = "taken"
    REFUSED = "refused"
    EITHER = "either"
    """Where the documents leave it open: ids of letters that cannot be seen, numbers beyond all others."""


class UnreadableError(Exception):
    """The body is no strict JSON of the documented form."""


def read_request(body: bytes, received_at: int, *, trusted: bool) -> list[Verdict]:
    """Return what must become of each event of a native request's JSON.

    Raises:
        UnreadableError: if the body as a whole is none.
    """
    try:
        text = body.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "strict")
        events, sent_at = _split(text)
    except (ValueError, RecursionError, NotStrictError, IndexError) as error:
        raise UnreadableError(str(error)[:200]) from error
    if len(events) > EVENTS:
        raise UnreadableError("too many")  # noqa: EM101, TRY003
    try:
        sent = _time(sent_at)
    except NotStrictError:
        return [Verdict.REFUSED] * len(events)
    return [_judged(value, text, sent, received_at, trusted=trusted) for value, text in events]


def _split(text: str) -> tuple[list[tuple[Any, str]], Any]:
    """Return the events, each with its text as sent, and `sent_at`."""
    decoder = json.JSONDecoder(parse_constant=_refuse, parse_int=_integer)
    whole = decoder.decode(text)
    if isinstance(whole, list):
        return [*_elements(text, _space(text, 0), decoder)], None
    if not isinstance(whole, dict) or not isinstance(whole.get("events"), list):
        raise NotStrictError("neither an object with events nor an array")  # noqa: EM101, TRY003
    found: list[tuple[Any, str]] = []
    at = _space(text, _space(text, 0) + 1)
    while text[at] != "}":
        name, at = decoder.raw_decode(text, at)
        at = _space(text, _space(text, at) + 1)
        if name == "events":
            if text[at] != "[":
                raise NotStrictError("events twice, once as no array")  # noqa: EM101, TRY003
            found = [*_elements(text, at, decoder)]
        value, at = decoder.raw_decode(text, at)
        if name == "sent_at" and isinstance(value, float) and isinf(value):
            raise NotStrictError("sent_at is beyond all numbers")  # noqa: EM101, TRY003
        at = _space(text, at)
        if text[at] == ",":
            at = _space(text, at + 1)
    return found, whole.get("sent_at")


def _elements(text: str, at: int, decoder: json.JSONDecoder) -> Iterator[tuple[Any, str]]:
    at = _space(text, at + 1)
    while text[at] != "]":
        value, end = decoder.raw_decode(text, at)
        yield value, text[at:end]
        at = _space(text, end)
        if text[at] == ",":
            at = _space(text, at + 1)


def _space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return at if found is None else found.end()


def _integer(digits: str) -> float:
    """Return an integer, infinity where it has more digits than Python reads (4,300)."""
    return int(digits) if len(digits) < _READ_DIGITS else inf


def _refuse(name: str) -> None:
    raise NotStrictError(name)


def _judged(value: Any, text: str, sent: int | None, received_at: int, *, trusted: bool) -> Verdict:
    size = len(text.encode())
    try:
        if size > EVENT_BYTES or _nests(text) > DEPTH or not isinstance(value, dict):
            return Verdict.REFUSED
        _check(value, size, sent, received_at, trusted=trusted)
    except NotStrictError:
        return Verdict.REFUSED
    people = [str(value.get(name)) for name in ("anonymous_id", "user_id") if value.get(name) is not None]
    ids = [value.get(name) for name in ("id", "anonymous_id", "user_id", "session_id")]
    properties = value.get("properties") or {}
    ids += [properties.get(name) for name in ("order_id", "redemption_id")]
    clear = all(one is None or str(one).isprintable() for one in ids) and _BEYOND.search(text) is None
    clear = clear and not any(_DOUBTFUL.fullmatch(one.casefold()) for one in people)
    return Verdict.TAKEN if clear else Verdict.EITHER


def _check(event: dict[str, Any], size: int, sent: int | None, received_at: int, *, trusted: bool) -> None:
    kind = event.get("type")
    _must(kind in TYPES if isinstance(kind, str) else False)
    people = [_id(event.get(name), person=name != "session_id") for name in ("user_id", "anonymous_id", "session_id")]
    event_id = _id(event.get("id"))
    _must(
        people[0] is not None if kind in MONEY or kind == "identify" else people[0] is not None or people[1] is not None
    )
    seq, name = event.get("seq"), event.get("name")
    _must(seq is None or (type(seq) is int and 0 <= seq < SEQ))
    _must(name is None or isinstance(name, str))
    _must(kind != "custom" or bool(name))
    for part, fields in (("page", PAGE), ("element", ELEMENT)):
        _part(event.get(part), fields, size)
    _must(size <= TEXT_CHARS or name is None or len(name) <= TEXT_CHARS)
    properties = event.get("properties")
    _must(properties is None or isinstance(properties, dict))
    ts = _time(event.get("ts"))
    if kind in MONEY:
        _must(not trusted or event_id not in {None, ""})
        _money({**{one: value for one, value in event.items() if one not in _OWN}, **(properties or {})})
        sent = None if trusted else sent
    if ts is not None and sent is not None:
        _must(ts + received_at - sent >= YEAR_2000)


_OWN: Final = frozenset({
    "id", "type", "ts", "anonymous_id", "user_id", "session_id", "seq", "name", "page", "element", "properties",
})  # fmt: skip


def _must(holds: bool) -> None:  # noqa: FBT001 - as in `strict`
    if not holds:
        raise NotStrictError


def _id(value: Any, *, person: bool = False) -> str | None:
    if value is None:
        return None
    _must(type(value) in {str, int})
    try:
        text = str(value)
    except ValueError as error:  # more digits than Python writes out
        raise NotStrictError from error
    _must(
        len(text) <= ID_CHARS
        and not any(char < " " or "\x7f" <= char < "\xa0" or char in "\u2028\u2029" for char in text)
    )
    if person:
        plain = text.strip(" \t\r\n\v\f\u00a0\u3000\ufeff\"'`").casefold()
        _must(plain not in _JUNK and bool(plain.strip("0-")))
    return text


def _part(value: Any, fields: frozenset[str], size: int) -> None:
    _must(value is None or isinstance(value, dict))
    for name in fields if value else ():
        one = value.get(name)
        if name == "index":
            _must(one is None or (type(one) is int and 0 <= one < SEQ))
        else:
            _must(one is None or (isinstance(one, str) and (size <= TEXT_CHARS or len(one) <= TEXT_CHARS)))


def _money(properties: dict[str, Any]) -> None:
    order_id = _id(properties.get("order_id"))
    _must(order_id is not None and bool(order_id.strip()))
    _id(properties.get("redemption_id"))
    for name in ("amount", "remaining"):
        value = properties.get(name)
        _must(value is None or (isinstance(value, str) and _DECIMAL.fullmatch(value) is not None))
    _time(properties.get("matures_at"))


def _time(value: Any) -> int | None:
    """Return UTC milliseconds."""
    if value is None:
        return None
    found: int | None = None
    if type(value) is int:
        found = value
    elif type(value) is float:
        found = int(value) if abs(value) < 1e18 else None
    elif isinstance(value, str):
        if _DIGITS.fullmatch(value):
            number = float(value)
            found = int(number) if number < 1e18 else None
        else:
            found = _rfc3339(value)
    if found is None or not YEAR_2000 <= found < YEAR_2200:
        raise NotStrictError
    return found


def _rfc3339(text: str) -> int | None:
    match = _RFC3339.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(one) for one in match.groups()[:6])
    fraction, sign, hours, minutes = match.groups()[6:]
    try:
        offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
        zone = timezone(-offset if sign == "-" else offset) if sign else UTC
        instant = datetime(year, month, day, hour, minute, second, tzinfo=zone)
        since = instant - datetime(1970, 1, 1, tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
    micros = int((fraction or "0")[:6].ljust(6, "0"))
    return (since // timedelta(milliseconds=1)) + micros // 1000


def _nests(text: str) -> int:
    """Return how deep a JSON text nests, whatever of it is said again later."""
    deepest = here = 0
    for char in _QUOTED.sub("", text):
        here += (char in "[{") - (char in "]}")
        deepest = max(deepest, here)
    return deepest
