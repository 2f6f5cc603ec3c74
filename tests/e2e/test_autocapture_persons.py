"""autocapture.js and the person: consent, signals of the browser, no network, back and forward."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page

from collector.sdk import program
from tests.chromium import launch, person
from tests.e2e.conftest import Chromium

pytestmark = pytest.mark.services
Until = Callable[[Page, Callable[[], object]], None]

STORED = """() => [localStorage, sessionStorage].flatMap((area) => Object.keys(area))
  .filter((key) => key.startsWith('phasewatch.'))"""
QUEUED = """() => Object.keys(localStorage).filter((key) => key.startsWith('phasewatch.q.'))
  .flatMap((key) => localStorage[key].split('\\n')).length"""


def use(page: Page) -> None:
    """Do what would be captured, and let time pass."""
    page.click("#buy")
    page.evaluate("phasewatch.track('x'); phasewatch.identify('u-1'); history.pushState({}, '', '?pushed')")
    page.clock.run_for(60_000)


def test_nothing_before_the_consent(page: Page, recorder: Any, until: Until) -> None:
    page.clock.install()
    page.goto(recorder.url + "/consent")
    use(page)
    page.evaluate("phasewatch.reset()")
    page.reload()
    use(page)
    assert page.evaluate(STORED) == []
    assert page.context.cookies() == []
    assert recorder.bodies == []
    page.evaluate("phasewatch.consent(true); phasewatch.consent(true)")
    page.click("#buy")
    until(page, lambda: recorder.of("page") and recorder.of("click"))
    assert [event["type"] for event in list(recorder.events.values())] == ["page", "click"]
    page.goto(recorder.url + "/consent/next")
    until(page, lambda: len(recorder.of("page")) == 2)
    assert len({event["anonymous_id"] for event in list(recorder.events.values())}) == 1


@pytest.mark.parametrize("path", ["/consent", "/plain"])
def test_a_withdrawn_consent(context: BrowserContext, recorder: Any, until: Until, path: str) -> None:
    """In all tabs; only the decision is remembered, and a new consent is a new person."""
    first, second = context.new_page(), context.new_page()
    for tab in (first, second):
        tab.goto(recorder.url + path)
        tab.evaluate("phasewatch.consent(true); phasewatch.identify('u-1')")
    until(second, lambda: len(recorder.of("page")) == 2 and recorder.of("identify"))
    first.evaluate("phasewatch.consent(false); phasewatch.track('x'); phasewatch.identify('u-2')")
    until(second, lambda: second.evaluate(STORED) == ["phasewatch.consent"])
    until(first, lambda: first.evaluate(STORED) == ["phasewatch.consent"])
    told = len(recorder.bodies)
    second.evaluate("phasewatch.track('x')")
    second.goto(recorder.url + path)
    second.evaluate("phasewatch.track('x')")
    assert second.evaluate(STORED) == ["phasewatch.consent"]
    before = {event["anonymous_id"] for event in list(recorder.events.values())}
    second.evaluate("phasewatch.consent(true)")
    until(second, lambda: len(recorder.of("page")) >= 3)
    assert len(recorder.bodies) >= told
    assert recorder.of("custom") == []
    assert len(recorder.of("identify")) == 1
    new = [event for event in recorder.of("page") if event["anonymous_id"] not in before]
    assert new
    assert all("user_id" not in event for event in new)


@pytest.mark.parametrize("signal", ["globalPrivacyControl: true", "doNotTrack: '1'"])
def test_signals_of_the_browser(page: Page, recorder: Any, until: Until, signal: str) -> None:
    """They count where the tag says so, also against a consent, and what was stored before goes."""
    page.clock.install()
    page.goto(recorder.url + "/respect")
    until(page, lambda: recorder.of("page"))
    name, _, value = signal.partition(": ")
    page.add_init_script(f"Object.defineProperty(Navigator.prototype, '{name}', {{ get: () => {value} }})")
    page.goto("about:blank")
    told = list(recorder.events)
    page.goto(recorder.url + "/respect")
    page.evaluate("phasewatch.consent(true)")
    use(page)
    assert page.evaluate(STORED) == []
    assert {event["type"] for event in list(recorder.events.values())} == {"page", "dwell"}
    assert set(told) <= set(recorder.events)
    assert len(recorder.of("page")) == 1
    page.goto(recorder.url + "/plain")
    until(page, lambda: len(recorder.of("page")) == 2)


def test_offline(page: Page, context: BrowserContext, recorder: Any, until: Until) -> None:
    """Nothing is tried; what waits outlives the page; it goes out at once when the browser is back."""
    page.route("**/plain*", lambda route: route.fulfill(path="tests/e2e/pages/plain.html", content_type="text/html"))
    page.route("**/autocapture.js", lambda route: route.fulfill(body=program().code, content_type="text/javascript"))
    page.goto(recorder.url + "/plain")
    until(page, lambda: recorder.of("page"))
    until(page, lambda: page.evaluate(QUEUED) == 0)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/v1/events" in request.url else None)
    context.set_offline(offline=True)
    for _ in range(12):
        page.click("b")
    page.goto(recorder.url + "/plain?again")
    page.click("b")
    until(page, lambda: page.evaluate(QUEUED) >= 14)
    assert asked == []
    context.set_offline(offline=False)
    until(page, lambda: len(recorder.of("click")) == 13 and len(recorder.of("page")) == 2)
    until(page, lambda: page.evaluate(QUEUED) == 0)
    assert recorder.repeats == 0


@pytest.fixture
def cached(chromiums: Chromium) -> Iterator[Page]:
    """A tab whose pages stay in the back-forward cache, which Playwright switches off."""
    browser = launch(chromiums.playwright, ignore_default_args=["--disable-back-forward-cache"])
    with person(browser) as context:
        yield context.new_page()
    browser.close()


def test_back_forward_cache(cached: Page, recorder: Any, until: Until) -> None:
    """A page that comes back is seen again, goes on with its queue, and gives numbers again."""
    cached.add_init_script("addEventListener('pageshow', (event) => { window.restored = event.persisted; })")
    cached.goto(recorder.url + "/plain")
    cached.click("b")
    until(cached, lambda: recorder.of("click"))
    cached.goto(recorder.url + "/plain/second")
    until(cached, lambda: len(recorder.of("page")) == 2)
    cached.evaluate("history.back()")
    cached.wait_for_url(recorder.url + "/plain", wait_until="commit")
    assert cached.evaluate("window.restored")
    until(cached, lambda: len(recorder.of("page")) == 3)
    cached.click("b")
    until(cached, lambda: len(recorder.of("click")) == 2)
    assert recorder.of("page")[2]["page"]["path"] == "/plain"
    assert len({event["session_id"] for event in list(recorder.events.values())}) == 1
    until(cached, lambda: cached.evaluate(QUEUED) == 0)
    numbers = [event["seq"] for event in list(recorder.events.values()) if "seq" in event]
    assert len(numbers) == len(set(numbers))
