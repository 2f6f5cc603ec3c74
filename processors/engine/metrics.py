"""Every metric of the worker, declared once."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry

from collector.wire.metric import SECONDS, Metric
from processors.domain.stages import Stage
from processors.engine.fold import PartitionFold

PREFIX: Final = "phasewatch_worker_"

FOLDED: Final = Metric(PREFIX + "events_folded_total", "counter", "events", (), "events folded into a person's state")
REPEATED: Final = Metric(PREFIX + "events_repeated_total", "counter", "events", (), "repeats dropped by the fold (R7)")
BEYOND: Final = Metric(
    PREFIX + "events_beyond_memory_total",
    "counter",
    "events",
    (),
    "unnumbered events older than what is remembered (R7)",
)
OVER_BOUND: Final = Metric(
    PREFIX + "facts_over_bound_total",
    "counter",
    "events",
    (),
    "public money facts kept out: the person has too many orders",
)
UNREADABLE: Final = Metric(
    PREFIX + "records_set_aside_total", "counter", "records", (), "records that could not be read"
)
PUBLISHED: Final = Metric(
    PREFIX + "outputs_published_total", "counter", "messages", (), "messages and derived records sent"
)
STAGE_PERSONS: Final = Metric(
    PREFIX + "persons", "gauge", "persons", ("stage",), "persons per stage in the partitions owned"
)
STREAM_TIME: Final = Metric(
    PREFIX + "stream_time_seconds",
    "gauge",
    "seconds",
    (),
    "latest stream time of the partitions owned, since the epoch",
)
BATCH_SECONDS: Final = Metric(
    PREFIX + "batch_seconds", "histogram", "seconds", (), "from records read to their state committed", SECONDS
)

METRICS: Final = (
    FOLDED, REPEATED, BEYOND, OVER_BOUND, UNREADABLE, PUBLISHED, STAGE_PERSONS, STREAM_TIME, BATCH_SECONDS,
)  # fmt: skip
"""All of them; docs, dashboards and alerts are checked against these names."""

_OF_FOLD: Final = {
    "folded": FOLDED,
    "repeated": REPEATED,
    "beyond": BEYOND,
    "over_bound": OVER_BOUND,
    "unreadable": UNREADABLE,
}


class WorkerMetrics:
    """The metrics, registered in one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._fold = {name: metric.counter(registry) for name, metric in _OF_FOLD.items()}
        self.published = PUBLISHED.counter(registry)
        self._persons = STAGE_PERSONS.gauge(registry)
        for stage in Stage:
            self._persons.labels(stage.value)
        self._stream_time = STREAM_TIME.gauge(registry)
        self.batch_seconds = BATCH_SECONDS.histogram(registry)
        self._stages: dict[int, dict[str, int]] = {}
        self._tau = 0

    def observe(self, partition: int, fold: PartitionFold) -> None:
        """Take over what a committed batch of a partition counted."""
        for name, count in fold.take_counts().items():
            if count:
                self._fold[name].inc(count)
        before, now = self._stages.get(partition, {}), fold.state.stages
        for stage in before.keys() | now.keys():
            moved = now.get(stage, 0) - before.get(stage, 0)
            if moved:
                self._persons.labels(stage).inc(moved)
        self._stages[partition] = dict(now)
        self._tau = max(self._tau, fold.state.tau)
        self._stream_time.set(self._tau / 1000)
