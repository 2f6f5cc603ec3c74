"""No secret and no personal number passes in any field of any dialect, but in the ids of people, sessions and events.

Each place of each recorded record, also within the JSON in its texts, holds one in turn; all of it goes through the
collector, and is then looked for in the log, among the rejected, in the metrics and in the process's own log.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlencode

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from pydantic import SecretStr

from collector.decode import DIALECTS
from collector.decode.dialect import Post
from collector.errors import RequestError
from collector.http import make_app
from collector.masking.names import Meaning, Names
from collector.settings import CollectorSettings, Limits, WriteKey
from collector.sinks.sqlite import SqliteSink
from collector.wire.block import encode_event
from tests import masking_corpus as corpus
from tests.asgi_client import Client, Response
from tests.compat.test_recorded import RECORDED, body_of

NOW: Final = 1_795_288_859_000
KEY: Final = "k-1"
IDS: Final = ("id", "anonymous_id", "user_id", "session_id", "seq")
"""Left as sent (ADR 0015)."""
FRESH: Final = ("uuid", "messageId", "eid", "id", "_track_id", "eventSequenceId")
"""What makes an event's id: another for each, or it would be a repeat."""

Place = tuple[str | int, ...]


class Planted(NamedTuple):
    """A record with something in one of its places that must not pass."""

    place: str
    gone: str
    record: dict[str, Any]


def records_of(dialect: str) -> Iterator[dict[str, Any]]:
    """Yield every record of a dialect's recorded requests."""
    if dialect == "native":
        for file in sorted((Path(__file__).parent / "native").glob("*.json")):
            body = json.loads(file.read_text("utf-8"))["body"]
            yield from body["events"] if isinstance(body, dict) else body
        return
    for file in RECORDED:
        if not file.stem.startswith(dialect):
            continue
        for one in json.loads(file.read_text("utf-8"))["requests"]:
            request = one["request"]
            headers = {name.lower().encode(): value.encode("latin-1") for name, value in request["headers"].items()}
            post = Post(request["path"], request.get("query", "").encode(), headers, body_of(request))
            try:
                envelope = DIALECTS[dialect].open(post, Limits())
            except (RequestError, ValueError, IndexError):
                continue  # of another form, as a preflight
            yield from (found for found in map(json.loads, envelope.records) if isinstance(found, dict))


def places(value: Any, at: Place = ()) -> Iterator[Place]:
    """Yield where texts and numbers stand in a record; `~` is what is packed into a text."""
    inner = unpacked(value)
    if inner is not None:
        yield from places(inner[0], (*at, inner[1]))
    elif isinstance(value, dict):
        for name, one in value.items():
            yield from places(one, (*at, name))
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from places(one, (*at, number))
    elif isinstance(value, str | int | float) and not isinstance(value, bool):
        yield at


def unpacked(value: object) -> tuple[Any, str] | None:
    """Return the object that a text holds, and how: `~json`, or in base64."""
    if not isinstance(value, str) or len(value) < 2:
        return None
    if value[0] in "{[":
        try:
            return json.loads(value), "~json"
        except ValueError:
            return None
    if value.startswith(("eyJ", "W3s")):
        try:
            return json.loads(base64.urlsafe_b64decode(value + "==")), "~base64"
        except (ValueError, binascii.Error):
            return None
    return None


def with_one(value: Any, at: Place, new: Any) -> Any:
    """Return a record with something else at one place."""
    if not at:
        return new
    step, rest = at[0], at[1:]
    if step in {"~json", "~base64"}:
        inner = unpacked(value)
        assert inner is not None
        text = json.dumps(with_one(inner[0], rest, new))
        return text if step == "~json" else base64.urlsafe_b64encode(text.encode()).decode()
    if isinstance(value, dict):
        return {name: with_one(one, rest, new) if name == step else one for name, one in value.items()}
    return [with_one(one, rest, new) if number == step else one for number, one in enumerate(value)]


def value_at(value: Any, at: Place) -> Any:
    for step in at:
        inner = unpacked(value) if step in {"~json", "~base64"} else None
        value = inner[0] if inner is not None else value[step]
    return value


