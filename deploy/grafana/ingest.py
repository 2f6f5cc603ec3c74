"""The collectors' dashboard."""
# ruff: noqa: INP001 - beside what it configures, no package

from __future__ import annotations

from collections.abc import Sequence

from grafana_foundation_sdk.models import units

from deploy.grafana.panels import Panel, Row, grown, line, number, quantiles, rate, tallied

EVENT_ROUTES = 'route!~"other|healthz|autocapture|.+_(settings|health)"'
"""Those to which SDKs send events: one or more a dialect."""


def ingest_rows() -> Sequence[Row]:
    """Return the collectors' dashboard: do events come in, are they kept, and if not, whose."""
    return (
        ("Does it take events?", ingest_now()),
        (
            "What is accepted, and what is not?",
            (
                line(
                    "Accepted, by source",
                    units.EventsPerSecond,
                    "Events made durable, by write key. A source that drops to nothing alone has lost its tag or key.",
                    {"{{source}}": rate("phasewatch_collector_events_accepted_total", "source")},
                    stacked=True,
                ),
                line(
                    "Rejected, share of a source's events",
                    units.PercentUnit,
                    "Events that are not fit for the log. They come back never: whoever sends them has to be mended.",
                    {
                        "{{source}}": "sum by (source) (increase(phasewatch_collector_events_rejected_total[10m]))"
                        " / sum by (source) (increase(phasewatch_collector_events_received_total[10m]))"
                    },
                    alert="EventsRejected",
                ),
                line(
                    "Rejected, by reason",
                    units.EventsPerSecond,
                    "Why; topic rejected holds examples of each.",
                    {"{{source}}: {{reason}}": rate("phasewatch_collector_events_rejected_total", "source", "reason")},
                ),
                line(
                    "Refused requests, share by code",
                    units.PercentUnit,
                    "Whole requests, by the code of the answer: wrong_key, not_allowed, too_large, unreadable_body ...",
                    {
                        "{{code}}": "sum by (code) (increase(phasewatch_collector_requests_refused_total"
                        f'{{{EVENT_ROUTES}, code!~"wrong_method|overloaded|not_durable|fault"}}[10m]))'
                        " / on () group_left ()"
                        f" sum(increase(phasewatch_collector_requests_total{{{EVENT_ROUTES}}}[10m]))"
                    },
                    alert="RequestsRefused",
                ),
            ),
        ),
        ("Does it add up?", ingest_balance()),
        ("Does it reach Kafka?", ingest_spool()),
        ("How long does it take, and where?", ingest_times()),
        (
            "What else comes in?",
            (
                line(
                    "Repeats of durable events",
                    units.EventsPerSecond,
                    "Clients that did not hear the answer and sent again; many: the network or a proxy cuts answers.",
                    {"{{source}}": rate("phasewatch_collector_events_duplicate_total", "source")},
                ),
                line(
                    "Secrets and personal values masked",
                    units.CountsPerSecond,
                    "Secrets and personal values in what pages and programs send; who builds them should know.",
                    {"{{source}} {{kind}}": rate("phasewatch_collector_masked_total", "source", "kind")},
                ),
                line(
                    "Bodies as sent",
                    units.BytesIEC,
                    "Size of the requests with events.",
                    quantiles("phasewatch_collector_body_bytes"),
                ),
                line(
                    "Bodies being read",
                    units.BytesIEC,
                    "What slow senders occupy right now; bounded by the settings of the collector.",
                    {"{{instance}}": "sum by (instance) (phasewatch_collector_reading_bytes)"},
                ),
            ),
        ),
    )


def ingest_now() -> Sequence[Panel]:
    """Return what says at one look whether the collectors do their work."""
    requests = "phasewatch_collector_requests_total"
    all_events, no_room = f"{{{EVENT_ROUTES}}}", f'{{{EVENT_ROUTES}, status="503"}}'
    return (
        number(
            "Accepted now",
            units.EventsPerSecond,
            "Events made durable.",
            rate("phasewatch_collector_events_accepted_total"),
        ),
        number(
            "Received in half an hour",
            units.Short,
            "Nothing at all is hardly ever true: send an event from outside.",
            "sum(increase(phasewatch_collector_events_received_total[30m])) or vector(0)",
        ),
        number(
            "Cannot write",
            units.Short,
            "Collectors that cannot make events durable at this moment: they answer 503.",
            "sum(1 - phasewatch_collector_sink_ready)",
            alert="CollectorCannotWrite",
        ),
        number(
            "Answered 503",
            units.PercentUnit,
            "Share of the requests with events that found no room in the log and were told to try again.",
            f"{rate(requests, where=no_room)} / {rate(requests, where=all_events)}",
            alert="CollectorCannotWrite",
        ),
        number(
            "Faults in 10 minutes",
            units.Short,
            "Requests that met a bug of ours, and processes that ended by themselves; the log says more.",
            "sum(increase(phasewatch_collector_faults_total[10m]))"
            " + (sum(increase(phasewatch_collector_worker_deaths_total[10m])) or vector(0))",
            alert="CollectorFaults",
        ),
        number(
            "Collectors down",
            units.Short,
            "Collectors that Prometheus cannot reach.",
            'sum(1 - up{job="phasewatch-collector"})',
            alert="InstanceDown",
        ),
    )


