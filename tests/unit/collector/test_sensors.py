"""Sensors Data's dialect: the forms, the places of ids, and the answers that its SDKs survive."""

from __future__ import annotations

import base64
import gzip
import json
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.answer import Results
from collector.decode.decoded import Decoded, Reason, RequestFacts
from collector.decode.dialect import Post
from collector.decode.sensors import SENSORS
from collector.dialects.sensors import EVENT_PATHS, INSTEAD
from collector.errors import RequestError, TooLargeBodyError, UnreadableBodyError
from collector.settings import Limits
from collector.wire.event import Event, Page

NOW = 1_795_288_859_000
WEB = RequestFacts("web", trusted=False, received_at=NOW)
LIMITS = Limits()


def packed(value: Any, *, zipped: bool = False) -> str:
    plain = json.dumps(value).encode()
    return base64.b64encode(gzip.compress(plain) if zipped else plain).decode()


def post(body: bytes = b"", query: bytes = b"project=default", path: str = "/sa.gif", **headers: bytes) -> Post:
    return Post(path, query, {name.replace("_", "-").encode(): value for name, value in headers.items()}, body)


def decode(*records: Any) -> Decoded:
    body = urlencode({"data_list": packed(records, zipped=True), "gzip": 1}).encode()
    return SENSORS.decode(SENSORS.open(post(body), LIMITS), WEB, LIMITS)


def one(**fields: Any) -> Event:
    record = {"type": "track", "event": "viewed", "distinct_id": "d-1", "time": NOW, "properties": {}, **fields}
    decoded = decode(record)
    assert decoded.rejections == []
    ((_, event),) = decoded.events
    return event


def properties(event: Event) -> Any:
    return msgspec.json.decode(event.properties)


RECORD = {"type": "track", "event": "viewed"}
DATA = packed(RECORD)


@pytest.mark.parametrize(
    ("body", "query"),
    [
        (b"", f"project=default&data={quote(DATA)}&ext=crc%3D1"),
        (b"", f"data={DATA.rstrip('=')}&project=default"),
        (f"data={quote(DATA)}&ext=crc%3D1".encode(), "project=default"),
        (f"data_list={quote(packed([RECORD], zipped=True))}&gzip=1".encode(), "project=default"),
        (f"gzip=0&data_list={quote(packed([RECORD]))}".encode(), "project=default"),
        (json.dumps([RECORD]).encode(), "project=default"),
        (b"data=" + quote(json.dumps(RECORD)).encode(), "project=default"),
    ],
)
def test_every_form_in_which_records_come(body: bytes, query: str) -> None:
    envelope = SENSORS.open(post(body, query.encode()), LIMITS)
    assert [json.loads(record) for record in envelope.records] == [RECORD]
    assert envelope.key == b"default"


@pytest.mark.parametrize(
    ("query", "key"),
    [
        (b"project=production", b"production"),
        (b"project=production&token=abc", b"abc"),
        (b"token=&project=p%201", b"p 1"),
        (b"", b"default"),
    ],
)
def test_the_key_is_the_token_else_the_project(query: bytes, key: bytes) -> None:
    assert SENSORS.open(post(b"data=" + DATA.encode(), query), LIMITS).key == key


@pytest.mark.parametrize("body", [b"", b"ext=crc", b"data=", b"data=%21", b"data=e30", b"data_list=MQ==", b"[{"])
def test_what_cannot_be_read_is_refused(body: bytes) -> None:
    try:
        envelope = SENSORS.open(post(body), LIMITS)
    except UnreadableBodyError:
        return
    assert body == b"data=e30"  # an object that says nothing: a rejected record
    assert [found.reason for found in SENSORS.decode(envelope, WEB, LIMITS).rejections] == [Reason.MALFORMED]


def test_a_bomb_stays_small() -> None:
    bomb = base64.b64encode(gzip.compress(b"[" + b" " * 1_000_000))
    with pytest.raises(TooLargeBodyError):
        SENSORS.open(post(b"data_list=" + quote(bomb).encode()), Limits(decompressed_bytes=100_000))


