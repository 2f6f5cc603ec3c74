"""Visits of a shop in Chromium, one per SDK and way of sending, all at once: they mostly wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page

from tests.sdks import installed
from tests.sdks.browser_sdks import BrowserSdk
from tests.sdks.collector_front import CollectorFront, Fault, Request
from tests.sdks.shop import serving
from tests.sdks.wire_ids import ids_in

PATIENCE_SECONDS: Final = 60
BETWEEN_CLICKS_MS: Final = 250
TAKEN: Final = range(200, 300)

# A page is ready when its SDK is there and has loaded nothing more for half a second: parsing alone may take as long.
NOTE_WHEN_READY: Final = """(() => {
  let loaded = -1, since = 0;
  setInterval(() => {
    const count = typeof shop === 'undefined' ? -1 : performance.getEntriesByType('resource').length;
    if (count !== loaded) since = performance.now();
    loaded = count;
    window.ready = count >= 0 && performance.now() - since > 500;
  }, 50);
})()"""


class Visit:
    """One person's tab in one SDK's shop."""

    def __init__(self, sdk: BrowserSdk, page: Page, shop: str, front: CollectorFront) -> None:
        self.sdk, self.page, self.front = sdk, page, front
        self.errors: list[str] = []
        self.compared = 0
        """How many times the shop has tracked a comparison."""
        self._shop = shop
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def open(self, path: str) -> None:
        self.page.goto(self._shop + path, wait_until="commit")

    def follow(self, text: str, leads_to: str) -> None:
        """Click a link or button that leads to another page."""
        self.page.get_by_text(text, exact=True).click()
        self.page.wait_for_url(f"**{leads_to}", wait_until="commit")

    def compare(self) -> None:
        """Let the page track something."""
        self.page.click("#compare")
        self.compared += 1

    def order(self) -> None:
        """Fill in the form of an order and submit it."""
        self.page.select_option("#term", "180 days")
        self.page.fill("[name=remark]", "remark-never-sent")
        self.page.fill("[name=pin]", "pin-never-sent")
        self.follow("Place order", "/orders/placed")

    def log_in(self) -> None:
        self.page.click("#login")

    @property
    def sent(self) -> set[str]:
        """The ids of all events that have left the browser."""
        return {one for request in list(self.front.requests) for one in self._ids(request)}

    @property
    def delivered(self) -> set[str]:
        """The ids of all events in requests that the SDK was told were taken."""
        taken = [request for request in list(self.front.requests) if request.status in TAKEN]
        return {one for request in taken for one in self._ids(request)}

    def _ids(self, request: Request) -> list[str]:
        return ids_in(self.sdk.dialect, urlsplit(request.path).query, request.body)


class Visits:
    """Visits that take each step together."""

    def __init__(self, visits: Sequence[Visit]) -> None:
        self.all = visits

    def __getitem__(self, name: str) -> Visit:
        return next(visit for visit in self.all if visit.sdk.name == name)

    def each(self, step: Callable[[Visit], None]) -> None:
        """Take a step in every tab, then wait until all pages are ready for the next."""
        for visit in self.all:
            step(visit)
        for visit in self.all:
            visit.page.wait_for_load_state("networkidle")
            visit.page.wait_for_function("window.ready")

    def keep_comparing(self, still: Callable[[Visit], bool], what: str) -> None:
        """Let the pages for which `still` holds track something now and then, until it holds for none.

        Some SDKs repeat what was not taken with their next event alone.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while left := [visit for visit in self.all if still(visit)]:
            names = [visit.sdk.name for visit in left]
            assert time.monotonic() < deadline, f"not within {PATIENCE_SECONDS} s: {what}: {names}"
            for visit in left:
                visit.compare()
            left[0].page.wait_for_timeout(BETWEEN_CLICKS_MS)

    def suffer(self, fault: Fault) -> None:
        """Let something befall a request of every SDK."""
        for visit in self.all:
            visit.front.break_next(fault)
        self.keep_comparing(lambda visit: not visit.front.healed, fault.name)


@contextmanager
def visiting(chromium: Browser, sdks: Sequence[BrowserSdk], fronts: Mapping[str, CollectorFront]) -> Iterator[Visits]:
    """Serve a shop per SDK and open a tab of another person in each; no script in them may fail."""
    with ExitStack() as stack:
        visits = []
        for sdk in sdks:
            front = fronts[sdk.name]
            names = {"collector": front.url, "host": f"localhost:{front.port}", "key": sdk.name, "package": sdk.package}
            shop = stack.enter_context(serving(sdk.head, {**names, **sdk.values}, installed.NODE_MODULES))
            context = stack.enter_context(chromium.new_context())
            context.add_init_script(NOTE_WHEN_READY)
            visits.append(Visit(sdk, context.new_page(), shop, front))
        yield Visits(visits)
        assert {visit.sdk.name: visit.errors for visit in visits if visit.errors} == {}
