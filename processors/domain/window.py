"""The rolling window: scores, evidence and preference of a person at an hour of stream time (R2, R3)."""

from __future__ import annotations

from collections.abc import Mapping

from processors.domain.matching import NO_CATEGORY, NUMBERS
from processors.domain.person import FAR_FUTURE, Person
from processors.domain.rules import Rules


def place(hour: int, number: int) -> int:
    """Return the key of a count: one flat dict an hour's behaviours share costs a third of a dict an hour."""
    return hour * NUMBERS + number


def hour_of(key: int) -> int:
    """Return the hour of a count's key."""
    return key // NUMBERS


def number_of(key: int) -> int:
    """Return the behaviour or category number of a count's key."""
    return key % NUMBERS


def add_count(counts: dict[int, int], key: int, more: int) -> None:
    """Add to a count, keeping the hours in order."""
    if key in counts:
        counts[key] += more
        return
    late = counts and key // NUMBERS < next(reversed(counts)) // NUMBERS
    counts[key] = more
    if late:
        ordered = sorted(counts.items())
        counts.clear()
        counts.update(ordered)


def forget_before(person: Person, hour: int) -> None:
    """Drop what counts in hours before `hour`."""
    floor = place(hour, 0)
    for counts in (person.buckets, person.dwell):
        while counts and (oldest := next(iter(counts))) < floor:
            del counts[oldest]


def rescore(person: Person, hour: int, cut_hour: int, weights: Mapping[int, int], rules: Rules) -> None:
    """Sum a person's counts anew: `score`, and `decision_score` after `cut_hour`, at `hour`."""
    forget_before(person, hour - rules.window_hours + 1)
    person.score = sum(weights.get(key % NUMBERS, 0) * count for key, count in person.buckets.items())
    after = place(cut_hour + 1, 0)
    person.decision_score = sum(
        weights.get(key % NUMBERS, 0) * count for key, count in person.buckets.items() if key >= after
    )
    person.scored, person.cut_hour = hour, cut_hour


def expire(person: Person, hour: int, weights: Mapping[int, int], rules: Rules) -> None:
    """Take what has left the window at `hour` out of the sums: the same as summing anew, at the cost of what leaves."""
    floor = (hour - rules.window_hours + 1) * NUMBERS
    dwell, buckets = person.dwell, person.buckets
    while dwell and (oldest := next(iter(dwell))) < floor:
        del dwell[oldest]
    while buckets and (oldest := next(iter(buckets))) < floor:
        weight = weights.get(oldest % NUMBERS, 0) * buckets.pop(oldest)
        person.score -= weight
        if oldest // NUMBERS > person.cut_hour:
            person.decision_score -= weight
    person.scored = hour


def decision_ends(person: Person, weights: Mapping[int, int], rules: Rules) -> int:
    """Return the first hour at which, without further events, `decision_score` is below what keeps a decision."""
    left = person.decision_score
    after = place(person.cut_hour + 1, 0)
    for key, count in person.buckets.items():
        if key >= after:
            left -= weights.get(key % NUMBERS, 0) * count
            if left < rules.decision_keeps_at:
                return hour_of(key) + rules.window_hours
    return FAR_FUTURE


def evidence(person: Person, weights: Mapping[int, int]) -> list[tuple[int, int, int]]:
    """Return (behaviour number, count, weight) of what makes up `decision_score`, unordered; sums to it exactly."""
    counts: dict[int, int] = {}
    after = place(person.cut_hour + 1, 0)
    for key, count in person.buckets.items():
        if key >= after:
            counts[key % NUMBERS] = counts.get(key % NUMBERS, 0) + count
    return [(b, count, weights.get(b, 0)) for b, count in counts.items() if count > 0 and weights.get(b, 0) > 0]


def dwell_by_category(person: Person) -> dict[int, int]:
    """Return visible milliseconds in the window per category number (NO_CATEGORY: none)."""
    totals: dict[int, int] = {}
    for key, ms in person.dwell.items():
        totals[key % NUMBERS] = totals.get(key % NUMBERS, 0) + ms
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
