"""The workers' dashboard."""
# ruff: noqa: INP001 - beside what it configures, no package

from __future__ import annotations

from collections.abc import Sequence

from grafana_foundation_sdk.models import units

from deploy.grafana.panels import Panel, Row, line, number, quantiles, rate, tallied


def detection_rows() -> Sequence[Row]:
    """Return the workers' dashboard: is everybody folded, how late, and what holds it up."""
    return (
        ("Is everybody followed, and in time?", detection_now()),
        (
            "Which partitions, and since when?",
            (
                line(
                    "Behind",
                    units.Seconds,
                    "Age of the last record folded in the partition that is furthest behind, by worker.",
                    {"{{instance}}": "max by (instance) (phasewatch_worker_behind_seconds)"},
                    alert="WorkerBehind",
                ),
                line(
                    "Records behind, the ten worst partitions",
                    units.Short,
                    "One alone: its worker, or one very busy person. All: the workers are too few, or the store slow.",
                    {"{{partition}}": "topk(10, max by (partition) (phasewatch_worker_records_behind))"},
                ),
                line(
                    "Owned and waiting partitions",
                    units.Short,
                    "Waiting ones are assigned and not folded; /readyz of that worker says why.",
                    {
                        "{{instance}} owned": "sum by (instance) (phasewatch_worker_partitions_owned)",
                        "{{instance}} waiting": "sum by (instance) (phasewatch_worker_partitions_waiting)",
                    },
                ),
                line(
                    "Takeovers in 10 minutes, by how they ended",
                    units.Short,
                    "owned after every rebalance; fenced and unavailable are tried again; mismatch has stopped.",
                    {"{{result}}": "sum by (result) (increase(phasewatch_worker_takeovers_total[10m]))"},
                ),
            ),
        ),
        ("What holds it up?", detection_times()),
        ("Does the store hold?", detection_redis()),
        ("Does it add up?", detection_balance()),
    )


def detection_now() -> Sequence[Panel]:
    """Return what says at one look whether the workers do their work."""
    return (
        number(
            "Behind",
            units.Seconds,
            "How late changes of stage are.",
            "max(phasewatch_worker_behind_seconds)",
            alert="WorkerBehind",
        ),
        number(
            "Partitions not folded",
            units.Short,
            "For the people in them nothing changes.",
            "max(phasewatch_worker_partitions) - sum(phasewatch_worker_partitions_owned)",
            alert="PartitionsNotFolded",
        ),
        number(
            "Overdue",
            units.Seconds,
            "How long ago somebody should have left a phase who has not.",
            "max(phasewatch_worker_overdue_seconds)",
            alert="PersonOverdue",
        ),
        number(
            "Outbox",
            units.Seconds,
            "How long the oldest committed change has been waiting for its topic.",
            "max(phasewatch_worker_outbox_seconds)",
            alert="OutboxNotDraining",
        ),
        number(
            "Set aside in an hour",
            units.Short,
            "Records of the log that could not be read.",
            "sum(increase(phasewatch_worker_records_set_aside_total[1h]))",
            alert="RecordsSetAside",
        ),
        number(
            "Workers down",
            units.Short,
            "Workers that Prometheus cannot reach.",
            'sum(1 - up{job="phasewatch-worker"})',
            alert="InstanceDown",
        ),
    )


