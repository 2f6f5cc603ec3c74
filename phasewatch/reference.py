"""The generated pages of the documentation, made from what the code declares; `make docs` writes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Final, Protocol

from pydantic.fields import FieldInfo

from collector import openapi as collector_openapi
from collector.settings import WriteKey
from console import openapi
from console.settings import ApiToken, ConsoleUser
from phasewatch.settings import Settings
from phasewatch.settings_source import as_text, declared, describe, masked, sentence
from processors.domain.stages import STAGE_RULES
from processors.wire import json_schema

__all__ = ["PAGES", "declared_metrics", "metrics_page", "settings_page", "write"]

ROOT: Final = Path(__file__).parents[1]
HEAD: Final = "<!-- Written by `make docs` from the code; change it there. -->\n\n"


class Declaration(Protocol):
    """A metric as its module's `METRICS` declares it."""

    @property
    def full_name(self) -> str:
        """The name as Prometheus shows it, prefix included."""
        ...

    @property
    def kind(self) -> str:
        """counter, gauge or histogram."""
        ...

    @property
    def unit(self) -> str:
        """Base unit, or what a counter counts."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """Label names; each from a bounded set."""
        ...

    @property
    def meaning(self) -> str:
        """What it says, in a sentence."""
        ...


def declared_metrics() -> Iterator[Declaration]:
    """Yield what the modules called `metrics` declare, package by package."""
    for package in ("collector", "processors", "console", "phasewatch"):
        for path in sorted((ROOT / package).rglob("metrics.py")):
            module = import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
            yield from module.METRICS


def metrics_page() -> str:
    """Return docs/metrics.md."""
    lines = [
        HEAD + "# Metrics\n",
        "`GET /metrics` on the admin port. Base units; counters end in `_total`; labels come from bounded sets.\n",
        "| metric | kind | unit | labels | meaning |",
        "| --- | --- | --- | --- | --- |",
    ]
    for metric in declared_metrics():
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        lines.append(
            f"| `{metric.full_name}` | {metric.kind} | {metric.unit} | {labels} | {_cell(sentence(metric.meaning))} |"
        )
    return "\n".join(lines) + "\n"


def settings_page() -> str:
    """Return docs/settings.md: one table a section, defaults masked as everywhere."""
    defaults = {row.name: row for row in describe(Settings(), {})}
    lines = [
        HEAD + "# Settings\n",
        "From `phasewatch.toml` (`--settings FILE`, else the one in the working directory), then from the environment",
        "as `PHASEWATCH_<SECTION>__<KEY>` (lists as JSON), then from the command line; the later wins. A wrong value",
        "or an unknown key stops the start. `phasewatch settings` shows what is in force and where it comes from.",
    ]
    section = ""
    for name, field in declared():
        above, _, key = name.rpartition(".")
        if above != section:
            section = above
            lines += [f"\n## [{section}]\n", *TABLE]
        row = defaults[name]
        lines.append(_line(key, as_text(row.value), field))
    for name, kind in (("collector.keys", WriteKey), ("console.users", ConsoleUser), ("console.api_tokens", ApiToken)):
        lines += [f"\n## [[{name}]]\n", *TABLE]
        lines += [
            _line(key, "required" if field.is_required() else as_text(masked(key, field.default)), field)
            for key, field in kind.model_fields.items()
        ]
    return "\n".join(lines) + "\n"


TABLE: Final = ("| key | default | allowed | meaning |", "| --- | --- | --- | --- |")


def _line(key: str, default: str, field: FieldInfo) -> str:
    return f"| `{key}` | `{_cell(default)}` | {_cell(_allowed(field))} | {_cell(sentence(field.description or ''))} |"


LIMITS: Final = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below", "min_length": "length at least"}


def _allowed(field: FieldInfo) -> str:
    """Return the limits of a setting as words, from its declaration."""
    limits = [
        f"{words} {getattr(rule, attribute)}"
        for rule in field.metadata
        for attribute, words in LIMITS.items()
        if getattr(rule, attribute, None) is not None
    ]
    patterns = [f"`{rule.pattern}`" for rule in field.metadata if getattr(rule, "pattern", None)]
    choices = [f"`{choice}`" for choice in getattr(field.annotation, "__args__", ()) if isinstance(choice, str)]
    return ", ".join(limits + patterns + choices)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def stages_page() -> str:
    """Return docs/stages.md: the table of stage rules."""
    lines = [
        HEAD + "# Stages\n",
        "The first row that holds is the stage; evaluated once after each event and once at each due hour (R5).",
        "The numbers are those of the shipped definitions.\n",
        "| # | when | stage |",
        "| --- | --- | --- |",
    ]
    lines += [f"| {n} | {_cell(rule.when)} | `{rule.stage.value}` |" for n, rule in enumerate(STAGE_RULES, 1)]
    return "\n".join(lines) + "\n"


def schema_page() -> str:
    """Return the JSON Schema of a stage change."""
    return json.dumps(json_schema(), indent=2) + "\n"


PAGES: Final[dict[str, Callable[[], str]]] = {
    "docs/settings.md": settings_page,
    "docs/metrics.md": metrics_page,
    "docs/stages.md": stages_page,
    "docs/schemas/stage-change.json": schema_page,
    "docs/openapi-console.json": openapi.document,
    collector_openapi.FILE: collector_openapi.document,
}


def write(root: Path = ROOT) -> None:
    """Write the generated pages below a checkout's root."""
    for name, page in PAGES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    write()