def ingest_balance() -> Sequence[Panel]:
    """Return what became of all that was received, and what seems never to have come."""
    events = "phasewatch_collector_events"
    undelivered = grown("phasewatch_worker_undelivered_events", hours=24)
    numbered = f"({tallied('folded', hours=24)} - {tallied('unnumbered', hours=24)})"
    return (
        line(
            "What became of what was received",
            units.EventsPerSecond,
            "Adds up to all that was received. Failed: read and answered 503; their client is to send them again.",
            {fate: rate(f"{events}_{fate}_total") for fate in ("accepted", "duplicate", "rejected", "failed")},
            stacked=True,
        ),
        line(
            "Never delivered in a day (estimate)",
            units.PercentUnit,
            "Share of the numbered events that left a gap in their browser's numbers. Compare sources and weeks, not "
            "single events: docs/adr/0011-what-is-tallied.md says what it sees too much and too little.",
            {"{{source}}": f"{undelivered} / ({numbered} + {undelivered} > 0)"},
        ),
    )


def ingest_spool() -> Sequence[Panel]:
    """Return what is accepted and not yet in Kafka."""
    return (
        line(
            "Oldest in the spool",
            units.Seconds,
            "How long what was accepted has waited for Kafka; nothing waits where Kafka takes all.",
            {"{{instance}}": "max by (instance) (phasewatch_collector_spool_oldest_seconds)"},
            alert="CollectorSpooling",
        ),
        line(
            "Room taken in the spool",
            units.PercentUnit,
            "Once it is full, events are answered with 503.",
            {
                "{{instance}}": "max by (instance) (phasewatch_collector_spool_bytes"
                " / phasewatch_collector_spool_limit_bytes)"
            },
            alert="SpoolNearlyFull",
        ),
        line(
            "Into the spool, and out of it",
            units.RowsPerSecond,
            "Blocks that Kafka did not take, those that it took later, and writes for which there was no room either.",
            {
                "in": rate("phasewatch_collector_spool_written_total"),
                "out": rate("phasewatch_collector_spool_drained_total"),
                "refused: {{reason}}": rate("phasewatch_collector_spool_refused_total", "reason"),
            },
        ),
        number(
            "Damaged in the spool, in an hour",
            units.Short,
            "Blocks that could not be read back; they are in files that end in .set-aside.",
            "sum(increase(phasewatch_collector_spool_set_aside_total[1h]))",
            alert="SpoolDamaged",
        ),
        number(
            "Broken files",
            units.Short,
            "Keys, the suppression list or the certificate cannot be read; what they said before holds.",
            "sum(phasewatch_collector_file_broken)",
            alert="CollectorFileBroken",
        ),
    )


def ingest_times() -> Sequence[Panel]:
    """Return where the time of a request goes."""
    failed = '{result="error"}'
    return (
        line(
            "Answer to events",
            units.Seconds,
            "From a request's head to its answer, which comes after its events are durable.",
            quantiles("phasewatch_collector_request_seconds", where=f"{{{EVENT_ROUTES}}}"),
        ),
        line(
            "Write to the log",
            units.Seconds,
            "One write of merged requests until durable. Slow here and in the answers: Kafka, or the disk.",
            quantiles("phasewatch_collector_sink_write_seconds", where='{result="ok"}'),
        ),
        line(
            "Failed writes",
            units.CountsPerSecond,
            "Writes to the log that failed, by collector; each one is a 503 to all who waited for it.",
            {"{{instance}}": rate("phasewatch_collector_sink_write_seconds_count", "instance", where=failed)},
        ),
        line(
            "Answers, by status",
            units.RequestsPerSecond,
            "All routes; 503 says that the log did not take the events, 500 is a bug of ours.",
            {"{{route}}: {{status}}": rate("phasewatch_collector_requests_total", "route", "status")},
        ),
    )
