"""Segment's SDK, or RudderStack's, which is shaped like it: the variant says which."""

from __future__ import annotations

import importlib
from typing import Any

from tests.sdks.programs.phases import KEY, URL, VARIANT, delivered, lost, run, sent, unsettled


def gave_up(_: Exception, batch: list[dict[str, Any]]) -> None:
    lost(one["messageId"] for one in batch)


module = importlib.import_module(
    {"segment": "segment.analytics.client", "rudder": "rudderstack.analytics.client"}[VARIANT]
)
client = module.Client(KEY, host=URL, on_error=gave_up, gzip=True)


def visit(phase: str) -> None:
    visitor, customer = f"visitor-{phase}", f"customer-{phase}"
    url = "https://shop.example/funds"
    messages = [
        ("page", client.page(anonymous_id=visitor, name="Funds", properties={"url": url})),
        ("custom", client.track(anonymous_id=visitor, event="Product Viewed", properties={"product_id": "F-1"})),
        ("identify", client.identify(customer, traits={"plan": "basic"}, anonymous_id=visitor)),
        ("custom", client.track(customer, "Invest", {"product_id": "F-1"})),
    ]
    for kind, (_, message) in messages:
        sent(message["messageId"], kind)
    client.flush()
    delivered(unsettled())  # what is not told of as an error


run(visit)
