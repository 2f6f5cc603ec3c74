"""What an event means under the definitions in force: behaviours, category, milestones; remembered per look."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from collector.wire.event import EVENT_TYPES, Element, Event
from processors.domain.definitions import Definitions, Pattern

NUMBERS: Final = 4096
"""More behaviours, or categories, than this were never defined for one log."""
NO_CATEGORY: Final = NUMBERS - 1
"""Stands for the pages of no category."""

_MOST_REMEMBERED: Final = 20_000
"""Looks whose meaning is kept; a shop has a few hundred, and 20,000 of them take some 10 MB."""


class TooManyNamesError(ValueError):
    """A log's documents have named more behaviours or categories than there are numbers for."""


class Meaning(NamedTuple):
    """What one event counts as: behaviour numbers, the sum of their weights (thousandths), category, milestones."""

    behaviours: tuple[int, ...]
    weight: int
    category: int
    milestones: tuple[int, ...]


@dataclass(slots=True)
class Names:
    """Every behaviour, category and milestone ever defined, in order of appearance: its number stays for ever.

    All partitions see the same documents in the same order, so a number means the same name in all of them.
    """

    behaviours: list[str]
    categories: list[str]
    milestones: list[str]

    def learn(self, definitions: Definitions) -> None:
        """Give a number to each name that is new in these definitions.

        Raises:
            TooManyNamesError: if the log has seen too many by now; nothing was learnt.
        """
        if any(len({*known, *used}) >= NO_CATEGORY for known, used in self._pairs(definitions)):
            msg = f"documents of this log have named {NO_CATEGORY} behaviours or categories; no new names fit in"
            raise TooManyNamesError(msg)
        for known, used in self._pairs(definitions):
            known.extend(name for name in used if name not in known)

    def _pairs(self, definitions: Definitions) -> tuple[tuple[list[str], list[str]], ...]:
        return (
            (self.behaviours, [one.name for one in definitions.behaviours]),
            (self.categories, list(definitions.categories)),
            (self.milestones, [one.name for one in definitions.milestones]),
        )


class Matcher:
    """Finds the meaning of events under one document."""

    def __init__(self, definitions: Definitions, names: Names) -> None:
        number = {name: index for index, name in enumerate(names.behaviours)}
        self.weights = {number[one.name]: one.weight for one in definitions.behaviours}
        self._behaviours = [(number[one.name], _Compiled(one.pattern)) for one in definitions.behaviours]
        milestone = {name: index for index, name in enumerate(names.milestones)}
        self._milestones = [(milestone[one.name], _Compiled(one.pattern)) for one in definitions.milestones]
        self._categories = {name: names.categories.index(name) for name in definitions.categories}
        self._category_paths = [_path_regex(path) for path in definitions.category_paths]
        self.looks = {kind: self._look(kind) for kind in EVENT_TYPES}
        """By event type: what of an event decides its meaning, and the meanings found so far; None: ask each time."""

    def _look(self, kind: str) -> tuple[Callable[[Event], object], dict[object, Meaning]] | None:
        patterns = [one for _, one in self._behaviours + self._milestones if one.type == kind]
        fields = sorted(
            {field for one in patterns for field in one.fields} | ({"page.path"} if kind == "dwell" else set())
        )
        if "properties" in fields:
            return None
        return attrgetter(*(fields or ["type"])), {}

    def meaning(self, event: Event) -> Meaning:
        """Return what the event counts as."""
        known = self.looks[event.type]
        if known is None:
            return self._find(event)
        look, meanings = known
        try:
            key = look(event)
        except AttributeError:  # no page, or no element
            return self._find(event)
        found = meanings.get(key)
        if found is None:
            if len(meanings) >= _MOST_REMEMBERED:
                meanings.clear()
            found = meanings[key] = self._find(event)
        return found

    def _find(self, event: Event) -> Meaning:
        path = event.page.path if event.page is not None else None
        behaviours = tuple(number for number, pattern in self._behaviours if pattern.matches(event, path))
        return Meaning(
            behaviours,
            sum(self.weights[number] for number in behaviours),
            self._category(path) if event.type == "dwell" else NO_CATEGORY,
            tuple(number for number, pattern in self._milestones if pattern.matches(event, path)),
        )

    def _category(self, path: str | None) -> int:
        for regex in self._category_paths:
            found = regex.fullmatch(_trim(path)) if path is not None else None
            if found:
                return self._categories.get(found.groupdict().get("category", ""), NO_CATEGORY)
        return NO_CATEGORY


class _Compiled:
    """One pattern, ready to be held against events."""

    def __init__(self, pattern: Pattern) -> None:
        self.type = pattern.type
        self.properties = [(name, frozenset(values)) for name, values in pattern.property]
        self._paths = _any_path(pattern.path)
        self._href_paths = _any_path(pattern.href_path)
        self._texts = frozenset(" ".join(text.split()) for text in pattern.text)
        self._selectors = frozenset(pattern.selector)
        self._names = frozenset(pattern.event)
        self.fields = [
            field
            for field, used in (
                ("page.path", pattern.path),
                ("element.href", pattern.href_path),
                ("element.text", pattern.text),
                ("element.selector", pattern.selector),
                ("name", pattern.event),
                ("properties", pattern.property),
            )
            if used
        ]
        """What of an event decides whether it matches."""

    def matches(self, event: Event, path: str | None) -> bool:
        """Return whether every condition of the pattern holds."""
        if event.type != self.type or (self._names and event.name not in self._names):
            return False
        if self._paths and (path is None or not self._paths.fullmatch(_trim(path))):
            return False
        if (self._href_paths or self._texts or self._selectors) and not self._element_matches(event.element):
            return False
        return not self.properties or self._properties_match(event)

    def _element_matches(self, element: Element | None) -> bool:
        return (
            element is not None
            and (not self._href_paths or self._href_paths.fullmatch(_href_path(element.href)) is not None)
            and (not self._texts or " ".join((element.text or "").split()) in self._texts)
            and (not self._selectors or element.selector in self._selectors)
        )

    def _properties_match(self, event: Event) -> bool:
        found = json.loads(bytes(event.properties))
        return all(name in found and str(found[name]) in allowed for name, allowed in self.properties)


def _trim(path: str) -> str:
    return path.rstrip("/") or "/"


def _href_path(href: str | None) -> str:
    if href is None:  # not the same as an empty link, which leads to the page itself
        return ""
    try:
        return _trim(urlsplit(href).path)
    except ValueError:  # such as an unclosed IPv6 bracket: a link that leads nowhere
        return ""


def _path_regex(path: str) -> re.Pattern[str]:
    parts = re.split(r"(\{\w+\})", _trim(path))
    return re.compile("".join(f"(?P<{part[1:-1]}>[^/]+)" if part[:1] == "{" else re.escape(part) for part in parts))


def _any_path(paths: Iterable[str]) -> re.Pattern[str] | None:
    bodies = [re.sub(r"\?P<\w+>", "?:", _path_regex(path).pattern) for path in paths]
    return re.compile("|".join(bodies)) if bodies else None
