"""What somebody typed, chose or ticked reaches the log in no dialect, not even where the SDK sends it."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from collector.http import make_app
from collector.settings import CollectorSettings, WriteKey
from collector.sinks.sqlite import SqliteSink
from tests.asgi_client import Client
from tests.compat.test_nothing_personal import KEY, NOW, send

TYPED = f"typed{random.Random(1).randrange(10**6)}"
SNOWPLOW = "iglu:com.snowplowanalytics.snowplow/"


def posthog(**properties: Any) -> dict[str, Any]:
    return {"event": "$autocapture", "distinct_id": "d-1", "properties": {"$event_type": "change", **properties}}


def snowplow(schema: str, data: dict[str, Any]) -> dict[str, Any]:
    event = {
        "schema": f"{SNOWPLOW}unstruct_event/jsonschema/1-0-0",
        "data": {"schema": SNOWPLOW + schema, "data": data},
    }
    return {"e": "ue", "duid": "d-1", "aid": KEY, "ue_pr": json.dumps(event)}


def sensors(tag: str) -> dict[str, Any]:
    properties = {"$element_type": tag, "$element_content": TYPED}
    return {"type": "track", "event": "$WebClick", "distinct_id": "d-1", "time": NOW, "properties": properties}


def growingio(kind: str, path: str, text: str = TYPED) -> dict[str, Any]:
    return {"eventType": kind, "deviceId": "d-1", "timestamp": NOW, "xpath": path, "textValue": text}


CASES = {
    "native: a value": ("native", {"type": "change", "anonymous_id": "a", "element": {"tag": "input", "value": TYPED}}),
    "posthog: a chain": ("posthog", posthog(**{"$elements_chain": f'input:attr__type="text"attr__value="{TYPED}"'})),
    "posthog: a chain without a type": ("posthog", posthog(**{"$elements_chain": f'input:attr__value="{TYPED}"'})),
    "posthog: a choice": (
        "posthog",
        posthog(**{"$elements_chain": f'select:attr__value="{TYPED}"text="{TYPED}"', "$el_text": TYPED}),
    ),
    "posthog: a field around a click": (
        "posthog",
        posthog(**{"$event_type": "click", "$elements_chain": f'i:;textarea:text="{TYPED}"attr__value="{TYPED}"'}),
    ),
    "posthog: a list": (
        "posthog",
        posthog(**{"$elements": [{"tag_name": "textarea", "attr__value": TYPED, "$el_text": TYPED}]}),
    ),
    "snowplow: a change": ("snowplow", snowplow("change_form/jsonschema/1-0-0", {"nodeName": "INPUT", "value": TYPED})),
    "snowplow: a focus": ("snowplow", snowplow("focus_form/jsonschema/1-0-0", {"nodeName": "INPUT", "value": TYPED})),
    "snowplow: a form": (
        "snowplow",
        snowplow("submit_form/jsonschema/1-0-0", {"elements": [{"name": "a", "value": TYPED}]}),
    ),
    "sensors: an input": ("sensors", sensors("input")),
    "sensors: a textarea": ("sensors", sensors("textarea")),
    "sensors: a field of an app": ("sensors", sensors("EditText")),
    "growingio: a change": ("growingio", growingio("VIEW_CHANGE", "/main/form/input")),
    "growingio: a choice": ("growingio", growingio("VIEW_CLICK", "/main/form/select")),
    "growingio: a tick": ("growingio", growingio("VIEW_CLICK", "/main/form/input", f"{TYPED}(true)")),
    "rudder: what it tracked by itself": (
        "rudder",
        {
            "type": "track", "event": "autotrack", "anonymousId": "a-1", "channel": "web",
            "properties": {"event_type": "change", "elements": [{"tag_name": "input", "value": TYPED}], "value": TYPED},
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("rejected", [False, True])
async def test_no_typed_value_is_written(tmp_path: Path, case: str, rejected: bool) -> None:  # noqa: FBT001 - a case
    dialect, record = CASES[case]
    sink = SqliteSink.open(tmp_path / "log.db", partitions=1, log_id="test", clock=lambda: NOW)
    settings = CollectorSettings(keys=(WriteKey(name="web", key=SecretStr(KEY)),), linger_ms=0)
    registry = CollectorRegistry()
    client = Client(make_app(settings, sink, lambda: NOW, registry=registry), tmp_path / "log.db", registry)
    if rejected:  # of nobody
        named = ("distinct_id", "duid", "deviceId", "anonymous_id", "anonymousId")
        record = {name: "null" if name in named else value for name, value in record.items()}
    await send(client, dialect, [record])
    await client.app.close()
    await sink.close()
    assert (len(client.events()), len(client.rejected())) == (int(not rejected), int(rejected))
    assert TYPED.encode() not in b"".join(client.values("events") + client.values("rejected"))