def test_a_dry_run_keeps_nothing_on_the_debug_path_alone() -> None:
    body = b"data=" + DATA.encode()
    assert SENSORS.open(post(body, path="/debug", dry_run=b"true"), LIMITS).records == []
    assert len(SENSORS.open(post(body, path="/debug", dry_run=b"false"), LIMITS).records) == 1
    assert len(SENSORS.open(post(body, path="/sa", dry_run=b"true"), LIMITS).records) == 1
    with pytest.raises(UnreadableBodyError):
        SENSORS.open(post(b"data=%21", path="/debug", dry_run=b"true"), LIMITS)


@pytest.mark.parametrize(
    ("fields", "user_id", "anonymous_id"),
    [
        ({}, None, "d-1"),
        ({"properties": {"$is_login_id": True}}, "d-1", None),
        ({"properties": {"$is_login_id": False}}, None, "d-1"),
        ({"distinct_id": "u-1", "login_id": "u-1", "anonymous_id": "a-1"}, "u-1", "a-1"),
        ({"login_id": "", "anonymous_id": "a-1"}, None, "a-1"),
        ({"identities": {"$identity_login_id": "u-1", "$identity_cookie_id": "c-1"}}, "u-1", "c-1"),
        ({"identities": {"$identity_anonymous_id": "a-1", "$identity_cookie_id": "c-1"}}, None, "a-1"),
        ({"type": "track_signup", "distinct_id": "u-1", "original_id": "a-1"}, "u-1", "a-1"),
        ({"type": "track_signup", "distinct_id": "u-1", "original_id": "a-0", "anonymous_id": "a-1"}, "u-1", "a-0"),
        ({"distinct_id": 42, "properties": {"$is_login_id": True}}, "42", None),
    ],
)
def test_whose_record_it_is(fields: dict[str, Any], user_id: str | None, anonymous_id: str | None) -> None:
    event = one(**fields)
    assert (event.user_id, event.anonymous_id) == (user_id, anonymous_id)


def test_ids_beside_the_two_are_kept_and_the_two_are_not_kept_twice() -> None:
    identities = {"$identity_login_id": "u-1", "$identity_anonymous_id": "a-1", "$identity_mobile": "m-1"}
    event = one(distinct_id="u-1", login_id="u-1", anonymous_id="a-1", identities=identities)
    assert properties(event) == {"identities": {"$identity_mobile": "m-1"}}
    other = one(type="track_signup", distinct_id="u-1", original_id="a-0", anonymous_id="a-1")
    assert properties(other) == {"anonymous_id": "a-1"}


def test_logins_and_bindings_identify_where_there_is_a_user() -> None:
    login = {"login_id": "u-1", "anonymous_id": "a-1"}
    assert one(type="track_signup", event="$SignUp", **login).type == "identify"
    bound = one(type="track_id_bind", event="$BindID", **login)
    assert (bound.type, properties(bound)) == ("identify", {"distinct_id": "d-1", "type": "track_id_bind"})
    nobody = one(type="track_id_bind", event="$BindID")
    assert (nobody.type, nobody.name) == ("custom", "$BindID")


def test_a_drawn_number_is_an_id_only_with_person_and_time() -> None:
    number = {"_track_id": 123456789}
    assert one(**number).id == one(**number, _flush_time=NOW).id
    others: list[dict[str, Any]] = [
        {"distinct_id": "d-2"},
        {"time": NOW - 1},
        {"event": "other"},
        {"type": "profile_set"},
    ]
    assert len({one(**number).id, *(one(**number, **other).id for other in others)}) == 5


def test_two_alike_of_a_python_program_are_two() -> None:
    record = {"type": "track", "event": "viewed", "distinct_id": "d-1", "time": NOW}
    assert len({event.id for _, event in decode(record, record).events}) == 2


def test_flush_time_is_when_it_was_sent() -> None:
    assert one(time=NOW + 3_599_000, _flush_time=NOW + 3_600_000).occurred_at == NOW - 1000
    assert one(time=NOW - 5, _flush_time="soon").occurred_at == NOW - 5


@pytest.mark.parametrize(
    ("seconds", "kept"),
    [
        (7.806, {"ms": 7806}),
        (3, {"ms": 3000}),
        (0, {"ms": 0}),
        (-1, {"event_duration": -1}),
        ("7", {"event_duration": "7"}),
        (True, {"event_duration": True}),
        (1e300, {"event_duration": 1e300}),
    ],
)
def test_seconds_become_milliseconds(seconds: object, kept: dict[str, Any]) -> None:
    event = one(event="$WebPageLeave", properties={"event_duration": seconds})
    assert event.type == "dwell"
    assert properties(event) == {**kept, "event": "$WebPageLeave"}


