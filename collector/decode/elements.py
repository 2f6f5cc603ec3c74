"""What is the same of elements in every dialect, so that one definition fits what any SDK sends."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urljoin

from collector.decode.ordinary import MAX_SEQ

CHOICES: Final = frozenset({"select", "option", "textarea"})
"""Elements whose text is what somebody chose or wrote: it is not kept."""

FIELDS: Final = CHOICES | {"input", "edittext", "uitextfield", "uitextview"}
"""Elements, of pages and of apps, whose text may be what somebody typed, where nothing tells a button from a field."""

SELECTOR_CLASSES: Final = 3
"""How many classes a step of a selector names, as in autocapture.js."""


def absolute_href(href: str | None, url: str | None) -> str | None:
    """Return where a link on the page of a URL leads; None for one that leads to no page, as `javascript:`."""
    if href is None:
        return None
    if not href.startswith(("http://", "https://")):
        try:
            href = urljoin(url or "", href)
        except ValueError:  # as an unclosed IPv6 bracket: a link that leads nowhere
            return None
    return href if href.startswith(("http://", "https://", "/")) else None


def take_href(fields: dict[str, Any], name: str, url: str | None) -> str | None:
    """Take where a link on the page of a URL leads; what leads to no page stays where it is."""
    href = fields.get(name)
    found = absolute_href(href, url) if isinstance(href, str) and href else None
    if found is not None:
        del fields[name]
    return found


def take_index(fields: dict[str, Any], name: str) -> int | None:
    """Take an element's place among its like; what is no place stays where it is."""
    index = fields.get(name)
    if type(index) is not int or not 0 <= index < MAX_SEQ:
        return None
    del fields[name]
    return index
