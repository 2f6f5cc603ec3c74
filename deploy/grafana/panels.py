"""A panel of a Grafana dashboard, with its unit, what it means, and the limit and runbook of the alert it belongs to.

The limits are those of the alerts, read from deploy/prometheus/alerts.yml.
"""
# ruff: noqa: INP001 - beside what it configures, no package

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Final, TypeAlias, TypeVar

import yaml
from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.models.common import (
    BigValueGraphMode,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardLinkType,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
)

ROOT: Final = Path(__file__).resolve().parents[2]
ALERTS: Final = {
    rule["alert"]: rule
    for group in yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
}
"""The rules by the alert's name."""
SOURCE: Final = DataSourceRef("prometheus", "phasewatch-prometheus")
"""As deploy/grafana/provisioning names it."""
RUNBOOKS_AT: Final = "/public"
"""Where this Grafana serves the docs: docker-compose.yml puts them below its folder of static files."""
LIMIT: Final = re.compile(r"[<>]=?\s*([0-9.]+)\s*$")
WIDTH: Final = 24
"""Columns of Grafana's grid."""

Panel: TypeAlias = timeseries.Panel | stat.Panel
PanelKind = TypeVar("PanelKind", timeseries.Panel, stat.Panel)
Queries: TypeAlias = dict[str, str]
"""Expressions by what their lines are called."""
Row: TypeAlias = tuple[str, Sequence[Panel]]
"""A question and the panels that answer it; the first one is what one asks first at night."""


def limit_of(alert: str) -> float:
    """Return the number at the end of an alert's expression."""
    found = LIMIT.search(ALERTS[alert]["expr"])
    if found is None:
        message = f"{alert}: its expr has to end in a comparison with a number, which the dashboards draw"
        raise ValueError(message)
    return float(found[1])


def line(
    title: str, unit: str, means: str, queries: Queries, *, alert: str | None = None, stacked: bool = False
) -> timeseries.Panel:
    """Return a panel of lines over time.

    Args:
        title: what is shown.
        unit: Grafana's name of it.
        means: what it says to who is called at night.
        queries: its lines.
        alert: the alert whose limit is drawn and whose runbook is linked.
        stacked: whether the lines add up to a whole.
    """
    panel = (
        timeseries.Panel()
        .min(0)
        .fill_opacity(10)
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(show_legend=True)
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    )
    if stacked:
        panel = panel.fill_opacity(60).stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    if alert is not None:
        panel = panel.thresholds_style(
            common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.LINE_AND_AREA)
        ).thresholds(_limits(alert))
    return _described(panel, title, unit, means, queries, alert=alert).span(WIDTH // 2).height(8)


def number(title: str, unit: str, means: str, query: str, *, alert: str | None = None) -> stat.Panel:
    """Return a panel with one number, as it is now; arguments as of `line`."""
    panel = (
        stat.Panel()
        .graph_mode(BigValueGraphMode.AREA)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .no_value("nothing known")
    )
    if alert is not None:
        panel = panel.thresholds(_limits(alert))
    return _described(panel, title, unit, means, {"": query}, alert=alert).span(WIDTH // 6).height(4)


def _described(
    panel: PanelKind, title: str, unit: str, means: str, queries: Queries, *, alert: str | None
) -> PanelKind:
    panel = panel.title(title).unit(unit).datasource(SOURCE)
    for letter, (name, query) in zip(ascii_uppercase, queries.items(), strict=False):
        target = prometheus.Dataquery().expr(query).legend_format(name).ref_id(letter)
        panel = panel.with_target(target.datasource(SOURCE))
    if alert is None:
        return panel.description(means)
    runbook = ALERTS[alert]["annotations"]["runbook_url"]
    link = dashboard.DashboardLink(f"Runbook of {alert}").type(DashboardLinkType.LINK)
    link = link.url(f"{RUNBOOKS_AT}/{runbook}").target_blank(target_blank=True)
    return panel.description(f"{means}\n\nAlert {alert}, see {runbook}.").links([link])


def _limits(alert: str) -> dashboard.ThresholdsConfig:
    """Return green up to the alert's limit and red above; where zero is the limit, anything above is too much."""
    red = limit_of(alert) or 1e-9
    steps = [Threshold(value=None, color="green"), Threshold(value=red, color="red")]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def rate(metric: str, *by: str, where: str = "") -> str:
    """Return a counter's rate a second, added up over all processes but `by`."""
    grouped = f" by ({', '.join(by)})" if by else ""
    return f"sum{grouped} (rate({metric}{where}[$__rate_interval]))"


def tallied(fate: str, *, hours: int) -> str:
    """Return by source what became so of events within the last hours, from the tallies of all workers."""
    return grown(f'phasewatch_worker_tallied_events{{fate="{fate}"}}', hours=hours)


def grown(gauge: str, *, hours: int) -> str:
    """Return by source what a gauge that only grows with time has grown by, the sum over all workers."""
    now = f"sum by (source) ({gauge})"
    return f"({now} - (sum by (source) ({gauge} offset {hours}h) or 0 * {now}))"


def quantiles(histogram: str, *, where: str = "") -> Queries:
    """Return a histogram's median and 99th percentile over all processes."""
    return {
        name: f"histogram_quantile({quantile}, sum by (le) (rate({histogram}_bucket{where}[$__rate_interval])))"
        for name, quantile in (("p50", 0.5), ("p99", 0.99))
    }
