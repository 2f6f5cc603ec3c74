"""The properties of an event: kept as sent, but for the URLs, and queries of URLs, in them."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from typing import Any, Final, TypeVar

import msgspec

from collector.masking import mask_url

_STARTS: Final = ("/", "?")
"""What a URL without a host starts with, and a query."""
_MAX_CACHED_CHARS: Final = 2048

_Name = TypeVar("_Name", str, int)

_encode = msgspec.json.Encoder().encode
_mask_known = lru_cache(maxsize=2048)(mask_url)  # SDKs repeat a page's addresses in every event of its view


def encode_properties(properties: dict[str, Any], masked: Counter[str]) -> msgspec.Raw:
    """Return properties as JSON with every URL and query in them masked.

    Args:
        properties: no deeper than the limit.
        masked: is added what was masked, by kind.
    """
    plain = _encode(properties)
    if b"://" not in plain and b'"/' not in plain and b'"?' not in plain:  # JSON keeps these characters as they are
        return msgspec.Raw(plain)
    found = _masked_object(properties, masked)
    return msgspec.Raw(plain if found is properties else _encode(found))


def _masked_object(given: dict[_Name, Any], masked: Counter[str]) -> dict[_Name, Any]:
    """Return an object with what has to be masked replaced; the very same where that is nothing."""
    changed: dict[_Name, Any] = {}
    for name, value in given.items():
        kind = type(value)
        if kind is str:
            if ("/" in value or "?" in value) and ("://" in value or value.startswith(_STARTS)):
                plain = _masked_text(value, masked)
                if plain != value:
                    changed[name] = plain
        elif kind is dict or kind is list:
            inner = _masked_object(value, masked) if kind is dict else _masked_list(value, masked)
            if inner is not value:
                changed[name] = inner
    return {**given, **changed} if changed else given


def _masked_list(given: list[Any], masked: Counter[str]) -> list[Any]:
    numbered = dict(enumerate(given))
    found = _masked_object(numbered, masked)
    return given if found is numbered else [*found.values()]


def _masked_text(text: str, masked: Counter[str]) -> str:
    plain, kinds = _mask_known(text) if len(text) <= _MAX_CACHED_CHARS else mask_url(text)
    if kinds:
        masked.update(kinds)
    return plain
