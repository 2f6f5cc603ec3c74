"""The benchmark suite: `make bench` prints all parts as a table, `make bench ARGS="NAME --json"` one as JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

from rich.console import Console
from rich.table import Table


@dataclass(slots=True, frozen=True)
class Part:
    """A benchmark: the module whose `measure()` returns figures by name, unit in the name, and what it measures.

    What is measured beside it, as yardsticks, are groups of figures next to a group of the benchmark's own name.
    """

    module: str
    meaning: str


PARTS: Final[dict[str, Part]] = {
    "collector": Part("bench.collector", "the production collector on Kafka under full load, beside its yardsticks"),
    "dialects": Part("bench.dialects", "CPU of an event in each SDK's recorded requests, beside the native route"),
    "autocapture": Part(
        "bench.autocapture", "autocapture.js in Chromium: its bytes, main-thread ms of a load and a click"
    ),
    "fold": Part("bench.fold", "decode and fold of one event, persons in memory"),
    "worker": Part("bench.worker", "the worker over Kafka and Redis, from backlog to folded"),
    "redis_memory": Part("bench.redis_memory", "Redis's memory for 100,000 people with 40 events each"),
    "system": Part("bench.system", "everything together: its maximum, and the way to a subscriber at half of it"),
    "takeover": Part("bench.takeover", "seconds until another worker folds what one that died or stopped had"),
    "snapshot": Part("bench.snapshot", "snapshot and restore of 100,000 people while commits go on"),
    "guards": Part("bench.guards", "honest clients beside 5,000 slow connections and a flood, as a ratio to without"),
    "embedded": Part("bench.embedded", "the embedded deployment on SQLite files"),
}
"""Every benchmark by its name on the command line."""


def measure(name: str) -> dict[str, Any]:
    """Run one benchmark and return its figures under its name, beside those of its yardsticks."""
    figures: dict[str, Any] = import_module(PARTS[name].module).measure()
    return figures if name in figures else {name: figures}


def rows(figures: Mapping[str, Any], group: str = "") -> Iterator[tuple[str, str, float]]:
    """Yield (group, figure, value)."""
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield from rows(value, f"{group} {name}".strip())
        else:
            yield group, name, value


def main(arguments: list[str]) -> int:
    """Run the named benchmarks, all of them without names, and print their figures."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of: {', '.join(PARTS) or 'none yet'}")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in PARTS]
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are: {', '.join(PARTS) or 'none yet'}")
    figures: dict[str, Any] = {}
    for name in options.names or PARTS:
        figures |= measure(name)
    if options.json:
        print(json.dumps(figures))
        return 0
    table = Table("benchmark", "figure", "value", title="Phasewatch, this machine")
    for group, figure, value in rows(figures):
        meaning = f": {PARTS[group].meaning}" if group in PARTS else ""
        table.add_row(f"{group}{meaning}", figure, f"{value:,.2f}")
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
