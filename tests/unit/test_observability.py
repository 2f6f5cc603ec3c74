"""Dashboards, alerts and runbooks say what the metrics say, or a test here fails."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from collector.dialects.table import EVENT_PATHS, SETTINGS_PATHS
from deploy.grafana.generate import DASHBOARDS, ROLES, document
from deploy.grafana.panels import ALERTS, ROOT, SOURCE, limit_of
from phasewatch.reference import declared_metrics
from processors.domain.stages import Stage

RUNBOOKS = ROOT / "docs/runbooks"
SEVERITIES = {"critical", "warning"}
OF_A_HISTOGRAM = ("_bucket", "_sum", "_count")
OF_A_TARGET = {"job", "instance"}
"""What Prometheus itself gives every series that it scrapes."""

TOKEN = re.compile(
    r'(?P<text>"(?:[^"\\]|\\.)*")|(?P<range>\[[^]]*\])|(?P<word>[a-zA-Z_:][\w:]*)|(?P<number>\d[\w.]*)'
    r"|(?P<sign>[!=]~|!=|==|[<>]=?|[-+*/%^(){},=])|(?P<space>\s+)|(?P<other>.)",
    re.DOTALL,
)
GROUPING = {"by", "without", "on", "ignoring", "group_left", "group_right"}
SHOWN_LABEL = re.compile(r"\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}")


class Read(NamedTuple):
    """What an expression reads."""

    selectors: list[tuple[str, dict[str, str]]]
    """A metric and its matchers, label and value, each time that one of ours or `up` stands there."""
    grouping: set[str]
    """Labels that something is added up by, or matched on."""


def read(expression: str) -> Read:
    """Take an expression apart as far as these tests need it."""
    found = [(match.lastgroup, match.group()) for match in TOKEN.finditer(expression) if match.lastgroup != "space"]
    assert not [text for kind, text in found if kind == "other"], f"not understood: {expression}"
    tokens = [text for _, text in found]
    selectors: list[tuple[str, dict[str, str]]] = []
    grouping: set[str] = set()
    for at, token in enumerate(tokens):
        following = tokens[at + 1 : at + 2]
        if token in GROUPING and following == ["("]:
            grouping |= set(tokens[at + 2 : tokens.index(")", at)]) - {","}
        elif token.startswith("phasewatch_") or token == "up":
            matchers = tokens[at + 2 : tokens.index("}", at)] if following == ["{"] else []
            selectors.append((token, dict(zip(matchers[::4], matchers[2::4], strict=True))))
    return Read(selectors, grouping)


def labels_of_all() -> dict[str, set[str]]:
    """Return the labels of every series that there is, by its metric's name."""
    found = {"up": OF_A_TARGET}
    for one in declared_metrics():
        if one.kind == "histogram":
            found |= {one.full_name + end: {*one.labels, *OF_A_TARGET} for end in OF_A_HISTOGRAM}
            found[one.full_name + "_bucket"].add("le")
        else:
            found[one.full_name] = {*one.labels, *OF_A_TARGET}
    return found


LABELS = labels_of_all()


