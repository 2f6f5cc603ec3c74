"""Every metric of the collector, declared once."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry

from collector.wire.metric import SECONDS, Metric

PREFIX: Final = "phasewatch_collector_"


_BYTES: Final = (256, 1024, 4096, 16384, 65536, 262144, 1048576, 8388608)

REQUESTS: Final = Metric(
    PREFIX + "requests_total", "counter", "requests", ("route", "status"), "answers by route and status"
)
RECEIVED: Final = Metric(
    PREFIX + "events_received_total", "counter", "events", ("source",), "events in requests that were read"
)
ACCEPTED: Final = Metric(PREFIX + "events_accepted_total", "counter", "events", ("source",), "events made durable")
DUPLICATE: Final = Metric(
    PREFIX + "events_duplicate_total", "counter", "events", ("source",), "repeats of durable events"
)
REJECTED: Final = Metric(
    PREFIX + "events_rejected_total", "counter", "events", ("source", "reason"), "events not fit for the log"
)
MASKED: Final = Metric(
    PREFIX + "masked_total", "counter", "values", ("kind",), "secrets and personal values masked in URLs"
)
FAULTS: Final = Metric(
    PREFIX + "faults_total", "counter", "requests", (), "requests that met a fault of ours; see the log"
)
READING: Final = Metric(PREFIX + "reading_bytes", "gauge", "bytes", (), "bodies being read right now")
REQUEST_SECONDS: Final = Metric(
    PREFIX + "request_seconds",
    "histogram",
    "seconds",
    ("route",),
    "from a request's head to its answer, fsync included",
    SECONDS,
)
BODY_BYTES: Final = Metric(PREFIX + "body_bytes", "histogram", "bytes", (), "bodies of events as sent", _BYTES)
SINK_SECONDS: Final = Metric(
    PREFIX + "sink_write_seconds",
    "histogram",
    "seconds",
    ("result",),
    "one write of merged requests until durable",
    SECONDS,
)
SINK_READY: Final = Metric(
    PREFIX + "sink_ready",
    "gauge",
    "flag",
    (),
    "1 where the log could make something durable when these metrics were asked for, else 0; /readyz says why",
)

WORKER_DEATHS: Final = Metric(
    PREFIX + "worker_deaths_total",
    "counter",
    "processes",
    (),
    "processes of `phasewatch collector` that ended by themselves and were started again",
)

METRICS: Final = (
    REQUESTS, RECEIVED, ACCEPTED, DUPLICATE, REJECTED, MASKED, FAULTS, READING, REQUEST_SECONDS, BODY_BYTES,
    SINK_SECONDS, SINK_READY, WORKER_DEATHS,
)  # fmt: skip
"""All of them; docs, dashboards and alerts are checked against these names."""


class CollectorMetrics:
    """The metrics, registered in one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.requests = REQUESTS.counter(registry)
        self.received = RECEIVED.counter(registry)
        self.accepted = ACCEPTED.counter(registry)
        self.duplicate = DUPLICATE.counter(registry)
        self.rejected = REJECTED.counter(registry)
        self.masked = MASKED.counter(registry)
        self.faults = FAULTS.counter(registry)
        self.reading_bytes = READING.gauge(registry)
        self.request_seconds = REQUEST_SECONDS.histogram(registry)
        self.body_bytes = BODY_BYTES.histogram(registry)
        self.sink_write_seconds = SINK_SECONDS.histogram(registry)
