"""What tells that a request came through a proxy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

FORWARDING_HEADERS: Final = (
    b"forwarded",
    b"via",
    b"x-real-ip",
    b"x-client-ip",
    b"x-cluster-client-ip",
    b"x-original-forwarded-for",
    b"x-envoy-external-address",
    b"true-client-ip",
    b"cf-connecting-ip",
    b"fastly-client-ip",
)
FORWARDING_PREFIX: Final = b"x-forwarded-"
"""What proxies add (RFC 7239, RFC 9110 section 7.6.3, and the usual ones)."""


def is_forwarded(names: Iterable[bytes]) -> bool:
    """Return whether headers of these names (lower case) say that a proxy passed the request on."""
    return any(name in FORWARDING_HEADERS or name.startswith(FORWARDING_PREFIX) for name in names)
