"""docs/openapi-collector.json, from the tables of routes, errors and reasons."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec

from collector.answer import JSON, Answer, EventError, Results
from collector.decode.decoded import Reason
from collector.decode.events import NativeEvent
from collector.dialects.path import EventPath
from collector.dialects.settings_path import SettingsPath
from collector.dialects.table import EVENT_PATHS, SETTINGS_PATHS
from collector.errors import STATUS, UNFORESEEN, UnknownPathError, WrongMethodError
from collector.http import ALIVE
from collector.keys import KEY_PARAMETERS
from collector.settings import CollectorSettings
from collector.wire.event import EVENT_TYPES

FILE: Final = "docs/openapi-collector.json"

Schema = dict[str, Any]

_DESCRIPTION: Final = """\
What the public port takes, and what it answers. `POST /v1/events` is ours; the other routes are those of the SDKs that
they are named after, whose requests are described by their makers: here stands what they are answered. `OPTIONS` is
answered on every path with 204, the page's own origin and credentials. A path that is not here is 404, another method
405, each with an Error. The paths of `/v1/events` and `/autocapture.js` are settings."""

_NATIVE: Final = """\
Each event is judged by itself: `errors` names those that were rejected, and a bad one never fails its neighbours. What
is answered with 200 is durable. After a 503 send all of it again: repeats are dropped by `id`. The body may be packed
with gzip, deflate, br or zstd (Content-Encoding); its Content-Type is not looked at, as beacons cannot choose it."""

_TIME: Final[Schema] = {
    "description": "RFC 3339 with an offset, or epoch milliseconds as a number or its text; 2000 to 2200.",
    "anyOf": [{"type": "string"}, {"type": "number"}, {"type": "null"}],
}
_ERROR: Final = {"$ref": "#/components/schemas/Error"}
_NOT_OF_A_ROUTE: Final = frozenset({UnknownPathError, WrongMethodError})
_EXAMPLE_NAME: Final = "KEY"


def document() -> str:
    """Return the public port's OpenAPI document as indented JSON."""
    paths: dict[str, Schema] = {}
    settings, refusals = CollectorSettings(), _refusals({})
    paths[settings.events_path] = {"post": _native()}
    paths |= _scripts(settings.autocapture_path)
    paths["/healthz"] = {method: _healthz() for method in ("get", "head")}
    for events in EVENT_PATHS:
        paths[events.template] = _item(events, {method: _events(events, method) for method in events.methods})
    for one in SETTINGS_PATHS:
        paths[one.template] = _item(one, {method: _settings(one) for method in one.methods})
    for path, item in paths.items():
        for method in item.keys() & {"get", "head", "post"}:
            operation = item[method]
            operation["operationId"] = f"{method} {path}"
            operation["responses"] = {
                status: {"$ref": f"#/components/responses/{status}"} if response == refusals.get(status) else response
                for status, response in operation["responses"].items()
            }
    whole = {
        "openapi": "3.1.0",
        "info": {"title": "Phasewatch collector", "version": "1", "description": _DESCRIPTION},
        "paths": paths,
        "components": {"schemas": _schemas(), "responses": refusals, "securitySchemes": _security_schemes()},
    }
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def statuses(path: EventPath) -> frozenset[int]:
    """Return what a request to a path of events may be answered with, by the tables."""
    return frozenset(int(status) for status in _responses(_answers(path), path.instead))


def _native() -> Schema:
    success = {"description": "What became of each event.", "content": _json({"$ref": "#/components/schemas/Results"})}
    return {
        "tags": ["native"],
        "summary": "Take events.",
        "description": _NATIVE,
        "security": _security(required=True),
        "requestBody": {"required": True, "content": _json({"$ref": "#/components/schemas/Request"})},
        "responses": _merged({"200": success}, _refusals({})),
    }


def _events(path: EventPath, method: str) -> Schema:
    dialects = {"segment_or_rudder": ["segment", "rudder"]}.get(path.name, [path.name.partition("_")[0]])
    operation: Schema = {
        "tags": dialects,
        "summary": f"Take events of the SDKs of {' and '.join(one.capitalize() for one in dialects)}.",
        "security": _security(required=path.key_required),
        "responses": _responses(_answers(path), path.instead),
    }
    if not path.key_required:
        operation["description"] = "The key may stand in the path, query or body instead, as the SDK sends it."
    if method == "POST":
        operation["requestBody"] = {
            "description": "As the SDK sends it: JSON, a form with it, or packed; Content-Type is not relied on.",
            "content": {**_json({}), "text/plain": {"schema": {"type": "string"}}},
        }
    return operation


