"""The documentation says what the code does, or a test here fails."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from phasewatch.reference import PAGES, declared_metrics
from phasewatch.settings_source import declared

ROOT = Path(__file__).parents[2]
KINDS = {"counter", "gauge", "histogram"}
BASE_UNITS = {"seconds", "bytes"}
METRIC = re.compile(r"phasewatch_[a-z0-9]+(_[a-z0-9]+)+")
LINK = re.compile(r"\]\(([^)#:]+?)(?:#[^)]*)?\)")


@pytest.mark.parametrize("name", PAGES)
def test_the_generated_pages_are_fresh(name: str) -> None:
    assert (ROOT / name).read_text(encoding="utf-8") == PAGES[name](), f"{name} is stale: run make docs"


def test_every_setting_stands_on_its_page() -> None:
    page = PAGES["docs/settings.md"]()
    missing = [name for name, _ in declared() if f"| `{name.rpartition('.')[2]}` |" not in page]
    assert missing == []


def test_metrics_are_named_by_the_rules() -> None:
    """Prefix, base unit and `_total` as the contract has them; each name once, each with a meaning."""
    found = list(declared_metrics())
    names = [metric.full_name for metric in found]
    assert len(set(names)) == len(names)
    for metric in found:
        assert METRIC.fullmatch(metric.full_name), metric.full_name
        assert metric.kind in KINDS, metric.full_name
        assert metric.full_name.endswith("_total") == (metric.kind == "counter"), metric.full_name
        if metric.unit in BASE_UNITS:
            assert f"_{metric.unit}" in metric.full_name, metric.full_name
        assert metric.meaning, metric.full_name


def test_every_metric_the_code_names_is_declared() -> None:
    names = {metric.full_name for metric in declared_metrics()}
    used = {
        (str(path.relative_to(ROOT)), node.value)
        for package in ("collector", "processors", "console", "phasewatch")
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and METRIC.fullmatch(node.value)
    }
    assert {(path, name) for path, name in used if name not in names} == set()


def test_links_between_pages_lead_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    broken = [
        (str(page.relative_to(ROOT)), target)
        for page in pages
        for target in LINK.findall(page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert broken == []


def test_every_decision_and_page_is_linked_from_the_overview() -> None:
    """A page that nothing links to is a page that nobody finds."""
    overview = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")]
    assert [page for page in pages if page != "architecture.md" and f"({page}" not in overview] == []
