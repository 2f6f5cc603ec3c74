"""The properties of an event: kept as sent, but for the URLs in them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from collector.masking import mask_url

_encode = msgspec.json.Encoder().encode


def encode_properties(properties: dict[str, Any], masked: Counter[str]) -> msgspec.Raw:
    """Return properties as JSON with every URL in them masked.

    Args:
        properties: no deeper than the limit.
        masked: is added what was masked, by kind.
    """
    plain = _encode(properties)
    if b"/" not in plain:  # JSON keeps it as it is, and no URL is without one
        return msgspec.Raw(plain)
    return msgspec.Raw(_encode(_masked(properties, masked)))


def _masked(value: Any, masked: Counter[str]) -> Any:  # noqa: ANN401 - JSON of unknown shape
    if isinstance(value, str):
        if "://" not in value and not value.startswith("/"):
            return value
        text, kinds = mask_url(value)
        masked.update(kinds)
        return text
    if isinstance(value, dict):
        return {name: _masked(one, masked) for name, one in value.items()}
    return [_masked(one, masked) for one in value] if isinstance(value, list) else value