def planted(dialect: str, rng: random.Random, *, each_place: int) -> Iterator[Planted]:
    """Yield records with a positive in each kind of place; in so many of the places of one kind."""
    makes = (corpus.phone, corpus.id_number, corpus.card, corpus.email, corpus.jwt)
    names, count = Names(), rng.randrange(5)
    seen: dict[str, int] = {}
    for record in records_of(dialect):
        for at in places(record):
            kind = ".".join("#" if isinstance(step, int) else step for step in at)
            seen[kind] = seen.get(kind, 0) + 1
            if seen[kind] > each_place:
                continue
            before = value_at(record, at)
            name = next((step for step in reversed(at) if isinstance(step, str) and step[0] != "~"), "")
            count += 1
            gone = makes[count % len(makes)](rng)
            new: Any = f"call {gone} now"
            if not isinstance(before, str) and names.in_properties(name) is Meaning.ANY:
                gone = corpus.phone(rng)
                new = int(gone)
            elif isinstance(before, str) and before.startswith(("http", "/")):
                new = f"{before}{'&' if '?' in before else '?'}who={quote(gone)}"
            yield Planted(f"{dialect}: {kind}", gone, fresh(with_one(record, at, new), at, count))
            if isinstance(before, dict):
                continue
            keyed = with_one(record, at, {corpus.phone(rng): before})  # a name that looks like one
            yield Planted(
                f"{dialect}: {kind}, a name", next(iter(value_at(keyed, at))), fresh(keyed, at, count + 10**6)
            )


def fresh(record: dict[str, Any], at: Place, number: int) -> dict[str, Any]:
    for name in FRESH:
        if name in record and at != (name,):
            record = {**record, name: number if isinstance(record[name], int) else f"e-{number}"}
    return record


async def send(client: Client, dialect: str, records: list[dict[str, Any]]) -> Response:
    """Send records as one request of a dialect's, in the plainest of its forms."""
    body = json.dumps(records).encode()
    path, query, headers = "/v1/events", b"", {"authorization": f"Bearer {KEY}", "user-agent": "test"}
    if dialect == "posthog":
        path, body = "/batch/", json.dumps({"api_key": KEY, "batch": records}).encode()
    elif dialect in {"segment", "rudder"}:
        path = "/v1/b" if dialect == "segment" else "/beacon/v1/batch"
        body = json.dumps({"batch": records, "writeKey": KEY}).encode()
    elif dialect == "snowplow":
        path = "/com.snowplowanalytics.snowplow/tp2"
        body = json.dumps({"schema": "iglu:a/b/jsonschema/1-0-4", "data": records}).encode()
    elif dialect == "growingio":
        path, headers = f"/v3/projects/{KEY}/collect", {"content-type": "application/json"}
    elif dialect == "sensors":
        path, query, headers = "/sa", f"project={KEY}".encode(), {"content-type": "application/x-www-form-urlencoded"}
        body = urlencode({"data_list": base64.b64encode(body).decode()}).encode()
    return await client.send("POST", path, body, headers=headers, query=query)


async def check(tmp_path: Path, dialect: str, found: list[Planted], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    sink = SqliteSink.open(tmp_path / "log.db", partitions=1, log_id="test", clock=lambda: NOW)
    settings = CollectorSettings(keys=(WriteKey(name="web", key=SecretStr(KEY)),), linger_ms=0)
    registry = CollectorRegistry()
    client = Client(make_app(settings, sink, lambda: NOW, registry=registry), tmp_path / "log.db", registry)
    for start in range(0, len(found), 200):
        answer = await send(client, dialect, [one.record for one in found[start : start + 200]])
        assert answer.status in {200, 204}
    await client.app.close()
    await sink.close()
    assert client.metric("events_received_total", source="web") == len(found)
    events = [json.loads(encode_event(event)) for event in client.events()]
    for event in events:
        for name in IDS:
            event.pop(name, None)
    rejected = [{**one, "id": None} for one in client.rejected()]
    assert len(events) > len(found) / 4, f"only {len(events)} of {len(found)} events, {len(rejected)} rejected"
    written = json.dumps([events, rejected]) + generate_latest(registry).decode() + caplog.text
    assert {one.place: one.gone for one in found if one.gone in written} == {}


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
async def test_nothing_personal_passes(tmp_path: Path, dialect: str, caplog: pytest.LogCaptureFixture) -> None:
    found = list(planted(dialect, random.Random(7), each_place=1))
    assert len(found) > 50, "the recorded requests of this dialect were not read"
    await check(tmp_path, dialect, found, caplog)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("dialect", sorted(DIALECTS))
async def test_nothing_personal_passes_in_any_record(
    tmp_path: Path, dialect: str, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    await check(tmp_path, dialect, list(planted(dialect, random.Random(seed), each_place=20)), caplog)
