"""Reading a definitions document (TOML), with the exact position of everything that is wrong in it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator
from decimal import Decimal, InvalidOperation
from typing import Any, Final, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from collector.wire.event import EVENT_TYPES
from processors.domain.definitions import (
    Behaviour,
    Definitions,
    DefinitionsError,
    Milestone,
    NewerFoldError,
    Pattern,
    Problem,
)
from processors.domain.rules import RULE_NAMES, SCORES, Rules

_T = TypeVar("_T")

FOLD: Final = 1
"""The version of the rules' code; a document that asks for another one is refused."""

NEWER_FOLD: Final = f"asks for newer rules than {FOLD}, the newest known to this program: install a newer release"

MAX_DOCUMENT_BYTES: Final = 256 * 1024
"""In UTF-8. As JSON it may be twice as long, and has to fit into one record of each partition."""
MAX_BEHAVIOURS: Final = 200
MAX_CATEGORIES: Final = 200
MAX_TEXT_CHARS: Final = 1000
MAX_RULE: Final = 1_000_000_000
MAX_DAYS: Final = 10_000
"""No rule reaches further than 27 years; beyond it a due hour would be no date any more."""
MAX_WEIGHT: Final = 1_000_000
"""In thousandths: no behaviour weighs more than 1,000."""

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}\Z")
_PLACEHOLDER: Final = re.compile(r"(?<=/)\{([A-Za-z_][A-Za-z0-9_]*)\}(?=/|\Z)")
_CONDITIONS: Final = ("path", "href_path", "text", "selector", "event", "property")
_TABLES: Final = frozenset(
    {"fold", "name", "timezone", "categories", "category_paths", "rules", "behaviours", "milestones"}
)
_IN_ARRAY: Final = 2
"""A path of at least so many parts may lie within one of several [[tables]]."""


