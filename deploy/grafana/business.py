"""The dashboard of those who work with the phases."""
# ruff: noqa: INP001 - beside what it configures, no package

from __future__ import annotations

from collections.abc import Sequence

from grafana_foundation_sdk.models import units

from deploy.grafana.panels import Row, line, number


def business_rows() -> Sequence[Row]:
    """Return what the business asks: who is in which phase, who enters one, and where it comes from."""
    entered = 'phasewatch_worker_stage_changes_total{to=~"decision|holding|post_redemption"}'
    return (
        (
            "Who enters a phase?",
            (
                *(
                    number(
                        f"Entered {stage.replace('_', ' ')} in an hour",
                        units.Short,
                        "Persons who entered this phase in the last 60 minutes; each was told to the subscribers.",
                        f'sum(increase(phasewatch_worker_stage_changes_total{{to="{stage}"}}[1h]))',
                    )
                    for stage in ("decision", "holding", "post_redemption")
                ),
                line(
                    "Entered, an hour",
                    units.Short,
                    "Changes of stage within the last hour, by the phase entered.",
                    {"{{to}}": f"sum by (to) (increase({entered}[1h]))"},
                ),
                line(
                    "Entered, compared with a week ago",
                    units.Short,
                    "All three phases together. Far apart without a campaign: look at the dashboard of the collectors.",
                    {
                        "now": f"sum(increase({entered}[1h]))",
                        "a week ago": f"sum(increase({entered}[1h] offset 1w))",
                    },
                ),
                line(
                    "All changes, an hour",
                    units.Short,
                    "By the stage entered; gone: nothing is known of the person any more.",
                    {"{{to}}": "sum by (to) (increase(phasewatch_worker_stage_changes_total[1h]))"},
                    stacked=True,
                ),
            ),
        ),
        (
            "Who is where?",
            (
                line(
                    "Persons per stage",
                    units.Short,
                    "Everybody known, by stage.",
                    {"{{stage}}": "sum by (stage) (phasewatch_worker_persons)"},
                    stacked=True,
                ),
                line(
                    "Persons in a phase",
                    units.Short,
                    "The same, the phases that messages are made for alone.",
                    {
                        "{{stage}}": "sum by (stage)"
                        ' (phasewatch_worker_persons{stage=~"decision|holding|post_redemption"})'
                    },
                ),
            ),
        ),
        (
            "Where does it come from?",
            (
                line(
                    "Events of an hour, by source",
                    units.Short,
                    "A source is a write key: a site, an app or a server.",
                    {"{{source}}": "sum by (source) (increase(phasewatch_collector_events_accepted_total[1h]))"},
                    stacked=True,
                ),
                line(
                    "Rejected events of an hour, by source",
                    units.Short,
                    "What these sources send and nobody can use.",
                    {"{{source}}": "sum by (source) (increase(phasewatch_collector_events_rejected_total[1h]))"},
                ),
            ),
        ),
    )
