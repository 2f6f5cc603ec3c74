"""How a metric is declared, on both sides of the log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]


@dataclass(slots=True, frozen=True)
class Metric:
    """A metric: `name` without its side's prefix, `kind`, `unit`, `labels` and what it says; `buckets` of a histogram."""

    name: str
    kind: Kind
    unit: str
    labels: tuple[str, ...]
    meaning: str
    buckets: tuple[float, ...] = ()
