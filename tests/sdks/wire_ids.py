"""The ids in a request as an SDK put them there, read without our decoders: what they miss must show."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qs

from xxhash import xxh3_64_hexdigest


def ids_in(dialect: str, query: str, body: bytes) -> list[str]:
    """Return the ids under which the events of one request have to be in the log; none of what is no event."""
    return [_ID_OF[dialect](one) for one in _RECORDS[dialect](query, body)]


def _posthog(_: str, body: bytes) -> list[dict[str, Any]]:
    if body.startswith(b"\x1f\x8b"):
        body = gzip.decompress(body)
    if body.startswith(b"data="):
        body = base64.b64decode(parse_qs(body.decode())["data"][0])
    found = json.loads(body or b"{}")
    if isinstance(found, list):
        return found
    records: list[dict[str, Any]] = found.get("batch", [found] if "event" in found else [])
    return records


def _segment(_: str, body: bytes) -> list[dict[str, Any]]:
    found = json.loads(body or b"{}")
    records: list[dict[str, Any]] = found.get("batch", [found] if "messageId" in found else [])
    return records


def _snowplow(query: str, body: bytes) -> list[dict[str, Any]]:
    if body:
        records: list[dict[str, Any]] = json.loads(body)["data"]
        return records
    return [{name: values[0] for name, values in parse_qs(query).items()}] if "eid=" in query else []


def _sensors(query: str, body: bytes) -> list[dict[str, Any]]:
    form = parse_qs(body.decode() or query)
    found = json.loads(base64.b64decode((form.get("data_list") or form.get("data") or ["W10="])[0]))
    return found if isinstance(found, list) else [found]


def _native(_: str, body: bytes) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = json.loads(body or b'{"events": []}')["events"]
    return records


def _sensors_id(record: Mapping[str, Any]) -> str:
    rest = f"{record['distinct_id']}\0{record['type']}\0{record.get('event')}"
    return f"{record['_track_id']}-{record['time']}-{xxh3_64_hexdigest(rest.encode())}"


_RECORDS: Final[Mapping[str, Callable[[str, bytes], list[dict[str, Any]]]]] = {
    "native": _native,
    "posthog": _posthog,
    "segment": _segment,
    "rudder": _segment,
    "snowplow": _snowplow,
    "sensors": _sensors,
}
_ID_OF: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "native": lambda record: str(record["id"]),
    "posthog": lambda record: str(record.get("uuid") or record["properties"]["$insert_id"]),
    "segment": lambda record: str(record["messageId"]),
    "rudder": lambda record: str(record["messageId"]),
    "snowplow": lambda record: str(record["eid"]),
    "sensors": _sensors_id,
}
