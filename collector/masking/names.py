"""What the name of a parameter or property tells about its value."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

NAME_CHARS: Final = 128
"""What has a longer name is looked at as if it had none."""
_KNOWN_NAMES: Final = 4096


class Meaning(Enum):
    """What is done with a value because of its name."""

    ANY = "masked where it looks like something that is"
    IDENTIFIER = "left alone where it is a number or one word: an order's number looks like a card's by chance"
    SECRET = "masked whatever it looks like"  # noqa: S105 - no secret
    KEPT = "left alone, as the settings say"


_IN_URLS: Final = (
    "token", "password", "passwd", "pwd", "passphrase", "secret", "signature", "credential", "session", "apikey",
    "accesskey", "privatekey", "authoriz", "oauth", "captcha", "verif", "idcard", "cardno", "bankcard", "mobile",
    "phone", "email", "jwt",
)  # fmt: skip
"""A parameter of a URL is secret when its name, letters and digits only, contains one of these ..."""
_EXACTLY_IN_URLS: Final = frozenset({
    "key", "code", "auth", "authcode", "authkey", "smscode", "vcode", "sid", "ssid", "phpsessid", "sign", "sig",
    "otp", "pin", "pass", "ticket", "cvv", "cvc", "hmac",
})  # fmt: skip
"""... or is one of these, which as a part of a name would hit `keyword`, `fund_code` or `author`."""

_IN_PROPERTIES: Final = (
    "password", "passwd", "passphrase", "accesstoken", "refreshtoken", "authtoken", "idtoken", "sessiontoken",
    "csrftoken", "devicetoken", "pushtoken", "clientsecret", "secretkey", "apikey", "accesskey", "privatekey",
    "verificationcode", "verifycode", "smscode", "captcha", "phpsessid",
)  # fmt: skip
"""A property is secret when its name contains one of these ..."""
_WORDS_IN_PROPERTIES: Final = frozenset({
    "pwd", "pwds", "secret", "secrets", "token", "jwt", "otp", "cvv", "cvc", "vcode", "authcode",
    "credential", "credentials", "authorization",
})  # fmt: skip
"""... or has one of these as a word (not `tokens`: those are counted) ..."""
_EXACTLY_IN_PROPERTIES: Final = frozenset({
    "idcard", "idcardno", "idcardnumber", "idnumber", "identitycard", "identityno", "identitynumber", "bankcard",
    "bankcardno", "bankcardnumber", "cardno", "cardnumber",
})  # fmt: skip
"""... or is one of these ..."""
_ABOUT_SECRETS: Final = frozenset({
    "type", "count", "length", "len", "strength", "score", "status", "state", "name", "expires", "expiry", "expired",
    "expire", "ttl", "at", "time", "date", "size", "index", "limit", "valid", "visible", "required", "enabled",
    "changed", "reset", "shown", "error", "result", "hint", "version", "symbol", "in", "on",
})  # fmt: skip
"""... unless the last word says that it is only about one: `password_strength`, `token_type`."""

_THINGS: Final = frozenset({
    "order", "product", "fund", "trade", "transaction", "redemption", "payment", "item", "goods", "sku", "coupon",
    "contract", "stock", "security", "portfolio", "plan",
})  # fmt: skip
_NUMBERED: Final = frozenset({"id", "ids", "no", "nos", "number", "numbers", "num", "code", "codes", "sn", "serial"})
"""A thing's name and one of these is an identifier: `order_no`, `fundCode`; order numbers pass as cards by chance."""
_IDENTIFIERS: Final = frozenset({"isin", "sku", "code"})
_QUANTITIES: Final = frozenset({
    "amount", "remaining", "price", "total", "count", "qty", "quantity", "balance", "assets", "shares", "nav", "volume",
    "ms", "seconds", "time", "ts", "timestamp", "date", "duration", "width", "height", "rate", "fee", "yield", "size",
    "scale", "money", "at",
})  # fmt: skip
"""Last words of names of quantities and times: thirteen billion of money look like a mobile number."""

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\dA-Za-z_]+")


def _plain(name: str) -> str:
    return "".join(c for c in unquote(name).casefold() if c.isalnum())


class Names:
    """The meaning of names, for one source.

    Args:
        secret: further names whose values are always masked.
        kept: names whose values never are; they win.
    """

    def __init__(self, secret: Iterable[str] = (), kept: Iterable[str] = ()) -> None:
        self._secret = frozenset(map(_plain, secret))
        self._kept = frozenset(map(_plain, kept))
        self.in_url = lru_cache(_KNOWN_NAMES)(self._in_url)
        self.in_properties = lru_cache(_KNOWN_NAMES)(self._in_properties)

    def _said(self, plain: str) -> Meaning | None:
        if plain in self._kept:
            return Meaning.KEPT
        return Meaning.SECRET if plain in self._secret else None

    def _in_url(self, name: str) -> Meaning:
        """Return the meaning of a URL's parameter; what stands in an address is more often a secret than not."""
        plain = _plain(name)
        said = self._said(plain)
        if said is not None:
            return said
        secret = plain in _EXACTLY_IN_URLS or any(word in plain for word in _IN_URLS)
        return Meaning.SECRET if secret else Meaning.ANY

    def _in_properties(self, name: str) -> Meaning:
        """Return the meaning of a property's name, of at most NAME_CHARS."""
        plain = _plain(name)
        said = self._said(plain)
        if said is not None:
            return said
        words = [word.casefold() for word in _WORD.findall(name)]
        last = words[-1] if words else ""
        if last not in _ABOUT_SECRETS and (
            plain in _EXACTLY_IN_PROPERTIES
            or not _WORDS_IN_PROPERTIES.isdisjoint(words)
            or any(word in plain for word in _IN_PROPERTIES)
        ):
            return Meaning.SECRET
        numbered = plain in _IDENTIFIERS or (last in _NUMBERED and not _THINGS.isdisjoint(words))
        return Meaning.IDENTIFIER if numbered or last in _QUANTITIES else Meaning.ANY
