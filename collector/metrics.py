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
REFUSED: Final = Metric(
    PREFIX + "requests_refused_total",
    "counter",
    "requests",
    ("route", "code"),
    "requests refused as a whole, by the answer's code; some SDKs are answered 200 all the same (docs/sdks)",
)
RECEIVED: Final = Metric(
    PREFIX + "events_received_total",
    "counter",
    "events",
    ("source",),
    "events in requests that were read: accepted, duplicate, rejected and failed ones together",
)
ACCEPTED: Final = Metric(PREFIX + "events_accepted_total", "counter", "events", ("source",), "events made durable")
DUPLICATE: Final = Metric(
    PREFIX + "events_duplicate_total", "counter", "events", ("source",), "repeats of durable events"
)
REJECTED: Final = Metric(
    PREFIX + "events_rejected_total", "counter", "events", ("source", "reason"), "events not fit for the log"
)
FAILED: Final = Metric(
    PREFIX + "events_failed_total",
    "counter",
    "events",
    ("source",),
    "events in requests that were read and not answered with results: their client is to send them again",
)
MASKED: Final = Metric(
    PREFIX + "masked_total", "counter", "values", ("source", "kind"), "secrets and personal values masked"
)
BOTS: Final = Metric(
    PREFIX + "bot_events_total",
    "counter",
    "events",
    ("source",),
    "events flagged as a bot's and accepted, or repeats; dropped ones are rejected with the reason `bot`",
)
FAULTS: Final = Metric(
    PREFIX + "faults_total", "counter", "requests", (), "requests that met a fault of ours; see the log"
)
ADDRESSES: Final = Metric(
    PREFIX + "addresses_remembered", "gauge", "addresses", (), "addresses whose rates are known, of all processes"
)
CONNECTIONS: Final = Metric(PREFIX + "connections_open", "gauge", "connections", (), "clients that are connected")
CONNECTIONS_CLOSED: Final = Metric(
    PREFIX + "connections_closed_total",
    "counter",
    "connections",
    ("reason",),
    "connections that were closed on a client: `address` (too many of it), `room` (quiet longest, and a new one came), "
    "`full` (all others are busy), `quiet` (no whole request for too long, or takes no answers)",
)
FILE_BROKEN: Final = Metric(
    PREFIX + "file_broken",
    "gauge",
    "flag",
    ("file",),
    "1 while `keys`, `suppressed`, `certificate` or its key cannot be used and what it said before holds; see /readyz",
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

SPOOL_BYTES: Final = Metric(PREFIX + "spool_bytes", "gauge", "bytes", (), "disk taken by the spool")
SPOOL_LIMIT: Final = Metric(
    PREFIX + "spool_limit_bytes",
    "gauge",
    "bytes",
    (),
    "what the spool may take: spool.max_bytes, or less where its disk has less to spare",
)
SPOOL_ROWS: Final = Metric(
    PREFIX + "spool_rows", "gauge", "rows", (), "blocks and rejected events in the spool that wait for Kafka"
)
SPOOL_OLDEST: Final = Metric(
    PREFIX + "spool_oldest_seconds", "gauge", "seconds", (), "how long the oldest in the spool has waited for Kafka"
)
SPOOLED: Final = Metric(PREFIX + "spool_written_total", "counter", "rows", (), "rows made durable in the spool")
DRAINED: Final = Metric(
    PREFIX + "spool_drained_total", "counter", "rows", (), "rows of the spool that Kafka has acknowledged"
)
SPOOL_REFUSED: Final = Metric(
    PREFIX + "spool_refused_total",
    "counter",
    "writes",
    ("reason",),
    "writes that found neither Kafka nor the spool: `full`, or `error` where its disk failed",
)
SPOOL_SET_ASIDE: Final = Metric(
    PREFIX + "spool_set_aside_total", "counter", "rows", (), "rows of the spool that could not be read back"
)

WORKER_DEATHS: Final = Metric(
    PREFIX + "worker_deaths_total",
    "counter",
    "processes",
    (),
    "processes of `phasewatch collector` that ended by themselves and were started again",
)

METRICS: Final = (
    REQUESTS, REFUSED, RECEIVED, ACCEPTED, DUPLICATE, REJECTED, FAILED, MASKED, BOTS, FAULTS, ADDRESSES,
    CONNECTIONS, CONNECTIONS_CLOSED, FILE_BROKEN, READING, REQUEST_SECONDS,
    BODY_BYTES, SINK_SECONDS, SINK_READY, SPOOL_BYTES, SPOOL_LIMIT, SPOOL_ROWS, SPOOL_OLDEST, SPOOLED, DRAINED,
    SPOOL_REFUSED, SPOOL_SET_ASIDE, WORKER_DEATHS,
)  # fmt: skip
"""All of them; docs, dashboards and alerts are checked against these names."""


class CollectorMetrics:
    """The metrics, registered in one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.requests = REQUESTS.counter(registry)
        self.refused = REFUSED.counter(registry)
        self.received = RECEIVED.counter(registry)
        self.accepted = ACCEPTED.counter(registry)
        self.duplicate = DUPLICATE.counter(registry)
        self.rejected = REJECTED.counter(registry)
        self.failed = FAILED.counter(registry)
        self.masked = MASKED.counter(registry)
        self.bots = BOTS.counter(registry)
        self.faults = FAULTS.counter(registry)
        self.addresses = ADDRESSES.gauge(registry)
        self.connections_open = CONNECTIONS.gauge(registry)
        self.connections_closed = CONNECTIONS_CLOSED.counter(registry)
        self.file_broken = FILE_BROKEN.gauge(registry, together="livemax")
        self.reading_bytes = READING.gauge(registry)
        self.request_seconds = REQUEST_SECONDS.histogram(registry)
        self.body_bytes = BODY_BYTES.histogram(registry)
        self.sink_write_seconds = SINK_SECONDS.histogram(registry)


class SpoolMetrics:
    """The spool's metrics, registered in one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.bytes = SPOOL_BYTES.gauge(registry)
        self.limit = SPOOL_LIMIT.gauge(registry, together="livemin")
        self.rows = SPOOL_ROWS.gauge(registry)
        self.oldest_seconds = SPOOL_OLDEST.gauge(registry, together="livemax")
        self.spooled = SPOOLED.counter(registry)
        self.drained = DRAINED.counter(registry)
        self.refused = SPOOL_REFUSED.counter(registry)
        self.set_aside = SPOOL_SET_ASIDE.counter(registry)