def _answers(path: EventPath) -> Sequence[Answer]:
    """Return what a path's SDKs hear of events that were accepted, and of one that was not."""
    error = EventError(0, "e-1", Reason.MALFORMED, "events[0] is no JSON object")
    return path.answer(Results(1, 0, 0, [], [])), path.answer(Results(0, 0, 1, [error], []))


def _responses(answers: Iterable[Answer], instead: Mapping[int, HTTPStatus]) -> dict[str, Schema]:
    found: dict[str, Schema] = {}
    for answer in answers:
        found = _merged(found, {str(int(answer.status)): _response(answer)})
    return _merged(found, _refusals(instead))


def _refusals(instead: Mapping[int, HTTPStatus]) -> dict[str, Schema]:
    """Return the responses of every error of the one table, with the statuses that an SDK gets instead."""
    found: dict[str, Schema] = {}
    rows = [row for error, row in STATUS.items() if error not in _NOT_OF_A_ROUTE]
    for status, code, message in (*rows, UNFORESEEN):
        response = {"description": f"`{code}`: {message}", "content": _json(_ERROR)}
        found = _merged(found, {str(int(instead.get(status, status))): response})
    return found


def _merged(one: Mapping[str, Schema], other: Mapping[str, Schema]) -> dict[str, Schema]:
    """Return the responses of both; of a status that both have, either may be the answer."""
    found = dict(one)
    for status, response in other.items():
        if status not in found:
            found[status] = response
            continue
        told, content = found[status]["description"], dict(found[status].get("content", {}))
        for kind, body in response.get("content", {}).items():
            content[kind] = _either(content[kind], body) if kind in content else body
        also = "" if response["description"] in told else f" {response['description']}"
        found[status] = {"description": told + also} | ({"content": content} if content else {})
    return dict(sorted(found.items()))


def _either(one: Schema, other: Schema) -> Schema:
    schemas = [*one["schema"].get("anyOf", [one["schema"]])]
    if other["schema"] not in schemas:
        schemas.append(other["schema"])
    return {"schema": schemas[0] if len(schemas) == 1 else {"anyOf": schemas}}


def _response(answer: Answer) -> Schema:
    kind = dict(answer.headers).get(b"content-type", b"").decode()
    if not kind:
        return {"description": "Taken."}
    if kind == JSON[1].decode():
        return {"description": "Taken.", "content": _json(_like(msgspec.json.decode(answer.body)))}
    return {"description": "Taken.", "content": {kind: {"schema": _text_of(kind, answer.body)}}}


def _like(value: dict[str, Any]) -> Schema:
    """Return the schema of an answer from an example of it."""
    if value.keys() == set(Results.__struct_fields__):
        return {"$ref": "#/components/schemas/Results"}
    if any(isinstance(one, dict) for one in value.values()):
        return {"type": "object", "required": sorted(value)}
    return {"const": value}


def _text_of(kind: str, body: bytes) -> Schema:
    return {"type": "string", "const": body.decode()} if kind.startswith("text/plain") else {"type": "string"}


def _settings(path: SettingsPath) -> Schema:
    names = dict.fromkeys(_names(path.template), _EXAMPLE_NAME)
    kind, body = dict(path.headers)[b"content-type"].decode(), path.body(names)
    if kind == JSON[1].decode():
        found = msgspec.json.decode(body)
        schema: Schema = {"type": "object", "required": sorted(found)} if names else {"const": found}
    else:
        schema = {"type": "string"} if names else _text_of(kind, body)
    return {
        "tags": [path.name.partition("_")[0]],
        "summary": "Tell an SDK what is switched on.",
        "responses": _merged(
            {"200": {"description": "The settings.", "content": {kind: {"schema": schema}}}}, _of_connections()
        ),
    }


def _of_connections() -> dict[str, Schema]:
    """Return what any request may be answered with before its path is looked at, and a fault of ours."""
    return {
        status: response
        for status, response in _refusals({}).items()
        if int(status) in {HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, UNFORESEEN[0]}
    }


