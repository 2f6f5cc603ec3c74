"""Browser SDKs as they are, on a shop's pages, before a collector that fails: nothing taken is lost or doubled."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

import msgspec
import pytest
from playwright.sync_api import Browser

from collector.wire.event import Event, dwell_ms
from tests.sdks import installed
from tests.sdks.browser_sdks import CURRENT, OLDER, BrowserSdk
from tests.sdks.browser_visits import Visit, Visits, visiting
from tests.sdks.collector_front import Fault, wait_for
from tests.sdks.matrix import Result, note
from tests.sdks.scene import Scene

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]

GENERATIONS = {"current": CURRENT, "older": OLDER}


class Told:
    """What visits came to, and the log of their collector."""

    def __init__(self, scene: Scene, visits: Visits) -> None:
        self._scene = scene
        self.visits = visits

    def events(self, visit: Visit) -> list[Event]:
        return self._scene.events(visit.sdk.name)

    def compared(self, visit: Visit) -> int:
        """Return how many of a visit's comparisons are in the log."""
        return sum(event.name == "product_compared" for event in self.events(visit))

    def waits(self, visit: Visit) -> bool:
        """Return whether an SDK has events left that it will send again."""
        return visit.sdk.keeps and (bool(visit.sent - visit.delivered) or self.compared(visit) < visit.compared)

    def requests(self, visit: Visit) -> str:
        return json.dumps(self._scene.requests(visit.sdk.name), indent=1, ensure_ascii=False)

    def complaints(self, visit: Visit) -> list[str]:
        return self._scene.complaints(visit.sdk.name)


def visit_quietly(visits: Visits) -> None:
    visits.each(lambda visit: visit.open("/products"))
    visits.each(lambda visit: visit.follow("Credit Bond 180", "/products/bond/credit-180"))
    visits.each(Visit.compare)
    visits.each(lambda visit: visit.follow("Invest", "/orders/new"))
    visits.each(Visit.order)
    visits.each(Visit.log_in)
    visits.each(lambda visit: visit.open("/products/bond/steady-90"))


def miss_the_collector(visits: Visits, scene: Scene) -> None:
    """Kill it, and start it again once every SDK has missed it."""
    before = {visit.sdk.name: len(visit.front.requests) for visit in visits.all}
    scene.collector.kill()
    visits.keep_comparing(lambda visit: len(visit.front.requests) == before[visit.sdk.name], "each misses it")
    scene.collector.start()


def leave(visits: Visits, told: Told) -> None:
    """Leave the shop, and wait until what is sent as a page is left has arrived."""
    for visit in visits.all:
        visit.page.goto("about:blank")
    wait_for(
        lambda: not any(told.waits(visit) for visit in visits.all),
        lambda: [visit.sdk.name for visit in visits.all if told.waits(visit)],
    )


@pytest.fixture(scope="module")
def told(chromium: Browser, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Told]:
    """The visits of all SDKs: a quiet one, then 503s, lost answers, resets and a collector that is killed."""
    installed.require()
    sdks: tuple[BrowserSdk, ...] = GENERATIONS[request.param]
    scene = Scene(tmp_path_factory.mktemp("browsers"), {sdk.name: sdk.dialect for sdk in sdks})
    try:
        with visiting(chromium, sdks, scene.fronts) as visits:
            told = Told(scene, visits)
            visit_quietly(visits)
            for fault in Fault:
                visits.suffer(fault)
            miss_the_collector(visits, scene)
            visits.keep_comparing(told.waits, "everything is delivered")
            leave(visits, told)
            yield told
    finally:
        scene.close()


def each(sdks: Iterable[tuple[str, BrowserSdk]]) -> pytest.MarkDecorator:
    """Run a test for each of these SDKs, the older ones in long runs alone."""
    marks = {"current": (), "older": (pytest.mark.long,)}
    cases = [pytest.param(age, sdk.name, id=sdk.name, marks=marks[age]) for age, sdk in sdks]
    return pytest.mark.parametrize(("told", "name"), cases, indirect=["told"], scope="module")


