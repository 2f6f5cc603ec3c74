"""What SDKs ask a server before they send events: a settings document that switches everything on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from collector.answer import JSON, Answer
from collector.cors import Headers
from collector.dialects.path import NO_STORE, Templated

SCRIPT: Final = (b"content-type", b"text/javascript; charset=utf-8")


@dataclass(frozen=True)
class SettingsPath(Templated):
    """Paths of one kind that are answered without a look at the key; `body` gets the values of the template's names."""

    name: str
    template: str
    methods: tuple[str, ...]
    body: Callable[[dict[str, str]], bytes]
    headers: tuple[tuple[bytes, bytes], ...] = (JSON,)

    def answer(self, path: str) -> Answer:
        """Return the settings for a path that matches."""
        headers: Headers = [*self.headers, NO_STORE]
        return Answer(HTTPStatus.OK, self.body(self.values(path)), headers)
