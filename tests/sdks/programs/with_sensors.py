"""Sensors Data's SDK; the variant is the consumer: default, batch or async."""

from __future__ import annotations

import urllib.error
from collections.abc import Callable
from http.client import HTTPException

import sensorsanalytics as sensors

from tests.sdks.programs.phases import KEY, URL, VARIANT, delivered, lost, run, sent, unsettled

CONSUMERS = {"default": sensors.DefaultConsumer, "batch": sensors.BatchConsumer, "async": sensors.AsyncBatchConsumer}
FAILURES = (sensors.SensorsAnalyticsNetworkException, urllib.error.URLError, HTTPException, ConnectionError)

consumer = CONSUMERS[VARIANT](f"{URL}/sa?project=default&token={KEY}")
tracker = sensors.SensorsAnalytics(consumer)


def visit(phase: str) -> None:
    # Events without ids of two programs at the same millisecond would be one: nobody but this program has these.
    visitor, customer = f"{KEY}-visitor-{phase}", f"{KEY}-customer-{phase}"
    page = {"$url": "https://shop.example/funds"}
    _give(phase, "$pageview", "page", lambda name: tracker.track(visitor, "$pageview", page | name))
    product = {"product_id": "F-1"}
    _give(phase, "ProductViewed", "custom", lambda name: tracker.track(visitor, "ProductViewed", product | name))
    _give(phase, "$SignUp", "identify", lambda name: tracker.track_signup(customer, visitor, name))
    _give(phase, "Invest", "custom", lambda name: tracker.track(customer, "Invest", product | name, is_login_id=True))


def _give(phase: str, event: str, kind: str, track: Callable[[dict[str, str]], None]) -> None:
    name = sent(f"{phase}-{event}", kind)
    try:
        track({"visit": name})
    except FAILURES:
        lost([name])  # the default consumer's; the others raise nothing here
    else:
        if VARIANT == "default":
            delivered([name])


def flush() -> None:
    """Send what waits; the batch consumer keeps what it could not, the thread of the async one ends for good."""
    if VARIANT == "batch":
        try:
            tracker.flush()
        except FAILURES:
            return
        delivered(unsettled())
    elif VARIANT == "async":
        _flush_by_thread()


def _flush_by_thread() -> None:
    """Tell what became of the events by what waits still; the SDK itself tells nobody."""
    tracker.flush()
    if not consumer._flushing_thread.is_alive():  # noqa: SLF001
        lost(unsettled())
    elif consumer._queue.empty() and not consumer._flush_buffer:  # noqa: SLF001
        delivered(unsettled())


run(visit, flush)
