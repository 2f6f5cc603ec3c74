r"""PostHog's two ways to write the elements of a click: one text, `$elements_chain`, or a list, `$elements`.

The text has the elements from the innermost outwards, `;` between them, each `tag.class.class:key="value"key="value"`:
`attr__<name>` is an attribute, `text` its text, `nth-of-type` its place from 1; a quote in a value is `\"`. The list
has the same as objects, with `$el_text`, `tag_name` and `nth_of_type`. What is told of an element here is what
autocapture.js tells of it, so that the same definitions fit both.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, Final, NamedTuple

import msgspec

from collector.decode.elements import CHOICES, SELECTOR_CLASSES
from collector.masking.rules import AlreadyMasked, Masking

MAX_ELEMENTS: Final = 128
"""Few pages are as deep; what lies further out is not looked at."""
SELECTOR_LEVELS: Final = 5
SELECTOR_CHARS: Final = 200
MAX_PLACE: Final = 1_000_000
"""No page has as many siblings."""

_MAX_CACHED_CHARS: Final = 4096
_BUTTONS: Final = frozenset({"submit", "button"})
_MEANINGFUL: Final = frozenset({"a", "button", "label", "summary"})
_LINKS: Final = frozenset({"a", "area"})
_TYPED: Final = ("attr__value", "text", "$el_text")
"""Where the value of a field stands, or its text."""

_ELEMENT = re.compile(r'(?:[^";]++|"(?:[^"\\]++|\\.)*+"?)++', re.DOTALL)
_HEAD_END = re.compile(r':(?=(?:attr__[^"=]{0,128}+|attr_id|href|nth-child|nth-of-type|text)=")')
"""A class may hold a colon too, as `md:flex`; it never holds a quote."""
_SMALL = re.compile(r"[1-9][0-9]{0,5}")
_VALUE = re.compile(r'([^"=]*+)(?:="((?:[^"\\]++|\\.)*+)"|["=]|\Z)', re.DOTALL)
"""A name with its value, or what is none, so that nothing is looked at twice."""


class Described(NamedTuple):
    """The element that something happened to; `place` is its index from 0, `href` what the page says.

    `typed` tells that it is a field, whose text would be what somebody typed or chose.
    """

    tag: str | None = None
    text: str | None = None
    selector: str | None = None
    href: str | None = None
    place: int | None = None
    typed: bool = False


class _Node(NamedTuple):
    tag: str
    text: str | None
    classes: Sequence[str]
    place: int | None
    attributes: dict[str, str]

    @property
    def meaningful(self) -> bool:
        attributes = self.attributes
        return self.tag in _MEANINGFUL or attributes.get("type") in _BUTTONS or attributes.get("role") == "button"

    @property
    def label(self) -> str | None:
        """The text; an input's is the label of a button, which is no value that anybody typed."""
        if self.tag == "input":
            return None if self.typed else self.attributes.get("value")
        return None if self.typed else self.text

    @property
    def typed(self) -> bool:
        """Whether its value or text is what somebody typed or chose."""
        return self.tag in CHOICES or (self.tag == "input" and self.attributes.get("type") not in _BUTTONS)


def read_chain(chain: str, masking: Masking, *, nearest: bool) -> tuple[Described, AlreadyMasked]:
    """Return the element of a chain, and the chain masked, without the values of fields.

    Args:
        chain: as PostHog sends it; what is no chain describes nothing.
        masking: of its source.
        nearest: take the nearest element that means something when clicked, else the innermost.
    """
    read = _read_chain if len(chain) <= _MAX_CACHED_CHARS else _read_chain.__wrapped__
    return read(chain, masking, nearest)


@lru_cache(maxsize=1024)  # the elements of a page are the same for all of its visitors
def _read_chain(chain: str, masking: Masking, nearest: bool) -> tuple[Described, AlreadyMasked]:  # noqa: FBT001 - a key
    nodes = [_node_of_text(match[0]) for match in islice(_ELEMENT.finditer(chain), MAX_ELEMENTS)]
    kinds: list[str] = []
    plain = _ELEMENT.sub(lambda match: _masked(match[0], masking, kinds), chain)
    plain, found = masking.text(plain)  # classes
    return _describe(nodes, nearest=nearest), AlreadyMasked(msgspec.json.encode(plain), (*kinds, *found))