def test_the_callers_ms_is_kept_beside() -> None:
    event = one(event="$WebStay", properties={"event_duration": 1, "ms": "mine"})
    assert properties(event) == {"ms": 1000, "$ms": "mine", "event": "$WebStay"}


def test_words_for_unknown_are_no_address() -> None:
    event = one(event="$pageview", properties={"$url": "https://a.example/p", "$referrer": "取值异常", "$title": ""})
    assert event.page == Page("https://a.example/p", "/p")
    assert properties(event) == {"$referrer": "取值异常"}


def test_the_callers_properties_keep_their_names() -> None:
    event = one(
        properties={"lib": "mine", "$lib": "js"}, lib={"$lib": "js", "$lib_method": "code"}, token="t", project="p"
    )
    assert properties(event) == {"lib": "mine", "$lib": "js", "$$lib": {"$lib_method": "code"}, "project": "p"}
    assert properties(one(project="default")) == {}


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"event": "viewed", "distinct_id": "d-1"}, Reason.MALFORMED),
        ({"type": "track", "distinct_id": "d-1"}, Reason.MALFORMED),
        ({"type": "track", "event": "x", "distinct_id": {}}, Reason.MALFORMED),
        ({"type": "track", "event": "x", "distinct_id": "undefined"}, Reason.JUNK_IDENTITY),
        ({"type": "track", "event": "x", "distinct_id": "d-1", "time": "yesterday"}, Reason.BAD_TIME),
        ({"type": "item_set", "item_type": "fund", "item_id": "1"}, Reason.MISSING_IDENTITY),
        ([], Reason.MALFORMED),
    ],
)
def test_what_cannot_be_an_event_costs_only_itself(record: Any, reason: Reason) -> None:
    decoded = decode(record, {"type": "track", "event": "x", "distinct_id": "d-1"})
    assert [found.reason for found in decoded.rejections] == [reason]
    assert len(decoded.events) == 1


def test_what_is_broken_for_good_is_not_refused_and_the_rest_is() -> None:
    assert {*INSTEAD} == {400, 413, 415}
    assert {*INSTEAD.values()} == {HTTPStatus.OK}
    assert [path.name for path in EVENT_PATHS if path.instead] == ["sensors", "sensors_pixel"]


def test_debug_says_what_was_rejected() -> None:
    (debug,) = (path for path in EVENT_PATHS if path.template == "/debug")
    assert debug.answer(Results(1, 0, 0, [], [])).body == b"{}"
    refused = debug.answer(Results(0, 0, 1, [], []))
    assert (refused.status, json.loads(refused.body)["rejected"]) == (400, 1)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=9,
)
NAMES = st.sampled_from([
    "type", "event", "distinct_id", "anonymous_id", "login_id", "original_id", "identities", "time", "_track_id",
    "_flush_time", "lib", "properties", "project", "token",
])  # fmt: skip
PROPERTIES = st.dictionaries(
    st.sampled_from(["$url", "$title", "$element_type", "$element_position", "event_duration", "$is_login_id", "ms"]),
    JSON,
)
RECORDS = st.dictionaries(NAMES, JSON, max_size=8) | st.builds(
    lambda event, given, fields: {**fields, "type": "track", "event": event, "distinct_id": "d", "properties": given},
    st.sampled_from(["$pageview", "$WebClick", "$WebStay", "viewed"]),
    PROPERTIES,
    st.dictionaries(NAMES, JSON, max_size=4),
)


@given(st.lists(RECORDS | JSON, max_size=5))
def test_every_record_becomes_one_event_or_one_rejection(records: list[Any]) -> None:
    decoded = decode(*records)
    assert len(decoded.events) + len(decoded.rejections) == len(records)


@given(st.binary(max_size=80))
def test_any_body_is_read_or_refused(body: bytes) -> None:
    for form in (body, b"data=" + quote(base64.b64encode(body)).encode()):
        try:
            SENSORS.open(post(form), LIMITS)
        except RequestError:
            continue
