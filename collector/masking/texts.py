"""Finds secrets and personal numbers in any text."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final
from urllib.parse import unquote

from collector.masking.kinds import EMAIL, MASK, PHONE, SECRET, Masked
from collector.masking.names import Meaning, Names
from collector.masking.numbers import Span, find_numbers

DECODED_TIMES: Final = 3
"""How often what is percent-encoded is decoded."""

_WIDE: Final = {
    **{wide: wide - 0xFEE0 for wide in range(0xFF01, 0xFF5F)},  # full-width forms of ASCII
    **dict.fromkeys([0xA0, 0x3000, 0x202F, *range(0x2000, 0x200E), 0xFEFF, 0x2060], ord(" ")),
    **dict.fromkeys([*range(0x2010, 0x2016), 0x2212], ord("-")),
}  # fmt: skip
_HAS_WIDE = re.compile(f"[{''.join(map(re.escape, map(chr, _WIDE)))}]")

_SUSPECT = re.compile(r"[@=%]|[\"']\s{0,4}:|\+[0-9]|[0-9]{3}(?:[0-9]{4}|[ +().-]{1,3}[0-9]{2})")
"""Everything that is masked but the tokens below has one of these in it."""
_MIN_TOKEN_CHARS: Final = 14

_TOKEN = re.compile(
    r"(?<![\w-])eyJ[\w-]{6,}\.[\w-]{6,}(?:\.[\w-]*){0,3}"  # JSON Web Token: base64url of {"
    r"|(?<![A-Za-z0-9])(?:"
    r"[Bb]earer[ +]{1,2}(?P<bearer>[\w.~+/=-]{8,})|[Bb]asic[ +]{1,2}(?P<basic>[\w+/=-]{8,})"  # RFC 6750, RFC 7617
    r"|[rs]k_(?:live|test)_\w{10,}"  # Stripe
    r"|gh[oprsu]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}"  # GitHub, GitLab
    r"|A[KS]IA[A-Z0-9]{16}|LTAI[A-Za-z0-9]{12,28}|AKID[A-Za-z0-9]{16,36}"  # AWS, Aliyun, Tencent Cloud
    r"|xox[abeoprs]-[\w-]{10,}|AIza[\w-]{30,}|ya29\.[\w-]{20,}|(?P<sk>sk-[\w-]{20,})"  # Slack, Google, OpenAI
    r"|-----BEGIN [A-Z ]{0,32}PRIVATE KEY-----[\w+/=\s\\-]*"
    r")",
    re.ASCII,
)
_SURE_CHARS: Final = 24
"""A `Bearer` and so many characters without a digit is a token still; shorter ones are English."""
_PAIR = re.compile(r"([\w.\-\[\]%]{1,64})=([^&#;\s\"'<>]+)")
_JSON_PAIR = re.compile(
    r"""["']([\w.$ -]{1,64})\\{0,7}["']\s{0,4}:\s{0,4}"""
    r"""(?:"((?:[^"\\]|\\.)+)|'((?:[^'\\]|\\.)+)|\\{1,7}"([^"\\]+)|([0-9]+))"""
)
_EMAIL = re.compile(
    r"(?:[A-Za-z0-9!#$%&+^_`{|}~.-]{1,64}|[^\x00-\x7f]{1,64})@"
    r"(?![0-9]+(?:\.[0-9]+)?x\.)"  # icon@2x.png
    r"(?:[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){0,8}\.(?!(?:js|css|json|png|jpe?g|gif|svg|webp|html?)(?![A-Za-z]))"
    r"[A-Za-z]{2,63}|(?:[^\W_]|-){1,63}(?:\.(?:[^\W_]|-){1,63}){0,8}\.[^\W\d_]{2,63})"
)
_INTERNATIONAL = re.compile(r"(?<![0-9A-Za-z+])\+[1-9](?:[ +().-]{0,2}[0-9]){9,14}(?![0-9])")
"""E.164: + and at most 15 digits; with fewer than 10 it is most often a signed number."""
_DECIMAL = re.compile(r"\+[0-9]+\.[0-9]+")
_WORD = re.compile(r"\S+")
_ROUNDS: Final = 4
"""A mask may set something else free: 13000000000Bearer 00000000. Each round but the last has masked more."""


