"""The page in an event of Segment's shape: named by `context.page`, by a page event's properties, or by both."""

from __future__ import annotations

from typing import Any, Final

from collector.decode.fields import take_text
from collector.decode.page import page_of
from collector.wire.event import Page

_FIELDS: Final = ("url", "path", "title", "referrer")


def take_page(properties: dict[str, Any], around: dict[str, Any]) -> Page | None:
    """Take the page out of both; what it says is left in neither, and what both say, in `around` only.

    Args:
        properties: of a page event, which count for more; an empty object of any other.
        around: `context.page`, or an empty object.
    """
    page = _taken(around)
    if properties:
        _prefer(page, _taken(properties), around)
        for name in [name for name, value in properties.items() if name in around and around[name] == value]:
            del properties[name]
        _drop_search(properties, page)
    _drop_search(around, page)
    return page_of(page.url, page.path, page.title, page.referrer)


def _taken(bag: dict[str, Any]) -> Page:
    return Page(*[take_text(bag, name) for name in _FIELDS])


def _prefer(page: Page, own: Page, around: dict[str, Any]) -> None:
    """Let a page be as a page event's own properties have it; what else the context says goes back there."""
    if own.url and own.url != page.url and not own.path and page.path:
        around["path"], page.path = page.path, None  # of another URL
    for name in _FIELDS:
        mine, theirs = getattr(own, name), getattr(page, name)
        if mine and mine != theirs:
            setattr(page, name, mine)
            if theirs:
                around[name] = theirs


def _drop_search(bag: dict[str, Any], page: Page) -> None:
    """Drop what stands in the URL already."""
    search = bag.get("search")
    if isinstance(search, str) and search in (page.url or ""):
        del bag["search"]
