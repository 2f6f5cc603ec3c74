"""Counts the cases of R7 and R8 in a log: who is linked to whom, what follows a link, and what comes twice."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import orjson

from collector.wire.record import Kind, Record
from tests.property.coverage_log import DAY, Changes, ceil_hour, events_of

Course = list[tuple[int, int, str, str | None]]
"""(record time, `occurred_at`, "alone", "identify" or "claim", user) of all about an anonymous id, in its partition."""


@dataclass(slots=True)
class _Link:
    """An anonymous id's link and anonymous person, as R8 lets them come and go."""

    published: bool
    user: str | None = None
    shared: bool = False
    shared_at: int = 0
    alive: bool = False
    forgotten: bool = False
    last: int = 0

    def take(self, time: int, occurred_at: int, what: str, user: str | None) -> Iterator[str]:
        if time >= ceil_hour(self.last + 45 * DAY):
            yield from self._forget()
        self.last = time
        if what == "alone":
            yield from self._alone(occurred_at)
        elif self.user is None:
            self.user = user
            yield "identify_links" if what == "identify" else "first_event_with_both_ids_links"
            yield "link_with_person" if self.alive else "link_without_person"
            yield from ["merged_unpublished"] * (self.alive and not self.published)
            yield from ["link_forgotten_then_linked_anew"] * self.forgotten
            self.alive = False
        elif self.user == user and not self.shared:
            yield "claimed_again_by_same_user"
        else:
            yield "claim_refused" if self.user != user else "first_user_back_refused"
            self.shared, self.shared_at = True, self.shared_at or time

    def _forget(self) -> Iterator[str]:
        if self.user is not None:
            yield "shared_link_forgotten" if self.shared else "link_forgotten"
            self.forgotten = True
        elif self.alive:
            yield "anonymous_person_forgotten"
        self.user, self.shared, self.alive, self.shared_at = None, False, False, 0

    def _alone(self, occurred_at: int) -> Iterator[str]:
        if self.user is not None and not self.shared:
            yield "straggler_forwarded"
            return
        if self.shared and not self.alive:
            yield "fresh_person_after_second_claim"
        if occurred_at < self.shared_at:
            yield "fresh_person_event_from_before_claim"
        self.alive = True


def link_cases(log: Sequence[Record], changes: Changes) -> Iterator[str]:
    """Yield the cases of every anonymous id's course, and of what was forwarded."""
    devices: Counter[str] = Counter()
    linked_at: dict[str, int] = {}
    for anonymous_id, course in _courses(log).items():
        link = _Link(published=f"a:{anonymous_id}" in changes)
        for time, occurred_at, what, user in course:
            yield from link.take(time, occurred_at, what, user)
            if link.user is not None and anonymous_id not in linked_at:
                linked_at[anonymous_id] = time
                devices[link.user] += 1
    yield from ["several_devices"] * sum(number > 1 for number in devices.values())
    for _, event in events_of(log, Kind.FORWARD):
        if event.type == "identify":
            yield "identify_forwarded"
        elif event.occurred_at < linked_at.get(event.anonymous_id or "", 0):
            yield "straggler_from_before_login"


def _courses(log: Sequence[Record]) -> dict[str, Course]:
    courses: dict[str, Course] = defaultdict(list)
    for record in log:
        if record.draft.kind is Kind.CLAIM:
            claim = orjson.loads(record.draft.value)
            courses[claim["anonymous_id"]].append((record.time, record.time, "claim", claim["user_id"]))
        for _, event in events_of([record]):
            if event.anonymous_id is not None and (event.user_id is None or event.type == "identify"):
                what = "identify" if event.type == "identify" else "alone"
                courses[event.anonymous_id].append((record.time, event.occurred_at, what, event.user_id))
    return courses


def repeat_cases(log: Sequence[Record]) -> Iterator[str]:
    """Yield repeats of an event, by person key, and ids that came both from an anonymous person and from a user."""
    first: dict[tuple[str, str], int] = {}
    by_user: dict[str, str] = {}
    anonymous: set[str] = set()
    for record, event in events_of(log):
        key = (f"u:{event.user_id}" if event.user_id else f"a:{event.anonymous_id}", event.id)
        if key not in first:
            first[key] = record.time
        elif record.time - first[key] < DAY:
            yield "duplicate_within_a_day"
        elif event.seq is not None:
            yield "duplicate_numbered_days_later"
        if event.user_id is None:
            anonymous.add(event.id)
        else:
            by_user[event.id] = event.user_id
    yield from ["event_sent_anonymously_and_as_user"] * len({by_user[i] for i in anonymous & by_user.keys()})
