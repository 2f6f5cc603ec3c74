"""Forming the message of one stage change: a function of the person's state and the record alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from processors.domain import window
from processors.domain.fold import Rulebook, customer
from processors.domain.person import Person
from processors.domain.rules import Rules
from processors.engine.state import PartitionState
from processors.wire import ENTERED, Cause, Evidence, Place, Preference, StageChange


@dataclass(frozen=True, slots=True)
class Occasion:
    """Why and when a person is evaluated: `at` in UTC ms, the record's offset, and whether anyone should act on it."""

    at: int
    offset: int
    cause: Cause
    actionable: bool


def rfc3339(instant: int) -> str:
    """Return an instant (UTC ms) as RFC 3339 with milliseconds and Z."""
    seconds, ms = divmod(instant, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{ms:03d}Z"


def life_of(partition: int, person: Person) -> str:
    """Return the name of the person's life: partition and offset of the record that began it."""
    return f"{partition}-{person.life_offset}"


def change_id(partition: int, person: Person, version: int) -> str:
    """Return a change's id; the index in the block tells lives apart that began in one record (ADR 0002)."""
    return f"{partition}-{person.life_offset}.{person.life_index}/{version}"


def tier_of(score: int, tiers: tuple[int, int] | None) -> str | None:
    """Return the place of a score (thousandths) under the latest tier cut: top, next or rest (R3)."""
    if tiers is None:
        return None
    if score >= tiers[0]:
        return "top"
    return "next" if score >= tiers[1] else "rest"


def preference_of(person: Person, book: Rulebook) -> Preference | None:
    """Return the person's preference as messages show it."""
    found = window.preference(person, book.names.categories, book.rules)
    return None if found is None else Preference(found[0], round(found[1] / found[2], 4))


def evidence_of(person: Person, book: Rulebook) -> list[Evidence]:
    """Return what makes up the decision score, the heaviest behaviour first."""
    names = book.names.behaviours
    found = [(-weight, names[number], count) for number, count, weight in window.evidence(person, book.weights)]
    return [Evidence(name, count, -weight / 1000) for weight, name, count in sorted(found)]


def form_change(
    person: Person,
    book: Rulebook,
    state: PartitionState,
    occasion: Occasion,
    *,
    to: str | None,
    confirmed: bool,
    retracts: str | None = None,
    merged_into: str | None = None,
) -> StageChange:
    """Return the message of the change that leads from what was published last to `to`, as the life's next version."""
    rules: Rules = book.rules
    user_id = person.key[2:] if person.key[0] == "u" else None
    version = person.version + 1
    return StageChange(
        schema=1,
        id=change_id(state.partition, person, version),
        person=person.key,
        user_id=user_id,
        anonymous_id=None if user_id is not None else person.key[2:],
        site="default",
        life=life_of(state.partition, person),
        version=version,
        from_=person.published,  # type: ignore[arg-type]
        to=to,  # type: ignore[arg-type]
        at=rfc3339(occasion.at),
        confirmed=confirmed,
        retracts=retracts,
        merged_into=merged_into,
        customer=customer(person),  # type: ignore[arg-type]
        funds="none" if person.money is None else person.money.funds,  # type: ignore[arg-type]
        score=person.score / 1000,
        decision_score=person.decision_score / 1000,
        intent=window.intent(person.score, rules),  # type: ignore[arg-type]
        tier=tier_of(person.score, state.tiers),  # type: ignore[arg-type]
        preference=preference_of(person, book),
        evidence=evidence_of(person, book),
        cause=occasion.cause,
        actionable=occasion.actionable,
        definitions=book.number,
        position=Place(state.partition, occasion.offset),
    )


def entered_topics(change: StageChange, retracted_stage: str | None) -> Iterable[str]:
    """Return the `entered.*` topics a change goes to: a phase entered, one confirmed, one taken back (contract)."""
    topics: dict[str, None] = {}
    if change.to is not None and change.to in ENTERED and (change.to != change.from_ or change.confirmed):
        topics[ENTERED[change.to]] = None
    if retracted_stage in ENTERED:
        topics[ENTERED[retracted_stage]] = None
    return topics
