"""Finds secrets and personal numbers in URLs: in the user information, the path, the query and the fragment."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

from collector.masking.kinds import MASK, SECRET, Masked
from collector.masking.names import NAME_CHARS, Meaning, Names
from collector.masking.texts import TextMask, decoded, is_suspect

NESTED: Final = 3
"""A URL in a parameter of a URL in a parameter: beyond that the value is masked as a whole."""

_PARTS = re.compile(r"[?#@;+]|passw|token|reset|verify|activate|magic", re.IGNORECASE)
"""Without one of these a URL is a path alone, and as good as a text."""
_USER_INFO = re.compile(r"(?<=//)(?!\*\*\*@[^@/]*(?:/|$))[^/\s]*@")
_RESET = re.compile(r"(?:passw(?:or)?d|token|reset|verify|activate|magic)[^/]{0,32}", re.IGNORECASE)
_OPAQUE = re.compile(r"(?=[^/]{0,256}[0-9])(?=[^/]{0,256}[A-Za-z])[\w.~-]{16,}", re.ASCII)
"""What follows such a step of a path, and is no word."""

_FUND_CODE = re.compile(r"[0-9]{6}")
_FUND_PAGE = re.compile(r"fund|jijin|product|detail|stock|quote|bond|etf|market", re.IGNORECASE)
_LOGIN = re.compile(
    r"log_?-?in|sign_?-?in|sign_?-?up|regist|auth|verif|reset|passw|pwd|sms|phone|mobile|captcha|token|callback|state="
    r"|grant_type|redirect_uri",
    re.IGNORECASE,
)
"""`code` is a fund's where the address is that of a fund, and nothing in it tells of a login (ADR 0015)."""


class UrlMask:
    """Masks URLs for one source."""

    def __init__(self, kinds: frozenset[str], names: Names, texts: TextMask) -> None:
        self._secrets = SECRET in kinds
        self._names = names
        self._texts = texts

    def mask(self, url: str) -> Masked:
        """Return the URL, absolute or relative, with everything that is masked as `***`, and the kind of each.

        Each part is looked at also percent-decoded, and so are URLs that are a parameter's value.
        """
        return self._mask(url, NESTED) if _PARTS.search(url) is not None or is_suspect(url) else (url, ())

    def _mask(self, url: str, nested: int) -> Masked:
        kinds: list[str] = []
        rest, hash_, fragment = url.partition("#")
        path, question, query = rest.partition("?")
        path = self._path(path, kinds)
        fund = _FUND_PAGE.search(url) is not None and _LOGIN.search(url) is None
        if question:
            path += question + self._pairs(query, nested, kinds, fund=fund)
        if hash_:
            route, question, query = fragment.partition("?")
            route = self._pairs(route, nested, kinds, fund=fund) if "=" in route else self._path(route, kinds)
            path += hash_ + route + (question + self._pairs(query, nested, kinds, fund=fund) if question else "")
        return path, tuple(kinds)

    def _path(self, path: str, kinds: list[str]) -> str:
        if self._secrets and "@" in path:
            path, found = _USER_INFO.subn(f"{MASK}@", path)
            kinds += [SECRET] * found
        segments = path.split("/")
        masked = [self._segment(segment, kinds) for segment in segments]
        if self._secrets and _RESET.search(path) is not None:
            for at, segment in enumerate(segments[1:], start=1):
                if _OPAQUE.fullmatch(segment) and masked[at] == segment and _RESET.match(segments[at - 1]):
                    kinds.append(SECRET)
                    masked[at] = MASK
        return "/".join(masked)

    def _segment(self, segment: str, kinds: list[str]) -> str:
        first, semicolon, parameters = segment.partition(";")  # /cart;jsessionid=...
        _, found = self._texts.mask(decoded(first))
        kinds += found
        masked = MASK if found else first
        return masked + semicolon + self._pairs(parameters, 0, kinds, fund=False) if semicolon else masked

    def _pairs(self, query: str, nested: int, kinds: list[str], *, fund: bool) -> str:
        separator = "&" if "&" in query or ";" not in query else ";"
        return separator.join(self._pair(pair, nested, kinds, fund=fund) for pair in query.split(separator))

    def _pair(self, pair: str, nested: int, kinds: list[str], *, fund: bool) -> str:
        name, equals, value = pair.partition("=")
        if not equals:
            name, value = "", pair
        if name and (found := self._texts.mask(decoded(name))[1]):
            kinds += found
            name = MASK
        if not value or value == MASK:
            return name + equals + value  # a mask stays as it is, so that masking twice is masking once
        meaning = self._meaning(name, value, fund=fund)
        if meaning is Meaning.KEPT:
            return name + equals + value
        if meaning is Meaning.SECRET and self._secrets:
            kinds.append(SECRET)
            return f"{name}={MASK}"
        if value.isalpha() and value.isascii():
            return name + equals + value
        plain = decoded(value)
        if "=" in plain:
            return name + equals + self._nested(value, plain, nested, kinds)
        _, found = self._texts.mask(plain)
        kinds += found
        return name + equals + (MASK if found else value)

    def _meaning(self, name: str, value: str, *, fund: bool) -> Meaning:
        if not name:
            return Meaning.ANY
        if len(name) > NAME_CHARS:
            return Meaning.SECRET
        if fund and name == "code" and _FUND_CODE.fullmatch(value):
            return Meaning.KEPT
        return self._names.in_url(name)

    def _nested(self, value: str, plain: str, nested: int, kinds: list[str]) -> str:
        if nested == 0:
            if self._secrets:
                kinds.append(SECRET)
            return MASK if self._secrets else value
        found: list[str] = []
        if "?" in plain or "#" in plain:
            inner, kinds_within = self._mask(plain, nested - 1)
            found += kinds_within
        else:
            inner = self._pairs(plain, nested - 1, found, fund=False)
        inner, kinds_within = self._texts.mask(inner)
        found += kinds_within
        kinds += found
        return quote(inner, safe="*/:?") if found else value
