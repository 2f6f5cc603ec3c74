"""Visits, last place and first touch of a person (R6, D6, D7)."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

from collector.wire.event import Event, session_number
from processors.domain.person import Person
from processors.domain.rules import HOUR_MS, Rules

_MOST_HOURS: Final = 10_000
"""Hours whose day is remembered: more than a year of them."""

VISIT_DAYS: Final = 30
"""Days that "visits in the last 30 days" (D6) looks at: today, which is not over, and the 29 before."""

VISIT_DAYS_KEPT: Final = 31
"""Days with visits that are kept; the latest, so that no day of the last 30 is missing."""


class Days:
    """Turns hours into days of one time zone, remembering each hour's day."""

    def __init__(self, timezone: str) -> None:
        self._zone = ZoneInfo(timezone)
        self._known: dict[int, int] = {}

    def of(self, hour: int) -> int:
        """Return the day (proleptic ordinal, 1 = 0001-01-01) that an hour since the epoch begins in."""
        day = self._known.get(hour)
        if day is None:
            if len(self._known) > _MOST_HOURS:
                self._known.clear()
            day = self._known[hour] = datetime.fromtimestamp(hour * HOUR_MS / 1000, self._zone).toordinal()
        return day


def visit(person: Person, event: Event, at: int, days: Days, rules: Rules) -> None:
    """Count the visit that an interaction at `at` (UTC ms) begins, if it begins one."""
    session, day = event.session_id, days.of(at // HOUR_MS)
    if session is not None:
        number = session_number(session)
        new = number not in person.sessions
        if new:
            person.sessions[number] = day
            if len(person.sessions) > rules.sessions_remembered:
                del person.sessions[next(iter(person.sessions))]
        person.session = session
    else:
        last = person.last_loose
        new = last is None or abs(at - last) >= rules.visit_gap_minutes * 60_000
        person.last_loose = at
    if new:
        person.visit_days[day] = person.visit_days.get(day, 0) + 1
        if len(person.visit_days) > VISIT_DAYS_KEPT:
            del person.visit_days[min(person.visit_days)]


def recent_visits(person: Person, today: int) -> int:
    """Return how many visits began on one of the 30 days that end with day `today` (proleptic ordinal)."""
    return sum(count for day, count in person.visit_days.items() if day > today - VISIT_DAYS)


def touch(person: Person, event: Event) -> None:
    """Keep the earliest channel, by `occurred_at`, and the latest place."""
    context = event.context
    first = person.first_touch
    if first is None or event.occurred_at < first[0]:
        person.first_touch = (event.occurred_at, None if context is None else context.channel)
    if context is not None and context.place is not None:
        person.place = context.place
