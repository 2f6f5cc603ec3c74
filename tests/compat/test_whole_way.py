"""One visit said in each dialect: list, products, invest, order. It has to make the decision of the native route."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from collector.http import make_app
from collector.settings import CollectorSettings, WriteKey
from collector.sinks.sqlite import SqliteSink
from phasewatch.embedded_worker import shipped_definitions
from tests.asgi_client import Client
from tests.harness import Deployment

START = 1_795_290_000_000
SHOP = "https://shop.example"
KEY = "the-key"
# Segment, RudderStack and Sensors capture no clicks on buttons or no submits: a shop tracks these by name.


@dataclass(frozen=True)
class Did:
    """One thing the visitor did: a page they saw, the button they clicked, the form they sent."""

    number: int
    kind: str
    path: str

    @property
    def at(self) -> int:
        return START + self.number * 1000

    @property
    def url(self) -> str:
        return SHOP + self.path

    @property
    def uuid(self) -> str:
        return f"00000000-0000-4000-8000-{self.number:012}"

    @property
    def iso(self) -> str:
        return f"2026-11-21T19:{40 + self.number // 60:02}:{self.number % 60:02}.000Z"


VISIT = [
    Did(n, kind, path)
    for n, (kind, path) in enumerate(
        [
            ("page", "/products"),
            ("page", "/products/bond/B-3"),
            ("page", "/products/bond/B-4"),
            ("click", "/products/bond/B-4"),
            ("click", "/products/bond/B-4"),
            ("page", "/orders/new"),
            ("submit", "/orders/new"),
        ]
    )
]

Sent = tuple[str, str, str, bytes, dict[str, str]]
"""Method, path, query, body and headers."""


def native(did: Did) -> Sent:
    element = {"click": {"tag": "button", "text": "Invest"}, "submit": {"tag": "form"}}.get(did.kind)
    event = {"type": did.kind, "id": did.uuid, "ts": did.at, "anonymous_id": "a-1", "page": {"url": did.url}}
    return "POST", "/v1/events", "", body([event | ({"element": element} if element else {})]), bearer()


def posthog(did: Did) -> Sent:
    name = "$pageview" if did.kind == "page" else "$autocapture"
    properties: dict[str, object] = {
        "distinct_id": "a-1", "$device_id": "a-1", "$is_identified": False, "$current_url": did.url, "$lib": "web",
    }  # fmt: skip
    if did.kind != "page":
        chain = {
            "click": 'button.btn:nth-child="2"nth-of-type="1"text="Invest";body:nth-child="2"nth-of-type="1"',
            "submit": 'form:nth-child="1"nth-of-type="1";body:nth-child="2"nth-of-type="1"',
        }
        properties |= {"$event_type": did.kind, "$elements_chain": chain[did.kind], "$el_text": "Invest"}
    event = {"uuid": did.uuid, "event": name, "properties": properties, "timestamp": did.iso}
    return "POST", "/e/", "", body({"api_key": KEY, "batch": [event], "sent_at": did.iso}), {}


def tracked(did: Did, when: str) -> dict[str, object]:
    page = {"url": did.url, "path": did.path, "title": "Shop"}
    event: dict[str, object] = {"messageId": did.uuid, "anonymousId": "a-1", when: did.iso, "sentAt": did.iso}
    event["context"] = {"page": page}
    if did.kind == "page":
        return event | {"type": "page", "properties": page}
    return event | {"type": "track", "event": f"{did.kind} invest", "properties": {}}


def segment(did: Did) -> Sent:
    event = tracked(did, "timestamp") | {"writeKey": KEY, "userId": None}
    return "POST", "/v1/p" if did.kind == "page" else "/v1/t", "", body(event), {}


def rudder(did: Did) -> Sent:
    event = tracked(did, "originalTimestamp") | {"userId": "", "channel": "web"}
    basic = "Basic " + base64.b64encode(f"{KEY}:".encode()).decode()
    return "POST", f"/v1/{event['type']}", "", body(event), {"authorization": basic}


def snowplow(did: Did) -> Sent:
    event = {
        "eid": did.uuid, "aid": KEY, "duid": "a-1", "url": did.url, "p": "web", "tv": "js-4.6.8",
        "dtm": str(did.at), "stm": str(did.at),
    }  # fmt: skip
    vendor = "iglu:com.snowplowanalytics.snowplow"
    said: dict[str, tuple[str, dict[str, object]]] = {
        "click": ("button_click/jsonschema/1-0-0", {"label": "Invest", "id": "invest"}),
        "submit": ("submit_form/jsonschema/1-0-0", {"formId": "order", "formClasses": [], "elements": []}),
    }
    if did.kind == "page":
        event |= {"e": "pv", "page": "Shop"}
    else:
        schema, data = said[did.kind]
        inner = {"schema": f"{vendor}/{schema}", "data": data}
        outer = {"schema": f"{vendor}/unstruct_event/jsonschema/1-0-0", "data": inner}
        event |= {"e": "ue", "ue_pr": json.dumps(outer)}
    posted = {"schema": f"{vendor}/payload_data/jsonschema/1-0-4", "data": [event]}
    return "POST", "/com.snowplowanalytics.snowplow/tp2", "", body(posted), {}


def growingio(did: Did) -> Sent:
    kinds = {"page": "PAGE", "click": "VIEW_CLICK", "submit": "FORM_SUBMIT"}
    event = {
        "eventType": kinds[did.kind], "deviceId": "a-1", "sessionId": "s-1", "dataSourceId": "d", "timestamp": did.at,
        "domain": "shop.example", "path": did.path, "platform": "web", "eventSequenceId": did.number + 1,
        "attributes": {},
    }  # fmt: skip
    if did.kind != "page":
        tag = "button" if did.kind == "click" else "form"
        event |= {"xpath": f"/main/{tag}", "xcontent": "/.main/#go", "index": 0}
    if did.kind == "click":
        event |= {"textValue": "Invest"}
    return "POST", f"/v3/projects/{KEY}/collect", f"stm={did.at}&compress=0", body([event]), {}


def sensors(did: Did) -> Sent:
    names = {"page": "$pageview", "click": "$WebClick", "submit": "submit invest"}
    properties = {"$url": did.url, "$title": "Shop", "$lib": "js"}
    if did.kind == "click":
        properties |= {"$element_type": "button", "$element_content": "Invest", "$element_selector": "#invest"}
    record = {
        "type": "track", "event": names[did.kind], "distinct_id": "a-1", "anonymous_id": "a-1", "time": did.at,
        "_track_id": 100_000_000 + did.number, "_flush_time": did.at, "lib": {"$lib": "js"}, "properties": properties,
    }  # fmt: skip
    data = quote(base64.b64encode(body(record)).decode(), safe="")
    return "GET", "/sa.gif", f"project={KEY}&data={data}", b"", {}


def body(value: object) -> bytes:
    return json.dumps(value).encode()


def bearer() -> dict[str, str]:
    return {"authorization": f"Bearer {KEY}"}


def definitions(dialect: str) -> str:
    """Return the shop's document; what an SDK does not capture by itself is found by the name of a tracked event.

    Segment, RudderStack and Sensors capture no submits, the first two no clicks either.
    """
    text = shipped_definitions()
    if dialect in {"segment", "rudder"}:
        text = text.replace(
            'type = "click"\ntext = ["Invest", "立即投资"]', 'type = "custom"\nevent = ["click invest"]'
        )
    if dialect in {"segment", "rudder", "sensors"}:
        text = text.replace('type = "submit"\npath', 'type = "custom"\nevent = ["submit invest"]\npath')
    return text


async def decision(directory: Path, say: Callable[[Did], Sent]) -> dict[str, Any]:
    """Return the change by which the visitor enters a decision."""
    now = START
    file = directory / "log.db"
    deployment = Deployment(start=START, definitions=definitions(say.__name__), partitions=4, path=str(file))
    await deployment.start()
    sink = SqliteSink.open(file, partitions=4, log_id="test", clock=lambda: now)
    registry = CollectorRegistry()
    settings = CollectorSettings(keys=(WriteKey(name="web", key=SecretStr(KEY)),), linger_ms=0)
    client = Client(make_app(settings, sink, lambda: now, registry=registry), file, registry)
    for did in VISIT:
        now = did.at
        method, path, query, posted, headers = say(did)
        answer = await client.send(method, path, posted, query=query.encode(), headers=headers)
        assert answer.status in {200, 204}, answer
    await client.app.close()
    await sink.close()
    assert client.rejected() == []
    deployment.now = now
    await deployment.settle()
    (change,) = deployment.changes()["a:a-1"]
    deployment.close()
    assert isinstance(change, dict)
    return change


@pytest.mark.parametrize(
    "say", [posthog, segment, rudder, snowplow, growingio, sensors], ids=lambda say: str(say.__name__)
)
async def test_the_same_visit_makes_the_same_decision(tmp_path: Path, say: Callable[[Did], Sent]) -> None:
    for name in ("native", "dialect"):
        (tmp_path / name).mkdir()
    expected = await decision(tmp_path / "native", native)
    found = await decision(tmp_path / "dialect", say)
    assert expected["to"] == "decision"
    assert {one["behaviour"]: one["count"] for one in expected["evidence"]} == {
        "invest_clicked": 2, "list_viewed": 1, "order_submitted": 1, "product_viewed": 2,
    }  # fmt: skip
    for field in ("person", "from", "to", "at", "score", "decision_score", "intent", "evidence", "preference"):
        assert found[field] == expected[field], field
