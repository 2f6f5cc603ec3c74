"""The demo's fund shop, clicked through in a browser: what the shipped definitions look for is really sent."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Page

from phasewatch.shop import make_shop_app

pytestmark = pytest.mark.services
Until = Callable[[Page, Callable[[], object]], None]


@pytest.fixture
def shop(recorder: Any) -> Iterator[str]:
    """The shop on loopback; its address."""
    app = make_shop_app(
        collector_url=recorder.url,
        autocapture_url=recorder.url + "/autocapture.js",
        public_key="demo",
        trusted_key="demo-secret",
        clock=lambda: time.time_ns() // 1_000_000,
    )
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    sock = server.config.bind_socket()
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([sock])))
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started:
        assert time.monotonic() < deadline, "the shop did not start within 10 s"
        time.sleep(0.01)
    yield f"http://127.0.0.1:{sock.getsockname()[1]}"
    server.should_exit = True
    thread.join()
    sock.close()


def test_from_list_to_redemption(page: Page, recorder: Any, shop: str, until: Until) -> None:
    page.goto(shop + "/login")
    page.fill("input[name=user]", "mei <3")
    page.click("button")
    until(page, lambda: recorder.of("identify"))
    assert recorder.of("identify")[0]["user_id"] == "mei <3"
    page.click("text=Products")
    page.click("text=Risk up to 2")
    page.click("text=Steady Bond 90")
    page.click("text=Invest")
    page.fill("input[name=amount]", "2500.50")
    page.click("text=Place order")
    page.wait_for_selector("text=Order placed")
    [purchase] = recorder.of("purchase")
    assert purchase["user_id"] == "mei <3"
    assert purchase["properties"]["amount"] == "2500.50"
    assert purchase["properties"]["category"] == "bond"
    page.click("text=See holdings")
    page.click("text=Redeem")
    page.wait_for_selector("td:has-text('redeemed')")
    [redeem] = recorder.of("redeem")
    assert redeem["properties"]["order_id"] == purchase["properties"]["order_id"]
    until(page, lambda: recorder.of("submit") and len(recorder.of("page")) >= 8)
    assert any(event["element"].get("text") == "Invest" for event in recorder.of("click"))
    assert any(
        (event["element"].get("href") or "").endswith("/products/bond/steady-90") for event in recorder.of("click")
    )
    assert "/orders/new" in [event["page"]["path"] for event in recorder.of("submit")]
    viewed = [event["page"]["url"].removeprefix(shop) for event in recorder.of("page")]
    assert {"/products", "/products?risk=2", "/products/bond/steady-90", "/account/holdings"} <= set(viewed)
    page.goto(shop + "/logout")
    page.goto(shop + "/")
    until(page, lambda: any(event["page"]["path"] == "/" and "user_id" not in event for event in recorder.of("page")))


def test_order_without_a_collector(page: Page, recorder: Any, shop: str) -> None:
    """Nothing is bought, the visitor is told, and the same order can be tried again."""
    page.goto(shop + "/login")
    page.fill("input[name=user]", "li")
    page.click("button")
    page.goto(shop + "/orders/new?category=index&product=green")
    recorder.stop()
    page.click("text=Place order")
    page.wait_for_selector("text=The order was not placed")
    recorder.start()
    page.click("text=Place order")
    page.wait_for_selector("h1:has-text('Order placed')")
    assert len(recorder.of("purchase")) == 1
    page.goto(shop + "/account/holdings")
    page.click("text=Cancel")
    page.wait_for_selector("td:has-text('cancelled')")
    assert len(recorder.of("purchase_cancelled")) == 1


def test_what_does_not_exist(page: Page, shop: str) -> None:
    for path in ("/products/gold", "/products/bond/nothing", "/nowhere"):
        answer = page.goto(shop + path)
        assert answer is not None
        assert answer.status == 404
