"""Checks the properties of money facts (R4): order id, amounts, maturity."""

from __future__ import annotations

import re
from typing import Any, Final

from collector.decode.decoded import Reason, RejectedEventError
from collector.decode.identity import read_id
from collector.decode.times import quoted, read_time

AMOUNTS: Final = ("amount", "remaining")
_DECIMAL = re.compile(r"[+-]?[0-9]{1,30}(?:\.[0-9]{1,18})?")
"""Plain decimal text; 30 digits hold any currency in its smallest unit."""


def check_money(properties: dict[str, Any], max_chars: int) -> None:
    """Check a money fact's properties and bring `order_id`, `redemption_id` and `matures_at` to their one form.

    Args:
        properties: the event's; ids become text, `matures_at` UTC milliseconds.
        max_chars: the limit of an id.

    Raises:
        RejectedEventError: `missing_order_id`, `malformed`, `bad_amount`, `bad_time` or `too_large`.
    """
    order_id = _property_id(properties, "order_id", max_chars)
    if order_id is None or not order_id.strip():
        raise RejectedEventError(Reason.MISSING_ORDER_ID, ".properties.order_id", "is missing; money facts need one")
    _property_id(properties, "redemption_id", max_chars)
    for name in AMOUNTS:
        value = properties.get(name)
        if value is not None and not (isinstance(value, str) and _DECIMAL.fullmatch(value)):
            problem = f'is {quoted(value)}; expected a decimal string as "1000.50"'
            raise RejectedEventError(Reason.BAD_AMOUNT, f".properties.{name}", problem)
    if "matures_at" in properties:
        properties["matures_at"] = read_time(properties["matures_at"], ".properties.matures_at")


def _property_id(properties: dict[str, Any], name: str, max_chars: int) -> str | None:
    value = properties.get(name)
    if isinstance(value, bool) or not isinstance(value, str | int | None):
        raise RejectedEventError(Reason.MALFORMED, f".properties.{name}", f"is {quoted(value)}; expected a string")
    text = read_id(value, f".properties.{name}", max_chars)
    if text is not None:
        properties[name] = text
    return text
