"""Answers: what the collector says, before it is HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

import msgspec

from collector.cors import Headers
from collector.errors import RETRY_AFTER_SECONDS, UNFORESEEN, RequestError, status_of

JSON: Final = (b"content-type", b"application/json")


@dataclass(slots=True)
class Answer:
    """One response: its status, body and headers but those that every response has."""

    status: int
    body: bytes = b""
    headers: Headers = field(default_factory=list)


class EventError(msgspec.Struct):
    """Why one event was rejected: its place in the request, its id where readable, reason, and the field."""

    index: int
    id: str | None
    reason: str
    detail: str


class Results(msgspec.Struct):
    """What became of a request's events; `duplicates` are places in the request (contract)."""

    accepted: int
    duplicate: int
    rejected: int
    errors: list[EventError]
    duplicates: list[int]


def results(value: Results) -> Answer:
    """Return the answer to a request that was read."""
    return Answer(HTTPStatus.OK, msgspec.json.encode(value), [JSON])


def refusal(error: Exception, instead: Mapping[int, HTTPStatus] | None = None) -> Answer:
    """Return the answer that the one table gives an error; a fault of ours for what is not in it.

    `instead` has other statuses for those that a dialect's SDKs do not survive.
    """
    known = status_of(error)
    status, code, message = known or UNFORESEEN
    if instead:
        status = instead.get(status, status)
    detail = str(error) if known else ""
    headers = [JSON]
    if status in {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}:
        seconds = error.retry_after_seconds if isinstance(error, RequestError) else RETRY_AFTER_SECONDS
        headers.append((b"retry-after", b"%d" % seconds))
    if status == HTTPStatus.UNAUTHORIZED:
        headers.append((b"www-authenticate", b"Bearer"))
    body = {"error": status.phrase, "code": code, "message": message, "detail": detail}
    return Answer(status, msgspec.json.encode(body), headers)
