"""How a metric is declared and registered, on both sides of the log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
"""Buckets of every duration: from one commit to what an operator should hear of."""


@dataclass(slots=True, frozen=True)
class Metric:
    """A metric: its name as Prometheus shows it, kind, unit, labels, what it says, and a histogram's buckets."""

    full_name: str
    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    labels: tuple[str, ...]
    meaning: str
    buckets: tuple[float, ...] = ()

    def counter(self, registry: CollectorRegistry) -> Counter:
        """Register it as a counter."""
        return Counter(self.full_name, self.meaning, self.labels, registry=registry)

    def gauge(
        self, registry: CollectorRegistry, *, together: Literal["livesum", "livemin", "livemax"] = "livesum"
    ) -> Gauge:
        """Register it as a gauge; of several processes that are shown together, those alive are summed, or as said."""
        return Gauge(self.full_name, self.meaning, self.labels, registry=registry, multiprocess_mode=together)

    def histogram(self, registry: CollectorRegistry) -> Histogram:
        """Register it as a histogram."""
        return Histogram(self.full_name, self.meaning, self.labels, registry=registry, buckets=self.buckets)
