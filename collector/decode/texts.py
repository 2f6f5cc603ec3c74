"""The texts of an event that are no ids: their limit, and what is masked in them."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import msgspec

from collector.decode.decoded import Reason, RejectedEventError
from collector.masking.rules import Masking
from collector.wire.event import Element, Page

_MAX_CACHED_CHARS: Final = 1024
_MAX_INDEX: Final = 1_000_000
"""No page has as many siblings; a greater one may be anybody's number."""


def check_texts(event: msgspec.Struct, page: Page | None, element: Element | None, max_chars: int) -> None:
    """Check the texts of an event as a client sends it, of its page and of its element.

    Raises:
        RejectedEventError: `too_large`, naming the first that has more than `max_chars` characters.
    """
    for part, of in (("", event), (".page", page), (".element", element)):
        for name in of.__struct_fields__ if of is not None else ():
            value = getattr(of, name)
            if isinstance(value, str) and len(value) > max_chars:
                problem = f"has {len(value)} characters; {max_chars} is the limit"
                raise RejectedEventError(Reason.TOO_LARGE, f"{part}.{name}", problem)


def mask_element(element: Element, masking: Masking) -> tuple[str, ...]:
    """Mask an element in place, and drop an index that is none; return the kind of everything that was masked."""
    if element.index is not None and element.index > _MAX_INDEX:
        element.index = None
    given = element.tag, element.text, element.selector, element.href
    if sum(map(len, filter(None, given))) > _MAX_CACHED_CHARS:
        masked, kinds = _masked.__wrapped__(*given, masking)
    else:
        masked, kinds = _masked(*given, masking)
    if kinds:
        element.tag, element.text, element.selector, element.href = masked
    return kinds


@lru_cache(maxsize=4096)  # a page's elements are the same for all of its visitors
def _masked(
    tag: str | None, text: str | None, selector: str | None, href: str | None, masking: Masking
) -> tuple[tuple[str | None, ...], tuple[str, ...]]:
    masked: list[str | None] = []
    kinds: tuple[str, ...] = ()
    for one in (tag, text, selector):
        plain, found = masking.text(one) if one else (one, ())
        masked.append(plain)
        kinds += found
    plain, found = masking.url(href) if href else (href, ())
    return (*masked, plain), kinds + found
