"""The fold of one partition's log: a pure function of its state and its records (architecture, section 1)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from typing import Final

from collector.wire.block import encode_event
from collector.wire.event import Event
from collector.wire.partition import partition_of
from collector.wire.record import Draft, Kind, Record
from processors.domain.due import forgotten_at, next_due
from processors.domain.fold import MONEY, REPEATED, SETTLED, Evaluation, note_change
from processors.domain.identity import unite
from processors.domain.person import CHANGES_KEPT, FAR_FUTURE, Link, Person, Told, link_key
from processors.domain.rules import DAY_MS, HOUR_MS, ceil_hour
from processors.domain.window import forget_before
from processors.engine.changes import Occasion, change_id, entered_topics, form_change
from processors.engine.codec import decode_transfer, encode_transfer
from processors.engine.outputs import EVENTS, SET_ASIDE, Output
from processors.engine.state import PartitionState, Position
from processors.wire import STAGE_CHANGES, STAGES, Cause, StageChange, change_headers, encode_change

SET_ASIDE_BYTES: Final = 512 * 1024
"""So much of a record that can't be read is kept: a whole one need not fit into a topic again."""

_TIMER: Final = Cause("timer")
_DEFINITIONS: Final = Cause("definitions")


class PartitionFold:
    """Folds records of one partition over persons that were loaded before (`keys_of` says which a record needs).

    What changed is left in `people`, `links` (None: gone), `listings` and `outputs` for a unit of work to commit.
    """

    def __init__(self, state: PartitionState, deployment: str) -> None:
        self.state = state
        self.book = state.rulebook()
        self.people: dict[str, Person | None] = {}
        self.links: dict[str, Link | None] = {}
        self.touched: set[str] = set()
        self.listings: dict[tuple[int, str], bool] = {}
        """(hour, key): True to list it, False to strike it off."""
        self.outputs: list[Output] = []
        self.counts: dict[str, int] = {"folded": 0, "repeated": 0, "beyond": 0, "over_bound": 0, "unreadable": 0}
        self._changes: dict[str, int] = {}
        self._deployment = deployment
        self._due: list[tuple[int, str]] = []
        self._derived = 0
        self._hour = 0
        self._folded = self._repeated = self._sent_on = self._unnumbered = 0
        self._forward: tuple[str, list[bytes]] | None = None

    def start_unit(self) -> None:
        """Forget everything loaded, listed and formed: what it stood for is committed."""
        self.people.clear()
        self.links.clear()
        self.touched.clear()
        self.listings.clear()
        self.outputs.clear()
        self._due.clear()

    def take_counts(self) -> dict[str, int]:
        """Return how many events were folded, repeated and so on since the last call, and count anew."""
        counts, self.counts = self.counts, dict.fromkeys(self.counts, 0)
        return counts

    def take_changes(self) -> dict[str, int]:
        """Return how many changes of stage were formed since the last call, by the stage entered, and count anew."""
        changes, self._changes = self._changes, {}
        return changes

    def load_due(self, due: Iterable[tuple[int, str]]) -> None:
        """Take over (hour, key) pairs that the store has listed; their persons and links must be loaded."""
        self._due.extend(due)
        heapify(self._due)

    def fire(self, hour: int, record: Record, last: tuple[int, str] | None = None) -> None:
        """Fire everything due at or before `hour`, in the order (due hour, person), before `record` is folded (R2).

        `last` is where a slice ends: what stands behind it waits, as others that are not loaded may stand before that.
        """
        due = self._due
        while due and due[0][0] <= hour and (last is None or due[0] <= last):
            at, key = heappop(due)
            self.listings[at, key] = False
            self.state.tau = max(self.state.tau, at * HOUR_MS)
            if key[0] == "l":
                self._link_timer(key, at)
            else:
                self._person_timer(key, at, record)

    def fold(self, record: Record, events: list[Event] | None) -> None:
        """Fold one record; `events` are its block's, already decoded. Timers must have fired before."""
        self.state.tau = max(self.state.tau, record.time)
        self._hour = self.state.tau // HOUR_MS
        self._derived = 0
        self._mark_day(record)
        draft = record.draft
        if draft.source is None or self._is_news(draft.source):
            match draft.kind:
                case Kind.EVENTS:
                    self.state.live = not draft.imported
                    self._events(record, events or [])
                case Kind.FORWARD:
                    self._forwarded(record, events or [])
                case Kind.CLAIM:
                    body = json.loads(draft.value)
                    self._claim(body["anonymous_id"], body["user_id"], record)
                case Kind.TRANSFER:
                    self._transfer(record)
                case Kind.LIVE:
                    self.state.live = True
                case Kind.PUBLISH:
                    self._publish_request(record)
                case Kind.TIERS:
                    body = json.loads(draft.value)
                    self.state.tiers = (body["top"], body["next"])
        self.state.position = Position(record.offset + 1)
        self.state.appended = record.append_time

    def _mark_day(self, record: Record) -> None:
        tallies, day = self.state.tallies, self.state.tau // DAY_MS
        if not tallies.marks or tallies.marks[-1].day < day:
            tallies.mark(day, record.offset)

    def _is_news(self, source: str) -> bool:
        place, index = source.split("/")
        partition, offset = place.split("-")
        news = (int(offset), int(index))
        if news <= self.state.heard.get(int(partition), (-1, -1)):
            return False
        self.state.heard[int(partition)] = news
        return True

    def _events(self, record: Record, events: list[Event]) -> None:
        links, start, source = self.links, 0, events[0].source if events else ""
        for index, event in enumerate(events):
            if event.source != source:
                self._tally(source, index - start, record)
                start, source = index, event.source
            anonymous_id = event.anonymous_id
            if event.user_id is None:
                link = links.get(f"l:{anonymous_id}") if links else None
                if link is not None:
                    self._touch_link(link, record)
                if link is None or link.shared:
                    self._event(f"a:{anonymous_id}", event, index, record)
                else:
                    self._send_on(link.user_id, event, record)
            elif event.type == "identify" and anonymous_id is not None:
                self._flush_forward(record)
                self._claim(anonymous_id, event.user_id, record)
                self._send_on(event.user_id, event, record)
            else:
                person = self._event(f"u:{event.user_id}", event, index, record)
                if person is not None and anonymous_id is not None:
                    self._ask_for(person, anonymous_id, event.user_id, record)
        self._tally(source, len(events) - start, record)
        self._flush_forward(record)

    def _forwarded(self, record: Record, events: list[Event]) -> None:
        key, start, source = record.draft.person or "", 0, events[0].source if events else ""
        for index, event in enumerate(events):
            if event.source != source:
                self._tally(source, index - start, record)
                start, source = index, event.source
            self._event(key, event, index, record)
        self._tally(source, len(events) - start, record)

    def _tally(self, source: str, events: int, record: Record) -> None:
        """Count the last events, all of one source, and what became of each; what ended nowhere shows in the sums."""
        if not events:
            return
        tally, counts = self.state.tallies.of(source), self.counts
        if record.draft.source is None:
            tally.read += events
        else:
            tally.sent_here += events
        tally.folded += self._folded
        tally.repeated += self._repeated
        tally.sent_on += self._sent_on
        tally.unnumbered += self._unnumbered
        tally.undelivered += self.book.undelivered
        counts["folded"] += self._folded
        counts["repeated"] += self._repeated
        self._folded = self._repeated = self._sent_on = self._unnumbered = self.book.undelivered = 0

    def _event(self, key: str, event: Event, index: int, record: Record) -> Person | None:
        """Fold an event into the person `key`; return the person, or None where the event is a repeat."""
        book, tau, hour = self.book, self.state.tau, self._hour
        event.occurred_at = min(event.occurred_at, record.time)  # a clock was ahead (ADR 0001, item 3)
        person = self.people.get(key)
        if person is None:
            person = self._born(key, record.offset, index)
        if person.scored != hour:
            book.refresh(person, hour)
            self.touched.add(key)  # also where a repeat follows: else what is stored would tell how commits were cut
        outcome = book.add(person, event, record.time, tau, hour)
        if outcome == REPEATED:
            self._repeated += 1
            return None
        self._folded += 1
        self.touched.add(key)
        if event.seq is None:
            self._unnumbered += 1
            if tau - event.occurred_at > DAY_MS:
                self.counts["beyond"] += 1
        if outcome != SETTLED:
            self._unsettled(person, event, record, hour, money=outcome == MONEY and key[0] == "u")
        return person

    def _unsettled(self, person: Person, event: Event, record: Record, hour: int, *, money: bool) -> None:
        order_id = None
        if money:
            order_id, taken = self.book.add_fact(person, event, record.time, hour)
            self.counts["over_bound"] += not taken
        cause = Cause("event", event.id, event.trusted, order_id)
        occasion = Occasion(record.time, record.offset, cause, actionable=not record.draft.imported)
        self._evaluate(person, occasion, event=event)

    def _born(self, key: str, offset: int, index: int) -> Person:
        person = self.people[key] = Person(key, offset, index)
        self._count_stage(None, person.stage)
        return person

    def _ask_for(self, person: Person, anonymous_id: str, user_id: str, record: Record) -> None:
        device = person.devices[anonymous_id]
        if self.state.tau - device.claimed < DAY_MS:
            return
        device.claimed = self.state.tau
        value = json.dumps({"anonymous_id": anonymous_id, "user_id": user_id}, ensure_ascii=False).encode()
        self._derive(Kind.CLAIM, f"a:{anonymous_id}", value, record)

    def _claim(self, anonymous_id: str, user_id: str, record: Record) -> None:
        key = link_key(anonymous_id)
        link = self.links.get(key)
        if link is not None:
            link.shared = link.shared or link.user_id != user_id
            self._touch_link(link, record)
            return
        link = self.links[key] = Link(key, user_id, shared=False, last_record=record.time)
        self._touch_link(link, record)
        person = self.people.get(f"a:{anonymous_id}")
        if person is None:
            return
        hour = self.state.tau // HOUR_MS
        self.book.refresh(person, hour)
        value = encode_transfer(anonymous_id, user_id, person, self._oldest_remembered())
        self._derive(Kind.TRANSFER, f"u:{user_id}", value, record)
        occasion = Occasion(record.time, record.offset, Cause("transfer"), actionable=not record.draft.imported)
        self._end(person, occasion, merged_into=f"u:{user_id}")

    def _touch_link(self, link: Link, record: Record) -> None:
        self.touched.add(link.key)
        link.last_record = max(link.last_record, record.time)
        self._list(link, ceil_hour(link.last_record + self.book.rules.forgotten_after_days * DAY_MS))

    def _send_on(self, user_id: str, event: Event, record: Record) -> None:
        self._sent_on += 1
        if self._forward is None or self._forward[0] != user_id:
            self._flush_forward(record)
            self._forward = (user_id, [])
        self._forward[1].append(encode_event(event))

    def _flush_forward(self, record: Record) -> None:
        if self._forward is None:
            return
        (user_id, lines), self._forward = self._forward, None
        key = f"u:{user_id}"
        self._derive(Kind.FORWARD, key, b"\n".join(lines) + b"\n", record, count=len(lines), person=key)

    def _transfer(self, record: Record) -> None:
        body, anonymous = decode_transfer(record.draft.value)
        key = f"u:{body.user_id}"
        person = self.people.get(key) or self._born(key, record.offset, 0)
        self.touched.add(key)
        unite(person, anonymous, self.state.tau, self.book.rules)
        person.last_record = max(person.last_record, anonymous.last_record, record.time)
        occasion = Occasion(record.time, record.offset, Cause("transfer"), actionable=not record.draft.imported)
        self._evaluate(person, occasion, deciding=body.stage == "decision", silent_stage=body.published)

    def _link_timer(self, key: str, at: int) -> None:
        link = self.links.get(key)
        if link is None or link.listed != at:
            return
        self.touched.add(key)
        link.listed = 0
        due = ceil_hour(link.last_record + self.book.rules.forgotten_after_days * DAY_MS)
        if due <= at:
            self.links[key] = None
        else:
            self._list(link, due)

    def _person_timer(self, key: str, at: int, record: Record) -> None:
        person = self.people.get(key)
        if person is None or person.listed != at:
            return
        self.touched.add(key)
        person.listed = 0
        hour = self.state.tau // HOUR_MS
        occasion = Occasion(at * HOUR_MS, record.offset, _TIMER, actionable=not record.draft.imported)
        self.book.refresh(person, hour)
        if forgotten_at(person, self.book.rules) <= at:  # not τ's hour: it may be listed for less than what is due
            self._end(person, occasion)
        else:
            self._evaluate(person, occasion)

    def _list(self, one: Person | Link, due: int) -> None:
        if due != FAR_FUTURE and (one.listed == 0 or due < one.listed):
            one.listed = due
            self.listings[due, one.key] = True
            heappush(self._due, (due, one.key))

    def _publish_request(self, record: Record) -> None:
        body = json.loads(record.draft.value)
        kind, value = Kind.TIERS, body.get("tiers")
        if "definitions" in body:
            self.state.published += 1
            kind, value = Kind.DEFINITIONS, {"number": self.state.published, "toml": body["definitions"]}
        encoded = json.dumps(value, ensure_ascii=False).encode()
        for partition in range(self.state.partitions):
            self._derive(kind, None, encoded, record, partition=partition)

    def begin_definitions(self, record: Record) -> bool:
        """Put the document of a definitions record into force; return False where it is a repeat or not valid."""
        self.state.tau = max(self.state.tau, record.time)
        if record.draft.source is not None and not self._is_news(record.draft.source):
            return False
        body = json.loads(record.draft.value)
        floor = self.state.tau // HOUR_MS - self.book.rules.window_hours + 1
        number = int(body["number"])
        self.state.published = max(self.state.published, number)
        taken = self.state.take(number, str(body["toml"]))
        if taken:
            self.book = self.state.rulebook()
            self.state.sweep_floor = floor
        return taken

    def reevaluate(self, key: str, record: Record) -> None:
        """Evaluate one person anew under the definitions that `record` put into force."""
        person = self.people.get(key)
        if person is None:
            return
        self.touched.add(key)
        forget_before(person, self.state.sweep_floor)
        person.scored = 0
        person.money = None
        occasion = Occasion(record.time, record.offset, _DEFINITIONS, actionable=False)
        self._evaluate(person, occasion)

    def _evaluate(
        self,
        person: Person,
        occasion: Occasion,
        *,
        event: Event | None = None,
        deciding: bool = False,
        silent_stage: str | None = None,
    ) -> None:
        hour = self.state.tau // HOUR_MS
        before = person.stage
        found = self.book.evaluate(person, hour, deciding=deciding)
        if found.stage != before:
            self._count_stage(before, found.stage)
        if found.publish:
            self._publish(person, occasion, found, event, silent=found.stage == silent_stage)
        self._list(person, next_due(person, hour, self.book.weights, self.book.rules))

    def _publish(
        self, person: Person, occasion: Occasion, found: Evaluation, event: Event | None, *, silent: bool
    ) -> None:
        turn = found.turn
        cause = occasion.cause
        if cause.kind == "timer" and turn.order_id is not None:
            cause = Cause("timer", order_id=turn.order_id)
        retracted = turn.retracted
        told = Occasion(occasion.at, occasion.offset, cause, occasion.actionable and not silent)
        retracts = None if retracted is None else change_id(self.state.partition, person, retracted.version)
        change = form_change(
            person, self.book, self.state, told, to=found.stage, confirmed=found.confirmed, retracts=retracts
        )
        person.version = change.version
        note_change(person, cause.order_id, event, found)
        self._tell(person, change, occasion.at, None if retracted is None else retracted.stage)
        person.published, person.published_confirmed = found.stage, found.confirmed

    def _tell(self, person: Person, change: StageChange, at: int, retracted_stage: str | None) -> None:
        new = change.to or "gone"
        self._changes[new] = self._changes.get(new, 0) + 1
        person.changes = [
            *person.changes[1 - CHANGES_KEPT :],
            Told(change.version, at, change.from_, new, change.confirmed),
        ]
        value = encode_change(change)
        headers = tuple(change_headers(change, self._deployment))
        key = person.key.encode()
        partition = self.state.partition
        for topic in (STAGE_CHANGES, *entered_topics(change, retracted_stage)):
            self._send(Output(topic, partition, key, headers, value))
        self._send(Output(STAGES, partition, key, headers, value if change.to is not None else None))

    def _end(self, person: Person, occasion: Occasion, *, merged_into: str | None = None) -> None:
        """End a life: merged or forgotten; only who has a published change is told of (ADR 0001, item 23)."""
        if person.version:
            change = form_change(
                person, self.book, self.state, occasion, to=None, confirmed=True, merged_into=merged_into
            )
            self._tell(person, change, occasion.at, None)
        self._count_stage(person.stage, None)
        self.touched.add(person.key)
        self.people[person.key] = None

    def _count_stage(self, old: str | None, new: str | None) -> None:
        stages = self.state.stages
        if old is not None:
            stages[old] -= 1
        if new is not None:
            stages[new] = stages.get(new, 0) + 1

    def _derive(
        self,
        kind: Kind,
        key: str | None,
        value: bytes,
        record: Record,
        *,
        partition: int | None = None,
        count: int = 0,
        person: str | None = None,
    ) -> None:
        """Send a record into `events`, with the clock of the record that caused it (architecture, section 4)."""
        source = f"{self.state.partition}-{record.offset}/{self._derived}"
        self._derived += 1
        draft = Draft(kind, record.draft.clock, value, count, record.draft.imported, source, person)
        if partition is None:
            partition = partition_of(key or "", self.state.partitions)
        self._send(Output(EVENTS, partition, None, tuple(draft.headers()), value))

    def set_aside(self, record_offset: int, reason: str, value: bytes, events: int = 0, append_time: int = 0) -> None:
        """Note a record that can't be read, with its bytes and the events it says are in it, and go on after it."""
        self.counts["unreadable"] += 1
        self.state.tallies.set_aside(events, value)
        headers = (
            ("reason", reason[:500].encode()),
            ("offset", b"%d" % record_offset),
            ("bytes", b"%d" % len(value)),
        )
        self._send(Output(SET_ASIDE, self.state.partition, None, headers, value[:SET_ASIDE_BYTES]))
        self.state.position, self.state.appended = Position(record_offset + 1), append_time

    def _send(self, output: Output) -> None:
        self.outputs.append(output)

    def _oldest_remembered(self) -> int:
        return self.state.tau - self.book.rules.duplicate_hours * HOUR_MS
