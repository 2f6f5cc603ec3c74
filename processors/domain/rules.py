"""The numbers of the rules: part of the definitions document, never settings of a process (domain.md)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS


def ceil_hour(instant: int) -> int:
    """Return the first whole hour since the epoch not before `instant` (UTC milliseconds): when it is due (R2)."""
    return -(-instant // HOUR_MS)


@dataclass(frozen=True, slots=True)
class Rules:
    """The numbers of R2 to R8 with their defaults; field names carry the unit, scores are in thousandths (R1)."""

    window_hours: int = 336
    strong_above: int = 5000
    decision_keeps_at: int = 4000
    medium_above: int = 1000
    preference_above_percent: int = 40
    preference_min_dwell_ms: int = 60_000
    top_percent: int = 20
    next_percent: int = 40
    provisional_days: int = 3
    redeem_waits_days: int = 30
    summary_after_days: int = 400
    dormant_after_days: int = 30
    visit_gap_minutes: int = 30
    sessions_remembered: int = 64
    dwell_cap_minutes: int = 30
    forgotten_after_days: int = 45
    duplicate_hours: int = 24
    events_remembered: int = 256
    seq_gaps: int = 64
    devices_remembered: int = 16


SCORES: Final = frozenset({"strong_above", "decision_keeps_at", "medium_above"})
"""The rules that are scores: up to three decimals in the document, thousandths here."""

RULE_NAMES: Final = tuple(field.name for field in fields(Rules))
