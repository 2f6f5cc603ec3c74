"""What is masked for one source, and how: texts, URLs and whole trees of properties."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from functools import lru_cache
from typing import Any, Final, NamedTuple

import msgspec

from collector.masking.kinds import KINDS, MASK, SECRET, Masked
from collector.masking.names import NAME_CHARS, Meaning, Names
from collector.masking.numbers import kind_of_number
from collector.masking.texts import TextMask
from collector.masking.urls import UrlMask

_CACHED_CHARS: Final = 1024
_CACHED_TEXTS: Final = 2048
"""SDKs repeat a page's addresses and texts in every event of its view, and pages repeat them for every visitor. Three
caches of this size take 50 MB, if somebody sends texts to fill them."""
_SHORTEST: Final = 6
"""An e-mail address has no fewer characters, and nothing else that is masked has."""
_SMALLEST: Final = 13_000_000_000
"""The smallest mobile number; cards and ID numbers are greater."""
_LARGEST: Final = 10**19
_KNOWN_NAMES: Final = 4096
_ANY: Final = Meaning.ANY
_KEPT: Final = Meaning.KEPT
_WORD = re.compile(r"[\w.:$+-]{1,128}", re.ASCII)
"""An identifier or an amount."""


class AlreadyMasked(NamedTuple):
    """A property's JSON that its dialect has masked, and the kind of each that was."""

    json: bytes
    kinds: tuple[str, ...]


class Masking:
    """Masks what one source sends; made once, and used by the event loop and the thread beside it (`collector.apart`).

    Args:
        kinds: which are masked, of KINDS.
        secret_names: further names of parameters and properties whose values are always masked.
        kept_names: names whose values never are.
    """

    def __init__(
        self, kinds: Collection[str] = KINDS, secret_names: Iterable[str] = (), kept_names: Iterable[str] = ()
    ) -> None:
        self._kinds = frozenset(kinds)
        self._secrets = SECRET in self._kinds
        self._names = Names(secret_names, kept_names)
        self._texts = TextMask(self._kinds, self._names)
        self._urls = UrlMask(self._kinds, self._names, self._texts)
        self._known_text = lru_cache(_CACHED_TEXTS)(self._texts.mask)
        self._known_url = lru_cache(_CACHED_TEXTS)(self._urls.mask)
        self._known_value = lru_cache(_CACHED_TEXTS)(self._value)
        self._known_names: dict[str, tuple[Meaning, str | None]] = {}

    def text(self, text: str) -> Masked:
        """Return a text with everything that is masked as `***`, and the kind of each."""
        return self._known_text(text) if len(text) <= _CACHED_CHARS else self._texts.mask(text)

    def url(self, url: str) -> Masked:
        """Return a URL, absolute or relative, with everything that is masked as `***`, and the kind of each."""
        return self._known_url(url) if len(url) <= _CACHED_CHARS else self._urls.mask(url)

    def value(self, text: str) -> Masked:
        """Return what may be a URL, a query or a text with everything that is masked as `***`, and the kind of each."""
        return self._known_value(text) if len(text) <= _CACHED_CHARS else self._value(text)

    def _value(self, text: str) -> Masked:
        is_url = ("/" in text or "?" in text) and (
            text.startswith(("/", "?")) or ("://" in text and not text.startswith(("{", "[")))
        )
        return self._urls.mask(text) if is_url else self._texts.mask(text)

    def properties(self, properties: dict[str, Any], kinds: list[str]) -> None:
        """Mask properties in place, their names too; `kinds` is added the kind of everything that was masked."""
        renamed = False
        for name, value in properties.items():
            meaning, new = self._known_names.get(name) or self._learn(name)
            kind = type(value)
            if kind is str and meaning is _ANY:  # as nearly all are
                if len(value) >= _SHORTEST:
                    masked, found = self._known_value(value) if len(value) <= _CACHED_CHARS else self.value(value)
                    if found:
                        kinds += found
                        properties[name] = masked
            elif kind is not bool and value is not None and (meaning is not _KEPT or kind is AlreadyMasked):
                properties[name] = self._any(value, meaning, kinds)
            renamed = renamed or new is not None
        if renamed:
            given = list(properties.items())
            properties.clear()
            for name, value in given:
                masked, found = self.value(name)
                kinds += found
                properties[masked] = value

    def _learn(self, name: str) -> tuple[Meaning, str | None]:
        """Return the meaning of a name, and what stands in its place where it holds something itself."""
        masked, found = self.value(name) if len(name) >= _SHORTEST else (name, ())
        no_name = found or "/" in name or len(name) > NAME_CHARS  # a heat map's parts are named by addresses
        known = _ANY if no_name else self._names.in_properties(name), masked if found else None
        if len(name) <= NAME_CHARS:
            if len(self._known_names) >= _KNOWN_NAMES:
                self._known_names.clear()
            self._known_names[name] = known
        return known

    def _any(self, value: Any, meaning: Meaning, kinds: list[str]) -> Any:  # noqa: ANN401 - JSON of unknown shape
        kind = type(value)
        if meaning is Meaning.SECRET and self._secrets:
            return self._secret(value, kinds)
        if kind is AlreadyMasked:
            kinds += value.kinds
            return msgspec.Raw(value.json)
        if kind is str:
            if len(value) < _SHORTEST or (meaning is Meaning.IDENTIFIER and _WORD.fullmatch(value)):
                return value
            masked, found = self.value(value)
            kinds += found
            return masked
        if kind is int or kind is float:
            return value if meaning is Meaning.IDENTIFIER else self._number(value, kinds)
        if kind is dict:
            self.properties(value, kinds)
        elif kind is list:
            value[:] = [self._any(one, meaning, kinds) for one in value]
        return value

    def _number(self, value: float, kinds: list[str]) -> object:
        whole = _SMALLEST <= value < _LARGEST and int(value) == value  # pandas makes 13800138000.0 of it
        found = kind_of_number(int(value), self._kinds) if whole else None
        if found is None:
            return value
        kinds.append(found)
        return MASK

    def _secret(self, value: object, kinds: list[str]) -> object:
        if value is None or isinstance(value, bool) or value in ("", MASK):
            return value
        kinds.append(SECRET)
        return MASK


EVERYTHING: Final = Masking()
"""What is masked where no setting says otherwise."""


@lru_cache(maxsize=256)
def masking_for(kinds: tuple[str, ...], secret_names: tuple[str, ...], kept_names: tuple[str, ...]) -> Masking:
    """Return the masking that settings ask for; equal settings share one, and what it knows."""
    if kinds == KINDS and not secret_names and not kept_names:
        return EVERYTHING
    return Masking(kinds, secret_names, kept_names)
