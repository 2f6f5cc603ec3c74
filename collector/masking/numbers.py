"""Which digits are an ID card's, a bank card's or a mobile phone's number, however they are grouped."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Final

from collector.masking.kinds import CARD, ID_NUMBER, PHONE

Span = tuple[int, int, str]
"""From, to, and the kind of what stands there."""

_RUN = re.compile(r"[0-9]+(?:[ +-]{1,3}[0-9]+)*")
_GROUP = re.compile(r"[0-9]+")
_MIN_DIGITS: Final = 11
_MAX_DIGITS: Final = 19
_FIRST_DIGITS: Final = 2
_MAX_GROUPS: Final = 6
"""Nobody writes a number in more groups, or begins it with a single digit; what did would take long to look at."""

_PHONE = re.compile(r"(?P<prefix>|86|0086)1[3-9][0-9]{9}")
"""Mainland China: 11 digits, of which the first three name the network (1 3-9 x)."""
_PHONE_GROUPS: Final = frozenset({(11,), (3, 4, 4), (3, 8), (7, 4)})
_PHONE_DIGITS: Final = frozenset({11, 13, 15})

_CARD_PREFIX = re.compile(
    # An order's number of date and time, yyMMddHHmmss and 4 digits, is more often met than a Mastercard from 22 on.
    r"(?!2[0-9](?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])(?:[01][0-9]|2[0-3])[0-5][0-9][0-5][0-9])(?:"
    r"4(?:[0-9]{12}|[0-9]{15}|[0-9]{18})"  # Visa
    r"|(?:5[1-5][0-9]{2}|222[1-9]|22[3-9][0-9]|2[3-6][0-9]{2}|27[01][0-9]|2720)[0-9]{12}"  # Mastercard
    r"|3[47][0-9]{13}"  # American Express
    r"|3(?:0[0-5]|6[0-9]|[89][0-9])[0-9]{11}|36[0-9]{14,17}"  # Diners Club
    r"|(?:35(?:2[89]|[3-8][0-9])|6011|64[4-9][0-9]|65[0-9]{2})[0-9]{12,15}"  # JCB, Discover
    r"|(?:62|81)[0-9]{14,17}"  # UnionPay
    r"|(?:5018|5020|5038|5893|6304|6759|676[1-3])[0-9]{9,15}"  # Maestro
    r"|(?:955[589]|6013)[0-9]{12,15}"  # debit cards from before UnionPay's 62
    r")"
)
"""ISO/IEC 7812 issuer numbers with the lengths in use."""
_CARD_FIRST: Final = 4
_CARD_GROUPS: Final = frozenset({(4, 6, 4), (4, 6, 5)})
_CARD_DIGITS: Final = range(13, 20)

_ID_DIGITS: Final = 18
_ID_WEIGHTS: Final = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
"""GB 11643-1999: weights of the first 17 digits, modulo 11 (ISO 7064)."""
_ID_CHECKS: Final = "10X98765432"
_REGION = re.compile(r"1[1-5]|2[1-3]|3[1-7]|4[1-6]|5[0-4]|6[1-5]|71|8[1-3]")
"""GB/T 2260: the first two digits, provinces; 83 is that of residence permits for Taiwan residents."""
_FIRST_YEAR: Final = 1900
_LAST_YEAR: Final = 2099

_DOUBLED: Final = str.maketrans("0123456789", "0246813579")
"""Each digit times 2, and of two digits the sum."""
_HEX_CHARS: Final = 24
"""Hashes and ids of SDKs have as many or more, UUIDs 36; their digits are no number of anybody's."""
_HEX_LEFT = re.compile(r"[0-9A-Fa-f-]*\Z")
_HEX_RIGHT = re.compile(r"[0-9A-Fa-f-]*")
_HEX_LETTERS: Final = 3
_HEX_BESIDE: Final = 12
"""Beside a number: less may be a word, as in `card-6222...`."""
_AROUND: Final = 64


def find_numbers(text: str, kinds: frozenset[str]) -> Iterator[Span]:
    """Yield where ID card, bank card and mobile numbers of these kinds stand in a text, in order.

    A number begins and ends where a group of digits does, so that no part of a longer one is taken for it.
    """
    for run in _RUN.finditer(text):
        if run.end() - run.start() >= _MIN_DIGITS:
            groups = [match.span() for match in _GROUP.finditer(text, run.start(), run.end())]
            yield from _of_run(text, groups, kinds)


