"""Takes secrets and personal numbers out of URLs and texts before anything is written."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final
from urllib.parse import quote, unquote

MASK: Final = "***"

SECRET: Final = "secret"  # noqa: S105 - the name of a kind, no secret
EMAIL: Final = "email"
PHONE: Final = "phone"
ID_NUMBER: Final = "id_number"
CARD: Final = "card"
KINDS: Final = (SECRET, EMAIL, PHONE, ID_NUMBER, CARD)
"""What is masked; the metric's label."""

SECRET_WORDS: Final = (
    "token", "password", "passwd", "pwd", "passphrase", "secret", "signature", "credential", "session", "apikey",
    "accesskey", "privatekey", "authoriz", "oauth", "captcha", "verif", "idcard", "cardno", "bankcard", "mobile",
    "phone", "email", "jwt",
)  # fmt: skip
"""A parameter is secret when its name, letters and digits only, contains one of these ..."""

SECRET_NAMES: Final = frozenset({
    "key", "code", "auth", "authcode", "authkey", "smscode", "vcode", "sid", "ssid", "phpsessid", "sign", "sig",
    "otp", "pin", "pass", "ticket", "cvv", "cvc", "hmac",
})  # fmt: skip
"""... or is one of these, which as a part of a name would hit `keyword`, `fund_code` or `author`."""

_USER_INFO = re.compile(r"(?<=//)(?!\*\*\*@[^@/]*(?:/|$))[^/\s]*@")
_EMAIL = re.compile(r"[^\s@/?&=:;,<>\"'()*]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})*\.[^\W\d_]{2,63}")
_CARD_OR_ID = re.compile(r"(?<![0-9])[0-9]{17}[xX](?!\w)|(?<![0-9])[0-9](?:[ +-]?[0-9]){12,18}(?![0-9])")
_PHONE = re.compile(
    r"(?<![0-9.])(?:(?:\+|00)?86[ +-]?)?1[3-9][0-9](?:[ +-]?[0-9]{4}){2}(?![0-9])"  # mainland China, 11 digits
    r"|(?<![\w+])\+[1-9](?:[ ().-]{0,2}[0-9]){7,14}(?![0-9])"  # E.164: + and at most 15 digits
)
_CARD_PREFIX = re.compile(r"4|5[1-5]|2[2-7]|3[4-9]|6[0-9]|81")
"""Visa, Mastercard, Amex, Diners, JCB, UnionPay, Discover, Maestro (ISO/IEC 7812 issuer ranges)."""
_ID_WEIGHTS: Final = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
"""GB 11643-1999: weights of the first 17 digits, modulo 11 (ISO 7064)."""
_ID_CHECKS: Final = "10X98765432"

_DIGIT_RUN = re.compile(r"[0-9]{3}(?:[0-9]{4}|[ +().-][0-9]{3})")
"""Every number that is masked has one of these in it; but those with a + before them."""
_PARTS = re.compile(r"[?#@%;]")
"""Without one of these a URL is a path alone, in which only numbers are masked."""
_PAIR = re.compile(r"([\w.\-\[\]%]{1,64})=([^&#;\s\"'<>]+)")
_NAME_CHARS: Final = 128
_NESTED: Final = 3
"""A URL in a parameter of a URL in a parameter: beyond that the value is masked as a whole."""


def mask_text(text: str) -> tuple[str, tuple[str, ...]]:
    """Return the text with e-mail addresses, phone, ID and card numbers as `***`, and the kind of each."""
    has_digits = _DIGIT_RUN.search(text) is not None or "+" in text
    if not has_digits and "@" not in text:
        return text, ()
    kinds: list[str] = []

    def hide(kind: str) -> str:
        kinds.append(kind)
        return MASK

    if "@" in text:
        text = _EMAIL.sub(lambda _: hide(EMAIL), text)
    if has_digits:
        text = _CARD_OR_ID.sub(lambda m: hide(kind) if (kind := _kind_of_number(m[0])) else m[0], text)
        text = _PHONE.sub(lambda _: hide(PHONE), text)
    return text, tuple(kinds)


def _kind_of_number(text: str) -> str | None:
    digits = re.sub(r"[ +-]", "", text)
    if len(digits) == 18 and _is_id_number(digits):  # noqa: PLR2004 - the length of a Chinese ID number
        return ID_NUMBER
    return CARD if digits.isdecimal() and _CARD_PREFIX.match(digits) and _luhn(digits) else None


