"""The live page in a real browser, over a shop that the engine folds beside it."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import uvicorn
from playwright.sync_api import Page, expect

from console import sessions
from console.app import end_streams, make_console_app
from console.settings import ConsoleSettings
from tests.unit.console.door import NAME, PASSWORD, Clock, with_users
from tests.unit.console.shop import Shop

pytestmark = pytest.mark.services
Until = Callable[[Page, Callable[[], object]], None]
Result = TypeVar("Result")
PATIENCE_SECONDS = 15
HOSTILE = "<img src=x onerror=alert(1)>"


class Running:
    """A console and its shop on an event loop of their own; `do` runs there."""

    def __init__(self, directory: Path) -> None:
        self.shop = Shop(directory)
        self.settings = ConsoleSettings()
        self.seconds = Clock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.port = 0
        self.start()
        self.do(self.shop.open())

    def do(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run on the console's loop, whose connection to the log it is, and wait."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_SECONDS)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        """Listen, on the port of last time when there was one."""
        self._app = make_console_app(
            query=self.shop.query,
            changes=self.shop.log,
            clock=self.shop.clock,
            settings=self.settings,
            seconds=self.seconds,
        )
        self._server = uvicorn.Server(uvicorn.Config(self._app, port=self.port, log_level="warning"))
        self._serving = asyncio.run_coroutine_threadsafe(self._server.serve(), self._loop)
        self.do(self._started())
        self.port = self._server.servers[0].sockets[0].getsockname()[1]

    async def _started(self) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not self._server.started:  # noqa: ASYNC110 - the server sets no event
                await asyncio.sleep(0.01)

    def ask_who_is_there(self) -> None:
        """Go on with users, who have to log in."""
        self.stop()
        self.settings = with_users()
        self.start()

    def stop(self) -> None:
        """Be absent: connections are refused."""
        self._loop.call_soon_threadsafe(end_streams, self._app)
        self._server.should_exit = True
        self._serving.result(PATIENCE_SECONDS)

    def close(self) -> None:
        """Stop and clear away."""
        if not self._serving.done():
            self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_SECONDS)
        self._loop.close()
        self.shop.close()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    running = Running(tmp_path)
    yield running
    running.close()


@pytest.fixture
def complaints(page: Page) -> list[str]:
    """What the browser complains of: a blocked script, a failed request."""
    found: list[str] = []
    page.on("console", lambda message: found.append(message.text) if message.type in {"error", "warning"} else None)
    return found


def test_a_change_appears_by_itself_with_its_reasons(page: Page, running: Running, complaints: list[str]) -> None:
    page.goto(running.url)
    expect(page.locator("#connection")).to_have_text("live")
    expect(page.locator("#empty")).to_contain_text("No changes yet. Open the demo shop")
    running.do(running.shop.decide("u:42"))
    row = page.locator("#changes li").first
    expect(row).to_contain_text("u:42", timeout=3000)
    expect(row.locator(".way")).to_have_text("prospect→decision")
    expect(row.locator(".why")).to_contain_text("invest clicked \u00d7 4, product viewed \u00d7 1")
    expect(row.locator(".why")).to_contain_text("score 6.5")
    expect(page.locator("[data-count=decision]")).to_have_text("1")
    expect(page.locator("#empty")).to_be_hidden()
    assert complaints == []


def test_a_person_by_click_search_and_address(page: Page, running: Running) -> None:
    running.do(running.shop.decide("u:42"))
    running.do(running.shop.take(running.shop.view("a:visitor")))
    page.goto(running.url)
    page.locator("#changes li").click()
    card = page.locator("#person")
    expect(card.locator("h2")).to_have_text("u:42")
    expect(page).to_have_url(running.url + "#u:42")
    rows = [re.split(r"\s+", text.strip()) for text in card.locator("tbody tr").all_inner_texts()]
    assert rows == [["invest", "clicked", "4", "1.5", "6.0"], ["product", "viewed", "1", "0.5", "0.5"]]
    expect(card.locator("tfoot td")).to_have_text("6.5")
    page.fill("#who", "visitor")
    page.press("#who", "Enter")
    expect(card.locator(".head .chip")).to_have_text("prospect")
    expect(page).to_have_url(running.url + "#visitor")
    page.fill("#who", "nobody at all")
    page.press("#who", "Enter")
    expect(card).to_contain_text("Nothing is known about this person.")
    page.goto("about:blank")
    page.goto(running.url + "#u:42")
    expect(card.locator("h2")).to_have_text("u:42")


def test_an_open_card_follows_the_person(page: Page, running: Running) -> None:
    shop = running.shop
    running.do(shop.decide("u:42"))
    page.goto(running.url + "#u:42")
    card = page.locator("#person")
    expect(card.locator(".head .chip")).to_have_text("decision")
    running.do(shop.take(shop.money("purchase", "u:42", "o-1", trusted=False)))
    expect(card.locator(".head .chip")).to_have_text("holding", timeout=3000)
    expect(card.locator(".head .mark")).to_have_text("provisional")
    expect(page.locator("#changes .mark").first).to_have_text("provisional")
    running.do(shop.take(shop.money("purchase", "u:42", "o-1")))
    expect(card.locator(".head .mark")).to_have_count(0)
    expect(page.locator("#changes .mark").first).to_have_text("now confirmed")
    running.do(shop.pass_time(3_600_000))
    running.do(shop.take(shop.view("u:42")))  # no change of stage: the card looks again by itself
    expect(card.locator("tfoot td")).to_have_text("0.5", timeout=8000)


def test_a_retraction_and_an_end_are_marked(page: Page, running: Running) -> None:
    shop = running.shop
    page.goto(running.url)
    running.do(shop.take(shop.money("purchase", "u:9", "o-1", trusted=False)))
    running.do(shop.pass_time(4 * 86_400_000))
    taken_back = page.locator("#changes li").first
    expect(taken_back.locator(".mark")).to_have_text("takes back")
    expect(taken_back.locator(".why")).to_contain_text("order o-1 was not confirmed in time")
    running.do(shop.decide("a:x"))
    running.do(shop.take(shop.event("identify", "u:42", anonymous_id="x")))
    ended = page.locator("#changes li[data-to=ended]")
    expect(ended.locator(".mark").first).to_have_text("life ended")
    ended.locator(".why a").click()
    expect(page.locator("#person h2")).to_have_text("u:42")
    page.goto(running.url + "#a:x")
    expect(page.locator("#person")).to_contain_text("This visitor turned out to be u:42.")


def test_it_reconnects_and_misses_nothing(page: Page, running: Running, until: Until) -> None:
    page.goto(running.url)
    running.do(running.shop.decide("u:1"))
    expect(page.locator("#changes li")).to_have_count(1)
    running.stop()
    expect(page.locator("#connection")).to_have_text("reconnecting")
    running.do(running.shop.decide("u:2"))
    running.start()
    expect(page.locator("#connection")).to_have_text("live", timeout=PATIENCE_SECONDS * 1000)
    running.do(running.shop.decide("u:3"))
    rows = page.locator("#changes li")
    until(page, lambda: rows.count() == 3)
    assert [row.get_attribute("data-person") for row in rows.all()] == ["u:3", "u:2", "u:1"]


def test_what_people_are_called_is_never_markup(page: Page, running: Running, complaints: list[str]) -> None:
    """Person ids, orders and products come from outside: they are shown as they are."""
    shop, person = running.shop, f"u:{HOSTILE}"
    page.goto(running.url)
    running.do(shop.decide(person))
    running.do(shop.take(shop.money("purchase", person, HOSTILE)))
    page.locator("#changes .who").first.click()
    expect(page.locator("#person h2")).to_have_text(person)
    expect(page.locator("#person td").first).to_have_text(HOSTILE)
    expect(page.locator("main img")).to_have_count(0)
    assert complaints == []


def test_the_list_is_bounded(page: Page, running: Running) -> None:
    shop = running.shop
    running.do(shop.take(*(shop.money("purchase", f"u:{n}", f"o-{n}") for n in range(205))))
    page.goto(running.url)
    rows = page.locator("#changes li")
    expect(rows).to_have_count(200)
    newest = running.do(shop.log.newest("0", 1))[0][1]
    assert f'"person":"{rows.first.get_attribute("data-person")}"'.encode() in newest
    running.do(shop.take(*(shop.money("purchase", f"u:late-{n}", f"l-{n}") for n in range(60))))
    expect(rows.first).to_contain_text("late")
    expect(rows).to_have_count(200)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_everything_without_scrolling_sideways(page: Page, running: Running, scheme: Any) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 360, "height": 740})
    running.do(running.shop.decide("u:" + "long-name" * 12))
    page.goto(running.url)
    page.locator("#changes .who").click()
    expect(page.locator("#person tfoot td")).to_have_text("6.5")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_somebody_logs_in_looks_and_is_sent_away_when_the_session_is_over(
    page: Page, running: Running, complaints: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "LOOK_SECONDS", 0.05)
    running.ask_who_is_there()
    page.goto(running.url)
    expect(page).to_have_url(running.url + "login")
    page.fill("[name=name]", NAME)
    page.fill("[name=password]", "not her password")
    page.click("button")
    expect(page.locator("[role=alert]")).to_have_text("Name or password is wrong.")
    page.fill("[name=name]", NAME)
    page.fill("[name=password]", PASSWORD)
    page.press("[name=password]", "Enter")
    expect(page).to_have_url(running.url)
    expect(page.locator("#connection")).to_have_text("live")
    running.do(running.shop.decide("u:42"))
    expect(page.locator("#changes li").first).to_contain_text("u:42")
    assert page.evaluate("document.cookie") == "", "no script can read the session"
    running.seconds.now += 13 * 3600
    expect(page).to_have_url(running.url + "login", timeout=PATIENCE_SECONDS * 1000)
    # A wrong password, and the stream and the counts that were refused at the end, are all that a browser reports.
    assert [one for one in complaints if not re.search("status of 40[13]", one)] == []


def test_logging_out_ends_it_in_every_tab(page: Page, running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "LOOK_SECONDS", 0.05)
    running.ask_who_is_there()
    page.goto(running.url)
    page.fill("[name=name]", NAME)
    page.fill("[name=password]", PASSWORD)
    page.click("button")
    expect(page.locator("#connection")).to_have_text("live")
    other = page.context.new_page()
    other.goto(running.url)
    expect(other.locator("#connection")).to_have_text("live")
    other.click("#leave button")
    expect(other).to_have_url(running.url + "login")
    page.bring_to_front()
    expect(page).to_have_url(running.url + "login", timeout=PATIENCE_SECONDS * 1000)
    page.goto(running.url)
    expect(page).to_have_url(running.url + "login")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_form_fits_a_phone(page: Page, running: Running, scheme: Any) -> None:
    running.ask_who_is_there()
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 320, "height": 640})
    page.goto(running.url)
    expect(page.locator("button")).to_be_in_viewport()
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
