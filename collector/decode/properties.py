"""The properties of an event: kept as sent, but for the URLs, and queries of URLs, in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

import msgspec

from collector.masking import mask_url

_STARTS: Final = ("/", "?")
"""What a URL without a host starts with, and a query."""
_MAX_CACHED_CHARS: Final = 2048

_encode = msgspec.json.Encoder().encode
_mask_known = lru_cache(maxsize=2048)(mask_url)  # SDKs repeat a page's addresses in every event of its view


def encode_properties(properties: dict[str, Any], masked: Counter[str]) -> msgspec.Raw:
    """Return properties as JSON with every URL and query in them masked.

    Args:
        properties: no deeper than the limit; masked in place.
        masked: is added what was masked, by kind.
    """
    plain = _encode(properties)
    if b"/" in plain or b"?" in plain:  # JSON keeps them as they are
        kinds: list[str] = []
        _mask(properties, properties.items(), kinds)
        if kinds:
            masked.update(kinds)
            plain = _encode(properties)
    return msgspec.Raw(plain)


def _mask(container: Any, items: Iterable[tuple[Any, Any]], kinds: list[str]) -> None:  # noqa: ANN401 - a dict or list
    for at, value in items:
        kind = type(value)
        if kind is str:
            if ("/" in value or "?" in value) and ("://" in value or value.startswith(_STARTS)):
                container[at], found = _mask_known(value) if len(value) <= _MAX_CACHED_CHARS else mask_url(value)
                kinds += found
        elif kind is dict:
            _mask(value, value.items(), kinds)
        elif kind is list:
            _mask(value, enumerate(value), kinds)