def read_list(elements: Sequence[Any], *, nearest: bool) -> Described:
    """Return the element of a list, and take the values of fields out of it; `nearest` as of `read_chain`."""
    nodes = []
    for one in elements:
        if isinstance(one, dict):
            nodes.append(node := _node_of_object(one))
            if node.typed:
                for name in _TYPED:
                    one.pop(name, None)
    return _describe(nodes[:MAX_ELEMENTS], nearest=nearest)


def _masked(element: str, masking: Masking, kinds: list[str]) -> str:
    """Return one element of a chain, masked; a field without its value."""
    typed = _node_of_text(element).typed

    def mask(match: re.Match[str]) -> str:
        name, value = match[1], match[2]
        if value is None:
            return match[0]
        if typed and name in _TYPED:
            return ""
        masked, found = masking.value(value)
        kinds.extend(found)
        return f'{name}="{masked}"'

    end = _HEAD_END.search(element)
    return element if end is None else element[: end.end()] + _VALUE.sub(mask, element[end.end() :])


def _node_of_text(text: str) -> _Node:
    end = _HEAD_END.search(text)
    tag, *classes = (text if end is None else text[: end.start()]).split(".")
    found = () if end is None else _VALUE.finditer(text, end.end())
    values = {match[1]: match[2] for match in found if match[2] is not None}
    attributes = {
        name.removeprefix("attr__"): value.replace('\\"', '"')
        for name, value in values.items()
        if name.startswith("attr__")
    }
    inner = values.get("text")
    return _node(tag, inner.replace('\\"', '"') if inner else None, classes, values.get("nth-of-type"), attributes)


def _node_of_object(given: dict[str, Any]) -> _Node:
    tag, inner, classes = given.get("tag_name"), given.get("$el_text"), given.get("classes")
    attributes = {
        name.removeprefix("attr__"): value
        for name, value in given.items()
        if name.startswith("attr__") and isinstance(value, str)
    }
    if "href" not in attributes and isinstance(given.get("href"), str):
        attributes["href"] = given["href"]
    return _node(
        tag if isinstance(tag, str) else "",
        inner if isinstance(inner, str) else None,
        [one for one in classes if isinstance(one, str)] if isinstance(classes, list) else (),
        given.get("nth_of_type"),
        attributes,
    )


def _node(tag: str, text: str | None, classes: Sequence[str], place: object, attributes: dict[str, str]) -> _Node:
    in_order = attributes.get("class")  # PostHog sorts the classes beside the tag
    ordered = classes if in_order is None else in_order.split()
    return _Node(tag.lower(), text, ordered, _whole(place), attributes)


def _whole(value: object) -> int | None:
    if isinstance(value, str) and _SMALL.fullmatch(value):
        return int(value)
    return value if type(value) is int and 0 < value < MAX_PLACE else None


def _describe(nodes: Sequence[_Node], *, nearest: bool) -> Described:
    if not nodes:
        return Described()
    at = next((at for at, one in enumerate(nodes) if one.meaningful), 0) if nearest else 0
    chosen = nodes[at]
    texts = [one.label for one in reversed(nodes[: at + 1])] if nearest else [chosen.label]
    linked = any(one.tag in _LINKS for one in nodes)  # PostHog repeats a link's address at the innermost element
    return Described(
        chosen.tag or None,
        next((text for text in texts if text), None),
        _selector(nodes[at : at + SELECTOR_LEVELS]),
        next((href for one in nodes if (href := one.attributes.get("href"))), None) if linked else None,
        None if chosen.place is None else chosen.place - 1,
        chosen.typed,
    )


def _selector(nodes: Sequence[_Node]) -> str | None:
    """Return the path to an element from four levels above, or from the nearest id."""
    steps = ""
    for one in nodes:
        if not one.tag:
            break
        own = one.attributes.get("id")
        classes = ".".join(one.classes[:SELECTOR_CLASSES])
        step = f"{one.tag}#{own}" if own else f"{one.tag}.{classes}" if classes else one.tag
        steps = f"{step}>{steps}" if steps else step
        if own:
            break
    return steps[-SELECTOR_CHARS:] or None