def parse(text: str) -> Definitions:
    """Return the definitions that a TOML document stands for.

    Raises:
        DefinitionsError: with every problem and its position.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MAX_DOCUMENT_BYTES:
        raise DefinitionsError([Problem(1, 1, "document", f"is longer than {MAX_DOCUMENT_BYTES} bytes")])
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # no TOML; or a number too long, or nesting too deep, for Python
        line, column = _toml_position(str(error), text)
        raise DefinitionsError([Problem(line, column, "document", f"is no TOML: {error}")]) from error
    return _Reader(text, document).read()


def _toml_position(message: str, text: str) -> tuple[int, int]:
    found = re.search(r"line (\d+), column (\d+)", message)
    if found:
        return int(found[1]), int(found[2])
    return text.count("\n") + 1, len(text) - text.rfind("\n")


class _Reader:
    """Reads one document, collecting problems instead of stopping at the first."""

    def __init__(self, text: str, document: dict[str, Any]) -> None:
        self._document = document
        self._text = text
        self._problems: list[Problem] = []

    def read(self) -> Definitions:
        document = self._document
        for key in document:
            if key not in _TABLES:
                self._wrong((key,), f"is not known; known are {', '.join(sorted(_TABLES))}")
        if type(document.get("fold")) is int and document["fold"] > FOLD:
            raise NewerFoldError([Problem(*_locate(self._text, ("fold",)), "fold", NEWER_FOLD)])
        if type(document.get("fold")) is not int or document["fold"] != FOLD:
            self._wrong(("fold",), f"must be {FOLD}, the version of the rules that this program folds under")
        categories = self._names(("categories",), document.get("categories", []), MAX_CATEGORIES)
        result = Definitions(
            name=self._text_of(("name",), document.get("name", "unnamed")),
            timezone=self._timezone(document.get("timezone", "Asia/Shanghai")),
            categories=categories,
            category_paths=self._patterns(("category_paths",), document.get("category_paths", [])),
            rules=self._rules(document.get("rules", {})),
            behaviours=tuple(self._each("behaviours", self._behaviour)),
            milestones=tuple(self._each("milestones", self._milestone)),
        )
        if self._problems:
            raise DefinitionsError(self._problems)
        return result

    def _wrong(self, path: tuple[str | int, ...], message: str) -> None:
        line, column = _locate(self._text, path)
        name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
        self._problems.append(Problem(line, column, name, message))

    def _text_of(self, path: tuple[str | int, ...], value: object) -> str:
        if isinstance(value, str) and 0 < len(value) <= MAX_TEXT_CHARS:
            return value
        self._wrong(path, f"must be a text of 1 to 1000 characters, not {value!r}")
        return ""

    def _timezone(self, value: object) -> str:
        name = self._text_of(("timezone",), value)
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            self._wrong(("timezone",), f"{value!r} is no time zone of the IANA database")
        return name

    def _names(self, path: tuple[str | int, ...], values: object, most: int) -> tuple[str, ...]:
        if not isinstance(values, list) or len(values) > most:
            self._wrong(path, f"must be a list of at most {most} names")
            return ()
        for index, value in enumerate(values):
            if not isinstance(value, str) or not _NAME.match(value):
                self._wrong((*path, index), f"{value!r} is no name: small letters, digits, _ and -, at most 64")
            elif value in values[:index]:
                self._wrong((*path, index), f"{value!r} stands here twice")
        return tuple(str(value) for value in values)

    def _patterns(self, path: tuple[str | int, ...], values: object) -> tuple[str, ...]:
        texts = self._texts(path, values)
        for index, text in enumerate(texts):
            if text and not _is_path_pattern(text):
                self._wrong((*path, index), f"{text!r} is no path pattern like /products/{{category}}")
        return texts

    def _texts(self, path: tuple[str | int, ...], values: object) -> tuple[str, ...]:
        listed = values if isinstance(values, list) else [values]
        return tuple(self._text_of((*path, index), value) for index, value in enumerate(listed))

    def _rules(self, values: object) -> Rules:
        if not isinstance(values, dict):
            self._wrong(("rules",), "must be a table")
            return Rules()
        found: dict[str, int] = {}
        for name, value in values.items():
            if name not in RULE_NAMES:
                self._wrong(("rules", name), f"is not known; known are {', '.join(RULE_NAMES)}")
            elif name in SCORES:
                found[name] = self._thousandths(("rules", name), value)
            elif isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _most(name):
                self._wrong(("rules", name), f"must be a whole number from 1 to {_most(name)}, not {value!r}")
            else:
                found[name] = value
        return Rules(**found)

    def _thousandths(self, path: tuple[str | int, ...], value: object) -> int:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            try:
                scaled = Decimal(repr(value)) * 1000
                if scaled == scaled.to_integral_value() and 0 <= scaled <= MAX_WEIGHT:
                    return int(scaled)
            except InvalidOperation:
                pass
        self._wrong(path, f"must be a number from 0 to 1000 with at most three decimals, not {value!r}")
        return 0

    def _each(self, table: str, read: Callable[[tuple[str | int, ...], dict[str, Any]], _T]) -> Iterator[_T]:
        entries = self._document.get(table, [])
        if not isinstance(entries, list) or len(entries) > MAX_BEHAVIOURS:
            self._wrong((table,), f"must be at most {MAX_BEHAVIOURS} tables [[{table}]]")
            return
        seen: set[object] = set()
        for index, entry in enumerate(entries):
            if not isinstance(entry, dict):
                self._wrong((table, index), "must be a table")
                continue
            name = entry.get("name")
            if not isinstance(name, str) or not _NAME.match(name):
                self._wrong((table, index, "name"), f"{name!r} is no name: small letters, digits, _ and -, at most 64")
            elif name in seen:
                self._wrong((table, index, "name"), f"{name!r} stands here twice")
            else:
                seen.add(name)
            yield read((table, index), entry)

    def _behaviour(self, path: tuple[str | int, ...], entry: dict[str, Any]) -> Behaviour:
        if "weight" not in entry:
            self._wrong((*path, "name"), "has no weight")
        weight = self._thousandths((*path, "weight"), entry.get("weight", 0))
        return Behaviour(str(entry.get("name")), weight, self._pattern(path, entry, ("name", "weight")))

    def _milestone(self, path: tuple[str | int, ...], entry: dict[str, Any]) -> Milestone:
        return Milestone(str(entry.get("name")), self._pattern(path, entry, ("name",)))

    def _pattern(self, path: tuple[str | int, ...], entry: dict[str, Any], others: tuple[str, ...]) -> Pattern:
        for key in entry:
            if key not in _CONDITIONS and key != "type" and key not in others:
                self._wrong((*path, key), f"is not known; known are {', '.join((*others, 'type', *_CONDITIONS))}")
        if str(entry.get("type")) not in EVENT_TYPES:
            where = (*path, "type") if "type" in entry else path
            self._wrong(where, f"type must be one of {', '.join(sorted(EVENT_TYPES))}, not {entry.get('type')!r}")
        properties = entry.get("property", {})
        if not isinstance(properties, dict):
            self._wrong((*path, "property"), "must be a table of property names and texts")
            properties = {}
        return Pattern(
            type=str(entry.get("type")),
            path=self._patterns((*path, "path"), entry.get("path", [])),
            href_path=self._patterns((*path, "href_path"), entry.get("href_path", [])),
            text=self._texts((*path, "text"), entry.get("text", [])),
            selector=self._texts((*path, "selector"), entry.get("selector", [])),
            event=self._texts((*path, "event"), entry.get("event", [])),
            property=tuple(
                (name, self._texts((*path, "property", name), values)) for name, values in properties.items()
            ),
        )


def _is_path_pattern(text: str) -> bool:
    """Return whether a text is a path whose placeholders, of different names, are whole segments."""
    names = _PLACEHOLDER.findall(text)
    plain = _PLACEHOLDER.sub("", text)
    return text.startswith("/") and not re.search(r"[{}]", plain) and len(set(names)) == len(names)


def _most(name: str) -> int:
    """Return the largest value of a rule, by the unit that its name ends with."""
    units = {"days": MAX_DAYS, "hours": MAX_DAYS * 24, "minutes": MAX_DAYS * 24 * 60, "percent": 100}
    return units.get(name.rsplit("_", 1)[-1], MAX_RULE)


def _locate(text: str, path: tuple[str | int, ...]) -> tuple[int, int]:
    """Return line and column of the deepest part of `path` that can be found in a TOML text that parses."""
    lines = text.split("\n")
    start, end = 0, len(lines)
    if len(path) >= _IN_ARRAY and isinstance(path[1], int) and path[0] in ("behaviours", "milestones"):
        headers = [n for n, line in enumerate(lines) if re.match(rf"\s*\[\[\s*{path[0]}\s*\]\]", line)]
        if path[1] < len(headers):
            start = headers[path[1]]
            end = next((n for n in range(start + 1, len(lines)) if re.match(r"\s*\[", lines[n])), len(lines))
            path = path[2:]
    elif path[0] == "rules":
        headers = [n for n, line in enumerate(lines) if re.match(r"\s*\[\s*rules\s*\]", line)]
        if headers:
            start = headers[0]
            end = next((n for n in range(start + 1, len(lines)) if re.match(r"\s*\[", lines[n])), len(lines))
            path = path[1:]
    for part in (part for part in path if isinstance(part, str)):
        for number in range(start, end):
            found = re.match(rf"(\s*)[\"']?{re.escape(part)}[\"']?\s*[=.]", lines[number])
            if found:
                return number + 1, len(found[1]) + 1
    return start + 1, 1