def panels() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every panel of the committed dashboards with a name for it."""
    for role in ROLES:
        board = json.loads((DASHBOARDS / f"{role}.json").read_text(encoding="utf-8"))
        for panel in board["panels"]:
            if panel["type"] != "row":
                yield f"{role}: {panel['title']}", panel


def expressions() -> Iterator[tuple[str, str, str]]:
    """Yield every expression with where it stands, and the texts that show labels of its result."""
    for name, panel in panels():
        for target in panel["targets"]:
            yield name, target["expr"], target["legendFormat"]
    for alert, rule in ALERTS.items():
        yield alert, rule["expr"], " ".join(rule["annotations"].values()).replace("$value", "")


EXPRESSIONS = list(expressions())


def test_an_expression_is_taken_apart() -> None:
    expression = 'sum by (le, to) (rate(phasewatch_a_bucket{to=~"x|y", b!="1"}[5m])) / on () group_left () up offset 1w'
    assert read(expression) == Read([("phasewatch_a_bucket", {"to": '"x|y"', "b": '"1"'}), ("up", {})], {"le", "to"})


@pytest.mark.parametrize(("where", "expression", "texts"), EXPRESSIONS)
def test_every_expression_reads_what_is_declared(where: str, expression: str, texts: str) -> None:
    found = read(expression)
    assert found.selectors, where
    known: set[str] = set()
    for metric, matchers in found.selectors:
        assert metric in LABELS, f"{where}: {metric} is not declared; of a histogram {OF_A_HISTOGRAM} are read"
        labels = LABELS[metric]
        assert matchers.keys() <= labels, f"{where}: {metric} has no label {matchers.keys() - labels}"
        known |= labels
    assert found.grouping <= known, f"{where}: none of its metrics has a label {found.grouping - known}"
    shown = set(SHOWN_LABEL.findall(texts))
    kept = found.grouping if " by " in expression else known
    assert shown <= kept, f"{where}: it shows {shown - kept}, which its result does not have"


@pytest.mark.parametrize(("where", "expression", "texts"), EXPRESSIONS)
def test_every_value_asked_for_is_one_that_exists(where: str, expression: str, texts: str) -> None:  # noqa: ARG001
    jobs = {job["job_name"] for job in prometheus_settings()["scrape_configs"]}
    allowed = {"to": {*Stage, "gone"}, "stage": set(Stage), "job": jobs, "result": {"ok", "error"}}
    for _, matchers in read(expression).selectors:
        for label, value in matchers.items():
            if label in allowed and "*" not in value:
                assert set(value.strip('"').split("|")) <= allowed[label], where


@pytest.mark.parametrize(("where", "expression", "texts"), EXPRESSIONS)
def test_events_of_all_sdks_are_looked_at_and_nothing_else(where: str, expression: str, texts: str) -> None:  # noqa: ARG001
    others = {"other", "healthz", "autocapture", *(one.name for one in SETTINGS_PATHS)}
    for _, matchers in read(expression).selectors:
        if (left_out := matchers.get("route")) is not None:
            pattern = re.compile(left_out.strip('"'))
            assert [name for name in others if not pattern.fullmatch(name)] == [], where
            assert [one.name for one in EVENT_PATHS if pattern.fullmatch(one.name)] == [], where
            assert not pattern.fullmatch("events"), where


def prometheus_settings() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("role", ROLES)
def test_the_committed_dashboards_are_fresh(role: str) -> None:
    committed = (DASHBOARDS / f"{role}.json").read_text(encoding="utf-8")
    assert committed == document(role), f"{role}.json is stale: run make docs"


def test_no_dashboard_is_left_over() -> None:
    assert {path.stem for path in DASHBOARDS.iterdir()} == set(ROLES)


def test_every_panel_says_what_it_means_and_in_what_unit() -> None:
    for name, panel in panels():
        assert panel["description"], name
        assert panel["fieldConfig"]["defaults"]["unit"], name
        assert panel["datasource"]["uid"] == SOURCE.uid, name


def test_the_panels_of_an_alert_draw_its_limit_and_link_its_runbook() -> None:
    seen = set()
    for name, panel in panels():
        for link in panel.get("links", []):
            alert = link["title"].removeprefix("Runbook of ")
            seen.add(alert)
            assert link["url"].endswith(ALERTS[alert]["annotations"]["runbook_url"]), name
            red = panel["fieldConfig"]["defaults"]["thresholds"]["steps"][-1]["value"]
            assert red == pytest.approx(limit_of(alert), abs=1e-6), name
    # NoEvents has no limit to draw: nothing is what it is about.
    assert seen == set(ALERTS) - {"NoEvents"}


def test_grafana_is_given_the_source_that_the_panels_name() -> None:
    path = ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml"
    (source,) = yaml.safe_load(path.read_text(encoding="utf-8"))["datasources"]
    assert (source["type"], source["uid"]) == (SOURCE.type_val, SOURCE.uid)
    assert source["jsonData"]["timeInterval"] == prometheus_settings()["global"]["scrape_interval"]


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_says_what_it_means_and_what_to_do(alert: str) -> None:
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in SEVERITIES
    assert rule["annotations"]["summary"]
    assert "First " in rule["annotations"]["description"], "the first thing to do"
    runbook = ROOT / rule["annotations"]["runbook_url"]
    assert runbook.parent == RUNBOOKS
    assert runbook.read_text(encoding="utf-8").startswith(f"# {alert}\n")


def test_every_runbook_is_some_alerts() -> None:
    named = {Path(rule["annotations"]["runbook_url"]).name for rule in ALERTS.values()}
    assert {path.name for path in RUNBOOKS.glob("*.md")} == named


def test_every_alert_is_tested() -> None:
    cases = "".join(path.read_text("utf-8") for path in (ROOT / "deploy/prometheus/tests").glob("*.yml"))
    assert [alert for alert in ALERTS if alert not in cases] == []
