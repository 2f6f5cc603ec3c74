"""A request before its body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Head(NamedTuple):
    """What is known of a request before its body; header names in lower case, of repeated headers the last counts.

    `origin` is the page that sends it, as `read_origin` gives it; `query` is without the question mark; `address` is
    the client's IP address, as a proxy of ours tells it where one is between (`guards.proxies`), None where there is
    none (a Unix socket). `proxied` tells that the connection comes from a proxy of ours, whose headers can be believed.
    """

    method: str
    path: str
    query: bytes
    headers: Mapping[bytes, bytes]
    origin: str | None
    address: str | None
    proxied: bool
