"""From a click in the demo shop to the live page, through the real process: it shows at once, and nothing is lost."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from playwright.sync_api import Browser, BrowserContext, Page, Request, expect

from phasewatch.shop import make_shop_app
from tests.integration.embedded_process import EmbeddedProcess, wait_until
from tests.integration.log_contents import LogContents, agrees_with_the_oracle, wait_until_folded

pytestmark = [pytest.mark.services, pytest.mark.timeout(180)]
Until = Callable[[Page, Callable[[], object]], None]
PATIENCE_MS = 10_000

# Every event stands in the page's queue before anything else happens to it: what ever stood there was generated.
NOTE_IDS = """(() => {
  const { setItem } = Storage.prototype;
  Storage.prototype.setItem = function (key, value) {
    setItem.call(this, key, value);
    if (!key.startsWith('phasewatch.q.')) return;
    const known = new Set((localStorage.getItem('test.ids') || '').split(' ').filter(Boolean));
    value.split('\\n').forEach((line) => known.add(line.split(' ')[0]));
    setItem.call(localStorage, 'test.ids', [...known].join(' '));
  };
  addEventListener('click', () => setItem.call(localStorage, 'test.clicked', '' + Date.now()), true);
})()"""
GENERATED = "() => (localStorage.getItem('test.ids') || '').split(' ').filter(Boolean)"
# The instant at which each change has become a row of the live page.
NOTE_ROWS = """() => {
  window.appeared = {};
  new MutationObserver((changes) => changes.forEach((change) => change.addedNodes.forEach((row) => {
    window.appeared[row.dataset.person + ' ' + row.dataset.to] = Date.now();
  }))).observe(document.querySelector('#changes'), { childList: true });
}"""


class Watched:
    """The live page, and how long after the last click in the shop a change has appeared on it."""

    def __init__(self, page: Page, shopper: Page, process: EmbeddedProcess) -> None:
        self.page, self._shopper, self._process = page, shopper, process
        page.goto(process.console)
        expect(page.locator("#connection")).to_have_text("live")
        page.evaluate(NOTE_ROWS)

    def row(self, person: str, to: str) -> Any:
        """Return the newest row of a person's change to a stage."""
        return self.page.locator(f"#changes li[data-person={json.dumps(person)}][data-to={to}]").first

    def delay_ms(self, person: str, to: str) -> int:
        """Wait for a change; return the milliseconds between the click that caused it and its row."""
        expect(self.row(person, to)).to_be_visible(timeout=PATIENCE_MS)
        appeared = self.page.evaluate("(key) => window.appeared[key]", f"{person} {to}")
        return int(appeared) - int(self._shopper.evaluate("localStorage.getItem('test.clicked')"))

    def person(self, key: str) -> dict[str, Any]:
        """Return what the query API says."""
        answer = httpx.get(f"{self._process.console}/api/persons/{key}", trust_env=False)
        assert answer.status_code == 200
        found: dict[str, Any] = answer.json()
        return found


@pytest.fixture
def process(tmp_path: Path) -> Iterator[EmbeddedProcess]:
    """A running deployment."""
    process = EmbeddedProcess(tmp_path)
    process.start()
    yield process
    process.close()


@pytest.fixture
def shop(process: EmbeddedProcess) -> Iterator[str]:
    """The shop before that deployment; its address."""
    app = make_shop_app(
        collector_url=process.collector,
        autocapture_url=process.collector + "/autocapture.js",
        public_key="demo",
        trusted_key="demo-secret",
        clock=lambda: time.time_ns() // 1_000_000,
    )
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    sock = server.config.bind_socket()
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([sock])))
    thread.start()
    wait_until(lambda: server.started, "the shop serves")
    yield f"http://127.0.0.1:{sock.getsockname()[1]}"
    server.should_exit = True
    thread.join()
    sock.close()


@pytest.fixture
def live(chromium: Browser, page: Page, process: EmbeddedProcess) -> Iterator[Watched]:
    """The live page, in another browser than the shopper's."""
    context = chromium.new_context()
    yield Watched(context.new_page(), page, process)
    context.close()


@pytest.fixture
def arrived_once(page: Page, context: BrowserContext, process: EmbeddedProcess, until: Until) -> Callable[[], int]:
    """Wait until the log holds every id that the page has generated or sent, each once; return how many."""
    sent: set[str] = set()

    def note(request: Request) -> None:
        body = request.post_data if "/v1/events" in request.url else None
        sent.update(event["id"] for event in json.loads(body or '{"events": []}')["events"])

    def copies() -> Counter[str]:
        events = LogContents(process.data).events()
        return Counter(event.id for event in events if event.source == "demo")

    def wait() -> int:
        until(page, lambda: set(copies()) == sent | set(page.evaluate(GENERATED)))
        found = copies()
        assert set(found.values()) == {1}
        return len(found)

    context.add_init_script(NOTE_IDS)
    context.on("request", note)
    return wait


