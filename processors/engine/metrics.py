"""Every metric of the worker, declared once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from math import nan
from typing import Final

from prometheus_client import CollectorRegistry

from collector.wire.metric import SECONDS, Metric
from processors.domain.stages import Stage
from processors.engine.fold import PartitionFold
from processors.engine.tallies import FATES, Tallies

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
STAGE_CHANGES: Final = Metric(
    PREFIX + "stage_changes_total",
    "counter",
    "changes",
    ("to",),
    "changes of stage committed, by the stage entered; `gone` where a life ended",
)
PARTITIONS_OWNED: Final = Metric(
    PREFIX + "partitions_owned", "gauge", "partitions", (), "partitions that this worker folds"
)
PARTITIONS: Final = Metric(
    PREFIX + "partitions", "gauge", "partitions", (), "partitions of topic `events`: what all workers together must own"
)
PARTITIONS_WAITING: Final = Metric(
    PREFIX + "partitions_waiting",
    "gauge",
    "partitions",
    (),
    "partitions assigned to this worker that it does not fold: being taken over, or stopped; see /readyz",
)
TAKEOVERS: Final = Metric(
    PREFIX + "takeovers_total", "counter", "takeovers", ("result",), "attempts to own a partition, by how they ended"
)
RECORDS_BEHIND: Final = Metric(
    PREFIX + "records_behind", "gauge", "records", ("partition",), "records of a partition that are not yet folded"
)
BEHIND_SECONDS: Final = Metric(
    PREFIX + "behind_seconds",
    "gauge",
    "seconds",
    (),
    "age of the last record folded of the partition that is furthest behind; 0 where none is",
)
OVERDUE_SECONDS: Final = Metric(
    PREFIX + "overdue_seconds",
    "gauge",
    "seconds",
    (),
    "how long ago something was due of somebody in a live partition, and has not been done",
)
OUTBOX_SECONDS: Final = Metric(
    PREFIX + "outbox_seconds",
    "gauge",
    "seconds",
    (),
    "how long the oldest output has been committed and not yet made durable in its topic",
)
TALLIED: Final = Metric(
    PREFIX + "tallied_events",
    "gauge",
    "events",
    ("source", "fate"),
    "events of the partitions owned by what became of them, since their tallies began; committed with the states, so "
    "that the sum over all workers survives them: see docs/adr/0011-what-is-tallied.md",
)
SET_ASIDE_EVENTS: Final = Metric(
    PREFIX + "set_aside_events",
    "gauge",
    "events",
    (),
    "events in records that could not be read, of the partitions owned, since their tallies began",
)
UNACCOUNTED: Final = Metric(
    PREFIX + "unaccounted_events",
    "gauge",
    "events",
    (),
    "events of the partitions owned that were read and neither folded, dropped as repeats nor sent on; other than 0 is "
    "a bug",
)
UNDELIVERED: Final = Metric(
    PREFIX + "undelivered_events",
    "gauge",
    "events",
    ("source",),
    "estimate of what browsers numbered and never delivered, since the tallies began: gaps in `seq`",
)
COMMIT_SECONDS: Final = Metric(
    PREFIX + "commit_seconds", "histogram", "seconds", (), "one commit of a unit of work to the store", SECONDS
)
PUBLISH_SECONDS: Final = Metric(
    PREFIX + "publish_seconds", "histogram", "seconds", (), "sending the outputs of a batch until durable", SECONDS
)
BATCH_SECONDS: Final = Metric(
    PREFIX + "batch_seconds", "histogram", "seconds", (), "from records read to their state committed", SECONDS
)

REDIS_PREFIX: Final = "phasewatch_redis_"

REDIS_PERSISTENT: Final = Metric(
    REDIS_PREFIX + "persistent",
    "gauge",
    "flag",
    (),
    "1 while Redis keeps its append-only file, 0 where it keeps none or cannot write it; NaN where it does not say",
)
REDIS_MAY_EVICT: Final = Metric(
    REDIS_PREFIX + "may_evict",
    "gauge",
    "flag",
    (),
    "1 where Redis' maxmemory-policy lets it throw states away, else 0; NaN where it does not say",
)
REDIS_USED_BYTES: Final = Metric(
    REDIS_PREFIX + "used_bytes", "gauge", "bytes", (), "memory that Redis uses; NaN where it does not say"
)
REDIS_LIMIT_BYTES: Final = Metric(
    REDIS_PREFIX + "limit_bytes",
    "gauge",
    "bytes",
    (),
    "Redis' maxmemory, 0 where it has none; NaN where it does not say",
)
REDIS_SNAPSHOT: Final = Metric(
    REDIS_PREFIX + "snapshot_timestamp_seconds",
    "gauge",
    "seconds",
    (),
    "when the newest snapshot of the states was begun, since the epoch; NaN where none is known",
)

METRICS: Final = (
    FOLDED, REPEATED, BEYOND, OVER_BOUND, UNREADABLE, PUBLISHED, STAGE_PERSONS, STAGE_CHANGES, STREAM_TIME,
    PARTITIONS, PARTITIONS_OWNED, PARTITIONS_WAITING, TAKEOVERS, RECORDS_BEHIND, BEHIND_SECONDS, OVERDUE_SECONDS,
    OUTBOX_SECONDS, BATCH_SECONDS, COMMIT_SECONDS, PUBLISH_SECONDS, REDIS_PERSISTENT, REDIS_MAY_EVICT,
    REDIS_USED_BYTES, REDIS_LIMIT_BYTES, REDIS_SNAPSHOT, TALLIED, SET_ASIDE_EVENTS, UNACCOUNTED, UNDELIVERED,
)  # fmt: skip
"""All of them; docs, dashboards and alerts are checked against these names."""

_OF_FOLD: Final = {
    "folded": FOLDED,
    "repeated": REPEATED,
    "beyond": BEYOND,
    "over_bound": OVER_BOUND,
    "unreadable": UNREADABLE,
}


class TakeoverResult(StrEnum):
    """How an attempt to own a partition ended."""

    OWNED = "owned"
    FENCED = "fenced"
    """Another owner has it, or the store is elsewhere than this one thought."""
    UNAVAILABLE = "unavailable"
    """Store or log did not answer."""
    MISMATCH = "mismatch"
    """The log is not the one that the states belong to: stopped."""
    FAILED = "failed"
    """A fault of ours."""


_OF_TALLIES: Final = (TALLIED, SET_ASIDE_EVENTS, UNACCOUNTED, UNDELIVERED)

_Series = tuple[str, tuple[str, ...]]
"""A metric's name and the values of its labels."""


