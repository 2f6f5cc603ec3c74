"""What self-describing events of Snowplow mean here, by their schemas; never with a value that somebody typed."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, NamedTuple

from collector.decode.elements import SELECTOR_CLASSES
from collector.decode.fields import take_text
from collector.decode.snowplow_json import SelfDescribing
from collector.wire.event import Element

VENDOR: Final = "com.snowplowanalytics.snowplow"

_MARKUP = re.compile(r"<[^<>]*+>")


class Meaning(NamedTuple):
    """A self-describing event in native terms; `properties` is what neither type, name nor element says."""

    type: str
    name: str | None
    element: Element | None
    properties: dict[str, Any]


def meaning_of(event: SelfDescribing) -> Meaning:
    """Return what an event means; one whose schema has no meaning of its own is `custom`, by the schema's name."""
    properties = event.data if isinstance(event.data, dict) else {} if event.data is None else {"data": event.data}
    vendor, name = vendor_and_name(event.schema)
    found = _MEANINGS.get(name) if vendor == VENDOR else None
    if found is not None:
        kind, element = found(properties)
        if kind != "custom":
            return Meaning(kind, None, element, properties)
    return Meaning("custom", name, None, properties)


@lru_cache(maxsize=1024)
def vendor_and_name(schema: str) -> tuple[str, str]:
    """Return the first two parts of a schema's address, `iglu:vendor/name/format/version`; the name of none is it."""
    vendor, _, rest = schema.removeprefix("iglu:").partition("/")
    return (vendor, name) if (name := rest.partition("/")[0]) else ("", schema)


def drop_typed_values(event: SelfDescribing) -> bool:
    """Take what was typed out of an event of a form; return whether it is one."""
    vendor, name = vendor_and_name(event.schema)
    if vendor != VENDOR or name not in _FORMS:
        return False
    if isinstance(event.data, dict):
        _drop_values(event.data)
    else:
        event.data = None
    return True


def _link_click(data: dict[str, Any]) -> tuple[str, Element | None]:
    text = take_text(data, "elementContent")
    element = Element(
        tag="a",
        text=None if text is None else " ".join(html.unescape(_MARKUP.sub("", text)).split()),
        selector=_selector("a", data, "elementId", "elementClasses"),
        href=take_text(data, "targetUrl"),
    )
    return "click", element


def _button_click(data: dict[str, Any]) -> tuple[str, Element | None]:
    text = take_text(data, "label")
    return "click", Element(tag="button", text=text, selector=_selector("button", data, "id", "classes"))


def _change_form(data: dict[str, Any]) -> tuple[str, Element | None]:
    _drop_values(data)
    tag = take_text(data, "nodeName")
    return "change", Element(tag=None if tag is None else tag.lower())


def _submit_form(data: dict[str, Any]) -> tuple[str, Element | None]:
    _drop_values(data)
    return "submit", Element(tag="form")


def _focus_form(data: dict[str, Any]) -> tuple[str, Element | None]:
    _drop_values(data)
    return "custom", None


_MEANINGS: Final[dict[str, Callable[[dict[str, Any]], tuple[str, Element | None]]]] = {
    "link_click": _link_click,
    "button_click": _button_click,
    "change_form": _change_form,
    "submit_form": _submit_form,
    "focus_form": _focus_form,
}
"""Returns type and element of an event, by the name of its schema; takes what they say out of its data."""

_FORMS: Final = frozenset({"change_form", "submit_form", "focus_form"})


def _drop_values(data: dict[str, Any]) -> None:
    data.pop("value", None)
    elements = data.get("elements")
    if elements is not None:
        found = elements if isinstance(elements, list) else []
        data["elements"] = [
            {name: value for name, value in one.items() if name != "value"} for one in found if isinstance(one, dict)
        ]


def _selector(tag: str, data: dict[str, Any], id_name: str, classes_name: str) -> str:
    """Return an element's step of a selector as autocapture.js writes it; what it says whole is taken out of `data`."""
    element_id = take_text(data, id_name)
    if element_id is not None:
        return f"{tag}#{element_id}"
    classes = data.get(classes_name)
    if not isinstance(classes, list) or not all(isinstance(one, str) for one in classes):
        return tag
    if len(classes) <= SELECTOR_CLASSES:
        del data[classes_name]
    return ".".join([tag, *classes[:SELECTOR_CLASSES]])