def _scripts(newest: str) -> dict[str, Schema]:
    """Return the paths of the web SDK's files."""
    stem = newest.removesuffix(".js")
    script, types = "text/javascript; charset=utf-8", "text/plain; charset=utf-8"
    version = {
        "name": "version",
        "in": "path",
        "required": True,
        "description": "The first 16 hexadecimal digits of the script's SHA-256: `phasewatch snippet` tells them.",
        "schema": {"type": "string", "pattern": "^[0-9a-f]{16}$"},
    }
    unknown: Schema = {"404": {"description": "No version of this or an earlier release.", "content": _json(_ERROR)}}
    files: dict[str, tuple[str, str, Schema]] = {
        newest: ("Load the web SDK.", script, {}),
        f"{stem}.d.ts": ("Load the types of what it offers pages.", types, {}),
        f"{stem}-{{version}}.js": ("Load a version of it, which never changes.", script, unknown),
        f"{stem}-{{version}}.js.map": ("Load that version's source map.", "application/json", unknown),
    }
    return {
        path: {method: _file(summary, kind, more) for method in ("get", "head")}
        | ({"parameters": [version]} if more else {})
        for path, (summary, kind, more) in files.items()
    }


def _file(summary: str, content_type: str, more: Schema) -> Schema:
    content = {content_type: {"schema": {"type": "object" if "json" in content_type else "string"}}}
    return {
        "tags": ["native"],
        "summary": summary,
        "responses": {
            "200": {"description": "The file.", "content": content},
            "304": {"description": "The browser has this very one."},
        }
        | more
        | _of_connections(),
    }


def _healthz() -> Schema:
    alive = {"description": "Alive.", "content": _json({"const": msgspec.json.decode(ALIVE)})}
    return {
        "tags": ["native"],
        "summary": "Tell that the process is alive.",
        "responses": {"200": alive} | _of_connections(),
    }


def _item(path: EventPath | SettingsPath, operations: Mapping[str, Schema]) -> Schema:
    item: Schema = {method.lower(): operation for method, operation in operations.items()}
    names = _names(path.template)
    if names:
        item["parameters"] = [
            {
                "name": name,
                "in": "path",
                "required": True,
                "schema": {"type": "string", "minLength": 1, "pattern": "^[^/]+$"},
            }
            for name in names
        ]
    return item


def _names(template: str) -> list[str]:
    return [part[1:-1] for part in template.split("/") if part.startswith("{")]


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}


def _security(*, required: bool) -> list[dict[str, list[str]]]:
    ways: list[dict[str, list[str]]] = [{name: []} for name in _security_schemes()]
    return ways if required else [*ways, {}]


def _security_schemes() -> dict[str, Schema]:
    in_query = {
        f"query_{name.decode()}": {"type": "apiKey", "in": "query", "name": name.decode()} for name in KEY_PARAMETERS
    }
    basic = {"type": "http", "scheme": "basic", "description": "The key is the user's name; no password."}
    return {"bearer": {"type": "http", "scheme": "bearer"}, "basic": basic, **in_query}


def _schemas() -> dict[str, Schema]:
    _, found = msgspec.json.schema_components([NativeEvent, Results], ref_template="#/components/schemas/{name}")
    event: Schema = found["NativeEvent"]
    event["description"] = "One event; fields that are not named here are kept under `properties`."
    event["additionalProperties"] = True
    event["properties"] |= {"type": {"type": "string", "enum": sorted(EVENT_TYPES)}, "ts": _TIME}
    found["EventError"]["properties"]["reason"] = {"$ref": "#/components/schemas/Reason"}
    events = {"type": "array", "items": {"$ref": "#/components/schemas/NativeEvent"}}
    envelope = {"type": "object", "required": ["events"], "properties": {"events": events, "sent_at": _TIME}}
    codes = sorted({code for _, code, _ in (*STATUS.values(), UNFORESEEN)})
    texts: Schema = {name: {"type": "string"} for name in ("error", "message", "detail")}
    return {
        **found,
        "Request": {"anyOf": [envelope, events]},
        "Reason": {
            "type": "string",
            "enum": [reason.value for reason in Reason],
            "description": "Why an event was rejected; the list is closed and only grows.",
        },
        "Error": {
            "type": "object",
            "description": "Why a request is refused as a whole.",
            "required": ["error", "code", "message", "detail"],
            "properties": texts | {"code": {"type": "string", "enum": codes}},
        },
    }
