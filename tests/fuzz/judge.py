"""What must be true of every answer and of everything that became durable."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from collector.decode.decoded import Reason
from tests.fuzz.declared import declared_statuses
from tests.fuzz.mutator import Case
from tests.fuzz.native_reading import UnreadableError, Verdict, read_request
from tests.fuzz.strict import NotStrictError, masked_fields, read_line
from tests.fuzz.target import NOW, Outcome

REJECTED_BYTES: Final = 32 * 1024
"""More than a rejected event's record can have: 2048 characters of payload, escaped twice, and short texts."""
_REASONS: Final = frozenset(Reason)


def judge(case: Case, outcome: Outcome) -> Iterator[str]:
    """Yield what is wrong about the outcome of a case."""
    if outcome.status >= 500:
        yield f"status {outcome.status}: {outcome.body[:300]!r}"
    if outcome.status not in declared_statuses(case.request):
        yield f"{case.request.method} {case.request.path} was answered with {outcome.status}, which is not declared"
    yield from judge_lines(outcome.lines, NOW)
    yield from _planted(case, outcome)
    for record in outcome.rejected:
        yield from _judge_rejected(record)
    if case.native is not None and case.request.path == "/v1/events":
        yield from _judge_native(case, outcome)


def judge_lines(lines: list[bytes], received_at: int) -> Iterator[str]:
    """Yield what a strict reading refuses of lines that were accepted."""
    for line in lines:
        try:
            read_line(line, received_at)
        except NotStrictError as error:
            yield f"accepted, and a strict reading says: {error}: {line[:400]!r}"


def _planted(case: Case, outcome: Outcome) -> Iterator[str]:
    for planted in case.planted:
        value = planted.value.encode()
        if not any(value in line for line in outcome.lines) and not any(value in one for one in outcome.rejected):
            continue
        for line in outcome.lines:
            if any(planted.value in text for text in masked_fields(json.loads(line))):
                yield f"{planted} passed: {line[:600]!r}"
        for record in outcome.rejected:
            if value in record:
                yield f"{planted} passed into a rejected record: {record[:600]!r}"


def _judge_rejected(record: bytes) -> Iterator[str]:
    try:
        found = json.loads(record.decode("utf-8", "strict"))
    except ValueError as error:
        yield f"a rejected record is no JSON: {error}: {record[:200]!r}"
        return
    if found["reason"] not in _REASONS:
        yield f"rejected for {found['reason']!r}, which is no reason"
    if len(record) > REJECTED_BYTES:
        yield f"a rejected record has {len(record)} bytes"


def _judge_native(case: Case, outcome: Outcome) -> Iterator[str]:
    """Yield where the collector and the second reading do not agree about a native request."""
    try:
        verdicts = read_request(case.native or b"", NOW, trusted=case.trusted)
    except UnreadableError as error:
        refused = outcome.status in {400, 413} or (outcome.status == 200 and bool(outcome.rejected))
        if not refused:
            yield f"taken as a whole, and a strict reading says: {error}"
        return
    if outcome.status != 200:
        yield f"refused with {outcome.status}: {outcome.body[:300]!r}; it can be read: {verdicts[:20]}"
        return
    found: Any = outcome.json
    refused_at = {one["index"]: one for one in found["errors"]}
    told = found["accepted"], found["rejected"], found["accepted"] + found["duplicate"] + found["rejected"]
    if told != (len(outcome.lines), len(outcome.rejected), len(verdicts)):
        yield f"told {told}, made durable {len(outcome.lines)} and {len(outcome.rejected)} of {len(verdicts)}"
    for index, verdict in enumerate(verdicts):
        if verdict is Verdict.TAKEN and index in refused_at:
            yield f"events[{index}] was rejected, and a strict reading takes it: {refused_at[index]}"
        if verdict is Verdict.REFUSED and index not in refused_at:
            yield f"events[{index}] was accepted, and a strict reading refuses it"
