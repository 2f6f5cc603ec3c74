"""Ids that are none: what broken integrations send in place of a person's id."""

from __future__ import annotations

from typing import Final
from unicodedata import category

from collector.decode.decoded import Reason, RejectedEventError
from collector.decode.times import quoted

JUNK: Final = frozenset({
    "", "null", "(null)", "<null>", "undefined", "none", "nil", "nan", "guest", "anonymous", "anon", "unknown",
    "[object object]", "object object", "true", "false", "id", "distinctid",
    "distinct_id", "not_authenticated", "email", "n/a", "-1",
    "#n/a", "(none)", "(not set)", "not set", "[]", "{}", "[null]", "inf", "-inf", "infinity", "-infinity",
    "nobody", "visitor", "user_id", "userid", "uid", "anonymous_id", "anonymousid", "device_id", "deviceid",
    "ffffffff-ffff-ffff-ffff-ffffffffffff", "02:00:00:00:00:00", "9774d56d682e549c",
    "游客", "匿名", "匿名用户", "未知", "未登录",
})  # fmt: skip
"""Architecture, section 4, PostHog's list of illegal distinct ids, what spreadsheets, Google Analytics and languages
write for nothing, names of the field itself, the largest UUID (RFC 9562), the MAC address that Android 6 and iOS 7
tell every app, the ANDROID_ID that a fault of Android 2.2 gave many devices, and Chinese for visitor, anonymous,
unknown and not logged in; compared without case, space and quotes."""

_BREAKING: Final = frozenset({"Cc", "Zl", "Zp"})
"""Unicode's categories of control characters, U+0085 among them, and of line and paragraph separators: what prints an
id, a log or a CSV, breaks there."""

_TEMPLATES: Final = ("{{", "${", "<%", "%%", "{%")
"""How templates begin a name, in Jinja, Handlebars, JavaScript, ERB and mail tools."""
_AROUND: Final = " \t\r\n\v\f\u00a0\u3000\ufeff\"'`"


def is_junk(text: str) -> bool:
    """Return whether an id stands for nobody.

    So does one of zeros and what groups them, as the all-zero UUID, and a template's name that nothing was put in for.
    """
    plain = (text if text.isprintable() else _visible(text)).strip(_AROUND).casefold()
    return plain in JUNK or not plain.strip("0-:.") or (plain[:1] in "{$%<" and plain.startswith(_TEMPLATES))


def _visible(text: str) -> str:
    """Return an id as people see it: without the characters that only say how to write others, as U+200B."""
    kinds = [(char, category(char)) for char in text]
    return "".join(" " if kind == "Zs" else char for char, kind in kinds if kind != "Cf")


def read_id(value: str | int | None, place: str, max_chars: int) -> str | None:
    """Return an id as text; numbers are taken as their digits.

    Raises:
        RejectedEventError: `too_large` beyond `max_chars`, `malformed` with control characters or line breaks in it.
    """
    if value is None:
        return None
    text = value if isinstance(value, str) else str(value)
    if len(text) > max_chars:
        raise RejectedEventError(Reason.TOO_LARGE, place, f"has {len(text)} characters; {max_chars} is the limit")
    if not text.isprintable() and any(category(char) in _BREAKING for char in text):
        raise RejectedEventError(Reason.MALFORMED, place, "holds control characters or line breaks")
    return text


def read_person_id(value: str | int | None, place: str, max_chars: int) -> str | None:
    """Return a person's id as text; raises as `read_id`, and `junk_identity` for what stands for nobody."""
    text = read_id(value, place, max_chars)
    if text is not None and is_junk(text):
        raise RejectedEventError(Reason.JUNK_IDENTITY, place, f"is {quoted(value)}")
    return text
