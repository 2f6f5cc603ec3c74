"""What a run has shown: clients' answers, log, states and what a subscriber read, held against each other."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from collector.wire.block import decode_events
from collector.wire.record import Kind, Record
from processors.wire import ENTERED, STAGE_CHANGES, STAGES
from tests.agreement import differences
from tests.chaos.clients import SHARED
from tests.chaos.subscriber import Read, Subscriber
from tests.integration.load import Tally
from tests.integration.production import Inside
from tests.oracle import run

SHOWN = 5
"""Findings of one sort that are named; the others are counted."""
BUGS = frozenset({"partition_failed", "partition_stopped", "partition_ended", "request_failed"})
"""Events in logs that no fault explains."""


@dataclass(slots=True)
class Figures:
    """What is counted; times in seconds."""

    seed: int = 0
    faults: int = 0
    seconds_of_faults: float = 0.0
    requests_answered: int = 0
    requests_without_answer: int = 0
    events_acknowledged: int = 0
    events_lost: int = 0
    """Acknowledged, and not in the log."""
    events_counted_less: int = 0
    """Acknowledged, and not in the state of whom they belong to."""
    events_doubled: int = 0
    """In a state more often than once."""
    copies_in_log: int = 0
    """Repeats of events in the log, which the fold has to drop."""
    records: int = 0
    persons: int = 0
    changes_expected: int = 0
    changes_seen: int = 0
    changes_missing: int = 0
    changes_repeated: int = 0
    stages_repeated: int = 0
    longest_gap_seconds: float = 0.0
    """Between the append of a record and the first appearance of a change that it has caused."""
    median_gap_seconds: float = 0.0
    ended_by_themselves: int = 0
    logged_errors: list[str] = field(default_factory=list)
    """What processes call a fault of their own: each is a finding, though no promise is broken by it."""
    kinds: dict[str, int] = field(default_factory=dict)

    def table(self) -> str:
        """Return them as a table."""
        rows = [
            (name.replace("_", " "), value)
            for name, value in asdict(self).items()
            if name not in {"kinds", "logged_errors"}
        ]
        rows += [("logged errors", len(self.logged_errors))]
        rows += [(f"  {kind}", count) for kind, count in sorted(self.kinds.items())]
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {value:>10}" for name, value in rows)


async def judge(inside: Inside, tally: Tally, subscriber: Subscriber, figures: Figures) -> list[str]:
    """Fill the figures in, and return every finding, the worst first; nothing where all promises were kept."""
    records = await inside.records()
    figures.records = len(records)
    found = list(_log(records, tally, figures))
    read = subscriber.messages
    changes, problems = distinct(read[STAGE_CHANGES], figures)
    found += problems
    found += _gaps_in_versions(changes)
    expected = await asyncio.to_thread(run, records)
    states = await inside.states()
    figures.persons = len(states)
    figures.changes_expected = sum(map(len, expected.changes.values()))
    figures.changes_seen = sum(map(len, changes.values()))
    wanted = {change["id"] for told in expected.changes.values() for change in told}
    figures.changes_missing = len(wanted - {change["id"] for told in changes.values() for change in told})
    found += _some("difference to the oracle", differences(changes, states, expected))
    found += _some("count", await _counts(inside, tally, figures))
    bytes_of = {json.loads(one.value or b"{}")["id"]: one.value for one in read[STAGE_CHANGES]}
    found += _some("latest stage", _latest(read[STAGES], changes, bytes_of, figures))
    found += _some("phase topic", _phases(read, changes, bytes_of))
    _measure_gaps(read[STAGE_CHANGES], records, figures)
    return found


def _some(what: str, findings: Sequence[str] | Iterator[str]) -> list[str]:
    every = list(findings)
    more = [f"{what}: and {len(every) - SHOWN} more"] if len(every) > SHOWN else []
    return [f"{what}: {one}" for one in every[:SHOWN]] + more


def _log(records: Sequence[Record], tally: Tally, figures: Figures) -> Iterator[str]:
    copies = Counter(
        event.id
        for record in records
        if record.draft.kind is Kind.EVENTS
        for event in decode_events(record.draft.value)
    )
    lost = tally.acknowledged - set(copies)
    figures.requests_answered, figures.requests_without_answer = tally.requests, tally.failures
    figures.events_acknowledged, figures.events_lost = len(tally.acknowledged), len(lost)
    figures.copies_in_log = copies.total() - len(copies)
    if lost:
        yield f"{len(lost)} acknowledged events are not in the log, among them {sorted(lost)[:SHOWN]}"
    if strangers := set(copies) - tally.acknowledged:
        yield f"{len(strangers)} events in the log were never acknowledged though clients repeat until they are"


def distinct(messages: Sequence[Read], figures: Figures) -> tuple[dict[str, list[dict[str, Any]]], list[str]]:
    """Return each person's changes in the order of first appearance, and repeats that are no repeats."""
    first: dict[str, bytes] = {}
    changes: dict[str, list[dict[str, Any]]] = defaultdict(list)
    other: list[str] = []
    for one in messages:
        value = one.value or b"{}"
        change = json.loads(value)
        if change["id"] not in first:
            first[change["id"]] = value
            changes[change["person"]].append(change)
            continue
        figures.changes_repeated += 1
        if first[change["id"]] != value:
            other.append(f"{change['id']} came again with other bytes: {first[change['id']]!r}, then {value!r}")
    return dict(changes), _some("repeat", other)


