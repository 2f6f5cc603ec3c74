"""Snowplow's tracker; the variant is the method, post or get."""

from __future__ import annotations

from typing import Any

from snowplow_tracker import Emitter, PageView, SelfDescribing, SelfDescribingJson, StructuredEvent, Subject, Tracker

from tests.sdks.programs.phases import KEY, URL, VARIANT, delivered, lost, run, sent, unsettled

VIEWED = "iglu:com.example/product_viewed/jsonschema/1-0-0"


def was_delivered(payloads: list[dict[str, Any]]) -> None:
    delivered(one["eid"] for one in payloads)


emitter = Emitter(URL, method=VARIANT, batch_size=50, on_success=was_delivered, max_retry_delay_seconds=1)
tracker = Tracker("shop", [emitter], app_id=KEY)


def visit(phase: str) -> None:
    visitor = Subject().set_domain_user_id(f"visitor-{phase}")
    customer = Subject().set_domain_user_id(f"visitor-{phase}").set_user_id(f"customer-{phase}")
    viewed = SelfDescribingJson(VIEWED, {"product_id": "F-1"})
    for kind, event in (
        ("page", PageView(page_url="https://shop.example/funds", page_title="Funds", event_subject=visitor)),
        ("custom", SelfDescribing(event_json=viewed, event_subject=visitor)),
        ("custom", StructuredEvent(category="shop", action="invest", property_="F-1", event_subject=customer)),
    ):
        sent(tracker.track(event), kind)


def flush() -> None:
    """Send what waits; of several GETs all are given up but the last, as the emitter looks at the last status alone."""
    tracker.flush()
    if emitter.event_store.size() == 0:
        lost(unsettled())


run(visit, flush)
