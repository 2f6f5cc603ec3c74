"""The query API over a log that the engine itself has folded."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.api import CHANGES_SCHEMA
from console.openapi import FILE, document
from console.security import HEADERS
from processors.wire import decode_change
from tests.unit.console.shop import Shop

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


async def test_a_person_and_why(shop: Shop, client: httpx.AsyncClient) -> None:
    await shop.decide("u:42")
    found = (await client.get("/api/persons/u:42")).json()
    assert (found["stage"], found["customer"], found["intent"]) == ("decision", "new", "strong")
    assert found["decision_score"] == found["score"] == 6.5
    assert found["evidence"] == [
        {"behaviour": "invest_clicked", "count": 4, "weight": 1.5},
        {"behaviour": "product_viewed", "count": 1, "weight": 0.5},
    ]
    assert found == json.loads(json.dumps(await shop.query.person("u:42")))


async def test_positions_of_a_person(shop: Shop, client: httpx.AsyncClient) -> None:
    await shop.take(shop.money("purchase", "u:42", "o-1", trusted=False))
    found = (await client.get("/api/persons/u:42")).json()
    assert (found["stage"], found["confirmed"], found["funds"]) == ("holding", False, "held")
    assert found["positions"]["o-1"] | {"purchased_at": ""} == {
        "product_id": "b-1", "category": "bond", "amount": "1000.00", "currency": "CNY", "purchased_at": "",
        "matures_at": None, "confirmed": False, "closings": [],
    }  # fmt: skip


async def test_a_bare_id_is_a_users_or_else_an_anonymous_one(shop: Shop, client: httpx.AsyncClient) -> None:
    await shop.take(shop.view("u:7"), shop.view("a:7"), shop.view("a:8"))
    assert (await client.get("/api/persons/7")).json()["person"] == "u:7"
    assert (await client.get("/api/persons/a:7")).json()["person"] == "a:7"
    assert (await client.get("/api/persons/8/timeline")).json()["person"] == "a:8"


@pytest.mark.parametrize("user", ["a b", "tenant/42", "x@example.com", "<b>", "张三", "a?b#c%20", "l:1"])
async def test_ids_are_other_peoples_input(shop: Shop, client: httpx.AsyncClient, user: str) -> None:
    await shop.take(shop.view(f"u:{user}"))
    quoted = httpx.QueryParams({"": user}).__str__()[1:].replace("+", "%20")
    assert (await client.get(f"/api/persons/{quoted}")).json()["person"] == f"u:{user}"
    assert (await client.get(f"/api/persons/u:{quoted}/timeline")).json()["person"] == f"u:{user}"


async def test_a_linked_anonymous_id_says_whose_it_is(shop: Shop, client: httpx.AsyncClient) -> None:
    await shop.take(shop.view("a:x"), shop.event("identify", "u:42", anonymous_id="x"))
    assert (await client.get("/api/persons/x")).json() == {"person": "a:x", "linked_to": "u:42"}
    assert (await client.get("/api/persons/x/timeline")).status_code == 404


async def test_a_timeline(shop: Shop, client: httpx.AsyncClient) -> None:
    await shop.decide("u:42")
    await shop.pass_time(2 * HOUR_MS)
    await shop.take(shop.view("u:42"), shop.money("purchase", "u:42", "o-1"))
    found = (await client.get("/api/persons/42/timeline")).json()
    assert [(one["from"], one["to"], one["version"]) for one in found["changes"]] == [
        ("prospect", "decision", 1),
        ("decision", "holding", 2),
    ]
    assert [one["counts"] for one in found["hours"]] == [
        {"product_viewed": 1, "invest_clicked": 4},
        {"product_viewed": 1},
    ]


async def test_stages_and_definitions(shop: Shop, client: httpx.AsyncClient) -> None:
    await shop.decide("u:1")
    await shop.take(shop.view("u:2"), shop.money("purchase", "u:3", "o-1"))
    found = (await client.get("/api/stages")).json()
    assert found["stages"] == {"prospect": 1, "decision": 1, "holding": 1, "post_redemption": 0, "dormant": 0}
    definitions = (await client.get("/api/definitions")).json()
    assert definitions["number"] == 1
    assert "invest_clicked" in definitions["toml"]


async def test_before_anything_was_published(bare_client: httpx.AsyncClient) -> None:
    assert (await bare_client.get("/api/definitions")).json() == {"number": 0, "toml": None}
    assert set((await bare_client.get("/api/stages")).json()["stages"].values()) == {0}
    assert (await bare_client.get("/api/changes")).json() == {"changes": [], "next": "0"}
    assert (await bare_client.get("/api/persons/42")).status_code == 404


async def test_changes_are_paged_without_a_gap(shop: Shop, client: httpx.AsyncClient) -> None:
    for number in range(7):
        await shop.decide(f"u:{number}")
    published = [value for _, value in await shop.log.changes("0", 100)]
    whole = await client.get("/api/changes")
    # The bytes of a message are part of its promise: the same id always has the same.
    assert whole.content.startswith(b'{"changes":[' + b",".join(published) + b'],"next":"')
    paged: list[Any] = []
    cursor: dict[str, str] = {}
    while page := (answer := (await client.get("/api/changes", params={"limit": "2"} | cursor)).json())["changes"]:
        paged += page
        cursor = {"after": answer["next"]}
    assert paged == whole.json()["changes"]
    assert answer["next"] == whole.json()["next"]
    assert len(paged) == 7


async def test_without_a_cursor_a_reader_gets_seven_days(shop: Shop, client: httpx.AsyncClient) -> None:
    await shop.decide("u:1")
    shop.now += 7 * DAY_MS + 1
    await shop.decide("u:2")
    assert [one["person"] for one in (await client.get("/api/changes")).json()["changes"]] == ["u:2"]
    later = (await client.get("/api/changes?after=0")).json()["changes"]
    assert [one["person"] for one in later] == ["u:1", "u:2"]


async def test_the_newest_changes(shop: Shop, client: httpx.AsyncClient) -> None:
    for number in range(5):
        await shop.decide(f"u:{number}")
        shop.now += 20 * HOUR_MS
    everything = (await client.get("/api/changes")).json()
    for most in (1, 3, 5, 9):
        newest = (await client.get("/api/changes", params={"newest": True, "limit": most})).json()
        assert newest["changes"] == everything["changes"][-most:]
        assert newest["next"] == everything["next"]
    last = (await client.get(f"/api/changes?newest=true&after={everything['next']}")).json()
    assert last == {"changes": [], "next": everything["next"]}


@pytest.mark.parametrize(
    ("query", "name"),
    [("after=x", "after"), ("after=-1", "after"), ("after=", "after"), ("after=9999999999999", "after"),
     ("after=" + "9" * 19, "after"), ("after=٣", "after"),
     ("limit=0", "limit"), ("limit=1001", "limit"), ("limit=many", "limit"), ("newest=perhaps", "newest")],
)  # fmt: skip
async def test_a_bad_parameter_is_named(client: httpx.AsyncClient, query: str, name: str) -> None:
    answer = await client.get(f"/api/changes?{query}")
    assert answer.status_code == 400
    assert answer.json()["code"] == "bad_parameter"
    assert answer.json()["detail"].startswith(f"{name}: ")


async def test_a_bad_last_event_id_is_named(client: httpx.AsyncClient) -> None:
    for value in ("x", "9999999999999"):
        answer = await client.get("/api/changes/stream", headers={"Last-Event-ID": value})
        assert answer.status_code == 400
        assert answer.json()["detail"].startswith("Last-Event-ID: ")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [("GET", "/api/persons/u:nobody", 404, "unknown_person"), ("GET", "/api/persons/nobody", 404, "unknown_person"),
     ("GET", "/api/persons/a:", 404, "unknown_person"), ("GET", f"/api/persons/{'x' * 600}", 400, "bad_parameter"),
     ("GET", "/api/nothing", 404, "unknown_path"), ("GET", "/page/nothing.js", 404, "unknown_path"),
     ("GET", "/page/..%2fapp.py", 404, "unknown_path"), ("POST", "/api/stages", 405, "wrong_method"),
     ("GET", "/docs", 404, "unknown_path")],
)  # fmt: skip
async def test_errors_share_one_body(client: httpx.AsyncClient, method: str, path: str, status: int, code: str) -> None:
    answer = await client.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert set(answer.json()) == {"error", "code", "message", "detail"}
    assert answer.headers["content-security-policy"] == HEADERS["Content-Security-Policy"]


async def test_a_fault_says_no_more_than_that(shop: Shop, client: httpx.AsyncClient) -> None:
    shop.log.close()
    answer = await client.get("/api/changes?after=0")
    assert (answer.status_code, answer.json()["code"]) == (500, "fault")
    assert "sqlite" not in answer.text.lower()
    assert answer.headers["content-security-policy"] == HEADERS["Content-Security-Policy"]


@pytest.mark.parametrize("path", ["/", "/page/main.js", "/api/stages", "/openapi.json"])
async def test_every_answer_is_guarded(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path, headers={"Origin": "https://elsewhere.example"})
    assert answer.status_code == 200
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    assert "access-control-allow-origin" not in answer.headers
    assert answer.headers["cache-control"] == ("no-cache" if path in {"/", "/page/main.js"} else "no-store")


async def test_the_page_needs_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    page = (await client.get("/")).text
    assert "<style" not in page
    assert "style=" not in page
    assert "://" not in page
    assert page.count("<script") == page.count('<script type="module" src="/page/')


def test_the_document_is_not_stale(root: Any) -> None:
    assert (root / FILE).read_text("utf-8") == document(), "run: python -m console.openapi"


def test_the_document_says_what_every_field_means() -> None:
    schemas = json.loads(document())["components"]["schemas"]
    assert {"Person", "Timeline", "Stages", "Definitions", "Error", "StageChange", "LinkedAnonymousId"} <= set(schemas)
    messages = {"StageChange", "Cause", "Place", "Preference", "Evidence"}  # their fields are the wire module's
    bare = [
        f"{name}.{field}"
        for name, schema in schemas.items() if name not in messages
        for field, one in schema["properties"].items() if "description" not in one
    ]  # fmt: skip
    assert bare == []
    assert "422" not in document()
    assert CHANGES_SCHEMA["properties"]["changes"]["items"]["$ref"].split("/")[-1] in schemas


@given(st.text(max_size=30))
def test_a_message_stays_in_one_line(text: str) -> None:
    """An event's data ends at a line break; no id or name may bring one into a message."""
    from console.stream import event_of  # noqa: PLC0415
    from tests.unit.console.messages import message  # noqa: PLC0415

    event = event_of(("5", message(text)))
    fields = dict(line.split(b": ", 1) for line in event.removesuffix(b"\n\n").split(b"\n"))
    assert decode_change(fields[b"data"]).person == f"u:{text}"
    assert (fields[b"id"], fields[b"event"]) == (b"5", b"change")
