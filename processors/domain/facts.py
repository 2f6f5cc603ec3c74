"""Reading a money event into a version of a fact (R4)."""

from __future__ import annotations

import json
from typing import Any

from collector.wire.event import Event
from processors.domain.money import Statement, Version


def read_fact(event: Event) -> Statement | None:
    """Return the fact of a money event, or None where it names no order (the collector lets no such event pass)."""
    properties: dict[str, Any] = json.loads(bytes(event.properties))
    order_id = properties.get("order_id")
    if order_id is None:
        return None
    matures_at = properties.get("matures_at")
    redemption_id = properties.get("redemption_id")
    version = Version(
        occurred_at=event.occurred_at,
        cancels=event.type.endswith("_cancelled"),
        event_id=event.id,
        matures_at=matures_at if isinstance(matures_at, int) else None,
        remaining=_text(properties.get("remaining")),
        product_id=_text(properties.get("product_id")),
        category=_text(properties.get("category")),
        amount=_text(properties.get("amount")),
        currency=_text(properties.get("currency")),
    )
    kind = event.type.removesuffix("_cancelled")
    return Statement(str(order_id), kind, None if kind == "purchase" else _text(redemption_id), version)


def _text(value: object) -> str | None:
    return None if value is None else str(value)
