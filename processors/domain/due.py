"""The next due instant of a person: the first hour at which, with no further event, an output may change."""

from __future__ import annotations

from collections.abc import Mapping

from processors.domain.person import FAR_FUTURE, Person
from processors.domain.rules import DAY_MS, Rules, ceil_hour
from processors.domain.stages import Stage
from processors.domain.window import decision_ends


def last_activity(person: Person) -> int:
    """Return the last activity (R5), a standing maturity's instant included."""
    return person.activity if person.money is None else max(person.activity, person.money.activity)


def forgotten_at(person: Person, rules: Rules) -> int:
    """Return the hour at which the person is forgotten if nothing comes; never while a purchase stands (R6)."""
    if person.money is not None and person.money.purchased:
        return FAR_FUTURE
    return ceil_hour(person.last_record + rules.forgotten_after_days * DAY_MS)


def next_due(person: Person, hour: int, weights: Mapping[int, int], rules: Rules) -> int:
    """Return the due hour of a person just evaluated at `hour`; it may lie in the past only for forgetting."""
    due = forgotten_at(person, rules)
    if person.money is not None:
        due = min(due, person.money.until)
    if person.stage == Stage.DECISION:
        return min(due, decision_ends(person, weights, rules))
    if person.ever and person.stage not in (Stage.HOLDING, Stage.DORMANT):
        dormant = ceil_hour(last_activity(person) + rules.dormant_after_days * DAY_MS)
        if dormant > hour:
            due = min(due, dormant)
    return due
