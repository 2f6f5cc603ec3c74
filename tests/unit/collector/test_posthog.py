"""PostHog's decoder as a pure function, and what its SDKs hear."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.answer import EventError, Results, refusal
from collector.decode.decoded import Decoded, Reason, RequestFacts
from collector.decode.dialect import Envelope, Post
from collector.decode.elements import absolute_href
from collector.decode.elements_chain import Described, read_chain, read_list
from collector.decode.posthog import POSTHOG
from collector.dialects.posthog import EVENT_PATHS, SETTINGS_PATHS
from collector.errors import RequestError, TooManyRequestsError, UnreadableBodyError
from collector.masking.rules import EVERYTHING
from collector.settings import Limits
from collector.wire.event import Event, dwell_ms

NOW = 1_795_288_859_000
SENT = NOW - 2_000
KEY = "phc_key"
UUID = "01a1ff9e-22f8-7c7e-bde0-e9a8af750dcb"
DEVICE = "01a1ff9e-22e8-779b-b045-c73338a8df2f"
FACTS = RequestFacts("web", trusted=False, received_at=NOW)
LIMITS = Limits()
PAGE = {"$current_url": "https://shop.example/products/bond?x=1", "$pathname": "/products/bond"}


def opened(body: Any, *, query: bytes = b"", headers: dict[bytes, bytes] | None = None) -> Envelope:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return POSTHOG.open(Post("/e/", query, headers or {}, raw), LIMITS)


def decode(*events: Any, sent_at: object = None, **request: Any) -> Decoded:
    body = {"api_key": KEY, "batch": events, "sent_at": sent_at}
    return POSTHOG.decode(opened(body, **request), FACTS, LIMITS)


def said(name: str = "fund_viewed", properties: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    event = {"uuid": UUID, "event": name, "distinct_id": "user-42", "timestamp": SENT, **fields}
    return {**event, "properties": properties or {}}


def event(*args: Any, **fields: Any) -> Event:
    decoded = decode(said(*args, **fields))
    assert decoded.rejections == []
    return decoded.events[0][1]


def in_browser(name: str = "fund_viewed", /, **properties: Any) -> Event:
    given = {"$lib": "web", "distinct_id": DEVICE, "$device_id": DEVICE, "$is_identified": False, **properties}
    return event(name, given, distinct_id=None)


def kept(found: Event) -> Any:
    return json.loads(bytes(found.properties))


def rejected(one: Any, **request: Any) -> tuple[Reason, str | None]:
    decoded = decode(one, **request)
    assert decoded.events == []
    return decoded.rejections[0].reason, decoded.rejections[0].id


def ids(found: Event) -> tuple[str | None, str | None]:
    return found.user_id, found.anonymous_id


# Keys and envelopes


@pytest.mark.parametrize(
    "body",
    [
        {"api_key": KEY, "batch": []},
        {"token": KEY, "batch": []},
        {"batch": [{"api_key": KEY}, {"api_key": "other"}]},
        [{"event": "a", "properties": {"token": KEY}}],
        {"event": "a", "properties": {"token": KEY}},
        {"event": "a", "token": KEY},
        {"event": "a", "api_key": KEY, "properties": {}},
    ],
)
def test_the_key_stands_in_one_of_four_places(body: Any) -> None:
    assert opened(body).key == KEY.encode()


@pytest.mark.parametrize("body", [[], [7], {"api_key": 7}, {"event": "a", "properties": []}])
def test_without_a_key_there_is_none(body: Any) -> None:
    assert opened(body).key is None


def wrapped(one: Any) -> list[bytes]:
    plain = json.dumps(one).encode()
    packed, zipped = base64.b64encode(plain), base64.b64encode(gzip.compress(plain))
    return [
        plain,
        b"\xef\xbb\xbf \n" + plain,
        packed,
        b"data=" + quote(plain).encode(),
        b"data=" + quote(packed).encode(),
        b"ip=1&data=" + packed + b"&compression=base64",
        b"data=" + quote(zipped, safe="").encode() + b"&compression=gzip-js",
    ]


@pytest.mark.parametrize("body", wrapped([said()]))
def test_a_body_in_each_of_its_wrappings(body: bytes) -> None:
    (record,) = opened(body).records
    assert json.loads(record) == said()


def test_everything_in_the_query() -> None:
    query = b"ip=1&_=%d&data=" % SENT + quote(base64.b64encode(json.dumps(said()).encode()), safe="").encode()
    found = opened(b"", query=query)
    assert (len(found.records), found.sent_at) == (1, SENT)


@pytest.mark.parametrize(
    "body", [b"", b"data=", b"hello=1", b"7", b'{"batch": 7}', b'{"batch": [', b"data=%7B", b"\xff"]
)
def test_what_cannot_be_read_is_refused(body: bytes) -> None:
    with pytest.raises(UnreadableBodyError):
        opened(body)


def test_a_cut_emoji_costs_nobody_anything() -> None:
    body = b'[{"event": "a\\ud83d", "distinct_id": "user-42"}, {"event": "b", "distinct_id": "7"}]'
    decoded = POSTHOG.decode(opened(body), FACTS, LIMITS)
    assert [found.name for _, found in decoded.events] == ["a\ufffd", "b"]


# Times


@pytest.mark.parametrize(
    ("envelope", "query", "headers"),
    [
        ({"sent_at": SENT}, b"", {}),
        ({"sent_at": "2026-11-21T19:20:57Z"}, b"", {}),
        ({"sentAt": "2026-11-21T19:20:57.000000+00:00"}, b"", {}),
        ({}, b"ip=1&_=%d" % SENT, {}),
        ({}, b"", {b"posthog-request-timestamp": b"2026-11-21T19:20:57.000Z"}),
        ({"sent_at": "soon"}, b"_=%d" % SENT, {}),
    ],
)
def test_when_it_was_sent(envelope: Any, query: bytes, headers: dict[bytes, bytes]) -> None:
    assert opened({"batch": [], **envelope}, query=query, headers=headers).sent_at == SENT


@pytest.mark.parametrize("sent_at", [None, "", "soon", 7, [], "2026-11-21"])
def test_a_broken_sent_at_is_no_correction(sent_at: object) -> None:
    ((_, found),) = decode(said(timestamp=NOW - 500), sent_at=sent_at).events
    assert found.occurred_at == NOW - 500


def test_a_client_whose_clock_is_slow_is_corrected() -> None:
    ((_, found),) = decode(said(timestamp=SENT - 500), sent_at=SENT).events
    assert (found.ts, found.occurred_at) == (SENT - 500, NOW - 500)


def test_unless_it_asks_not_to_be() -> None:
    one = said(timestamp=SENT - 500, options={"disable_skew_correction": True})
    ((_, found),) = decode(one, sent_at=SENT).events
    assert found.occurred_at == SENT - 500


@pytest.mark.parametrize("sent_at", [None, SENT])
def test_an_offset_counts_back_from_when_it_was_received(sent_at: object) -> None:
    ((_, found),) = decode(said(timestamp=None, offset=1500.7), sent_at=sent_at).events
    assert found.occurred_at == NOW - 1500


def test_a_lone_event_of_old_has_its_time_among_the_properties() -> None:
    ((_, found),) = decode(said(properties={"$time": (SENT - 250) / 1000}, timestamp=None), sent_at=SENT).events
    assert (found.occurred_at, kept(found)) == (NOW - 250, {})


@pytest.mark.parametrize("fields", [{"timestamp": "soon"}, {"timestamp": 7}, {"timestamp": None, "offset": "9"}])
def test_a_broken_time_of_its_own_costs_the_event(fields: Any) -> None:
    assert rejected(said(**fields)) == (Reason.BAD_TIME, UUID)


def test_an_offset_out_of_all_bounds() -> None:
    assert rejected(said(timestamp=None, offset=1e300))[0] == Reason.BAD_TIME


# Ids


def test_the_id_is_the_uuid_else_the_insert_id() -> None:
    assert event(properties={"$insert_id": "i-1"}).id == UUID
    assert kept(event(properties={"$insert_id": "i-1"})) == {"$insert_id": "i-1"}
    assert event(properties={"$insert_id": "i-1"}, uuid="").id == "i-1"


def test_without_an_id_the_content_decides() -> None:
    first, second = (event(uuid=None, properties={"a": 1}).id for _ in range(2))
    assert first == second != event(uuid=None, properties={"a": 2}).id


@pytest.mark.parametrize("fields", [{"uuid": {}}, {"distinct_id": True}, {"distinct_id": 1.5}, {"distinct_id": ["a"]}])
def test_ids_that_are_none_of_a_kind(fields: Any) -> None:
    assert rejected(said(**fields))[0] == Reason.MALFORMED


# Who


def test_a_visitor_is_the_browsers_id() -> None:
    found = in_browser()
    assert (*ids(found), found.session_id) == (None, DEVICE, None)
    assert kept(found) == {"$lib": "web", "$is_identified": False}


def test_after_reset_the_visitor_is_another_on_the_same_device() -> None:
    found = in_browser(distinct_id="new")
    assert (ids(found), kept(found)["$device_id"]) == ((None, "new"), DEVICE)


def test_a_user_keeps_the_device_as_anonymous_id() -> None:
    found = in_browser(distinct_id="user-42", **{"$is_identified": True, "$user_id": "user-42"})
    assert ids(found) == ("user-42", DEVICE)
    assert kept(found) == {"$lib": "web", "$is_identified": True}


@pytest.mark.parametrize(("user", "expected"), [({}, (None, "x")), ({"$user_id": "x"}, ("x", DEVICE))])
def test_old_browser_sdks_name_the_user_beside(user: Any, expected: tuple[str | None, str]) -> None:
    assert ids(event(properties={"$lib": "web", "$device_id": DEVICE, **user}, distinct_id="x")) == expected


@pytest.mark.parametrize("lib", ["posthog-node", "posthog-python", None])
def test_a_servers_distinct_id_is_the_users(lib: str | None) -> None:
    assert ids(event(properties={"$lib": lib})) == ("user-42", None)


@pytest.mark.parametrize(
    "fields", [{"properties": {"$process_person_profile": False}}, {"options": {"process_person_profile": False}}]
)
def test_unless_it_makes_no_person(fields: Any) -> None:
    assert ids(event(**fields)) == (None, "user-42")


def test_a_group_is_no_user() -> None:
    assert ids(event("$groupidentify", {"$lib": "posthog-node"}, distinct_id="$company_acme")) == (
        None,
        "$company_acme",
    )
    assert ids(in_browser("$groupidentify", distinct_id="u", **{"$is_identified": True})) == ("u", DEVICE)


def test_identify_links_what_was_before() -> None:
    found = in_browser("$identify", distinct_id="user-42", **{"$anon_distinct_id": "before"})
    assert (found.type, *ids(found)) == ("identify", "user-42", "before")
    assert kept(found)["$device_id"] == DEVICE


def test_identify_on_a_server_links_nothing() -> None:
    assert ids(event("$identify", {"$set": {"plan": "pro"}})) == ("user-42", None)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("lib", ["posthog-node", "posthog-python"])
def test_an_alias_of_a_made_up_id_links_it_to_the_other(lib: str, *, first: bool) -> None:
    one, other = (DEVICE, "user-42") if first else ("user-42", DEVICE)
    found = event("$create_alias", {"$lib": lib, "distinct_id": one, "alias": other}, distinct_id=one)
    assert (found.type, *ids(found)) == ("identify", "user-42", DEVICE)


@pytest.mark.parametrize(
    ("lib", "distinct_id", "alias"), [("posthog-node", "user-42", "a-1"), ("posthog-python", "a-1", "user-42")]
)
def test_else_the_sdk_tells_which_is_which(lib: str, distinct_id: str, alias: str) -> None:
    found = event("$create_alias", {"$lib": lib, "distinct_id": distinct_id, "alias": alias}, distinct_id=distinct_id)
    assert (ids(found), kept(found)) == (("user-42", "a-1"), {"$lib": lib, "$create_alias": True})


@pytest.mark.parametrize(("known", "expected"), [(True, ("x", "y")), (False, ("y", "x"))])
def test_or_the_browser_does(known: bool, expected: tuple[str, str]) -> None:  # noqa: FBT001 - a parameter of the test
    assert ids(in_browser("$create_alias", distinct_id="x", alias="y", **{"$is_identified": known})) == expected


def test_capture_v1_names_its_sdk_in_the_head() -> None:
    one = said("$create_alias", {"alias": "user-42"}, distinct_id="a-1")
    ((_, found),) = decode(one, headers={b"posthog-sdk-info": b"posthog-python/7.91.1"}).events
    assert ids(found) == ("user-42", "a-1")
    assert kept(found) == {"$lib": "posthog-python", "$lib_version": "7.91.1", "$create_alias": True}


def test_who_allows_no_cookies_is_nobody() -> None:
    one = said(properties={"$lib": "web", "$device_id": None}, distinct_id="$posthog_cookieless")
    assert rejected(one) == (Reason.JUNK_IDENTITY, UUID)


@pytest.mark.parametrize(
    ("distinct_id", "reason"),
    [("undefined", Reason.JUNK_IDENTITY), ("", Reason.MISSING_IDENTITY), (None, Reason.MISSING_IDENTITY)],
)
def test_nobody(distinct_id: object, reason: Reason) -> None:
    assert rejected(said(distinct_id=distinct_id)) == (reason, UUID)


# What


def test_a_page_view() -> None:
    found = in_browser("$pageview", title="Bonds", **PAGE, **{"$referrer": "$direct", "$session_id": "s-1"})
    assert (found.type, found.name, found.session_id) == ("page", None, "s-1")
    assert found.page is not None
    assert (found.page.path, found.page.title, found.page.referrer) == ("/products/bond", "Bonds", None)
    assert kept(found) == {"$lib": "web", "$is_identified": False}


def test_a_title_of_anything_else_is_the_users_own() -> None:
    assert kept(event(properties={"title": "Dr."})) == {"title": "Dr."}


@pytest.mark.parametrize(
    ("seconds", "ms"), [(13.649, 13_649), (7, 7_000), (None, 0), ("9", 0), (-1, 0), (1e300, 0), (True, 0)]
)
def test_leaving_a_page_is_dwell(seconds: object, ms: int) -> None:
    found = in_browser("$pageleave", **{"$prev_pageview_duration": seconds})
    assert (found.type, dwell_ms(found)) == ("dwell", ms)


@pytest.mark.parametrize(
    ("name", "captured", "kind"),
    [
        ("$autocapture", "click", "click"),
        ("$autocapture", "touch", "click"),
        ("$autocapture", "change", "change"),
        ("$autocapture", "submit", "submit"),
        ("$autocapture", "wink", "custom"),
        ("$autocapture", ["click"], "custom"),
        ("$rageclick", "click", "click"),
        ("$dead_click", "click", "custom"),
        ("$screen", None, "page"),
        ("$set", None, "custom"),
        ("purchase", None, "custom"),
    ],
)
def test_what_an_event_becomes(name: str, captured: object, kind: str) -> None:
    found = in_browser(name, **{"$event_type": captured})
    assert (found.type, found.name) == (kind, name if kind == "custom" else None)


def test_a_rage_click_can_be_told_from_others() -> None:
    assert kept(in_browser("$rageclick"))["$rageclick"] is True
    assert "$rageclick" not in kept(in_browser("$autocapture", **{"$event_type": "click"}))


def test_a_click() -> None:
    chain = (
        'span:nth-of-type="2"text="now";a.card:attr__class="card b"href="/products/bond/7"attr__href="/products/bond/7"'
    )
    found = in_browser("$autocapture", **PAGE, **{"$event_type": "click", "$elements_chain": chain, "$el_text": "now"})
    assert found.element is not None
    assert msgspec.structs.asdict(found.element) == {
        "tag": "a",
        "text": "now",
        "selector": "a.card.b",
        "href": "https://shop.example/products/bond/7",
        "index": None,
    }
    assert kept(found) == {"$lib": "web", "$is_identified": False, "$elements_chain": chain}


def test_the_innermost_text_is_kept_where_it_is_another() -> None:
    chain = 'small:text="from 1";button:text="Invest"'
    found = in_browser("$autocapture", **{"$event_type": "click", "$elements_chain": chain, "$el_text": "from 1"})
    assert found.element is not None
    assert (found.element.text, kept(found)["$el_text"]) == ("Invest", "from 1")


def test_what_has_no_place_is_kept() -> None:
    found = event(
        properties={"product_id": "7", "type": "bond"}, type="capture", library="x", context={}, **{"$set": {"a": 1}}
    )
    assert kept(found) == {"product_id": "7", "type": "bond", "$type": "capture", "library": "x", "$set": {"a": 1}}


def test_the_key_is_not_kept() -> None:
    assert kept(event(properties={"token": KEY, "a": 1})) == {"a": 1}
    assert kept(event(properties={"token": "another", "a": 1})) == {"token": "***", "a": 1}


def test_urls_that_name_parts_of_a_heat_map_are_masked() -> None:
    found = in_browser("$$heatmap", **{"$heatmap_data": {"https://shop.example/?token=s3cret": []}})
    assert b"s3cret" not in bytes(found.properties)


@pytest.mark.parametrize("one", [7, None, [], "x", {}, {"event": 7}, {"event": ""}])
def test_what_is_no_event(one: Any) -> None:
    assert rejected(one)[0] == Reason.MALFORMED


def test_php_writes_an_empty_object_as_an_array() -> None:
    ((_, found),) = decode({"event": "a", "distinct_id": "u-1", "properties": []}).events
    assert (found.name, kept(found)) == ("a", {})


# Elements


def test_a_chain_is_read_with_all_that_may_stand_in_it() -> None:
    chain = (
        'i.icon:attr__class="icon"nth-child="1"nth-of-type="3";'
        'button.md:flex.btn:attr__@click="go(\'a;b\')"attr__class="btn md:flex"nth-of-type="2"'
        'text="say \\"yes\\"; now";'
        'div#x.w-[a=b]:nth-child="1";body'
    )
    described, plain = read_chain(chain, EVERYTHING, nearest=True)
    assert described == Described("button", 'say "yes"; now', "body>div#x.w-[a=b]>button.btn.md:flex", None, 1)
    assert msgspec.json.decode(plain.json) == chain
    selector = f"{described.selector}>i.icon"
    assert read_chain(chain, EVERYTHING, nearest=False)[0] == Described("i", None, selector, None, 2)


@pytest.mark.parametrize("chain", ["", ";", '"', ':text="', "a" * 9000, 'a:nth-of-type="9999999999999"', "\x00;;=\\"])
def test_what_is_no_chain_breaks_nothing(chain: str) -> None:
    assert msgspec.json.decode(read_chain(chain, EVERYTHING, nearest=True)[1].json) == chain


def test_urls_within_a_chain_are_masked_and_nothing_else() -> None:
    chain = 'a:attr__href="/in?token=s3cret&a=1"nth-child="1"text="mobile=1; a/b?c"'
    assert msgspec.json.decode(read_chain(chain, EVERYTHING, nearest=True)[1].json) == chain.replace("s3cret", "***")


def test_the_label_of_a_button_is_no_value_but_what_is_typed_is() -> None:
    assert read_chain('input:attr__type="submit"attr__value="Invest"', EVERYTHING, nearest=True)[0].text == "Invest"
    assert read_chain('input:attr__type="text"attr__value="13800138000"', EVERYTHING, nearest=True)[0].text is None


def test_a_selector_ends_at_an_id_and_has_five_levels() -> None:
    chain = ";".join(f'{tag}:nth-of-type="1"' for tag in "abcdefg")
    assert read_chain(chain, EVERYTHING, nearest=False)[0].selector == "e>d>c>b>a"
    assert read_chain('a:text="x";ul:attr__id="list";body', EVERYTHING, nearest=False)[0].selector == "ul#list>a"


def test_the_list_of_old_tells_the_same() -> None:
    elements = [
        {"tag_name": "IMG", "attr__href": "/p/7", "nth_of_type": 1},
        {"tag_name": "a", "classes": ["b", "a"], "attr__class": "a b", "$el_text": "Alpha", "nth_of_type": 2},
        7,
        {"tag_name": ["?"], "classes": 7, "$el_text": 7, "nth_of_type": "x", "attr__id": 7},
    ]
    assert read_list(elements, nearest=True) == Described("a", "Alpha", "a.a.b", "/p/7", 1)
    assert read_list([], nearest=True) == Described()


@pytest.mark.parametrize(
    ("href", "url", "expected"),
    [
        ("/a", "https://x.example/b", "https://x.example/a"),
        ("a?b#c", "https://x.example/d/e", "https://x.example/d/a?b#c"),
        ("//y.example/a", "https://x.example/", "https://y.example/a"),
        ("https://y.example/", None, "https://y.example/"),
        ("/a", None, "/a"),
        ("a", None, None),
        ("javascript:void(0)", "https://x.example/", None),
        ("mailto:a@b.example", "https://x.example/", None),
        ("//[", "https://x.example/", None),
        (None, "https://x.example/", None),
    ],
)
def test_where_a_link_leads(href: str | None, url: str | None, expected: str | None) -> None:
    assert absolute_href(href, url) == expected


# Answers


def test_no_answer_silences_an_sdk() -> None:
    bodies = [path.body({"token": "t"}) for path in SETTINGS_PATHS]
    bodies += [path.answer(Results(1, 0, 0, [], [])).body for path in EVENT_PATHS]
    assert not any(b"quota_limited" in body for body in bodies)
    assert {path.answer(Results(1, 0, 0, [], [])).status for path in EVENT_PATHS} == {200}


def test_what_posthog_js_drops_is_said_in_another_way() -> None:
    answers = {path.name: refusal(TooManyRequestsError("too many"), path.instead) for path in EVENT_PATHS}
    assert {name: answer.status for name, answer in answers.items()} == {"posthog": 503, "posthog_v1": 429}
    assert all((b"retry-after", b"2") in answer.headers for answer in answers.values())


def test_capture_v1_hears_what_was_dropped() -> None:
    errors = [EventError(0, "e-1", "bad_time", "events[0].ts is 7"), EventError(1, None, "malformed", "events[1] ...")]
    (answer,) = {path.answer(Results(1, 0, 2, errors, [])).body for path in EVENT_PATHS if path.name == "posthog_v1"}
    dropped = {"result": "drop", "details": "bad_time: events[0].ts is 7"}
    assert json.loads(answer) == {"results": {"e-1": dropped}}


def test_a_token_is_no_part_of_the_script() -> None:
    token = '"];alert(1)//\u2028</script>'
    path = next(one for one in SETTINGS_PATHS if one.template.endswith("config.js"))
    script = path.body({"token": token}).decode()
    quoted = script.removeprefix("(window._POSTHOG_REMOTE_CONFIG=window._POSTHOG_REMOTE_CONFIG||{})[")
    assert json.JSONDecoder().raw_decode(quoted)[0] == token
    assert "</script>" not in script
    assert (
        json.loads(script.partition("]={")[2].join(["{", ""]).removesuffix(";"))["config"]["autocapture_opt_out"]
        is False
    )


# Whatever comes

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(
    ["$pageview", "$pageleave", "$autocapture", "$rageclick", "$identify", "$create_alias", "$$heatmap", "x"]
)
FIELDS = ["uuid", "distinct_id", "timestamp", "offset", "options", "session_id", "properties", "$set", "token"]
PROPERTIES = [
    "distinct_id", "$device_id", "$user_id", "$is_identified", "$lib", "token", "$time", "$insert_id", "alias", "title",
    "$anon_distinct_id", "$session_id", "$current_url", "$pathname", "$referrer", "$event_type", "$elements_chain",
    "$elements", "$el_text", "$prev_pageview_duration", "$heatmap_data", "$process_person_profile",
]  # fmt: skip
CHAINS = st.text(alphabet='a.:;="\\/?textclsshrfn-_', max_size=60)
ANY_EVENT = st.builds(
    lambda name, fields, properties: {"event": name, "properties": properties, **fields},
    NAMES | JSON,
    st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=4),
    st.dictionaries(st.sampled_from(PROPERTIES), JSON | CHAINS | st.just("click"), max_size=9),
)


@given(st.lists(ANY_EVENT | JSON, max_size=4), st.dictionaries(st.sampled_from(["sent_at", "sentAt", "api_key"]), JSON))
def test_whatever_comes_every_record_becomes_one_event_or_one_rejection(batch: list[Any], envelope: Any) -> None:
    for body in ({**envelope, "batch": batch}, batch, *batch):
        try:
            found = opened(body)
            decoded = POSTHOG.decode(found, FACTS, LIMITS)
        except RequestError:
            continue
        places = [index for index, _ in decoded.events] + [one.index for one in decoded.rejections]
        assert sorted(places) == list(range(len(found.records)))
