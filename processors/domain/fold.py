"""Folding one event into one person, and evaluating a person: the rules R2 to R7 in the order they apply."""

from __future__ import annotations

from typing import Final, NamedTuple

from collector.wire.event import MONEY_TYPES, Event, dwell_ms, remembered_as
from processors.domain.definitions import Definitions
from processors.domain.due import last_activity
from processors.domain.facts import read_fact
from processors.domain.matching import NUMBERS, Matcher, Names
from processors.domain.money import Change, Ledger, Money, Turn, turn
from processors.domain.person import Device, Person
from processors.domain.remembered import ROW_BYTES, find, forget, forget_before, keep_latest, remember, tau_at
from processors.domain.rules import HOUR_MS, Rules
from processors.domain.stages import Stage, Standing, is_dormant, stage_of
from processors.domain.visits import Days, touch, visit
from processors.domain.window import add_count, expire, rescore

_NO_TURN: Final = Turn()

_UNMOVED_BY_MORE: Final = frozenset({"decision", "holding"})
"""Stages that a higher decision score does not change."""

Outcome = int
REPEATED, SETTLED, OPEN, MONEY = range(4)
"""What `Rulebook.add` did with an event."""


class Evaluation(NamedTuple):
    """What one evaluation found: whether a change is to be published, and what money facts did."""

    stage: str
    confirmed: bool
    publish: bool
    turn: Turn