def _is_id_number(digits: str) -> bool:
    total = sum(int(digit) * weight for digit, weight in zip(digits[:17], _ID_WEIGHTS, strict=True))
    return _ID_CHECKS[total % 11] == digits[17].upper()


def _luhn(digits: str) -> bool:
    doubled = sum(sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (doubled + sum(int(digit) for digit in digits[-1::-2])) % 10 == 0


@lru_cache(maxsize=4096)
def is_secret_name(name: str) -> bool:
    """Return whether a parameter or field of this name holds a secret, whatever its value looks like."""
    plain = "".join(c for c in unquote(name).casefold() if c.isalnum())
    return plain in SECRET_NAMES or any(word in plain for word in SECRET_WORDS)


def mask_url(url: str) -> tuple[str, tuple[str, ...]]:
    """Return the URL, absolute or relative, with every secret or personal value as `***`, and the kind of each.

    Looks at the user information, the path's segments, the query and the fragment, each also percent-encoded, and
    at URLs that are a parameter's value.
    """
    if _PARTS.search(url) is None and _DIGIT_RUN.search(url) is None:
        return url, ()
    return _mask_url(url, _NESTED)


def _mask_url(url: str, nested: int) -> tuple[str, tuple[str, ...]]:
    kinds: list[str] = []
    rest, hash_, fragment = url.partition("#")
    path, question, query = rest.partition("?")
    path = _mask_path(path, kinds)
    if question:
        path += question + _mask_pairs(query, nested, kinds)
    if hash_:
        route, question, query = fragment.partition("?")
        route = _mask_pairs(route, nested, kinds) if "=" in route else _mask_path(route, kinds)
        path += hash_ + route + (question + _mask_pairs(query, nested, kinds) if question else "")
    return path, tuple(kinds)


def _mask_path(path: str, kinds: list[str]) -> str:
    if "@" in path:
        path, found = _USER_INFO.subn(f"{MASK}@", path)
        kinds += [SECRET] * found
    if "@" not in path and "%" not in path and ";" not in path and _DIGIT_RUN.search(path) is None:
        return path
    return "/".join([_mask_segment(segment, kinds) for segment in path.split("/")])


def _mask_segment(segment: str, kinds: list[str]) -> str:
    first, semicolon, parameters = segment.partition(";")  # /cart;jsessionid=...
    _, found = mask_text(_decoded(first))
    kinds += found
    masked = MASK if found else first
    return masked + semicolon + _mask_pairs(parameters, 0, kinds) if semicolon else masked


def _mask_pairs(query: str, nested: int, kinds: list[str]) -> str:
    separator = "&" if "&" in query or ";" not in query else ";"
    return separator.join(_mask_pair(pair, nested, kinds) for pair in query.split(separator))


def _mask_pair(pair: str, nested: int, kinds: list[str]) -> str:
    name, equals, value = pair.partition("=")
    if not equals:
        name, value = "", pair
    if not value or value == MASK:
        return pair  # a mask stays as it is, so that masking twice is masking once
    if len(name) > _NAME_CHARS or (name and is_secret_name(name)):
        kinds.append(SECRET)
        return f"{name}={MASK}"
    if value.isalpha():
        return pair
    plain = _decoded(value)
    _, found = mask_text(plain)
    if found:
        kinds += found
        return name + equals + MASK
    if "=" in plain:
        return name + equals + _mask_nested(value, plain, nested, kinds)
    return pair


def _mask_nested(value: str, plain: str, nested: int, kinds: list[str]) -> str:
    if nested == 0:
        kinds.append(SECRET)
        return MASK
    inner, found = _mask_url(plain, nested - 1) if "?" in plain or "#" in plain else ("", ())
    if not found and _PAIR.search(plain):
        inner, found = mask_pairs_in(plain)
    kinds += found
    return quote(inner, safe="*/:?") if found else value


def mask_pairs_in(text: str) -> tuple[str, tuple[str, ...]]:
    """Return any text with the values of secret `name=value` pairs in it as `***`, and the kind of each."""
    kinds: list[str] = []

    def hide(match: re.Match[str]) -> str:
        if match[2] == MASK or not is_secret_name(match[1]):
            return match[0]
        kinds.append(SECRET)
        return f"{match[1]}={MASK}"

    return _PAIR.sub(hide, text), tuple(kinds)


def _decoded(text: str) -> str:
    for _ in range(_NESTED):
        plain = unquote(text) if "%" in text else text
        if plain == text:
            break
        text = plain
    return text
