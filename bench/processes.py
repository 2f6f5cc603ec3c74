"""What the benchmarks ask of processes: how much CPU they have taken."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_CLOCK_TICKS: Final = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """Return the CPU time so far, user and system, in seconds, of a process and of all that it has started."""
    stats = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(encoding="utf-8").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
        stats[int(path.parent.name)] = int(fields[1]), (int(fields[11]) + int(fields[12])) / _CLOCK_TICKS
    family = {pid}
    for _ in range(3):  # a supervisor, its workers, and what those start
        family |= {child for child, (parent, _) in stats.items() if parent in family}
    return sum(seconds for child, (_, seconds) in stats.items() if child in family)
