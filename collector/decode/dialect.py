"""What a dialect is: how to open its requests, and how to read each of their records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from collector.decode.decoded import Decoded, RequestFacts
from collector.decode.events import EventMaker, Said
from collector.errors import TooLargeBodyError
from collector.settings import Limits


class Post(NamedTuple):
    """A request as its dialect gets it: header names in lower case, the body without its Content-Encoding.

    `body` is empty where everything is in the query (pixels).
    """

    path: str
    query: bytes
    headers: Mapping[bytes, bytes]
    body: bytes


class Envelope(NamedTuple):
    """An opened request: its records, each a JSON object still, and what it says of all of them.

    `key` is the write key where the body carries it, `sent_at` when the client sent it by its own clock (UTC ms), `sdk`
    what its head says of the client's library, where the records do not (PostHog: `posthog-node/5.70.0`).
    """

    records: Sequence[bytes]
    key: bytes | None = None
    sent_at: int | None = None
    sdk: str = ""


Opener = Callable[[Post, Limits], Envelope]
"""Raises UnreadableBodyError for a request of another form, TooLargeBodyError for one that unpacks to too much."""

RecordReader = Callable[[bytes, Envelope, RequestFacts], Said]
"""From one record; raises RejectedEventError where it says nothing that can be read."""


class Dialect(NamedTuple):
    """One pure decoder: `open` finds key and records, `decode` makes events of them once the caller is known."""

    name: str
    open: Opener
    decode: Callable[[Envelope, RequestFacts, Limits], Decoded]


def dialect(name: str, open_request: Opener, read: RecordReader) -> Dialect:
    """Return the dialect of a name whose records are read one by one."""
    return Dialect(name, open_request, partial(_decode, read))


def _decode(read: RecordReader, envelope: Envelope, request: RequestFacts, limits: Limits) -> Decoded:
    if len(envelope.records) > limits.events:
        msg = f"{len(envelope.records)} events in one request; {limits.events} is the limit: send them in several"
        raise TooLargeBodyError(msg)
    maker = EventMaker(request, limits, lambda raw: read(raw, envelope, request))
    for index, raw in enumerate(envelope.records):
        maker.take(index, raw)
    return maker.out
