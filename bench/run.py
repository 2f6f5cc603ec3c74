"""The benchmark suite: `make bench` prints all parts as a table, `make bench ARGS="NAME --json"` one as JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Final

from rich.console import Console
from rich.table import Table


@dataclass(slots=True, frozen=True)
class Part:
    """A benchmark: the module whose `measure()` returns figures by name, unit in the name, and what it measures."""

    module: str
    meaning: str


PARTS: Final[dict[str, Part]] = {
    "fold": Part("bench.fold", "decode and fold of one event, persons in memory"),
    "embedded": Part("bench.embedded", "the embedded deployment on SQLite files"),
}
"""Every benchmark by its name on the command line."""


def measure(name: str) -> Mapping[str, float]:
    """Run one benchmark and return its figures."""
    figures: Mapping[str, float] = import_module(PARTS[name].module).measure()
    return figures


def main(arguments: list[str]) -> int:
    """Run the named benchmarks, all of them without names, and print their figures."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of: {', '.join(PARTS) or 'none yet'}")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in PARTS]
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are: {', '.join(PARTS) or 'none yet'}")
    figures = {name: dict(measure(name)) for name in options.names or PARTS}
    if options.json:
        print(json.dumps(figures))
        return 0
    table = Table("benchmark", "figure", "value", title="Phasewatch, this machine")
    for name, found in figures.items():
        for figure, value in found.items():
            table.add_row(f"{name}: {PARTS[name].meaning}", figure, f"{value:,.2f}")
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