class TextMask:
    """Masks texts for one source, what is of these kinds."""

    def __init__(self, kinds: frozenset[str], names: Names) -> None:
        self._kinds = kinds
        self._names = names

    def mask(self, text: str) -> Masked:
        """Return the text with everything that is masked as `***`, and the kind of each."""
        kinds: tuple[str, ...] = ()
        for _ in range(_ROUNDS):
            if not is_suspect(text):
                break
            text, found = self._mask(text, encoded="%" in text)
            if not found:
                break
            kinds += found
        return text, kinds

    def _mask(self, text: str, *, encoded: bool) -> Masked:
        plain = text if text.isascii() else text.translate(_WIDE)
        spans: list[Span] = []
        if encoded:
            plain = _hide(_WORD, plain, lambda match: self._in_encoded(match[0]), spans)
        if SECRET in self._kinds:
            plain = _hide(_TOKEN, plain, _token, spans)
            if "=" in plain:
                plain = _hide(_PAIR, plain, self._in_pair, spans, 2)
            if ":" in plain:
                plain = _hide(_JSON_PAIR, plain, self._in_json, spans, 2, 3, 4, 5)
        if EMAIL in self._kinds and "@" in plain:
            plain = _hide(_EMAIL, plain, lambda _: EMAIL, spans)
        if PHONE in self._kinds and "+" in plain:
            plain = _hide(_INTERNATIONAL, plain, _phone, spans)
        spans += find_numbers(plain, self._kinds)
        return _without(text, spans) if spans else (text, ())

    def _in_encoded(self, word: str) -> str | None:
        if "%" not in word:
            return None
        plain = decoded(word)
        found = self._mask(plain, encoded=False)[1] if plain != word else ()
        return found[0] if found else None

    def _in_pair(self, match: re.Match[str]) -> str | None:
        secret = self._names.in_properties(match[1]) is Meaning.SECRET
        return SECRET if secret and match[2].strip("*") else None

    def _in_json(self, match: re.Match[str]) -> str | None:
        secret = self._names.in_properties(match[1]) is Meaning.SECRET
        return SECRET if secret and match[match.lastindex or 0].strip("*") else None


def decoded(text: str) -> str:
    """Return a text without its percent-encoding, which may be one within another."""
    for _ in range(DECODED_TIMES):
        plain = unquote(text) if "%" in text else text
        if plain == text:
            break
        text = plain
    return text


def is_suspect(text: str) -> bool:
    """Return whether a text is worth a closer look."""
    return (
        _SUSPECT.search(text) is not None
        or (not text.isascii() and _HAS_WIDE.search(text) is not None)
        or (len(text) >= _MIN_TOKEN_CHARS and _may_hold_token(text))
    )


def _may_hold_token(text: str) -> bool:
    return (  # one by one: half the time of a loop or of a regular expression
        "eyJ" in text
        or "earer" in text
        or "asic" in text
        or "_live_" in text
        or "_test_" in text
        or "gh" in text
        or "glpat-" in text
        or "AKI" in text
        or "ASIA" in text
        or "xox" in text
        or "AIza" in text
        or "sk-" in text
        or "ya29." in text
        or "LTAI" in text
        or "-----" in text
    )


def _hide(
    pattern: re.Pattern[str],
    text: str,
    kind_of: Callable[[re.Match[str]], str | None],
    spans: list[Span],
    *groups: int,
) -> str:
    """Return the text, as long as before, with stars for what a pattern finds; add where that was."""

    def blank(match: re.Match[str]) -> str:
        kind = kind_of(match)
        if kind is None:
            return match[0]
        start, end = match.span(next((one for one in groups if match[one] is not None), 0))
        spans.append((start, end, kind))
        return text[match.start() : start] + "*" * (end - start) + text[end : match.end()]

    return pattern.sub(blank, text)


def _without(text: str, spans: list[Span]) -> Masked:
    parts: list[str] = []
    kinds: list[str] = []
    done = 0
    for start, end, kind in sorted(spans):
        if start >= done:
            parts += [text[done:start], MASK]
            kinds.append(kind)
        done = max(done, end)
    return "".join([*parts, text[done:]]), tuple(kinds)


def _token(match: re.Match[str]) -> str | None:
    """Return that it is a secret, unless it is English, or the name of a class."""
    bearer, basic, key = match["bearer"], match["basic"], match["sk"]
    said = bearer or basic or key
    if said is None or any(c.isdecimal() for c in said):
        return SECRET
    return SECRET if (bearer and len(bearer) >= _SURE_CHARS) or (basic and "=" in basic) else None


def _phone(match: re.Match[str]) -> str | None:
    return None if _DECIMAL.fullmatch(match[0]) else PHONE
