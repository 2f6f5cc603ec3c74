"""The context of events: what a request's head tells, what the event says itself, and what the settings let stand."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from collector.context.around import Around, Surroundings, policy_of
from collector.context.said import NAMES
from collector.decode.decoded import Decoded, RequestFacts
from collector.decode.native import decode_exactly
from collector.decode.ordinary import decode_ordinary
from collector.head import Head
from collector.http import make_app
from collector.settings import CollectorSettings, Limits, WriteKey
from collector.sinks.sqlite import SqliteSink
from collector.wire.block import encode_event
from tests.asgi_client import Client
from tests.mmdb import mmdb

NOW = 1_795_288_859_000
KEYS = (
    WriteKey(name="web", key=SecretStr("pk")),
    WriteKey(name="server", key=SecretStr("sk"), trusted=True),
)
CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36"
)
WECHAT = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 "
    "MicroMessenger/8.0.28"
)
GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
ON_WINDOWS = {"device": "desktop", "browser": "Chrome", "os": "Windows"}
ON_WECHAT = {"device": "mobile", "browser": "WeChat", "os": "iOS"}
PAGE = {"type": "page", "id": "e-1", "ts": NOW - 5, "anonymous_id": "a-1"}
RECORDED = Path(__file__).parents[2] / "compat/recorded"

MakeClient = Callable[..., Awaitable[Client]]


@pytest.fixture
async def make_client(tmp_path: Path) -> AsyncIterator[MakeClient]:
    opened: list[tuple[Client, SqliteSink]] = []

    async def make(**settings: Any) -> Client:
        path = tmp_path / f"log-{len(opened)}.db"
        sink = SqliteSink.open(path, partitions=4, log_id="test", clock=lambda: NOW)
        registry = CollectorRegistry()
        app = make_app(CollectorSettings(keys=KEYS, linger_ms=0, **settings), sink, lambda: NOW, registry=registry)
        client = Client(app, path, registry, address="203.0.113.77")
        opened.append((client, sink))
        return client

    yield make
    for client, sink in opened:
        await client.app.close()
        await sink.close()
        assert client.metric("faults_total") == 0


def headers(user_agent: str, key: str = "pk", **others: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}", "user-agent": user_agent, **others}


def contexts(client: Client) -> list[Any]:
    return [json.loads(encode_event(event)).get("context") for event in client.events()]


async def test_a_browser_is_known_by_its_request(make_client: MakeClient) -> None:
    client = await make_client()
    await client.post([PAGE], headers=headers(CHROME))
    assert contexts(client) == [ON_WINDOWS | {"address": "203.0.113.0"}]


async def test_all_of_it(make_client: MakeClient) -> None:
    client = await make_client(event_addresses="kept", place_headers=("CF-IPCountry",), proxies=("203.0.113.0/24",))
    page = {"url": "https://shop.example/?utm_source=news&utm_medium=email&utm_campaign=spring"}
    await client.post([PAGE | {"page": page}], headers=headers(CHROME, **{"cf-ipcountry": "CN"}))
    assert contexts(client) == [
        ON_WINDOWS
        | {"address": "203.0.113.77", "place": "CN", "channel": "news", "medium": "email", "campaign": "spring"}
    ]


@pytest.mark.parametrize(
    ("settings", "address"),
    [({"event_addresses": "kept"}, "203.0.113.77"), ({}, "203.0.113.0"), ({"event_addresses": "dropped"}, None)],
)
async def test_addresses_are_kept_as_the_setting_says(
    make_client: MakeClient, settings: dict[str, str], address: str | None
) -> None:
    client = await make_client(**settings)
    forwarded = {"$ip": "203.0.113.77", "context": {"ip": "203.0.113.77"}}
    await client.post([PAGE | {"properties": forwarded}], headers=headers(CHROME))
    (event,) = client.events()
    assert event.context is not None
    assert event.context.address == address
    kept = {} if address is None else {"ip": address}
    assert json.loads(bytes(event.properties)) == ({} if address is None else {"$ip": address}) | {"context": kept}


async def test_whole_addresses_are_nowhere_in_what_is_rejected(make_client: MakeClient) -> None:
    client = await make_client()
    wrong = {"type": "nope", "$ip": "203.0.113.77", "context": {"ip": "203.0.113.77"}, "ip": "203.0.113.77"}
    await client.post([wrong], headers=headers(CHROME))
    (found,) = client.rejected()
    assert "203.0.113" not in json.dumps(found)


async def test_what_bots_send_is_flagged_and_counted(make_client: MakeClient) -> None:
    client = await make_client()
    answer = await client.post([PAGE, PAGE | {"id": "e-2"}], headers=headers(GOOGLEBOT))
    assert answer.json["accepted"] == 2
    assert contexts(client) == [{"device": "bot", "bot": "search-engine", "address": "203.0.113.0"}] * 2
    assert client.metric("bot_events_total", source="web") == 2


async def test_or_dropped(make_client: MakeClient) -> None:
    client = await make_client(bots="drop")
    answer = await client.post([PAGE, PAGE | {"id": "e-2"}], headers=headers(GOOGLEBOT))
    assert (answer.status, answer.json["accepted"], answer.json["rejected"]) == (200, 0, 2)
    assert {one["reason"] for one in answer.json["errors"]} == {"bot"}
    assert client.events() == []
    assert [(one["reason"], one["payload"], one["payload_bytes"]) for one in client.rejected()] == [
        ("bot", None, 0)
    ] * 2
    assert client.metric("events_received_total", source="web") == 2
    assert client.metric("events_rejected_total", source="web", reason="bot") == 2
    people = await client.post([PAGE], headers=headers(CHROME))
    assert people.json["accepted"] == 1


async def test_or_kept(make_client: MakeClient) -> None:
    client = await make_client(bots="keep", event_addresses="dropped")
    await client.post([PAGE], headers=headers(GOOGLEBOT))
    assert contexts(client) == [{"device": "other", "browser": "other"}]
    assert client.metric("bot_events_total", source="web") == 0


async def test_a_headless_browser_in_disguise_is_known_by_its_client_hints(make_client: MakeClient) -> None:
    client = await make_client(event_addresses="dropped")
    hints = {"sec-ch-ua": '"HeadlessChrome";v="120", "Chromium";v="120"'}
    await client.post([PAGE], headers=headers(CHROME, **hints))
    assert contexts(client) == [{"device": "bot", "bot": "browser-automation"}]


@pytest.mark.parametrize("key", ["pk", "sk"])
@pytest.mark.parametrize(
    "said",
    [
        {"$raw_user_agent": WECHAT},
        {"$userAgent": WECHAT},
        {"user_agent": WECHAT},
        {"ua": WECHAT},
        {"context": {"userAgent": WECHAT}},
        {"context": 1, "$context": {"userAgent": WECHAT}},
    ],
)
async def test_what_a_server_forwards_is_about_the_person(
    make_client: MakeClient, key: str, said: dict[str, Any]
) -> None:
    client = await make_client(bots="drop")
    await client.post([PAGE | {"properties": said}], headers=headers("python-requests/2.34.2", key))
    assert contexts(client) == [ON_WECHAT]  # no address: a server's is nobody's
    (event,) = client.events()
    assert json.loads(bytes(event.properties)) == said


async def test_bots_that_a_server_forwards_are_dropped(make_client: MakeClient) -> None:
    client = await make_client(bots="drop")
    events = [PAGE | {"id": str(n), "properties": {"ua": ua}} for n, ua in enumerate([WECHAT, GOOGLEBOT])]
    answer = await client.post(events, headers=headers("posthog-node/5.70.0", "sk"))
    assert (answer.json["accepted"], answer.json["rejected"]) == (1, 1)


@pytest.mark.parametrize(
    ("user_agent", "key"),
    [
        ("python-requests/2.34.2", "pk"),
        ("curl/8.5.0", "pk"),
        ("Go-http-client/2.0", "pk"),
        (GOOGLEBOT, "sk"),
        ("", "sk"),
    ],
)
async def test_programs_that_were_given_a_key_are_no_bots(make_client: MakeClient, user_agent: str, key: str) -> None:
    client = await make_client(bots="drop")
    await client.post([PAGE], headers=headers(user_agent, key))
    assert contexts(client) == [{"device": "server"}]


async def test_a_browser_is_believed_before_its_events(make_client: MakeClient) -> None:
    client = await make_client(event_addresses="dropped")
    await client.post([PAGE | {"properties": {"$user_agent": WECHAT, "$os": "iOS"}}], headers=headers(CHROME))
    assert contexts(client) == [ON_WINDOWS]


@pytest.mark.parametrize(
    ("user_agent", "said", "context"),
    [
        ("okhttp/4.9.0", {"$os": "Android", "$device_type": "Tablet"}, {"device": "tablet", "os": "Android"}),
        ("okhttp/4.9.0", {"platform": "harmonyos"}, {"device": "app", "os": "HarmonyOS"}),
        ("", {"context": {"os": {"name": "iOS"}, "device": {"type": "ios"}}}, {"device": "app", "os": "iOS"}),
        ("", {"p": "tv"}, {"device": "tv"}),
        ("", {"p": "web", "platform": "web", "$os": 4}, None),
        ("posthog-python/7.91.1", {"$os": "Linux"}, {"device": "server"}),  # its own
    ],
)
async def test_what_apps_say_of_themselves(
    make_client: MakeClient, user_agent: str, said: dict[str, Any], context: dict[str, str] | None
) -> None:
    client = await make_client(event_addresses="dropped")
    await client.post([PAGE | {"properties": said}], headers=headers(user_agent))
    assert contexts(client) == [context]


@pytest.mark.parametrize(
    ("said", "context"),
    [
        ({"utm_source": "news"}, {"channel": "news"}),
        ({"$utm_source": "news", "$utm_medium": "email"}, {"channel": "news", "medium": "email"}),
        ({"$latest_utm_source": "取值异常"}, None),
        ({"utm_source": None}, None),
        ({"utm_source": "13800138000"}, {"channel": "***"}),
        (
            {"context": {"campaign": {"source": "news", "name": "spring"}}},
            {"channel": "news", "campaign": "spring"},
        ),
    ],
)
async def test_campaigns_that_apps_name(
    make_client: MakeClient, said: dict[str, Any], context: dict[str, str] | None
) -> None:
    client = await make_client(event_addresses="dropped")
    await client.post([PAGE | {"properties": said}])
    assert contexts(client) == [context]


async def test_a_campaign_counts_more_than_a_referrer_and_less_than_the_url(make_client: MakeClient) -> None:
    client = await make_client(event_addresses="dropped")
    said = {"properties": {"utm_source": "app"}}
    pages = [
        {"url": "https://shop.example/", "referrer": "https://www.google.com/"},
        {"url": "https://shop.example/?utm_source=url"},
    ]
    await client.post([PAGE | said | {"id": str(n), "page": page} for n, page in enumerate(pages)])
    assert sorted(one["channel"] for one in contexts(client)) == ["app", "url"]


async def test_nobody_arrives_from_ones_own_hosts(make_client: MakeClient) -> None:
    client = await make_client(event_addresses="dropped", own_hosts=("pay.example",))
    page = {"url": "https://shop.example/orders", "referrer": "https://www.pay.example/done"}
    await client.post([PAGE | {"page": page}])
    assert contexts(client) == [None]


async def test_places_of_an_address_and_of_a_forwarded_one(make_client: MakeClient, tmp_path: Path) -> None:
    file = tmp_path / "places.mmdb"
    file.write_bytes(
        mmdb(
            {
                "203.0.113.0/24": {"country": {"iso_code": "CN"}},
                "198.51.100.0/24": {"country": {"iso_code": "DE"}, "city": {"names": {"en": "Berlin"}}},
            }
        )
    )
    client = await make_client(place_database=file, event_addresses="dropped")
    await client.post([PAGE], headers=headers(CHROME))
    forwarded = {"properties": {"$ip": "198.51.100.9", "$user_agent": WECHAT}}
    await client.post([PAGE | forwarded | {"id": "e-2"}], headers=headers("node", "sk"))
    await client.post([PAGE | forwarded | {"id": "e-3"}], headers=headers("node", "pk"))  # anybody could say it
    found = {event.id: event.context for event in client.events()}
    assert {name: None if one is None else one.place for name, one in found.items()} == {
        "e-1": "CN", "e-2": "DE/Berlin", "e-3": None,
    }  # fmt: skip


async def test_trusted_servers_say_whose_address_it_is(make_client: MakeClient) -> None:
    client = await make_client()
    await client.post([PAGE | {"properties": {"ip": "198.51.100.9"}}], headers=headers("node", "sk"))
    assert contexts(client) == [{"device": "server", "address": "198.51.100.0"}]


async def test_a_place_is_believed_from_a_proxy_of_ours_alone(make_client: MakeClient) -> None:
    client = await make_client(place_headers=("CF-IPCountry",), proxies=("198.51.100.0/24",))
    await client.post([PAGE], headers=headers(CHROME, **{"cf-ipcountry": "CN"}))
    assert contexts(client) == [ON_WINDOWS | {"address": "203.0.113.0"}]


def test_places_in_headers_need_proxies() -> None:
    with pytest.raises(ValueError, match="place_headers count where a proxy of yours sends them"):
        CollectorSettings.model_validate({"place_headers": ("CF-IPCountry",)})


@pytest.mark.parametrize("key", ["pk", "sk"])
async def test_snowplows_anonymous_have_no_address(make_client: MakeClient, key: str) -> None:
    client = await make_client(event_addresses="kept", place_headers=("CF-IPCountry",), proxies=("203.0.113.0/24",))
    anonymous = {"sp-anonymous": "*", "cf-ipcountry": "CN"}
    said = {"properties": {"ip": "198.51.100.9", "ua": CHROME}}
    await client.post([PAGE | said], headers=headers(CHROME, key, **anonymous))
    assert contexts(client) == [ON_WINDOWS]
    (event,) = client.events()
    assert json.loads(bytes(event.properties)) == {"ua": CHROME}


@pytest.mark.parametrize(
    "dialect", ["posthog-js", "segment-next", "rudder-web", "growingio-web", "sensors-web", "snowplow-web"]
)
def test_every_dialect_has_device_and_browser(dialect: str) -> None:
    found = [
        event.get("context", {})
        for file in RECORDED.glob(f"{dialect}-*.json")
        for one in json.loads(file.read_text("utf-8"))["requests"]
        if "user-agent" in one["request"]["headers"]
        for event in one.get("events", [])
    ]
    assert found
    assert {(one["device"], one["browser"], one["os"]) for one in found} == {("desktop", "Chrome", "Linux")}


AROUNDS = [
    Surroundings(policy_of(CollectorSettings.model_validate({"bots": bots, "event_addresses": addresses}))).of(
        Head("POST", "/", b"", {b"user-agent": user_agent.encode()}, None, "203.0.113.77", proxied=False),
        trusted=trusted,
    )
    for bots, addresses, user_agent, trusted in [
        ("flag", "truncated", CHROME, False),
        ("flag", "kept", GOOGLEBOT, False),
        ("drop", "truncated", GOOGLEBOT, False),
        ("keep", "dropped", GOOGLEBOT, False),
        ("drop", "truncated", "okhttp/4.9.0", False),
        ("drop", "truncated", "node", True),
        ("flag", "truncated", "", False),
    ]
]
SAID = st.dictionaries(
    st.sampled_from(["plain", *sorted(NAMES)]),
    st.sampled_from([WECHAT, GOOGLEBOT, "203.0.113.77", "Android", "news", "", 1, None, True]),
    max_size=3,
)
PAGES = st.sampled_from(
    [None, {"url": "https://shop.example/?utm_source=a"}, {"path": "/a", "referrer": "https://t.co/"}, {"title": "x"}]
)


@given(
    st.lists(st.tuples(SAID, PAGES), min_size=1, max_size=3),
    st.sampled_from(AROUNDS),
)
def test_both_ways_to_decode_agree(said: list[tuple[dict[str, Any], Any]], around: Around) -> None:
    events = [
        PAGE | {"id": f"e-{n}", "properties": properties} | ({} if page is None else {"page": page})
        for n, (properties, page) in enumerate(said)
    ]
    body = json.dumps(events).encode()
    request = RequestFacts("web", trusted=False, received_at=NOW, around=around)
    fast = decode_ordinary(body, request, Limits())
    if fast is not None:
        assert outcome(fast) == outcome(decode_exactly(body, request, Limits()))


def outcome(decoded: Decoded) -> Any:
    return [encode_event(event) for _, event in decoded.events], decoded.rejections, decoded.bots