def kind_of_number(value: int, kinds: frozenset[str]) -> str | None:
    """Return what kind of number an integer is, None where it is of none of these."""
    digits = str(value)
    kind = _kind(digits, (len(digits),)) if len(digits) in range(_MIN_DIGITS, _MAX_DIGITS + 1) else None
    return kind if kind in kinds else None


def _of_run(text: str, groups: Sequence[tuple[int, int]], kinds: frozenset[str]) -> Iterator[Span]:
    at = 0
    while at < len(groups):
        digits, found = "", None
        sizes: tuple[int, ...] = ()
        if groups[at][1] - groups[at][0] < _FIRST_DIGITS:
            at += 1
            continue
        for last in range(at, min(at + _MAX_GROUPS, len(groups))):
            start, end = groups[last]
            sizes = (*sizes, end - start)
            if sum(sizes) > _MAX_DIGITS:
                break
            digits += text[start:end]
            if len(digits) == _ID_DIGITS - 1 and text[end : end + 1] in {"x", "X"}:
                kind, end = (ID_NUMBER, end + 1) if _is_id_number(f"{digits}X") else (None, end)
            else:
                kind = _kind(digits, sizes) if len(digits) >= _MIN_DIGITS else None
            if kind in kinds and not _part_of_more(text, groups[at][0], end):
                found = last, end, str(kind)  # the longest
        if found is None:
            at += 1
        else:
            yield groups[at][0], found[1], found[2]
            at = found[0] + 1


def _kind(digits: str, sizes: tuple[int, ...]) -> str | None:
    if len(digits) == _ID_DIGITS and _is_id_number(digits):
        return ID_NUMBER
    if len(digits) in _CARD_DIGITS and _is_card(digits, sizes):
        return CARD
    if len(digits) in _PHONE_DIGITS and _is_phone(digits, sizes):
        return PHONE
    return None


def _is_id_number(digits: str) -> bool:
    if _REGION.match(digits) is None:
        return False
    year, month, day = int(digits[6:10]), int(digits[10:12]), int(digits[12:14])
    if not _FIRST_YEAR <= year <= _LAST_YEAR:
        return False
    try:
        date(year, month, day)
    except ValueError:
        return False
    total = sum(int(digit) * weight for digit, weight in zip(digits[:17], _ID_WEIGHTS, strict=True))
    return _ID_CHECKS[total % 11] == digits[17]


def _is_card(digits: str, sizes: tuple[int, ...]) -> bool:
    if _CARD_PREFIX.fullmatch(digits) is None:
        return False
    as_printed = (
        len(sizes) == 1
        or (all(size == _CARD_FIRST for size in sizes[:-1]) and sizes[-1] <= _CARD_FIRST)
        or (len(sizes) == 2 and sizes[0] == 6)  # noqa: PLR2004 - the bank's number, and the account's
        or sizes in _CARD_GROUPS
    )
    return as_printed and _luhn(digits)


def _luhn(digits: str) -> bool:
    """Return whether the last digit is the check digit of the others (ISO/IEC 7812-1, annex B)."""
    doubled = digits[-2::-2].translate(_DOUBLED)
    return sum(map(int, doubled + digits[-1::-2])) % 10 == 0


def _is_phone(digits: str, sizes: tuple[int, ...]) -> bool:
    found = _PHONE.fullmatch(digits)
    if found is None:
        return False
    prefix = len(found["prefix"])
    if prefix:
        sizes = sizes[1:] if sizes[0] == prefix else (sizes[0] - prefix, *sizes[1:])
    return sizes in _PHONE_GROUPS


def _part_of_more(text: str, start: int, end: int) -> bool:
    """Return whether digits are a part of a decimal, or of a long hexadecimal word: a hash, a UUID, an SDK's id."""
    if start >= 2 and text[start - 1] == "." and text[start - 2].isdecimal():  # noqa: PLR2004 - room for both
        return True
    if text[end : end + 1] == "." and text[end + 1 : end + 2].isdecimal():
        return True
    left = _HEX_LEFT.search(text[max(0, start - _AROUND) : start])
    right = _HEX_RIGHT.match(text[end : end + _AROUND])
    around = ((left[0] if left is not None else "") + (right[0] if right is not None else "")).replace("-", "")
    return (
        len(around) >= _HEX_BESIDE
        and len(around) + end - start >= _HEX_CHARS
        and sum(not one.isdecimal() for one in around) >= _HEX_LETTERS
    )
