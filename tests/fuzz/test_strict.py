"""The fuzzer's own readings: what they refuse, and that they take what is right. One that takes all finds nothing."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from collector.errors import STATUS
from tests.fuzz.judge import judge
from tests.fuzz.mutator import Case
from tests.fuzz.native_reading import UnreadableError, Verdict, read_request
from tests.fuzz.planted import Planted
from tests.fuzz.samples import Sample, samples
from tests.fuzz.strict import NotStrictError, read_line
from tests.fuzz.target import NOW, Outcome, Target

GOOD: dict[str, Any] = {
    "id": "e-1", "type": "page", "occurred_at": NOW - 5, "received_at": NOW, "anonymous_id": "a-1", "source": "web",
    "page": {"url": "/a"}, "properties": {"a": [1]},
}  # fmt: skip
ORDER: dict[str, Any] = {
    **GOOD,
    "type": "purchase",
    "user_id": "42",
    "properties": {"order_id": "17", "amount": "1.50"},
}


WRONG: tuple[dict[str, Any], ...] = (
    {"id": ""}, {"id": "x" * 129}, {"id": "a\x85b"}, {"id": None}, {"type": "view"}, {"anonymous_id": "undefined"},
    {"anonymous_id": "\u200b"}, {"anonymous_id": "0000-00"}, {"type": "identify"}, {"occurred_at": NOW + 1},
    {"occurred_at": 1.5}, {"received_at": NOW - 1}, {"ts": 1}, {"ts": True}, {"seq": -1}, {"seq": 2**53},
    {"source": ""}, {"type": "custom"}, {"name": "x" * 8193},
    {"page": {"url": 1}}, {"page": {"uri": "/"}}, {"element": {"index": -1}},
    {"properties": []}, {"properties": {"a": "\ud800"}}, {"extra": 1}, {"session_id": ""},
)  # fmt: skip


def line(event: dict[str, Any]) -> bytes:
    return json.dumps(event).encode() + b"\n"


@pytest.mark.parametrize("event", [GOOD, ORDER, GOOD | {"context": {"device": "phone", "anything": "new"}}])
def test_a_good_line_is_read(event: dict[str, Any]) -> None:
    assert read_line(line(event), NOW) == event


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_line_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(NotStrictError):
        read_line(line(GOOD | wrong), NOW)


@pytest.mark.parametrize(
    "wrong", [{"order_id": None}, {"order_id": " "}, {"amount": 1.5}, {"amount": "1e3"}, {"matures_at": "2027-01-01"}]
)
def test_a_wrong_order_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(NotStrictError):
        read_line(line(ORDER | {"properties": ORDER["properties"] | wrong}), NOW)


@pytest.mark.parametrize(
    "raw",
    [
        line(GOOD)[:-1], line(GOOD) * 2, b"\xff\n", b"{}\n", b'{"id":"a","id":"b"}\n', b"[]\n",
        line(GOOD).replace(b"[1]", b"NaN"), line(GOOD).replace(b"[1]", b"[" * 99 + b"]" * 99),
    ],
)  # fmt: skip
def test_what_is_no_line_is_refused(raw: bytes) -> None:
    with pytest.raises(NotStrictError):
        read_line(raw, NOW)


@pytest.mark.parametrize(
    ("event", "verdict"),
    [
        ({"type": "page", "anonymous_id": "a"}, Verdict.TAKEN),
        ({"type": "page", "anonymous_id": 7, "more": {"a": 1}}, Verdict.TAKEN),
        ({"type": "page", "user_id": "u", "ts": "2026-11-22T08:15:04+08:00"}, Verdict.TAKEN),
        ({"type": "page", "user_id": "u", "ts": "2026-11-22T08:15:04"}, Verdict.REFUSED),
        ({"type": "page", "user_id": "u", "ts": "1795288859"}, Verdict.REFUSED),
        ({"type": "page", "user_id": True}, Verdict.REFUSED),
        ({"type": "page", "user_id": "NULL"}, Verdict.REFUSED),
        ({"type": "identify", "anonymous_id": "a"}, Verdict.REFUSED),
        ({"type": "custom", "user_id": "u"}, Verdict.REFUSED),
        ({"type": "purchase", "user_id": "u", "properties": {"order_id": 5, "amount": "5.00"}}, Verdict.TAKEN),
        ({"type": "purchase", "user_id": "u", "properties": {"order_id": 5, "amount": 5}}, Verdict.REFUSED),
        ({"type": "page", "user_id": "u", "properties": {"a": "x" * 70_000}}, Verdict.REFUSED),
        ("page", Verdict.REFUSED),
    ],
)
def test_what_must_become_of_a_native_event(event: Any, verdict: Verdict) -> None:
    for body in ([event], {"sent_at": NOW, "events": [event]}):
        assert read_request(json.dumps(body).encode(), NOW, trusted=False) == [verdict]


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"events":1}', b"[1,]", b"[NaN]", b"\xff", b'[{"a":"\n"}]', b"[" * 9999]
)
def test_what_is_no_request(body: bytes) -> None:
    with pytest.raises(UnreadableError):
        read_request(body, NOW, trusted=False)


def judged(case: Case, **outcome: Any) -> list[str]:
    answer: dict[str, Any] = {"status": 200, "headers": {}, "body": b"{}", "lines": [], "rejected": []} | outcome
    return [*judge(case, Outcome(**answer))]


def test_the_judge_sees_what_is_wrong() -> None:
    sample = next(one for one in samples() if one.dialect == "segment" and one.request.method == "POST")
    case = Case(sample.request, "segment", "json")
    assert judged(case, lines=[line(GOOD)]) == []
    assert len(judged(case, lines=[line(GOOD | {"id": ""})])) == 1
    assert judged(case, status=503)
    assert judged(case, status=418)
    assert judged(case, rejected=[b'{"reason":"because"}'])
    planted = case._replace(planted=[Planted("13812345678", "")])
    assert judged(planted, lines=[line(GOOD | {"page": {"url": "/a/13812345678"}})])
    assert judged(planted, lines=[line(GOOD | {"page": {"url": "/a/***"}})]) == []


def test_the_judge_compares_native_results_with_its_own_reading() -> None:
    sample = samples()[0]
    body = json.dumps([{"type": "page", "anonymous_id": "a"}, {"type": "page", "anonymous_id": "null"}]).encode()
    case = Case(sample.request._replace(body=body), "native", "json", native=body)
    told = {"accepted": 1, "duplicate": 0, "rejected": 1, "errors": [{"index": 1}], "duplicates": []}
    rejected = [b'{"reason":"junk_identity"}']
    assert judged(case, body=json.dumps(told).encode(), lines=[line(GOOD)], rejected=rejected) == []
    told["errors"] = [{"index": 0}]
    assert len(judged(case, body=json.dumps(told).encode(), lines=[line(GOOD)], rejected=rejected)) == 2


def test_every_sample_says_the_same_in_our_wrapping_as_in_its_own() -> None:
    """Else mutations inside of it would only ever be refused."""

    async def outcomes(sample: Sample) -> list[tuple[int, list[Any], int]]:
        found = []
        for request in (sample.request, sample.saying(sample.plain)):
            target = Target()
            outcome = await target.send(request)
            await target.app.close()
            events = [json.loads(one) | {"id": ""} for one in outcome.lines]  # some ids are drawn anew
            found.append((outcome.status, events, len(outcome.rejected)))
        return found

    for sample in samples():
        own, ours = asyncio.run(outcomes(sample))
        assert own == ours, sample.request


def test_no_refusal_is_without_a_code() -> None:
    codes = [code for _, code, _ in STATUS.values()]
    assert len(set(codes)) == len(codes)
