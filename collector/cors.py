"""Cross-origin headers: the exact origin and credentials, the one form with which every SDK works.

Credentialed requests forbid `*` (Fetch standard, CORS protocol); without Expose-Headers browsers hide Retry-After.
"""

from __future__ import annotations

import re
from typing import Final

Headers = list[tuple[bytes, bytes]]

_ORIGIN = re.compile(rb"[!-~]{1,256}")
VARY: Final = (b"vary", b"origin")
ANYONE: Final = (b"access-control-allow-origin", b"*")
"""Of a file that is the same for everybody: any page may read it, also from a cache's copy made for another page."""
UNREADABLE: Final = ""
"""Stands for an Origin header that is none; no list of origins holds it."""

_EVERY: Final[Headers] = [
    (b"access-control-allow-credentials", b"true"),
    (b"access-control-expose-headers", b"retry-after"),
]
_PREFLIGHT: Final[Headers] = [
    (b"access-control-allow-methods", b"GET, POST, OPTIONS"),
    (b"access-control-max-age", b"86400"),  # a day; Chromium caps it at two hours
]
_ALLOWED: Final = (
    b"content-type, content-encoding, authorization, x-retry-count, anonymousid, sentat, sp-anonymous, dry-run"
)
_NAMES: Final = re.compile(rb"[0-9A-Za-z!#$%&'*+.^_`|~-]+(?:[ ,]+[0-9A-Za-z!#$%&'*+.^_`|~-]+)*")
_MOST_ASKED: Final = 1024


def read_origin(value: bytes | None) -> str | None:
    """Return the Origin header as text, None where there is none."""
    if value is None:
        return None
    return value.decode("ascii") if _ORIGIN.fullmatch(value) else UNREADABLE


def cors_headers(origin: str | None, *, allowed: bool, preflight: bytes | None = None) -> Headers:
    """Return the headers that let a page of `origin` read the answer, only `Vary` where it may not.

    `preflight` is the header in which a preflight asks for others, empty without it, None where it is no preflight.
    """
    if origin is None or not allowed or origin == UNREADABLE:
        return [VARY]
    echoed = (b"access-control-allow-origin", origin.encode())
    return [echoed, VARY, *_EVERY, *(() if preflight is None else (*_PREFLIGHT, _headers_for(preflight)))]


def _headers_for(asked: bytes) -> tuple[bytes, bytes]:
    """Return what allows the headers that are known and those asked for: on a retry some SDKs send more than before."""
    asked = asked.strip()
    more = b", " + asked if len(asked) <= _MOST_ASKED and _NAMES.fullmatch(asked) else b""
    return b"access-control-allow-headers", _ALLOWED + more
