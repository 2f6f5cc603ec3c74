"""`/debug` on the admin port: the debug log as a page for people and as JSON for an SDK's own tests."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from importlib.resources import files
from typing import Final
from urllib.parse import parse_qsl

import msgspec

from collector.answer import JSON, Answer, refusal
from collector.debug import DebugLog, Wanted
from collector.errors import NotAllowedError, RequestError, UnknownPathError, UnreadableRequestError, WrongMethodError
from collector.forwarding import is_forwarded

LOCAL_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
METHODS: Final = {"/debug": "GET", "/debug/requests": "GET", "/debug/reset": "POST"}
_HEADERS: Final = [
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
]


class DebugRoutes:
    """Answers for paths under `/debug`; events are as they stand in the log, hence for this machine alone."""

    def __init__(self, log: DebugLog) -> None:
        self._log = log
        self._page = files("collector").joinpath("debug_page.html").read_bytes()

    def answer(self, method: str, path: str, query: bytes, headers: Mapping[bytes, bytes]) -> Answer:
        """Return the page, the requests that match the query, or nothing after a reset; refusals as everywhere."""
        try:
            _check(method, path, headers)
            if path == "/debug/reset":
                self._log.reset()
                return Answer(HTTPStatus.NO_CONTENT)
            if path == "/debug":
                return Answer(HTTPStatus.OK, self._page, [(b"content-type", b"text/html; charset=utf-8"), *_HEADERS])
            wanted = _wanted(query)
        except RequestError as error:
            return refusal(error)
        found = self._log.find(wanted)
        body = {"counts": self._log.counts(found), "requests": found[: wanted.limit]}
        return Answer(HTTPStatus.OK, msgspec.json.encode(body), [JSON, *_HEADERS])


def _check(method: str, path: str, headers: Mapping[bytes, bytes]) -> None:
    if path not in METHODS:
        msg = f"served here: {', '.join(METHODS)}"
        raise UnknownPathError(msg)
    if method != METHODS[path]:
        msg = f"allowed: {METHODS[path]}"
        raise WrongMethodError(msg)
    host = headers.get(b"host", b"").decode("latin-1")
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    if name not in LOCAL_HOSTS:  # a page elsewhere whose name was made to mean this machine
        msg = f"/debug answers to {', '.join(sorted(LOCAL_HOSTS))} alone, not to {host[:64]}"
        raise NotAllowedError(msg)
    if headers.get(b"sec-fetch-site", b"same-origin") in {b"cross-site", b"same-site"}:
        msg = "/debug is not for other pages"
        raise NotAllowedError(msg)
    if is_forwarded(headers):  # a proxy on this machine, and so whoever reaches that
        msg = "/debug is for this machine alone, and this came through a proxy"
        raise NotAllowedError(msg)


def _wanted(query: bytes) -> Wanted:
    given = dict(parse_qsl(query.decode("latin-1")))
    try:
        return msgspec.convert(given, Wanted, strict=False)
    except msgspec.ValidationError as error:
        msg = f"{error}; known: {', '.join(Wanted.__struct_fields__)}"
        raise UnreadableRequestError(msg) from error