ALL = [(age, sdk) for age, sdks in GENERATIONS.items() for sdk in sdks]
KEEPERS = [(age, sdk) for age, sdk in ALL if sdk.keeps]


@each(ALL)
def test_each_event_that_was_taken_is_in_the_log_once(told: Told, name: str) -> None:
    visit = told.visits[name]
    events = told.events(visit)
    found, sent, delivered = {event.id for event in events}, visit.sent, visit.delivered
    note(
        Result(
            sdk=name,
            version=visit.sdk.version,
            runtime="Chromium",
            phase="quiet, 503, resets, kill -9",
            sent=len(sent),
            delivered=len(delivered),
            arrived=len(found),
            lost_by_sdk=len(sent - found),
        )
    )
    copies = Counter(event.id for event in events)
    assert {one: count for one, count in copies.items() if count > 1} == {}, told.requests(visit)
    assert delivered <= found, told.requests(visit)
    assert found <= sent, told.requests(visit)
    assert told.complaints(visit) == []


@each(KEEPERS)
def test_nothing_is_lost_by_an_sdk_that_keeps_what_was_not_taken(told: Told, name: str) -> None:
    visit = told.visits[name]
    assert visit.sent == visit.delivered
    assert told.compared(visit) == visit.compared


@each(KEEPERS)
def test_pages_and_people(told: Told, name: str) -> None:
    visit = told.visits[name]
    events, lacks = told.events(visit), visit.sdk.lacks
    pages = [event.page for event in events if event.type == "page" and event.page is not None]
    seen = {
        "/products": "All products",
        "/products/bond/credit-180": "Credit Bond 180",
        "/orders/new": "New order",
        "/orders/placed": "Order placed",
        "/products/bond/steady-90": "Steady Bond 90",
    }
    assert {page.path: page.title for page in pages} == (dict.fromkeys(seen) if "titles" in lacks else seen)
    assert all(urlsplit(page.url or "").path == page.path for page in pages)
    assert len({event.anonymous_id for event in events}) == 1
    assert {event.user_id for event in events} == {None, "mei"}
    assert {event.user_id for event in events if event.page and event.page.path == "/products"} == {None}
    assert {event.user_id for event in events if event.page and event.page.path == "/products/bond/steady-90"} == {
        "mei"
    }
    logins = [event.user_id for event in events if event.type == "identify"]
    assert logins == ([] if "logins" in lacks else ["mei"])
    sessions = {event.session_id for event in events}
    assert len(sessions) == 1
    assert (None in sessions) == ("sessions" in lacks)


@each(KEEPERS)
def test_what_people_do(told: Told, name: str) -> None:
    visit = told.visits[name]
    events, lacks = told.events(visit), visit.sdk.lacks
    elements = {
        (event.type, event.page.path, event.element.tag, event.element.text)
        for event in events
        if event.page is not None and event.element is not None
    }
    assert (("click", "/products", "a", "Credit Bond 180") in elements) == ("links" not in lacks)
    assert (("click", "/products/bond/credit-180", "button", "Invest") in elements) == ("buttons" not in lacks)
    assert (("change", "/orders/new", "select", None) in elements) == ("forms" not in lacks)
    assert (("submit", "/orders/new", "form", None) in elements) == ("forms" not in lacks)
    links = {urlsplit(event.element.href or "").path for event in events if event.element and event.element.tag == "a"}
    assert links == (set() if "links" in lacks else {"/products/bond/credit-180"})
    stays = [dwell_ms(event) for event in events if event.type == "dwell"]
    assert any(0 < ms < 300_000 for ms in stays) == ("durations" not in lacks)
    tracked = [msgspec.json.decode(event.properties) for event in events if event.name == "product_compared"]
    assert {one["product_id"] for one in tracked} == {"steady-90"}
    assert b"never-sent" not in msgspec.json.encode(events)
