"""What a page's three addresses tell: masked forms, the path, and where the visit came from (D7)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import unquote_plus

from collector.masking.rules import EVERYTHING, Masking
from collector.wire.event import Context, Page

MAX_CHANNEL_CHARS: Final = 128
_MAX_CACHED_CHARS: Final = 2048
_NO_REFERRER: Final = "$direct"
"""PostHog's and RudderStack's word for it."""
_UTM_SOURCE = re.compile(r"[?&]utm_source=([^&#]+)")


class PageFacts(NamedTuple):
    """Masked addresses and title, the kinds of what was masked, and the context."""

    url: str | None
    path: str | None
    title: str | None
    referrer: str | None
    masked: tuple[str, ...]
    context: Context | None


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
    channel = channel_of(url, referrer)
    return PageFacts(url, path or path_of(url), title, referrer, kinds, Context(channel=channel) if channel else None)


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


def channel_of(url: str | None, referrer: str | None) -> str | None:
    """Return `utm_source` of the page's URL, else the host of a referrer on another site, else None."""
    found = _UTM_SOURCE.search(url or "")
    if found is not None and (source := unquote_plus(found[1]).strip()):
        return source[:MAX_CHANNEL_CHARS]
    host = _host(referrer or "")
    return host[:MAX_CHANNEL_CHARS] if host and host != _host(url or "") else None


def _host(url: str) -> str:
    _, separator, rest = url.partition("://")
    return rest.partition("/")[0].partition("?")[0].partition("#")[0].lower() if separator else ""