class Rulebook:
    """One definitions document, ready to fold under."""

    def __init__(self, number: int, definitions: Definitions, names: Names) -> None:
        self.number = number
        self.definitions = definitions
        self.rules: Rules = definitions.rules
        self.names = names
        self.matcher = Matcher(definitions, names)
        self.weights = self.matcher.weights
        self._looks, self._find = self.matcher.looks, self.matcher.meaning
        self.days = Days(definitions.timezone)
        self._enough, self._window = self.rules.strong_above, self.rules.window_hours
        self._most_bytes = self.rules.events_remembered * ROW_BYTES
        self._duplicate_ms = self.rules.duplicate_hours * HOUR_MS
        self._dwell_cap = self.rules.dwell_cap_minutes * 60_000
        self.undelivered = 0
        """Numbers found missing (R7) less those that came late, since whoever folds last set it to 0."""

    def add(self, person: Person, event: Event, time: int, tau: int, hour: int) -> Outcome:  # noqa: C901, PLR0912, PLR0915 - the hot path: one call an event, measured by bench/fold.py
        """Fold one event of a record with time `time` at stream time `tau` (UTC ms, `hour` its hour) into a person.

        The person's derived fields must stand at `hour`.

        Returns:
            `REPEATED`: dropped, nothing changed (R7). `SETTLED`: folded, and the stage can't differ.
            `OPEN`: folded, to be evaluated. `MONEY`: the same, and its fact is to be taken in first.
        """
        # Duplicates first: a dropped event changes nothing.
        anonymous_id, seq = event.anonymous_id, event.seq
        device = person.device
        if anonymous_id is None:
            seq = None
        elif device is None or device.anonymous_id != anonymous_id:
            device = person.devices.get(anonymous_id)
        if seq is not None and device is not None and seq <= device.high and seq not in device.gaps:
            return REPEATED
        number, remembered = remembered_as(event), person.remembered
        known_at = find(remembered, number) if remembered else -1
        if known_at >= 0:
            if tau - tau_at(remembered, known_at) <= self._duplicate_ms:
                return REPEATED
            forget(remembered, number)
        if anonymous_id is not None:
            if device is None or device is not person.device:
                device = self._use_device(person, anonymous_id)
            if seq is not None:
                if seq == device.high + 1:
                    device.high = seq
                else:
                    self.undelivered += device.number(seq, self.rules.seq_gaps)
        # What it counts as, and in which hour.
        kind, occurred_at = event.type, event.occurred_at
        at = occurred_at if occurred_at < time else time  # noqa: FURB136 - min() costs three times as much
        counted = at // HOUR_MS
        known = self._looks[kind]
        if known is None:
            behaviours, weight, category, milestones = self._find(event)
        else:
            look, meanings = known
            try:
                behaviours, weight, category, milestones = meanings[look(event)]
            except (KeyError, AttributeError):  # seen for the first time; no page, or no element
                behaviours, weight, category, milestones = self._find(event)
        in_window = counted > hour - self._window
        ms = 0
        if not in_window:
            behaviours = ()
        elif behaviours:
            buckets, first = person.buckets, counted * NUMBERS
            for behaviour in behaviours:
                key = first + behaviour
                if key in buckets:
                    buckets[key] += 1
                else:
                    add_count(buckets, key, 1)
            person.score += weight
            if counted > person.cut_hour:
                person.decision_score += weight
        money = kind in MONEY_TYPES
        if not money:
            session = event.session_id
            if session is None or session != person.session:
                visit(person, event, at, self.days, self.rules)
            if occurred_at < person.activity or event.context is not None or person.first_touch is None:
                touch(person, event)
            if at > person.last_visit:  # noqa: PLR1730 - max() costs three times as much, here and below
                person.last_visit = at
            if kind == "dwell" and in_window:
                ms = self._dwell(person, event, counted, category)
        if occurred_at > person.activity:  # noqa: PLR1730
            person.activity = occurred_at
        if milestones:
            self._reach(person, milestones, occurred_at)
        remember(remembered, number, tau, counted, behaviours, category, ms)
        if len(remembered) > self._most_bytes:
            keep_latest(remembered, self.rules.events_remembered)
        if time > person.last_record:  # noqa: PLR1730
            person.last_record = time
        if money:
            return MONEY
        if person.settled == hour and (
            not behaviours or person.decision_score <= self._enough or person.stage in _UNMOVED_BY_MORE
        ):
            return SETTLED
        if person.listed and self._is_settled(person, hour):
            person.settled = hour
            return SETTLED
        return OPEN

    def _use_device(self, person: Person, anonymous_id: str) -> Device:
        device = person.devices.pop(anonymous_id, None) or Device(anonymous_id)
        person.devices[anonymous_id] = person.device = device
        if len(person.devices) > self.rules.devices_remembered:
            del person.devices[next(iter(person.devices))]
        return device

    def _dwell(self, person: Person, event: Event, hour: int, category: int) -> int:
        ms = dwell_ms(event)
        if not 0 <= ms <= self._dwell_cap:
            ms = 0 if ms < 0 else self._dwell_cap
        key = hour * NUMBERS + category
        if key in person.dwell:
            person.dwell[key] += ms
        else:
            add_count(person.dwell, key, ms)
        return ms

    def _reach(self, person: Person, milestones: tuple[int, ...], occurred_at: int) -> None:
        for milestone in milestones:
            known = person.milestones.get(milestone)
            if known is None or occurred_at < known:
                person.milestones[milestone] = occurred_at

    def add_fact(self, person: Person, event: Event, time: int, hour: int) -> tuple[str | None, bool]:
        """Take a money event's fact into the ledger; return (order id, whether the bound on orders let it in)."""
        found = read_fact(event)
        if found is None:
            return None, True
        if person.ledger is None:
            person.ledger = Ledger()
        person.ledger.settle(hour, self.rules)
        taken = person.ledger.learn(found, trusted=event.trusted, time=time)
        person.money = None
        return found.order_id, taken

    def refresh(self, person: Person, hour: int) -> None:
        """Bring the derived fields of a person to `hour`: money, cut and scores."""
        money = person.money
        if person.ledger is not None and (money is None or hour >= money.until or hour >= money.kept_until):
            money = person.money = person.ledger.settle(hour, self.rules)
            person.ever_confirmed |= money.ever_confirmed
        cut_hour = -1 if money is None or money.cut is None else money.cut // HOUR_MS
        if person.scored == 0 or cut_hour != person.cut_hour:
            rescore(person, hour, cut_hour, self.weights, self.rules)
        elif person.scored != hour:
            expire(person, hour, self.weights, self.rules)
        oldest = hour * HOUR_MS - self._duplicate_ms
        if person.remembered and tau_at(person.remembered, 0) < oldest:
            forget_before(person.remembered, oldest)

    def _is_settled(self, person: Person, hour: int) -> bool:
        """Return whether an event that moved no money can't have changed the stage: the quick check of the hot path."""
        stage, money = person.stage, person.money
        if person.scored != hour or stage != person.published or money is not person.compared:
            return False
        funds = "none" if money is None else money.funds
        if stage == "holding":
            return funds == "held"
        if stage == "decision":
            return funds != "held" and person.decision_score >= self.rules.decision_keeps_at
        if person.decision_score > self.rules.strong_above or is_dormant(
            person.ever, person.activity, hour, self.rules
        ):
            return False
        return funds == ("none" if stage == "prospect" else "redeemed" if stage == "post_redemption" else "")

    def evaluate(self, person: Person, hour: int, *, deciding: bool = False) -> Evaluation:
        """Evaluate the person at `hour` (R5) and remember the stage; `deciding`: at a transfer from a decision (R8)."""
        self.refresh(person, hour)
        money = person.money
        turned = _NO_TURN
        if person.ledger is not None and money is not None and money is not person.compared:
            turned = turn(person.ledger, money, hour, self.rules)
            person.compared = money
        funds = "none" if money is None else money.funds
        stage = stage_of(
            Standing(
                funds=funds,
                decision_score=person.decision_score,
                deciding=deciding or person.stage == Stage.DECISION,
                ever=person.ever or funds == "redeemed",
                activity=last_activity(person),
                hour=hour,
                rules=self.rules,
            )
        ).value
        person.stage, person.settled = stage, 0
        person.ever = person.ever or stage != Stage.PROSPECT
        confirmed = _confirmed(stage, money)
        publish = stage != person.published or confirmed != person.published_confirmed
        return Evaluation(stage, confirmed, publish, turned)


def _confirmed(stage: str, money: Money | None) -> bool:
    if money is None:
        return True
    if stage == Stage.HOLDING:
        return money.open_confirmed
    return stage != Stage.POST_REDEMPTION or money.closings_confirmed


def note_change(person: Person, order_id: str | None, event: Event | None, evaluation: Evaluation) -> None:
    """Remember a published change as the first one of the fact and of the maturity closings that caused it."""
    carried = evaluation.stage != person.published or evaluation.confirmed
    change = Change(person.version, evaluation.stage if carried else "")
    for order in evaluation.turn.appeared.values():
        if order.maturity_change is None:
            order.maturity_change = change
    if event is None or order_id is None or person.ledger is None:
        return
    found, known = read_fact(event), person.ledger.orders.get(order_id)
    if known is None or found is None:
        return
    fact = known.purchase if found.kind == "purchase" else known.redeems.get(found.redemption_id)
    if fact is not None and fact.stood and fact.change is None:
        fact.change = change


def customer(person: Person) -> str:
    """Return `returning` when a purchase stands or ever stood confirmed, else `new` (R4)."""
    standing = person.money is not None and person.money.purchased
    return "returning" if standing or person.ever_confirmed else "new"
