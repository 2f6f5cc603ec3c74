"""Where a dialect's SDKs send events, and what they want to hear."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from typing import Final

from collector.answer import JSON, Answer, Results
from collector.decode.dialect import Dialect, Post

NO_STORE: Final = (b"cache-control", b"no-store")
GIF: Final = (
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\xff\xff\xff\x00\x00\x00!\xf9\x04\x01\x00\x00\x00\x00"
    b",\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"
)
"""One transparent pixel: an image loader that gets no image reports an error."""


class Templated:
    """Paths that a template describes, in which `{name}` stands for one segment."""

    template: str

    @property
    def fixed(self) -> bool:
        """Whether the template is a path itself."""
        return "{" not in self.template

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        parts = re.split(r"\{([a-z_]+)\}", self.template)
        return re.compile("".join(f"(?P<{one}>[^/]+)" if at % 2 else re.escape(one) for at, one in enumerate(parts)))

    def matches(self, path: str) -> bool:
        """Return whether a request's path is one of these."""
        return self._pattern.fullmatch(path) is not None

    def values(self, path: str) -> dict[str, str]:
        """Return what stands in a path for the template's names; nothing for a path that is none of these."""
        found = self._pattern.fullmatch(path)
        return found.groupdict() if found is not None else {}


@dataclass(frozen=True)
class EventPath(Templated):
    """Paths of one kind to which events are sent.

    `dialect` tells whose request it is, where several share a path; `answer` is what is said of a request that was
    read; `instead` replaces statuses of refusals that the dialect's SDKs do not survive. `name` stands in the metrics.
    """

    name: str
    template: str
    methods: tuple[str, ...]
    dialect: Callable[[Post], Dialect]
    answer: Callable[[Results], Answer]
    instead: Mapping[int, HTTPStatus] = field(default_factory=dict)
    key_required: bool = False
    """Whether the key stands in the head: a request without one is refused before its body is read."""


def json_answer(body: bytes) -> Callable[[Results], Answer]:
    """Return what answers every request that was read with the same 200."""
    return lambda _: Answer(HTTPStatus.OK, body, [JSON])


def no_content(_: Results) -> Answer:
    """Return 204."""
    return Answer(HTTPStatus.NO_CONTENT)


def pixel(_: Results) -> Answer:
    """Return a GIF of one pixel that no cache keeps."""
    return Answer(HTTPStatus.OK, GIF, [(b"content-type", b"image/gif"), NO_STORE])


def always(one: Dialect) -> Callable[[Post], Dialect]:
    """Return what tells that every request of a path is of one dialect."""
    return lambda _: one
