"""Cross-origin headers: the exact origin and credentials, the one form with which every SDK works.

Credentialed requests forbid `*` (Fetch standard, CORS protocol); without Expose-Headers browsers hide Retry-After.
"""

from __future__ import annotations

import re
from typing import Final

Headers = list[tuple[bytes, bytes]]

_ORIGIN = re.compile(rb"[!-~]{1,256}")
VARY: Final = (b"vary", b"origin")
UNREADABLE: Final = ""
"""Stands for an Origin header that is none; no list of origins holds it."""

_EVERY: Final[Headers] = [
    (b"access-control-allow-credentials", b"true"),
    (b"access-control-expose-headers", b"retry-after"),
]
_PREFLIGHT: Final[Headers] = [
    (b"access-control-allow-methods", b"GET, POST, OPTIONS"),
    (
        b"access-control-allow-headers",
        b"content-type, content-encoding, authorization, x-retry-count, anonymousid, sentat, sp-anonymous, dry-run",
    ),
    (b"access-control-max-age", b"86400"),  # a day; Chromium caps it at two hours
]


def read_origin(value: bytes | None) -> str | None:
    """Return the Origin header as text, None where there is none."""
    if value is None:
        return None
    return value.decode("ascii") if _ORIGIN.fullmatch(value) else UNREADABLE


def cors_headers(origin: str | None, *, allowed: bool, preflight: bool = False) -> Headers:
    """Return the headers that let a page of `origin` read the answer, only `Vary` where it may not."""
    if origin is None or not allowed or origin == UNREADABLE:
        return [VARY]
    echoed = (b"access-control-allow-origin", origin.encode())
    return [echoed, VARY, *_EVERY, *(_PREFLIGHT if preflight else ())]
