"""The rolling window: scores, evidence and preference of a person at an hour of stream time (R2, R3)."""

from __future__ import annotations

from collections.abc import Mapping

from processors.domain.matching import NO_CATEGORY
from processors.domain.person import FAR_FUTURE, Person
from processors.domain.rules import Rules


def rescore(person: Person, hour: int, cut_hour: int, weights: Mapping[int, int], rules: Rules) -> None:
    """Drop what has left the window at `hour` and sum anew: `score`, and `decision_score` after `cut_hour`."""
    floor = hour - rules.window_hours + 1
    buckets = person.buckets
    for old in [h for h in buckets if h < floor]:
        del buckets[old]
    for old in [h for h in person.dwell if h < floor]:
        del person.dwell[old]
    score = deciding = 0
    for h, counts in buckets.items():
        total = 0
        for behaviour, count in counts.items():
            total += weights.get(behaviour, 0) * count
        score += total
        if h > cut_hour:
            deciding += total
    person.first = min(min(buckets, default=FAR_FUTURE), min(person.dwell, default=FAR_FUTURE))
    person.score, person.decision_score = score, deciding
    person.scored, person.cut_hour = hour, cut_hour


def decision_ends(person: Person, weights: Mapping[int, int], rules: Rules) -> int:
    """Return the first hour at which, without further events, `decision_score` is below what keeps a decision."""
    left = person.decision_score
    for h in sorted(person.buckets):
        if h <= person.cut_hour:
            continue
        left -= sum(weights.get(behaviour, 0) * count for behaviour, count in person.buckets[h].items())
        if left < rules.decision_keeps_at:
            return h + rules.window_hours
    return FAR_FUTURE


def evidence(person: Person, weights: Mapping[int, int]) -> list[tuple[int, int, int]]:
    """Return (behaviour number, count, weight) of what makes up `decision_score`, unordered; sums to it exactly."""
    counts: dict[int, int] = {}
    for h, bucket in person.buckets.items():
        if h > person.cut_hour:
            for behaviour, count in bucket.items():
                counts[behaviour] = counts.get(behaviour, 0) + count
    return [(b, count, weights.get(b, 0)) for b, count in counts.items() if count > 0 and weights.get(b, 0) > 0]


def dwell_by_category(person: Person) -> dict[int, int]:
    """Return visible milliseconds in the window per category number (-1: none)."""
    totals: dict[int, int] = {}
    for bucket in person.dwell.values():
        for category, ms in bucket.items():
            totals[category] = totals.get(category, 0) + ms
    return totals


def preference(person: Person, names: list[str], rules: Rules) -> tuple[str, int, int] | None:
    """Return (category, its milliseconds, all milliseconds) of a marked preference, else None (R3, D4)."""
    totals = dwell_by_category(person)
    total = sum(totals.values())
    ranked = sorted((-ms, names[c]) for c, ms in totals.items() if c != NO_CATEGORY and c < len(names) and ms > 0)
    if not ranked or total < rules.preference_min_dwell_ms:
        return None
    ms, category = -ranked[0][0], ranked[0][1]
    return (category, ms, total) if ms * 100 > total * rules.preference_above_percent else None


def intent(score: int, rules: Rules) -> str:
    """Return the intent of a score in thousandths: strong, medium or weak (R3)."""
    if score > rules.strong_above:
        return "strong"
    return "medium" if score > rules.medium_above else "weak"
