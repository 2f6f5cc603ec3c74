"""Reads the JSON of a body in which one broken event must not cost its neighbours."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, TypeVar

import msgspec

from collector.errors import TooLargeBodyError, UnreadableBodyError

T = TypeVar("T")

TOKENS: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{}]|[^"\[\]{}]++', re.DOTALL)
"""The texts of a JSON document, its brackets, and what is between them."""

_KEPT_DEPTH: Final = 100
_MARKS: Final = (b"[", b"]", b"{", b"}", b'"')
_MENDED_MARKS: Final = 250_000
"""Brackets and quotes, or escapes, of a body that is mended: so many take as long as 5000 events, 16 MiB of them took
4 s for one request (measured), during which nobody else was served. Beyond it the body is refused as a whole."""
_COUNTED_BYTES: Final = 1024 * 1024
_MOST_VALUES: Final = 1_000_000
"""Values of a body larger than _COUNTED_BYTES, by its commas. Each is an object of 70 bytes while it is split, so that
5 million empty arrays, 67 KiB packed, took 0.4 GB; events have a comma every 30 bytes, and 16 MiB half as many."""
_HALF: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_ESCAPES = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)


def parse_leniently(body: bytes, parse: Callable[[bytes], T], expected: str) -> T:
    """Return what `parse` makes of a body, mended where it cannot be read.

    A half of a surrogate pair becomes U+FFFD (JavaScript makes them by cutting a text in an emoji), and nesting so
    deep that no parser follows is cut off, still too deep for its event: neither may cost the neighbours.

    Args:
        body: JSON.
        parse: raises msgspec's errors, UnicodeDecodeError or RecursionError.
        expected: said of a body that cannot be read.

    Raises:
        UnreadableBodyError: if it cannot be read all the same.
        TooLargeBodyError: if it holds more values than any batch of events.
    """
    if len(body) > _COUNTED_BYTES and body.count(b",") > _MOST_VALUES:
        msg = f"the body holds more than {_MOST_VALUES} values: send less at once"
        raise TooLargeBodyError(msg)
    try:
        return parse(body)
    except RecursionError:
        if sum(map(body.count, _MARKS)) <= _MENDED_MARKS:
            body = _cut_off(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        pass
    try:
        return parse(_without_half_pairs(body))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        msg = f"expected {expected}: {error}"
        raise UnreadableBodyError(msg) from error


def nests_deeper(document: bytes, depth: int) -> bool:
    """Return whether more than `depth` objects and arrays lie within each other."""
    if document.count(b"{") + document.count(b"[") <= depth:  # nearly always
        return False
    here = 0
    for match in TOKENS.finditer(document):
        token = match[0]
        here += (token in (b"[", b"{")) - (token in (b"]", b"}"))
        if here > depth:
            return True
    return False


def _without_half_pairs(body: bytes) -> bytes:
    if _HALF.search(body) is None or body.count(b"\\") > _MENDED_MARKS:
        return body
    return _ESCAPES.sub(lambda match: rb"\ufffd" if match[1] else match[0], body)


def _cut_off(body: bytes) -> bytes:
    depth = 0
    kept: list[bytes] = []
    for match in TOKENS.finditer(body):
        token = match[0]
        depth += token in (b"[", b"{")
        if depth <= _KEPT_DEPTH:
            kept.append(token)
        depth -= token in (b"]", b"}")
    return b"".join(kept)
