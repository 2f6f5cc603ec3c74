"""GrowingIO's dialect: what its SDKs wrap events in, and the traps in the events themselves."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.compression import unpack
from collector.decode import growingio_protobuf, growingio_snappy
from collector.decode.decoded import Decoded, Reason, RequestFacts
from collector.decode.dialect import Post
from collector.decode.growingio import GROWINGIO
from collector.errors import RequestError, TooLargeBodyError, UnreadableBodyError
from collector.keys import sent_key
from collector.settings import Limits
from collector.wire.event import Event, Page

NOW = 1_795_288_859_000
PATH = "/v3/projects/P1/collect"
WEB = RequestFacts("web", trusted=False, received_at=NOW)
LIMITS = Limits()
KIB = 1024


def post(body: bytes = b"", query: bytes = b"compress=0", path: str = PATH, **headers: Any) -> Post:
    return Post(path, query, {name.replace("_", "-").encode(): value for name, value in headers.items()}, body)


def decode(*events: Any, query: bytes = b"compress=0") -> Decoded:
    return GROWINGIO.decode(GROWINGIO.open(post(json.dumps(events).encode(), query), LIMITS), WEB, LIMITS)


def one(*, url_query: bytes = b"compress=0", **fields: Any) -> Event:
    decoded = decode({"eventType": "PAGE", "deviceId": "d-1", "timestamp": NOW, **fields}, query=url_query)
    assert decoded.rejections == []
    ((_, event),) = decoded.events
    return event


def properties(event: Event) -> Any:
    return msgspec.json.decode(event.properties)


def test_the_key_is_the_project_in_the_path() -> None:
    assert GROWINGIO.open(post(b"[]"), LIMITS).key == b"P1"
    assert GROWINGIO.open(post(b"[]", path="/projects/P2/collect/item"), LIMITS).key == b"P2"


def test_parameters_of_the_page_in_a_pixel_are_no_key() -> None:
    assert sent_key({}, b"stm=1&compress=0&data=[{%22query%22:%22a=1&token=x&key=y%22}]") is None
    assert sent_key({}, b"key=pk&compress=0&data=[]") == b"pk"


def test_a_pixel_goes_on_to_the_end_of_the_query() -> None:
    query = b'stm=5&compress=0&data=[{%22eventType%22:%22PAGE%22,"query":"a=1&data=2&stm=9"}]'
    (record,) = GROWINGIO.open(post(query=query), LIMITS).records
    assert json.loads(record)["query"] == "a=1&data=2&stm=9"


def test_stm_is_when_it_was_sent_and_an_unreadable_one_corrects_nothing() -> None:
    assert one(url_query=b"stm=%d" % (NOW + 3_600_000), timestamp=NOW + 3_599_000).occurred_at == NOW - 1000
    for stm in (b"soon", b"", b"0", b"99999999999999999999"):
        assert one(url_query=b"stm=" + stm, timestamp=NOW - 5).occurred_at == NOW - 5


def test_an_id_is_the_same_when_sent_again_and_another_where_tabs_count_alike() -> None:
    fields: dict[str, Any] = {"sessionId": "s-1", "eventSequenceId": 7}
    assert one(**fields).id == one(**fields).id
    others: list[dict[str, Any]] = [
        {"eventType": "VISIT"},
        {"timestamp": NOW - 1},
        {"sessionId": "s-2"},
        {"deviceId": "d-2"},
    ]
    assert len({one(**fields).id, *(one(**{**fields, **other}).id for other in others)}) == 5


def test_without_a_number_the_content_is_the_id() -> None:
    decoded = decode(*[{"eventType": "CUSTOM", "eventName": "x", "deviceId": "d-1", "timestamp": NOW}] * 2)
    ids = [event.id for _, event in decoded.events]
    assert len(set(ids)) == 2
    assert all(event_id.startswith("h-") for event_id in ids)


def test_a_number_that_starts_again_is_no_seq() -> None:
    event = one(eventSequenceId=7, globalSequenceId=9)
    assert event.seq is None
    assert properties(event) == {"eventSequenceId": 7, "globalSequenceId": 9}


@pytest.mark.parametrize(
    ("fields", "page"),
    [
        (
            {"domain": "a.example", "path": "/p", "query": "q=1", "protocolType": "http"},
            Page("http://a.example/p?q=1", "/p"),
        ),
        ({"domain": "a.example", "path": "/p", "platform": "web"}, Page("https://a.example/p", "/p")),
        ({"domain": "com.app", "path": "/Main", "query": "token=x"}, Page("/Main?token=***", "/Main")),
        ({"query": "token=x"}, Page("?token=***")),
        ({"domain": "a.example", "protocolType": "https"}, Page("https://a.example/", "/")),
        ({"title": "T", "referralPage": ""}, Page(title="T")),
        ({"domain": "com.app"}, None),
    ],
)
def test_the_page_is_put_together(fields: dict[str, Any], page: Page | None) -> None:
    assert one(**fields).page == page


def test_both_ids_stay_on_an_event_after_the_login() -> None:
    event = one(userId="u-1", userKey="phone", gioId="u-1")
    assert (event.user_id, event.anonymous_id, properties(event)) == ("u-1", "d-1", {"userKey": "phone"})
    assert properties(one(userId="", gioId="u-1")) == {"gioId": "u-1"}


def test_login_attributes_identify_where_somebody_is_logged_in() -> None:
    login = one(eventType="LOGIN_USER_ATTRIBUTES", userId="u-1", attributes={"plan": "pro"})
    assert (login.type, login.name, properties(login)) == ("identify", None, {"plan": "pro"})
    nobody = one(eventType="LOGIN_USER_ATTRIBUTES")
    assert (nobody.type, nobody.name) == ("custom", "LOGIN_USER_ATTRIBUTES")


@pytest.mark.parametrize(
    ("kind", "xpath", "said", "kept"),
    [
        ("VIEW_CLICK", "/main/div/button", "Invest", "Invest"),
        ("VIEW_CLICK", "/main/form/input", "Search", "Search"),
        ("VIEW_CLICK", "/main/form/input", "on(true)", None),
        ("VIEW_CLICK", "/main/form/select", "Mid", None),
        ("VIEW_CHANGE", "/main/form/select", "Mid", None),
        ("VIEW_CHANGE", "/main/form/input", "on(false)", None),
    ],
)
def test_values_of_fields_are_not_kept(kind: str, xpath: str, said: str, kept: str | None) -> None:
    event = one(eventType=kind, xpath=xpath, textValue=said)
    assert event.element is not None
    assert event.element.text == kept
    assert properties(event) == {}


@pytest.mark.parametrize(
    ("xpath", "tag"),
    [("/html/body/BUTTON.buy[1]", "button"), ("a", "a"), ("/div/", None), ("a" * 60_000 + "/", None), ("/1", None)],
)
def test_the_tag_is_that_of_the_last_step(xpath: str, tag: str | None) -> None:
    decoded = decode({"eventType": "VIEW_CLICK", "deviceId": "d-1", "xpath": xpath})
    found = [event.element.tag for _, event in decoded.events if event.element is not None]
    assert found == ([tag] if len(xpath) < LIMITS.text_chars else [])


def test_the_callers_attributes_keep_their_names() -> None:
    event = one(attributes={"platform": "mine", "product_id": "b-7"}, platform="web", appVersion="1")
    assert properties(event) == {"platform": "mine", "product_id": "b-7", "$platform": "web", "appVersion": "1"}
    assert properties(one(attributes="a text")) == {"attributes": "a text"}


def test_the_key_is_not_kept() -> None:
    assert properties(one(projectKey="P1")) == {}


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({"deviceId": "d-1"}, Reason.MALFORMED),
        ({"eventType": "CUSTOM", "deviceId": "d-1"}, Reason.MALFORMED),
        ({"eventType": "PAGE", "deviceId": ["d-1"]}, Reason.MALFORMED),
        ({"eventType": "PAGE", "deviceId": ""}, Reason.MISSING_IDENTITY),
        ({"eventType": "PAGE", "deviceId": "undefined"}, Reason.JUNK_IDENTITY),
        ({"eventType": "PAGE", "deviceId": "d-1", "timestamp": "yesterday"}, Reason.BAD_TIME),
        ({"key": "fund", "id": "000001"}, Reason.MISSING_IDENTITY),
        (7, Reason.MALFORMED),
    ],
)
def test_what_cannot_be_an_event_costs_only_itself(event: Any, reason: Reason) -> None:
    decoded = decode(event, {"eventType": "PAGE", "deviceId": "d-1"})
    assert [one.reason for one in decoded.rejections] == [reason]
    assert len(decoded.events) == 1


def test_a_bomb_of_snappy_is_refused_by_its_head() -> None:
    block = bytes.fromhex("80808004") + b"\x00a" + b"\xfe\x01\x00" * 1000
    tracemalloc.start()
    try:
        with pytest.raises(TooLargeBodyError):
            GROWINGIO.open(post(block, x_compress_codec=b"2"), LIMITS)
        assert tracemalloc.get_traced_memory()[1] < 64 * KIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("block", "plain"),
    [
        (b"\x00", b""),
        (b"\x03\x08abc", b"abc"),
        (b"\x09\x08abc\x09\x03", b"abcabcabc"[:9]),
        (b"\x07\x08abc\x0e\x03\x00", b"abcabca"),
        (b"\x06\x08abc\x0b\x03\x00\x00\x00", b"abcabc"),
        (b"\x3d\xf0\x3c" + b"x" * 61, b"x" * 61),
    ],
)
def test_every_element_of_snappy(block: bytes, plain: bytes) -> None:
    assert growingio_snappy.unpack(block, KIB) == plain


@pytest.mark.parametrize(
    "block",
    [b"", b"\xff", b"\x03", b"\x03\x08ab", b"\x03\x08abcd", b"\x07\x01\x01", b"\x04\x00a\x05\x02", b"\x02\x00a"],
)
def test_broken_snappy_is_refused(block: bytes) -> None:
    with pytest.raises(UnreadableBodyError):
        growingio_snappy.unpack(block, KIB)


def test_an_encrypted_body_that_starts_as_gzip_by_chance_is_left_alone() -> None:
    assert unpack(b"\x1f\x8b\x01rest", b"", KIB) == b"\x1f\x8b\x01rest"


@pytest.mark.parametrize(
    "query", [b"compress=1", b"compress=11&data=%ff", b"compress=0&data=[", b"", b"compress=0&data="]
)
def test_what_cannot_be_read_is_refused(query: bytes) -> None:
    body = b"" if b"data" in query else b"nonsense"
    with pytest.raises(RequestError):
        GROWINGIO.open(post(body, query), LIMITS)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=9,
)
NAMES = st.sampled_from([
    "eventType", "deviceId", "userId", "sessionId", "timestamp", "eventSequenceId", "attributes", "domain", "path",
    "query", "protocolType", "platform", "title", "referralPage", "xpath", "xcontent", "textValue", "hyperlink",
    "index", "eventName", "projectKey", "gioId", "key", "id",
])  # fmt: skip
KINDS = st.sampled_from(["PAGE", "VIEW_CLICK", "VIEW_CHANGE", "FORM_SUBMIT", "CUSTOM", "LOGIN_USER_ATTRIBUTES"])
EVENTS = st.dictionaries(NAMES, JSON, max_size=8) | st.builds(
    lambda kind, fields: {**fields, "eventType": kind, "deviceId": "d-1", "timestamp": NOW},
    KINDS,
    st.dictionaries(NAMES, JSON, max_size=8),
)


@given(st.lists(EVENTS | JSON, max_size=5))
def test_every_record_becomes_one_event_or_one_rejection(events: list[Any]) -> None:
    decoded = decode(*events)
    assert len(decoded.events) + len(decoded.rejections) == len(events)


@given(st.binary(max_size=120), st.sampled_from(["application/protobuf", "text/plain"]), st.integers(0, 3))
def test_any_body_is_read_or_refused(body: bytes, content_type: str, how: int) -> None:
    headers: dict[str, Any] = {"content_type": content_type.encode()}
    if how & 1:
        headers["x_compress_codec"] = b"2"
    if how & 2:
        headers["x_crypt_codec"] = b"1"
    try:
        envelope = GROWINGIO.open(post(body, b"stm=1795289319960", **headers), LIMITS)
    except RequestError:
        return
    decoded = GROWINGIO.decode(envelope, WEB, LIMITS)
    assert len(decoded.events) + len(decoded.rejections) == len(envelope.records)


@given(st.binary(max_size=120))
def test_any_items_are_read_or_refused(body: bytes) -> None:
    try:
        growingio_protobuf.read_items(body)
    except UnreadableBodyError:
        return


@pytest.mark.parametrize("length", [*range(60, 128)])
def test_protobuf_whose_length_looks_like_the_begin_of_json_is_protobuf(length: int) -> None:
    """Its first byte is a line feed, its second the length: 91 is `[`, 123 is `{`."""
    device, kind = b"\x0a\x02d1", b"\x30\x01"
    name = b"n" * (length - len(device) - len(kind) - 3)
    event = device + kind + b"\xb2\x01%c%b" % (len(name), name)
    assert len(event) == length
    post = Post(
        "/v3/projects/p/collect", b"", {b"content-type": b"application/protobuf"}, b"\x0a%c%b" % (length, event)
    )
    decoded = GROWINGIO.decode(GROWINGIO.open(post, Limits()), WEB, Limits())
    assert [(one.type, one.name, one.anonymous_id) for _, one in decoded.events] == [("custom", name.decode(), "d1")]