def detection_times() -> Sequence[Panel]:
    """Return where the time of a batch goes."""
    return (
        line(
            "Batch",
            units.Seconds,
            "From records read to their states committed: fold and commit together.",
            quantiles("phasewatch_worker_batch_seconds"),
        ),
        line(
            "Commit",
            units.Seconds,
            "One commit to the store. Slow: Redis is busy, its disk is, or the way to it.",
            quantiles("phasewatch_worker_commit_seconds"),
        ),
        line(
            "Publish",
            units.Seconds,
            "Sending a batch's outputs until Kafka has acknowledged them.",
            quantiles("phasewatch_worker_publish_seconds"),
        ),
        line(
            "Outbox",
            units.Seconds,
            "How long the oldest output has been committed and not yet made durable in its topic.",
            {"{{instance}}": "max by (instance) (phasewatch_worker_outbox_seconds)"},
            alert="OutboxNotDraining",
        ),
        line(
            "Overdue",
            units.Seconds,
            "How long ago something was due of somebody, and has not been done.",
            {"{{instance}}": "max by (instance) (phasewatch_worker_overdue_seconds)"},
            alert="PersonOverdue",
        ),
        line(
            "Work",
            units.CountsPerSecond,
            "Events folded and outputs sent.",
            {
                "folded": rate("phasewatch_worker_events_folded_total"),
                "sent": rate("phasewatch_worker_outputs_published_total"),
            },
        ),
    )


def detection_redis() -> Sequence[Panel]:
    """Return what the workers see of their Redis; an embedded worker has none."""
    return (
        number(
            "Not kept on disk",
            units.Short,
            "1: a restart of Redis loses every state.",
            "1 - min(phasewatch_redis_persistent)",
            alert="RedisNotPersistent",
        ),
        number(
            "May evict",
            units.Short,
            "1: a full Redis forgets people without a word.",
            "max(phasewatch_redis_may_evict)",
            alert="RedisMayEvict",
        ),
        number(
            "Memory used",
            units.PercentUnit,
            "Of maxmemory; nothing where it has no limit.",
            "max(phasewatch_redis_used_bytes) / max(phasewatch_redis_limit_bytes > 0)",
            alert="RedisNearlyFull",
        ),
        line(
            "Memory",
            units.BytesIEC,
            "What Redis uses, and its maxmemory.",
            {"used": "max(phasewatch_redis_used_bytes)", "limit": "max(phasewatch_redis_limit_bytes > 0)"},
        ),
        number(
            "Age of the newest snapshot",
            units.Seconds,
            "What would have to be folded again after a loss of Redis; nothing where none is taken.",
            "time() - max(phasewatch_redis_snapshot_timestamp_seconds)",
            alert="SnapshotOld",
        ),
    )


def detection_balance() -> Sequence[Panel]:
    """Return whether what came in was folded, and what the fold could not use."""
    accepted = "sum by (source) (increase(phasewatch_collector_events_accepted_total[1h]))"
    read = tallied("read", hours=1)
    return (
        number(
            "Ended nowhere",
            units.Short,
            "Events that were read and neither folded, nor dropped as repeats, nor sent on to a user: a bug of ours.",
            "sum(phasewatch_worker_unaccounted_events)",
            alert="EventsUnaccounted",
        ),
        number(
            "Events set aside",
            units.Short,
            "In records that could not be read, since the states began: what can be read of them stands in a topic.",
            "sum(phasewatch_worker_set_aside_events)",
        ),
        line(
            "Accepted and read in an hour",
            units.Short,
            "The two are equal but for what is on its way. Imported history is read and was never accepted.",
            {"{{source}} accepted": accepted, "{{source}} read": read},
        ),
        line(
            "Accepted and not read, share of an hour",
            units.PercentUnit,
            "Below zero while the workers catch up or a spool drains.",
            {"{{source}}": f"1 - ({read} or 0 * {accepted}) / {accepted}"},
            alert="Imbalance",
        ),
        line(
            "What the fold kept out",
            units.EventsPerSecond,
            "Repeats, events too old to know whether they are repeats, public money facts of people with too many.",
            {
                "repeats": rate("phasewatch_worker_events_repeated_total"),
                "older than what is remembered": rate("phasewatch_worker_events_beyond_memory_total"),
                "facts over bound": rate("phasewatch_worker_facts_over_bound_total"),
            },
        ),
        line(
            "Stream time behind the clock",
            units.Seconds,
            "Latest stream time of each worker's partitions. It may stand still where nobody does anything.",
            {"{{instance}}": "time() - max by (instance) (phasewatch_worker_stream_time_seconds > 0)"},
        ),
    )
