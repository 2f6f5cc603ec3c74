"""PostHog's SDK; the variant is the capture mode, or `older` for an SDK that knows none."""

from __future__ import annotations

from typing import Any

import posthog

from tests.sdks.programs.phases import KEY, URL, VARIANT, delivered, lost, run, sent, unsettled


def gave_up(_: Exception, batch: list[dict[str, Any]]) -> None:
    lost(one["properties"]["visit"] for one in batch)


settings = {} if VARIANT == "older" else {"capture_mode": VARIANT}
client = posthog.Posthog(KEY, host=URL, on_error=gave_up, flush_at=4, flush_interval=0.2, **settings)


def capture(event: str, kind: str, visitor: str, phase: str, **properties: str) -> None:
    name = sent(f"{phase}-{event}", kind)
    client.capture(event=event, distinct_id=visitor, properties=properties | {"visit": name})


def visit(phase: str) -> None:
    # Events without ids of two programs at the same millisecond would be one: nobody but this program has these.
    visitor, customer = f"{KEY}-visitor-{phase}", f"{KEY}-customer-{phase}"
    capture("$pageview", "page", visitor, phase, **{"$current_url": "https://shop.example/funds"})
    capture("product viewed", "custom", visitor, phase, product_id="F-1")
    capture("$identify", "identify", customer, phase, **{"$anon_distinct_id": visitor})
    capture("invest", "custom", customer, phase, product_id="F-1")
    client.flush(**({} if VARIANT == "older" else {"timeout_seconds": None}))
    delivered(unsettled())  # what is not told of as an error


run(visit)
