"""What a page's three addresses tell: masked forms, the path, and where the visit came from (D7)."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

from collector.context.channel import Arrival, arrival
from collector.masking.rules import EVERYTHING, Masking
from collector.wire.event import Page

_MAX_CACHED_CHARS: Final = 2048
_NO_REFERRER: Final = "$direct"
"""PostHog's and RudderStack's word for it."""


class PageFacts(NamedTuple):
    """Masked addresses and title, the kinds of what was masked, and where the visit came from."""

    url: str | None
    path: str | None
    title: str | None
    referrer: str | None
    masked: tuple[str, ...]
    arrival: Arrival


def page_of(url: str | None, path: str | None, title: str | None, referrer: str | None) -> Page | None:
    """Return the page that an SDK names; None if it names nothing of it."""
    if referrer == _NO_REFERRER:
        referrer = None
    return Page(url, path, title, referrer) if url or path or title or referrer else None


def page_facts(page: Page, masking: Masking = EVERYTHING) -> PageFacts:
    """Return the facts of a page as the client names it; `path` is taken from `url` where it is missing."""
    url, path, title, referrer = page.url, page.path, page.title, page.referrer
    if len(url or "") + len(path or "") + len(title or "") + len(referrer or "") > _MAX_CACHED_CHARS:
        return _page_facts.__wrapped__(url, path, title, referrer, masking)
    return _page_facts(url, path, title, referrer, masking)


@lru_cache(maxsize=2048)  # all events of a page view have the same page
def _page_facts(
    url: str | None, path: str | None, title: str | None, referrer: str | None, masking: Masking
) -> PageFacts:
    kinds: tuple[str, ...] = ()
    masked: list[str | None] = []
    for address in (url, path, referrer):
        plain, found = masking.url(address) if address else (None, ())
        masked.append(plain)
        kinds += found
    if title:
        title, found = masking.text(title)
        kinds += found
    url, path, referrer = masked
    return PageFacts(url, path or path_of(url), title, referrer, kinds, arrival(url, referrer))


def path_of(url: str | None) -> str | None:
    """Return the path of an absolute or relative URL, `/` where an absolute one has none."""
    if not url:
        return None
    rest = url.partition("#")[0].partition("?")[0]
    _, separator, after = rest.partition("://")
    if not separator:
        return rest or None
    _, slash, path = after.partition("/")
    return slash + path or "/"
