"""The properties of an event: kept as sent, but for the secrets and personal numbers in them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from collector.masking.rules import Masking

_encode = msgspec.json.Encoder().encode


def encode_properties(properties: dict[str, Any], masking: Masking, masked: Counter[str]) -> msgspec.Raw:
    """Return properties as JSON, masked.

    Args:
        properties: no deeper than the limit; masked in place.
        masking: of their source.
        masked: is added what was masked, by kind.
    """
    kinds: list[str] = []
    masking.properties(properties, kinds)
    if kinds:
        masked.update(kinds)
    return msgspec.Raw(_encode(properties))
