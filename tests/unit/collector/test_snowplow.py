"""Snowplow's dialect: what its trackers send at their worst, and what becomes of it."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any, Final
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.decode.decoded import Decoded, RequestFacts
from collector.decode.dialect import Post
from collector.decode.snowplow import LEAST_PING_MS, NOBODY, SNOWPLOW
from collector.errors import RequestError
from collector.rejected import rejected_record
from collector.settings import Limits
from collector.wire.event import Event
from tests.asgi_client import Client
from tests.unit.engine.partition import START, PartitionLog, fold

NOW: Final = 1_795_288_859_000
FACTS: Final = RequestFacts("web", trusted=False, received_at=NOW)
TP2: Final = "/com.snowplowanalytics.snowplow/tp2"
OURS: Final = "iglu:com.snowplowanalytics.snowplow"
WHO: Final = {"aid": "pk", "duid": "d1"}


def opened(body: bytes, query: bytes = b"", facts: RequestFacts = FACTS) -> Decoded:
    limits = Limits()
    return SNOWPLOW.decode(SNOWPLOW.open(Post(TP2, query, {}, body), limits), facts, limits)


def decoded(*events: Any) -> Decoded:
    return opened(json.dumps({"schema": f"{OURS}/payload_data/jsonschema/1-0-4", "data": events}).encode())


def one(**fields: Any) -> Event:
    """Return the event that the fields of one become; whose it is, is added."""
    found = decoded(WHO | fields)
    assert found.rejections == []
    return found.events[0][1]


def properties_of(event: Event) -> Any:
    return json.loads(bytes(event.properties))


def unstructured(schema: str, data: object) -> str:
    return json.dumps({"schema": f"{OURS}/unstruct_event/jsonschema/1-0-0", "data": {"schema": schema, "data": data}})


def ours(name: str, data: object) -> str:
    return unstructured(f"{OURS}/{name}/jsonschema/1-0-0", data)


def contexts(*found: tuple[str, object]) -> str:
    return json.dumps({"data": [{"schema": schema, "data": data} for schema, data in found]})


def reason(**fields: Any) -> str:
    return decoded(WHO | fields).rejections[0].reason


# Times


def test_a_true_time_is_taken_as_it_is() -> None:
    event = one(e="pv", ttm="1767323045678", dtm="1795288850000", stm="1795288000000")
    assert event.occurred_at == event.ts == 1_767_323_045_678
    assert properties_of(event) == {"dtm": "1795288850000"}


def test_a_device_whose_clock_is_wrong_is_corrected() -> None:
    assert one(e="pv", dtm="1700000000000", stm="1700000005000").occurred_at == NOW - 5000


def test_a_time_of_sending_cut_to_seconds_puts_nothing_into_the_future() -> None:
    assert one(e="pv", dtm="1795288858293", stm="1795288858000").occurred_at == NOW


def test_an_unreadable_time_of_sending_corrects_nothing_and_one_of_the_event_rejects_it() -> None:
    assert one(e="pv", dtm="1795288858293", stm="soon").occurred_at == 1_795_288_858_293
    assert reason(e="pv", dtm="soon") == "bad_time"


# Whose it is


def test_a_login_is_linked_by_any_event_with_both_ids() -> None:
    event = one(e="pv", uid="42")
    assert (event.type, event.user_id, event.anonymous_id) == ("page", "42", "d1")


async def test_the_fold_asks_for_the_past_of_a_device_whose_user_is_seen() -> None:
    log = PartitionLog()
    log.decide(0, user=None, anonymous_id="d1")
    event = one(e="pv", uid="42")
    event.occurred_at = event.received_at = START + 1
    log.block(1, event)
    claims = [sent.value for _, sent in (await fold(log.records)).outputs if ("kind", b"claim") in sent.headers]
    assert claims == [b'{"anonymous_id": "d1", "user_id": "42"}']


def test_a_session_tells_the_device_and_its_nil_user_is_nobody() -> None:
    session = f"{OURS}/client_session/jsonschema/1-0-2"
    said = {"userId": "d2", "sessionId": "s2", "eventIndex": 7}
    event = one(e="pv", duid="", co=contexts((session, said)))
    assert (event.anonymous_id, event.session_id, event.seq) == ("d2", "s2", None)
    assert properties_of(event)["contexts"] == [{"schema": session, "data": {"eventIndex": 7}}]
    assert reason(e="pv", duid=None, co=contexts((session, said | {"userId": NOBODY}))) == "missing_identity"


def test_the_number_of_an_event_in_its_session_is_no_seq() -> None:
    """It begins anew with each session: the fold would take the second session for repeats of the first (R7)."""
    index = contexts((f"{OURS}/client_session/jsonschema/1-0-2", {"sessionId": "s1", "eventIndex": 1}))
    assert one(e="pv", co=index).seq is None


def test_an_id_of_the_network_stands_in_for_the_device() -> None:
    assert one(e="pv", duid="", nuid="n1").anonymous_id == "n1"
    assert one(e="pv", duid="", nuid="n1", tnuid="t1").anonymous_id == "t1"


def test_the_app_is_kept_unless_its_id_is_the_key() -> None:
    limits = Limits()
    body = json.dumps({"data": [WHO | {"e": "pv"}, WHO | {"e": "pv", "aid": "app"}]}).encode()
    by_app = SNOWPLOW.open(Post(TP2, b"", {}, body), limits)
    by_query = SNOWPLOW.open(Post(TP2, b"key=k", {}, body), limits)
    assert (by_app.key, by_query.key) == (b"pk", None)
    kept = [properties_of(event).get("aid") for _, event in SNOWPLOW.decode(by_app, FACTS, limits).events]
    assert kept == [None, "app"]
    kept = [properties_of(event).get("aid") for _, event in SNOWPLOW.decode(by_query, FACTS, limits).events]
    assert kept == ["pk", "app"]


def test_a_key_in_the_query_of_an_event_is_no_fact_of_it() -> None:
    limits = Limits()
    envelope = SNOWPLOW.open(Post("/i", b"e=pv&duid=d1&aid=app&key=pk", {}, b""), limits)
    ((_, event),) = SNOWPLOW.decode(envelope, FACTS, limits).events
    assert (envelope.key, properties_of(event)) == (None, {"aid": "app"})


# What happened


def test_a_ping_says_a_second_or_what_the_site_says() -> None:
    heartbeat = "iglu:com.phasewatch/heartbeat/jsonschema/1-0-0"
    assert properties_of(one(e="pp", pp_may="0")) == {"pp_may": "0", "ms": LEAST_PING_MS}
    assert properties_of(one(e="pp", co=contexts((heartbeat, {"ms": 10000})))) == {"ms": 10000}
    for wrong in (-1, True, "10", None):
        assert properties_of(one(e="pp", co=contexts((heartbeat, {"ms": wrong}))))["ms"] == LEAST_PING_MS


def test_the_text_of_a_link_is_read_out_of_its_markup() -> None:
    markup = "<svg><path d='m1'/></svg>\n Buy &amp; <b class='x'>hold</b> <"
    element = one(e="ue", ue_pr=ours("link_click", {"targetUrl": "/b?token=1", "elementContent": markup})).element
    assert element is not None
    assert (element.tag, element.text, element.href) == ("a", "Buy & hold <", "/b?token=***")


def test_markup_of_many_brackets_is_read_in_linear_time() -> None:
    event = one(e="ue", ue_pr=ours("link_click", {"elementContent": "<" * 7000}))
    assert event.element is not None
    assert event.element.text == "<" * 7000


FORMS: Final = [
    ("change_form", {"formId": "f", "elementId": "i", "nodeName": "INPUT", "type": "text", "value": "s3cret"}),
    ("focus_form", {"formId": "f", "elementId": "i", "nodeName": "INPUT", "elementType": "text", "value": "s3cret"}),
    ("submit_form", {"formId": "f", "elements": [{"name": "i", "nodeName": "INPUT", "value": "s3cret"}]}),
]


@pytest.mark.parametrize(("name", "data"), FORMS)
@pytest.mark.parametrize("who", [{"duid": "d1"}, {"duid": None}], ids=["accepted", "rejected"])
@pytest.mark.parametrize("packed", [False, True])
def test_what_is_typed_into_a_form_is_written_nowhere(
    name: str, data: object, who: dict[str, str], *, packed: bool
) -> None:
    plain = ours(name, data)
    said = {"ue_px": base64.urlsafe_b64encode(plain.encode()).decode(), "ue_pr": ""} if packed else {"ue_pr": plain}
    found = decoded(who | said | {"e": "ue"})
    events = [bytes(event.properties) for _, event in found.events]
    written = [*events, *(rejected_record(rejection, FACTS, b"") for rejection in found.rejections)]
    assert len(written) == 1
    assert b"s3cret" not in written[0]
    assert b"formId" in written[0]


def test_forms_of_the_site_are_its_own_facts() -> None:
    schema = "iglu:com.demo/change_form/jsonschema/1-0-0"
    event = one(e="ue", ue_pr=unstructured(schema, {"value": 5, "product_id": "b1"}))
    assert (event.type, event.name) == ("custom", "change_form")
    assert properties_of(event) == {"schema": schema, "value": 5, "product_id": "b1"}


def test_what_an_event_says_comes_before_what_its_tracker_says() -> None:
    event = one(e="ue", lang="zh", ue_pr=unstructured("iglu:com.demo/x/jsonschema/1-0-0", {"lang": "en", "schema": 1}))
    assert properties_of(event) == {
        "lang": "en",
        "sp_lang": "zh",
        "schema": 1,
        "sp_schema": "iglu:com.demo/x/jsonschema/1-0-0",
    }


@pytest.mark.parametrize(
    ("schema", "data", "name", "kept"),
    [
        ("iglu:com.demo/x/jsonschema/1-0-0", [1], "x", {"data": [1]}),
        ("x", None, "x", {}),
        ("iglu:com.demo/", {}, "iglu:com.demo/", {}),
    ],
)
def test_odd_schemas_are_events_all_the_same(schema: str, data: object, name: str, kept: dict[str, Any]) -> None:
    event = one(e="ue", ue_pr=unstructured(schema, data))
    assert (event.type, event.name, properties_of(event)) == ("custom", name, {"schema": schema} | kept)


def test_kinds_that_are_no_more_are_custom() -> None:
    assert one(e="ad", ad_id="1").name == "ad"
    assert one(e="se").name == "se"


# What is packed in texts


def test_contexts_that_cannot_be_read_are_kept_as_they_are() -> None:
    assert properties_of(one(e="pv", co="{")) == {"co": "{"}
    assert properties_of(one(e="pv", cx="%")) == {"cx": "%"}
    assert properties_of(one(e="pv", co={"data": []})) == {"co": {"data": []}}


def test_half_a_character_within_a_text_is_mended() -> None:
    said = unstructured("iglu:com.demo/x/jsonschema/1-0-0", {"text": "HALF"}).replace("HALF", "\\ud83d")
    assert properties_of(one(e="ue", ue_pr=said))["text"] == "\ufffd"


def test_what_a_text_hides_is_measured_as_well() -> None:
    deep = f'{{"data":{{"schema":"x","data":{"[" * 40}{"]" * 40}}}}}'
    assert reason(e="ue", ue_pr=deep) == "too_deep"
    assert reason(e="pv", co=f'{{"data":{"[" * 5000}{"]" * 5000}}}') == "too_deep"
    bomb = base64.b64encode(gzip.compress(unstructured("x", "a" * 50_000).encode())).decode()
    assert reason(e="ue", ue_px=bomb) == "malformed"


@pytest.mark.parametrize("fields", [{}, {"e": "ue"}, {"e": "ue", "ue_pr": "[]"}, {"e": ["pv"]}, {"e": "pv", "url": {}}])
def test_an_event_that_says_nothing_is_rejected_under_its_id(fields: dict[str, Any]) -> None:
    found = decoded(WHO | {"eid": "e1"} | fields, WHO | {"e": "pv"}, 5)
    assert [(one.index, one.id, one.reason) for one in found.rejections] == [
        (0, "e1", "malformed"),
        (2, None, "malformed"),
    ]


@pytest.mark.parametrize("body", [b"", b" ", b"[]", b"{}", b'{"data": 1}', b"\xff"])
def test_no_payload_is_refused(body: bytes) -> None:
    with pytest.raises(RequestError):
        opened(body)


# HTTP


def payload(**fields: Any) -> bytes:
    return json.dumps({"data": [WHO | {"e": "pv"} | fields]}).encode()


async def test_posts_are_answered_ok_wherever_the_path_begins(client: Client) -> None:
    for path in (TP2, "/fund-shop/tp2"):
        answer = await client.send("POST", path, payload(), headers={})
        assert (answer.status, answer.body) == (200, b"ok")
    assert (await client.send("POST", "/fund-shop/tp3", payload(), headers={})).status == 404
    assert len(client.events()) == 2


async def test_a_query_is_answered_with_a_pixel_that_pages_may_read(client: Client) -> None:
    query = urlencode({"e": "se", "se_ca": "a b", "se_ac": "c+d", **WHO}).encode()
    answer = await client.send("GET", "/i", headers={"origin": "https://demo.example"}, query=query)
    assert (answer.status, answer.headers["content-type"]) == (200, "image/gif")
    assert answer.headers["access-control-allow-origin"] == "https://demo.example"
    assert answer.headers["access-control-allow-credentials"] == "true"
    (event,) = client.events()
    assert (event.name, properties_of(event)) == ("c+d", {"se_ca": "a b"})


async def test_what_would_block_the_queue_of_a_tracker_is_answered_with_400(client: Client) -> None:
    too_large = await client.send("POST", TP2, headers={"content-length": str(9 << 20)})
    unknown = await client.send("POST", TP2, payload(), headers={"content-encoding": "compress"})
    assert (too_large.status, unknown.status) == (400, 400)
    assert (await client.send("POST", TP2, payload(aid="other"), headers={})).status == 401


async def test_a_preflight_lets_a_page_send_what_a_tracker_adds(client: Client) -> None:
    answer = await client.send("OPTIONS", TP2, headers={"origin": "https://demo.example"})
    assert answer.status == 204
    assert {"content-type", "sp-anonymous"} <= set(answer.headers["access-control-allow-headers"].split(", "))


async def test_a_probe_is_answered(client: Client) -> None:
    answer = await client.send("GET", "/health", headers={})
    assert (answer.status, answer.body) == (200, b"ok")


JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
SCHEMAS: Final = st.sampled_from(
    [f"{OURS}/{name}/jsonschema/1-0-0" for name in ("link_click", "button_click", "change_form", "submit_form")]
    + [f"{OURS}/client_session/jsonschema/1-0-2", "iglu:com.phasewatch/heartbeat/", "iglu:a/b/c", "x"]
)
DATA: Final = st.dictionaries(
    st.sampled_from(["value", "elements", "elementClasses", "classes", "id", "userId", "ms", "label", "e"]), JSON
)
SAID: Final = st.fixed_dictionaries({"schema": SCHEMAS | JSON, "data": DATA | JSON})
NESTED: Final = (
    (st.fixed_dictionaries({"data": SAID}) | st.fixed_dictionaries({"data": st.lists(SAID, max_size=2)}))
    .map(json.dumps)
    .flatmap(lambda text: st.sampled_from([text, base64.b64encode(text.encode()).decode()]))
)
EVENT: Final = st.fixed_dictionaries(
    {"e": st.sampled_from(["pv", "pp", "se", "ue", "tr"]) | JSON, "duid": st.just("d1") | JSON},
    optional={
        **dict.fromkeys(("ue_pr", "ue_px", "co", "cx"), NESTED | JSON),
        **dict.fromkeys(("eid", "aid", "uid", "sid", "dtm", "stm", "ttm", "url", "page", "se_ac", "x"), JSON),
    },
)


@given(st.lists(EVENT | JSON, max_size=3))
def test_every_record_becomes_one_event_or_one_rejection(records: list[Any]) -> None:
    found = decoded(*records)
    places = [index for index, _ in found.events] + [one.index for one in found.rejections]
    assert sorted(places) == list(range(len(records)))


@given(JSON | st.binary())
def test_any_body_is_opened_or_refused(body: object) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        opened(content)
    except RequestError:
        return


@given(st.binary(min_size=1))
def test_any_query_is_one_event_or_one_rejection(query: bytes) -> None:
    found = opened(b"", query)
    assert len(found.events) + len(found.rejections) == 1