def log_in(page: Page, name: str, *, leads_to: str = "Holdings") -> None:
    page.fill("input[name=user]", name)
    page.click("main button")
    page.wait_for_selector(f"h1:has-text('{leads_to}')")


def test_from_a_click_to_the_live_page(
    page: Page, live: Watched, shop: str, process: EmbeddedProcess, arrived_once: Callable[[], int]
) -> None:
    page.goto(shop)
    page.click("text=See all products")
    page.click("text=Credit Bond 180")
    page.click("nav >> text=Products")
    page.click("text=Steady Bond 90")
    page.click("button:text-is('Invest')")
    page.click("text=Place order")
    page.wait_for_url("**/login?*")
    [visitor] = {event.anonymous_id for event in LogContents(process.data).events()}
    delays = {"decision": live.delay_ms(f"a:{visitor}", "decision")}
    why = "order submitted \u00d7 1, invest clicked \u00d7 1, product viewed \u00d7 2"
    expect(live.row(f"a:{visitor}", "decision").locator(".why")).to_contain_text(why)
    evidence = live.person(f"a:{visitor}")["evidence"]
    assert [(one["behaviour"], one["count"], one["weight"]) for one in evidence] == [
        ("order_submitted", 1, 2.5),
        ("invest_clicked", 1, 1.5),
        ("product_viewed", 2, 0.5),
        ("product_clicked", 2, 0.3),
        ("list_viewed", 2, 0.1),
    ]
    log_in(page, "mei", leads_to="Invest in Steady Bond 90")
    expect(live.row("u:mei", "decision")).to_be_visible(timeout=PATIENCE_MS)
    expect(live.row(f"a:{visitor}", "ended")).to_be_visible(timeout=PATIENCE_MS)
    assert live.person(f"a:{visitor}")["linked_to"] == "u:mei"
    page.click("text=Place order")
    page.wait_for_selector("h1:has-text('Order placed')")
    delays["holding"] = live.delay_ms("u:mei", "holding")
    held = live.person("u:mei")
    assert (held["stage"], held["confirmed"], held["funds"], held["decision_score"]) == ("holding", True, "held", 0)
    [position] = held["positions"].values()
    assert (position["product_id"], position["amount"], position["closings"]) == ("steady-90", "1000", [])
    page.click("text=See holdings")
    page.click("text=Redeem")
    page.wait_for_selector("td:has-text('redeemed')")
    delays["post_redemption"] = live.delay_ms("u:mei", "post_redemption")
    after = live.person("u:mei")
    assert (after["stage"], after["confirmed"], after["customer"]) == ("post_redemption", True, "returning")
    assert (after["funds"], after["intent"]) == ("redeemed", "strong")
    events = arrived_once()
    print(f"\n{events} events, each once; milliseconds from the click to the live page: {delays}")  # noqa: T201 - figures


def test_every_id_arrives_once_whatever_happens(
    page: Page, shop: str, process: EmbeddedProcess, arrived_once: Callable[[], int]
) -> None:
    """Reloads, pages left right after a click, and a collector that is killed and comes back, in mid-clicking."""
    page.goto(shop + "/products")
    for _ in range(3):
        page.click("text=Risk up to 2")
        page.reload()
        page.click("text=All risks")
        page.goto(shop + "/products/stock")
        with page.expect_navigation():
            page.evaluate("document.querySelector('.filters button').click(); location.href = '/products'")
        process.kill()
        page.click("text=Risk up to 3")
        page.click("text=Credit Bond 180")
        page.click("button:text-is('Invest')")
        page.wait_for_url("**/orders/new*")
        process.start()
        page.click("nav >> text=Products")
    page.goto(shop + "/login")
    log_in(page, "mei")
    page.goto(shop + "/products/index/green")
    events = arrived_once()
    assert events > 40
    wait_until_folded(process.data)
    page.goto("about:blank")
    wait_until_folded(process.data)
    assert process.stop()[0] == 0
    log = LogContents(process.data)
    assert set(log.copies().values()) == {1}
    changes, _ = agrees_with_the_oracle(log)
    assert [change["to"] for change in changes["u:mei"]] == ["decision"]
    print(f"\n{events} events, each once, over 3 kills, 3 reloads and 6 pages left at a click")  # noqa: T201 - figures