def _gaps_in_versions(changes: Mapping[str, Sequence[dict[str, Any]]]) -> list[str]:
    """Find versions of a life that are missing or came in another order, by what the subscriber alone can see."""
    found = []
    for person, told in changes.items():
        lives: dict[str, list[int]] = defaultdict(list)
        for change in told:
            lives[change["id"].rpartition("/")[0]].append(change["version"])
        found += [
            f"{person}, life {life}: {versions}"
            for life, versions in lives.items()
            if versions != list(range(1, len(versions) + 1))
        ]
    return _some("gap in versions", found)


async def _counts(inside: Inside, tally: Tally, figures: Figures) -> list[str]:
    """Compare what each person did with what its state counts, without the oracle."""
    found = []
    for person, did in tally.counts.items():
        if person[2:].startswith(SHARED):
            continue
        timeline = await inside.query.timeline(person) or {"hours": []}
        counted: Counter[str] = sum((Counter(hour["counts"]) for hour in timeline["hours"]), Counter())
        less, more = did - counted, counted - did
        figures.events_counted_less += less.total()
        figures.events_doubled += more.total()
        if less or more:
            found.append(f"{person}: {less.total()} less and {more.total()} more than it did: -{less} +{more}")
    return found


def _latest(
    messages: Sequence[Read], changes: Mapping[str, Sequence[dict[str, Any]]], bytes_of: Mapping[str, Any], f: Figures
) -> Iterator[str]:
    latest = {one.key.decode(): one.value for one in messages}
    f.stages_repeated = len(messages) - len({(one.key, one.value) for one in messages})
    for person, told in changes.items():
        last = told[-1]
        wanted = None if last["to"] is None else bytes_of[last["id"]]
        if person not in latest or latest[person] != wanted:
            yield f"{person} stands at {latest.get(person, 'nothing')!r}, its last change is {wanted!r}"
    if strangers := latest.keys() - changes.keys():
        yield f"{len(strangers)} persons without a change, among them {sorted(strangers)[:SHOWN]}"


def _phases(
    read: Mapping[str, Sequence[Read]], changes: Mapping[str, Sequence[dict[str, Any]]], bytes_of: Mapping[str, Any]
) -> Iterator[str]:
    """Hold the topics of one phase each against topic `stage-changes`, by the contract's words."""
    wanted: dict[str, set[str]] = {topic: set() for topic in ENTERED.values()}
    to_of = {change["id"]: change["to"] for told in changes.values() for change in told}
    for told in changes.values():
        for change in told:
            stages: set[Any] = {to_of.get(change["retracts"] or "")}
            if change["to"] != change["from"] or change["confirmed"]:
                stages.add(change["to"])
            for stage in stages & ENTERED.keys():
                wanted[ENTERED[stage]].add(change["id"])
    for topic, ids in wanted.items():
        seen = {json.loads(one.value or b"{}")["id"] for one in read.get(topic, ())}
        if seen != ids:
            yield f"{topic} lacks {sorted(ids - seen)[:SHOWN]} and has {sorted(seen - ids)[:SHOWN]} beyond"
        if any(bytes_of.get(json.loads(one.value or b"{}")["id"]) != one.value for one in read.get(topic, ())):
            yield f"{topic} has a message with other bytes than {STAGE_CHANGES}"


def _measure_gaps(messages: Sequence[Read], records: Sequence[Record], figures: Figures) -> None:
    appended = {(record.partition, record.offset): record.append_time for record in records}
    gaps: dict[str, float] = {}
    for one in messages:
        change = json.loads(one.value or b"{}")
        place = change["position"]
        gaps.setdefault(change["id"], (one.at - appended[place["partition"], place["offset"]]) / 1000)
    if gaps:
        figures.longest_gap_seconds = round(max(gaps.values()), 3)
        figures.median_gap_seconds = round(sorted(gaps.values())[len(gaps) // 2], 3)


def bugs_in_logs(directory: Path) -> list[str]:
    """Return what the processes have logged that no fault explains."""
    found = []
    for path in sorted([*directory.glob("worker-*.log"), *directory.glob("collector-*/*.log")]):
        for line in path.read_text("utf-8", errors="replace").splitlines():
            if line.startswith("Traceback"):
                found.append(f"{path.name}: a traceback")
            elif line[:1] == "{" and line[-1:] == "}" and (one := json.loads(line)).get("event") in BUGS:
                found.append(f"{path.name}: {one}")
    return _some("log", found)
