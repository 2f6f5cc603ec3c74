"""Every metric of the console, declared once."""

from __future__ import annotations

from typing import Final

from collector.wire.metric import Metric

PREFIX: Final = "phasewatch_console_"

LOGINS: Final = Metric(
    PREFIX + "logins_total",
    "counter",
    "attempts",
    ("result",),
    "attempts to log in: `ok`, `wrong`, or `throttled`, which were not looked at",
)
REFUSED: Final = Metric(
    PREFIX + "refused_total",
    "counter",
    "requests",
    ("code",),
    "requests that the door refused, by the answer's code (docs/console.md)",
)
SESSIONS: Final = Metric(PREFIX + "sessions", "gauge", "sessions", (), "sessions that are kept")

METRICS: Final = (LOGINS, REFUSED, SESSIONS)
