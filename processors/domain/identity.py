"""Adding an anonymous person to the user it turned out to be (R8; ADR 0001, items 27 and 33)."""

from __future__ import annotations

from processors.domain.person import Device, Person
from processors.domain.remembered import Row, of_rows, rows
from processors.domain.rules import HOUR_MS, Rules
from processors.domain.visits import VISIT_DAYS_KEPT
from processors.domain.window import add_count, place


def unite(user: Person, anonymous: Person, tau: int, rules: Rules) -> None:
    """Add everything of `anonymous` to `user` at the stream time `tau` of the user's partition (UTC ms).

    What both remember counts once. The user's derived fields have to be refreshed by the caller's evaluation.
    """
    oldest = tau - rules.duplicate_hours * HOUR_MS
    ours = [row for row in rows(user.remembered) if row.tau >= oldest]
    theirs = [row for row in rows(anonymous.remembered) if row.tau >= oldest]
    known = {row.number for row in ours}
    for row in theirs:
        if row.number in known:
            _uncount(anonymous, row)
    united = sorted([*ours, *(row for row in theirs if row.number not in known)], key=lambda row: row.tau)
    user.remembered = of_rows(united[-rules.events_remembered :])
    _add_counts(user.buckets, anonymous.buckets)
    _add_counts(user.dwell, anonymous.dwell)
    _unite_visits(user, anonymous, rules)
    _unite_devices(user, anonymous, rules)
    for milestone, at in anonymous.milestones.items():
        user.milestones[milestone] = min(at, user.milestones.get(milestone, at))
    touches = [touch for touch in (user.first_touch, anonymous.first_touch) if touch is not None]
    user.first_touch = min(touches, key=lambda touch: touch[0], default=None)
    user.activity = max(user.activity, anonymous.activity)
    user.ever = user.ever or anonymous.ever
    user.scored = 0


def _uncount(person: Person, row: Row) -> None:
    for counts, key, count in (
        *((person.buckets, place(row.hour, behaviour), 1) for behaviour in row.behaviours),
        (person.dwell, place(row.hour, row.category), row.dwell_ms),
    ):
        if key in counts:
            counts[key] = max(0, counts[key] - count)


def _add_counts(into: dict[int, int], more: dict[int, int]) -> None:
    for key, count in more.items():
        if count:
            add_count(into, key, count)


def _unite_visits(user: Person, anonymous: Person, rules: Rules) -> None:
    for session, day in anonymous.sessions.items():
        if session in user.sessions and anonymous.visit_days.get(day, 0) > 0:
            anonymous.visit_days[day] -= 1
    sessions = {**anonymous.sessions, **user.sessions}
    user.sessions = dict(list(sessions.items())[-rules.sessions_remembered :])
    for day, count in anonymous.visit_days.items():
        if count:
            user.visit_days[day] = user.visit_days.get(day, 0) + count
    for day in sorted(user.visit_days)[:-VISIT_DAYS_KEPT]:
        del user.visit_days[day]
    if anonymous.last_visit > user.last_visit:
        user.last_visit = anonymous.last_visit
        user.place = anonymous.place or user.place
    else:
        user.place = user.place or anonymous.place
    if anonymous.last_loose is not None:
        user.last_loose = max(anonymous.last_loose, user.last_loose or 0)
    user.session = None


def _unite_devices(user: Person, anonymous: Person, rules: Rules) -> None:
    for name, device in anonymous.devices.items():
        known = user.devices.pop(name, None) or Device(name)
        known.unite(device, rules.seq_gaps)
        user.devices[name] = known
    for name in list(user.devices)[: -rules.devices_remembered]:
        del user.devices[name]
    user.device = None