def _series(tallies: Tallies) -> Counter[_Series]:
    found: Counter[_Series] = Counter({(SET_ASIDE_EVENTS.full_name, ()): tallies.events_set_aside})
    found[UNACCOUNTED.full_name, ()] = sum(abs(tally.unaccounted) for tally in tallies.sources.values())
    for source, tally in tallies.sources.items():
        for fate in FATES:
            found[TALLIED.full_name, (source, fate)] = getattr(tally, fate)
        found[UNDELIVERED.full_name, (source,)] = tally.undelivered
    return found


class WorkerMetrics:
    """The metrics, registered in one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._fold = {name: metric.counter(registry) for name, metric in _OF_FOLD.items()}
        self.published = PUBLISHED.counter(registry)
        self._persons = STAGE_PERSONS.gauge(registry)
        for stage in Stage:
            self._persons.labels(stage.value)
        self._changes = STAGE_CHANGES.counter(registry)
        for to in (*(stage.value for stage in Stage), "gone"):
            self._changes.labels(to)
        self._stream_time = STREAM_TIME.gauge(registry)
        self.partitions = PARTITIONS.gauge(registry)
        self.partitions_owned = PARTITIONS_OWNED.gauge(registry)
        self.partitions_waiting = PARTITIONS_WAITING.gauge(registry)
        self._takeovers = TAKEOVERS.counter(registry)
        for result in TakeoverResult:
            self._takeovers.labels(result.value)
        self.records_behind = RECORDS_BEHIND.gauge(registry)
        self.behind_seconds = BEHIND_SECONDS.gauge(registry)
        self.overdue_seconds = OVERDUE_SECONDS.gauge(registry)
        self.outbox_seconds = OUTBOX_SECONDS.gauge(registry)
        self.batch_seconds = BATCH_SECONDS.histogram(registry)
        self.commit_seconds = COMMIT_SECONDS.histogram(registry)
        self.publish_seconds = PUBLISH_SECONDS.histogram(registry)
        self._of_tallies = {metric.full_name: metric.gauge(registry) for metric in _OF_TALLIES}
        self._tallies: dict[int, Counter[_Series]] = {}
        self._stages: dict[int, dict[str, int]] = {}
        self._watched: set[int] = set()
        self._tau = 0

    def observe(self, partition: int, fold: PartitionFold) -> None:
        """Take over what a committed batch of a partition counted."""
        for name, count in fold.take_counts().items():
            if count:
                self._fold[name].inc(count)
        for to, count in fold.take_changes().items():
            self._changes.labels(to).inc(count)
        self._count_stages(partition, fold.state.stages)
        self._show_tallies(partition, _series(fold.state.tallies))
        self._tau = max(self._tau, fold.state.tau)
        self._stream_time.set(self._tau / 1000)

    def taken_over(self, result: TakeoverResult) -> None:
        """Count an attempt to own a partition, or what ended the ownership."""
        self._takeovers.labels(result.value).inc()

    def forget(self, partition: int) -> None:
        """Take a partition that is owned no longer out of what is summed over the owned ones."""
        self._count_stages(partition, {})
        self._show_tallies(partition, Counter())
        if partition in self._watched:
            self._watched.remove(partition)
            self.records_behind.remove(str(partition))

    def watch(self, behind: Mapping[int, int]) -> None:
        """Show how many records each owned partition is behind."""
        for partition, records in behind.items():
            self._watched.add(partition)
            self.records_behind.labels(str(partition)).set(records)

    def _count_stages(self, partition: int, now: Mapping[str, int]) -> None:
        before = self._stages.get(partition, {})
        for stage in before.keys() | now.keys():
            moved = now.get(stage, 0) - before.get(stage, 0)
            if moved:
                self._persons.labels(stage).inc(moved)
        self._stages[partition] = dict(now)

    def _show_tallies(self, partition: int, now: Counter[_Series]) -> None:
        before = self._tallies.get(partition, Counter())
        for series in now.keys() | before.keys():
            name, labels = series
            gauge = self._of_tallies[name]
            (gauge.labels(*labels) if labels else gauge).inc(now[series] - before[series])
        self._tallies[partition] = now


class RedisMetrics:
    """What a worker sees of its Redis; apart, because an embedded worker has none."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._persistent = REDIS_PERSISTENT.gauge(registry)
        self._may_evict = REDIS_MAY_EVICT.gauge(registry)
        self._used = REDIS_USED_BYTES.gauge(registry)
        self._limit = REDIS_LIMIT_BYTES.gauge(registry)
        self._snapshot = REDIS_SNAPSHOT.gauge(registry)
        self.observe_snapshot(None)
        self.observe(persistent=None, may_evict=None, used_bytes=None, limit_bytes=None)

    def observe(
        self, *, persistent: bool | None, may_evict: bool | None, used_bytes: int | None, limit_bytes: int | None
    ) -> None:
        """Show what Redis says of itself; None, unknown, is shown as NaN, which no alert takes for a fault.

        Args:
            persistent: whether it keeps an append-only file and can write it.
            may_evict: whether its maxmemory-policy is another one than noeviction.
            used_bytes: its used_memory.
            limit_bytes: its maxmemory; 0: none.
        """
        for gauge, value in (
            (self._persistent, persistent),
            (self._may_evict, may_evict),
            (self._used, used_bytes),
            (self._limit, limit_bytes),
        ):
            gauge.set(nan if value is None else value)

    def observe_snapshot(self, taken_at: int | None) -> None:
        """Show when the newest snapshot was begun (UTC ms); None where none is known."""
        self._snapshot.set(nan if taken_at is None else taken_at / 1000)
