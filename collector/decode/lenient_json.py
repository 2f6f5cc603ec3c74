"""Reads the JSON of a body in which one broken event must not cost its neighbours."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, TypeVar

import msgspec

from collector.errors import UnreadableBodyError

T = TypeVar("T")

TOKENS: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{}]|[^"\[\]{}]++', re.DOTALL)
"""The texts of a JSON document, its brackets, and what is between them."""

_KEPT_DEPTH: Final = 100
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
    """
    try:
        return parse(body)
    except RecursionError:
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
