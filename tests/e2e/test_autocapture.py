"""autocapture.js in a real browser: what it captures, what it never reads, and that nothing is lost or doubled."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page

from collector.sdk import program
from collector.sdk.minify import minify

pytestmark = pytest.mark.services
Until = Callable[[Page, Callable[[], object]], None]

QUEUED_IDS = """() => Object.keys(localStorage).filter((key) => key.startsWith('phasewatch.q.'))
  .flatMap((key) => localStorage[key].split('\\n')).map((line) => line.split(' ')[0])"""


def test_served_script_is_small() -> None:
    assert len(gzip.compress(program().code, 9)) <= 8192


def test_minified_script_keeps_every_string() -> None:
    script = files("collector.sdk").joinpath("autocapture.js").read_text("utf-8")
    code = re.sub(r"^\s*//.*$", "", script, flags=re.MULTILINE)
    strings = re.compile(r"'(?:\\.|[^'\\\n])*'")
    assert strings.findall(minify(script, "autocapture.js").code) == strings.findall(code)


def test_events_path_of_the_settings() -> None:
    quiet = program(events_path="/quiet").code
    assert b"'/quiet'" in quiet
    assert b"/v1/events" not in quiet


def test_page_view(page: Page, recorder: Any, until: Until) -> None:
    page.goto(recorder.url + "/plain?q=1#top", referer=recorder.url + "/before")
    until(page, lambda: recorder.of("page"))
    [event] = recorder.of("page")
    assert set(event) == {"id", "type", "ts", "anonymous_id", "session_id", "page", "seq"}
    assert event["page"] == {
        "url": recorder.url + "/plain?q=1#top",
        "path": "/plain",
        "title": "Plain page",
        "referrer": recorder.url + "/before",
    }
    assert len(event["id"]) == len(event["anonymous_id"]) == 32
    assert event["seq"] == 1
    assert recorder.queries == ["key=demo"]
    assert recorder.content_types == ["text/plain;charset=UTF-8"]


def test_clicks_describe_the_meaningful_element(page: Page, recorder: Any, until: Until) -> None:
    page.goto(recorder.url + "/plain")
    page.click("b")
    until(page, lambda: recorder.of("click"))
    page.click("#inner")
    until(page, lambda: len(recorder.of("click")) == 2)
    button, link = (event["element"] for event in recorder.of("click"))
    assert button == {
        "tag": "button",
        "text": "Invest",
        "selector": "main#main>p>button.buy.big",
        "index": 1,
    }
    assert link == {
        "tag": "a",
        "text": "A bond fund",
        "selector": "main#main>a.card",
        "href": recorder.url + "/plain/other?x=1",
        "index": 0,
    }


def test_values_are_never_sent(page: Page, recorder: Any, until: Until) -> None:
    """The form's fields are named like properties of elements, which hides the form's own."""
    page.goto(recorder.url + "/plain")
    page.fill("#amount", "secret-amount")
    page.fill("#password", "secret-password")
    page.fill("#note", "secret-note")
    page.fill("#editable", "secret-text")
    page.click("#editable")
    page.click("#note")
    page.click("#password")
    page.check("#check")
    page.select_option("#choice", "blue")
    page.click("#ignored")
    with page.expect_navigation():  # a page that is still on its way cannot be closed
        page.click("#send")
    until(page, lambda: recorder.of("submit"))
    [submit] = recorder.of("submit")
    assert submit["element"] == {"tag": "form", "selector": "form#form", "index": 0}
    assert submit["page"]["path"] == "/plain"
    until(page, lambda: len(recorder.of("change")) == 4)
    selectors = [event["element"]["selector"] for event in recorder.of("change")]
    assert selectors == ["input#amount", "textarea#note", "input#check", "select#choice"]
    assert all(set(event["element"]) == {"tag", "selector", "index"} for event in recorder.of("change"))
    texts = [event["element"]["text"] for event in recorder.of("click") if event["element"]["text"]]
    assert texts == ["Send it"]
    for never in ("secret", "typed", "blue", "red", "Do not look", "password"):
        assert never not in recorder.text


def test_single_page_navigation(page: Page, recorder: Any, until: Until) -> None:
    page.goto(recorder.url + "/plain")
    page.click("#push")
    until(page, lambda: len(recorder.of("page")) == 2)
    page.evaluate("history.replaceState({}, '', '/plain/replaced')")
    page.evaluate("history.replaceState({}, '', '/plain/replaced')")
    until(page, lambda: len(recorder.of("page")) == 3)
    page.evaluate("location.hash = 'part'")
    until(page, lambda: len(recorder.of("page")) == 4)
    page.go_back()
    until(page, lambda: len(recorder.of("page")) == 5)
    views = [event["page"] for event in recorder.of("page")]
    addresses = ["/plain", "/plain/pushed?tab=2", "/plain/replaced", "/plain/replaced#part", "/plain/replaced"]
    assert [view["url"] for view in views] == [recorder.url + address for address in addresses]
    assert [view["referrer"] for view in views] == ["", *(view["url"] for view in views[:-1])]
    assert [view["title"] for view in views[:2]] == ["Plain page", "Pushed"]
    assert recorder.of("dwell")[0]["page"]["path"] == "/plain"


def test_dwell_is_visible_active_time(page: Page, recorder: Any, until: Until) -> None:
    """The page's clock is the test's: idle time beyond 30 s does not count, and nothing waits longer than 30 s.

    The clock runs ahead of the network, so a request may time out by it: the next page delivers what is left.
    """

    def spans() -> list[int]:
        return [event["properties"]["ms"] for event in recorder.of("dwell") if event["page"]["path"] == "/plain"]

    page.clock.install()
    page.goto(recorder.url + "/plain")
    page.clock.run_for(20_000)
    page.mouse.move(5, 5)
    page.clock.run_for(300_000)
    page.mouse.move(9, 9)
    page.clock.run_for(10_000)
    page.goto(recorder.url + "/plain/next")
    until(page, lambda: sum(spans()) >= 60_000)
    assert max(spans()) <= 31_000
    assert 60_000 <= sum(spans()) <= 66_000


def test_identify_track_reset(page: Page, recorder: Any, until: Until) -> None:
    page.goto(recorder.url + "/plain")
    page.evaluate("phasewatch.track('before')")
    page.evaluate("phasewatch.identify(42); phasewatch.identify('42'); phasewatch.identify('')")
    page.evaluate("phasewatch.track('after', {a: [1, 'x\"\\\\\\n', null, {b: true}], u: undefined, when: new Date(0)})")
    until(page, lambda: len(recorder.of("custom")) == 2)
    [identify] = recorder.of("identify")
    before, after = recorder.of("custom")
    assert (identify["user_id"], identify["anonymous_id"]) == ("42", before["anonymous_id"])
    assert "user_id" not in before
    assert (after["name"], after["user_id"], after["anonymous_id"]) == ("after", "42", before["anonymous_id"])
    assert after["properties"] == {"a": [1, 'x"\\\n', None, {"b": True}], "when": "1970-01-01T00:00:00.000Z"}
    assert [event["seq"] for event in list(recorder.events.values())] == [1, 2, 3, 4]
    page.evaluate("phasewatch.reset(); phasewatch.track('fresh')")
    until(page, lambda: len(recorder.of("custom")) == 3)
    fresh = recorder.of("custom")[2]
    assert "user_id" not in fresh
    assert fresh["anonymous_id"] != before["anonymous_id"]
    assert fresh["session_id"] != before["session_id"]
    assert fresh["seq"] == 1


def test_identity_survives_a_navigation(page: Page, recorder: Any, until: Until) -> None:
    page.goto(recorder.url + "/plain")
    page.evaluate("phasewatch.identify('u-1')")
    until(page, lambda: recorder.of("identify"))
    page.goto(recorder.url + "/plain/next")
    until(page, lambda: len(recorder.of("page")) == 2)
    first, second = recorder.of("page")
    assert second["user_id"] == "u-1"
    assert first["anonymous_id"] == second["anonymous_id"]
    assert first["session_id"] == second["session_id"]


def test_leaving_hands_over_by_beacon(page: Page, recorder: Any, until: Until) -> None:
    page.goto(recorder.url + "/plain")
    until(page, lambda: recorder.of("page"))
    page.evaluate("phasewatch.track('last words')")
    page.goto("about:blank")
    until(page, lambda: recorder.of("custom") and recorder.of("dwell"))


@pytest.mark.parametrize("failure", ["absent", "unavailable"])
def test_nothing_is_lost_or_doubled_while_the_collector_is_away(
    page: Page, recorder: Any, until: Until, failure: str
) -> None:
    """Clicks, a reload and two navigations without a collector; then it is back: every id is there once."""
    page.route("**/plain*", lambda route: route.fulfill(path="tests/e2e/pages/plain.html", content_type="text/html"))
    page.route("**/autocapture.js", lambda route: route.fulfill(body=program().code, content_type="text/javascript"))
    page.goto(recorder.url + "/plain")
    until(page, lambda: recorder.of("page"))
    if failure == "absent":
        recorder.stop()
    else:
        recorder.status, recorder.retry_after = 503, "1"
    made: set[str] = set()
    for step in range(4):
        for _ in range(12):
            page.click("b")
        made |= set(page.evaluate(QUEUED_IDS))
        if step % 2:
            page.reload()
        else:
            page.goto(recorder.url + f"/plain?step={step}")
        made |= set(page.evaluate(QUEUED_IDS))
    assert recorder.of("click") == []
    if failure == "absent":
        recorder.start()
    else:
        recorder.status = 200
    until(page, lambda: made <= set(recorder.events))
    until(page, lambda: page.evaluate(QUEUED_IDS) == [])
    assert len(recorder.of("click")) == 48
    assert len(recorder.of("page")) == 5
    numbers = [event["seq"] for event in list(recorder.events.values()) if "seq" in event]
    assert len(numbers) == len(set(numbers))


def test_any_text_outlives_its_page(page: Page, recorder: Any, until: Until) -> None:
    """Line separators are no end of a line of the queue; what is none of its lines is passed over."""
    page.goto(recorder.url + "/plain")
    until(page, lambda: recorder.of("page"))
    recorder.status = 503
    page.evaluate("phasewatch.track('odd', { text: 'a\\u2028b\\u2029c\\r\\n\\ud800' })")
    page.evaluate("localStorage['phasewatch.q.other'] = 'no line of a queue'")
    page.reload()
    recorder.status = 200
    until(page, lambda: recorder.of("custom"))
    assert recorder.of("custom")[0]["properties"]["text"].startswith("a\u2028b\u2029c\r\n")


def test_what_natives_refuse_costs_no_event(page: Page, recorder: Any, until: Until) -> None:
    """A lone surrogate has no UTF-8, an invalid date no text."""
    page.goto(recorder.url + "/plain")
    page.evaluate("""phasewatch.track('odd', { at: new Date(NaN), then: new Date(0),
      to: 'https://shop.example/?q=a%3D\\ud800%26token%3Dabc&x=1' })""")
    until(page, lambda: recorder.of("custom"))
    assert recorder.of("custom")[0]["properties"] == {
        "at": None,
        "then": "1970-01-01T00:00:00.000Z",
        "to": "https://shop.example/?q=***&x=1",
    }


def test_numbers_are_delivered_in_order(page: Page, recorder: Any, until: Until) -> None:
    """The receiver remembers few gaps below the highest number, so a lower one must never come late."""
    page.goto(recorder.url + "/plain")
    until(page, lambda: recorder.of("page"))
    recorder.status = 503
    page.evaluate("for (let i = 0; i < 300; i++) phasewatch.track('burst')")
    recorder.status = 200
    until(page, lambda: len(recorder.of("custom")) == 300)
    numbers = [event["seq"] for event in list(recorder.events.values()) if "seq" in event]
    assert numbers == sorted(numbers)
    assert len(numbers) >= 300


def test_two_tabs_give_no_number_twice(context: BrowserContext, recorder: Any, until: Until) -> None:
    first, second = context.new_page(), context.new_page()
    first.goto(recorder.url + "/plain")
    second.goto(recorder.url + "/plain")
    for _ in range(4):
        first.click("b")
        second.click("b")
    until(second, lambda: len(recorder.of("click")) == 8)
    first.close(run_before_unload=True)
    for _ in range(10):
        second.click("b")
    until(second, lambda: len(recorder.of("click")) == 18)
    second.reload()
    until(second, lambda: len(recorder.of("page")) == 3)
    assert len({event["anonymous_id"] for event in list(recorder.events.values())}) == 1
    numbers = [event["seq"] for event in list(recorder.events.values()) if "seq" in event]
    assert len(numbers) >= 10
    assert len(numbers) == len(set(numbers))


def test_tabs_without_locks_keep_no_copies(context: BrowserContext, recorder: Any, until: Until) -> None:
    """A tab cannot know there whose queue it sees: it takes over when it is opened alone, and each event once."""
    context.add_init_script(HOSTILE["no locks"])
    context.clock.install()
    recorder.status = 503
    queues = """() => Object.keys(localStorage).filter((key) => key.startsWith('phasewatch.q.')).sort()
      .map((key) => localStorage[key].split('\\n').filter((line) => !line.includes('"dwell"'))
        .map((line) => line.split(' ')[0]))"""

    def events() -> list[int]:
        held = page.evaluate(queues)
        assert all(len(ids) == len(set(ids)) for ids in held)
        return sorted(len(ids) for ids in held)

    for opened in (1, 2, 3):
        page = context.new_page()
        page.goto(recorder.url + "/plain")
        page.clock.run_for(200)
        until(page, lambda opened=opened: max(events(), default=0) >= opened)  # type: ignore[misc]
        for other in context.pages:
            other.evaluate("phasewatch.track('more')")  # which keeps what the new one has taken over
    before = events()
    for one in context.pages:
        one.clock.run_for(6_000)  # all have looked about
    assert events() == before


def test_queue_is_bounded_and_says_what_it_dropped(page: Page, recorder: Any, until: Until) -> None:
    page.goto(recorder.url + "/plain")
    until(page, lambda: recorder.of("page"))
    recorder.stop()
    page.evaluate("for (let i = 0; i < 1100; i++) phasewatch.track('many')")
    assert len(page.evaluate(QUEUED_IDS)) <= 1000
    recorder.start()
    until(page, lambda: page.evaluate(QUEUED_IDS) == [])
    told = sum(event["properties"]["sdk_dropped"] for event in recorder.of("custom") if event.get("properties"))
    assert len(recorder.of("custom")) >= 900
    assert told >= 99


HOSTILE = {
    "frozen prototypes": """for (const type of [Object, Array, Function, EventTarget, String, Promise, Node, Element,
      History, Storage]) { Object.freeze(type.prototype); Object.freeze(type); } Object.freeze(history);""",
    "changed JSON": """JSON.stringify = () => { throw new Error('no'); }; Array.prototype.toJSON = () => '[]';
      Object.prototype.toJSON = () => 'x'; String.prototype.toJSON = () => 'y'; delete JSON.parse;""",
    "no bind": "delete Function.prototype.bind; delete Function.prototype.call; delete Function.prototype.apply;",
    "throwing localStorage": "Object.defineProperty(window, 'localStorage', { get() { throw new Error('denied'); } });",
    "full localStorage": "Storage.prototype.setItem = () => { throw new DOMException('x', 'QuotaExceededError'); };",
    "no sessionStorage": "Object.defineProperty(window, 'sessionStorage', { value: undefined });",
    "no crypto": "Object.defineProperty(window, 'crypto', { value: undefined });",
    "no locks": "Object.defineProperty(Navigator.prototype, 'locks', { value: undefined });",
    "no fetch": "delete window.fetch;",
    "throwing listeners": "addEventListener('click', (event) => event.stopImmediatePropagation(), true);",
}


@pytest.mark.parametrize("page_script", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_pages(page: Page, recorder: Any, until: Until, page_script: str) -> None:
    """The page keeps working, sees no error, and is still heard."""
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.add_init_script(page_script)
    page.goto(recorder.url + "/plain")
    page.click("#push")
    page.click("b")
    until(page, lambda: len(recorder.of("click")) == 2 or "stopImmediate" in page_script)
    if "bind" in page_script:  # the test's own tool needs it from here on
        return
    if "stopImmediate" not in page_script:
        assert page.evaluate("[window.bought, location.pathname]") == [True, "/plain/pushed"]
    page.evaluate("phasewatch.track('heard', { get broken() { throw new Error('no'); } }); phasewatch.track('heard')")
    until(page, lambda: recorder.of("page") and recorder.of("custom"))
    page.reload()
    until(page, lambda: len(recorder.of("page")) >= 2)
    assert complaints == []


def test_a_browser_without_shadow_trees(page: Page, recorder: Any, until: Until) -> None:
    page.add_init_script("delete window.HTMLSlotElement; delete Element.prototype.assignedSlot;")
    page.goto(recorder.url + "/plain")
    page.click("b")
    until(page, lambda: recorder.of("page"))
    assert page.evaluate("window.bought") is True


def test_an_image_forbidden_by_the_page_silences_nobody(page: Page, recorder: Any, until: Until) -> None:
    """Its violation names the origin, as that of a connection does."""
    recorder.headers["Content-Security-Policy"] = "img-src 'none'"
    page.goto(recorder.url + "/plain")
    page.evaluate("""() => new Promise((resolve) => {
      document.addEventListener('securitypolicyviolation', resolve);
      new Image().src = '/v1/events'; })""")
    page.evaluate("phasewatch.track('heard')")
    until(page, lambda: recorder.of("custom"))


def test_a_failing_beacon_is_swallowed(page: Page, recorder: Any) -> None:
    """A rejection that nobody handles would be an error of the page."""
    page.add_init_script("""delete window.fetch; window.tries = 0;
      navigator.sendBeacon = () => { window.tries += 1; throw new Error('no'); };""")
    page.goto(recorder.url + "/plain")
    page.wait_for_function("window.tries")
    page.evaluate("phasewatch.track('again')")
    page.wait_for_function("window.tries > 1")


def test_connections_forbidden_by_the_page(page: Page, recorder: Any, until: Until) -> None:
    """After the browser has said no once there is silence."""
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.clock.install()
    recorder.headers["Content-Security-Policy"] = "default-src 'none'; script-src 'self'"
    page.goto(recorder.url + "/plain")
    until(page, lambda: any(text.startswith("Connecting") for text in complaints))
    page.clock.run_for(1000)
    said = list(complaints)
    page.click("b")
    page.clock.run_for(120_000)
    page.evaluate("phasewatch.track('x')")
    page.clock.run_for(120_000)
    assert complaints == said
    assert recorder.bodies == []


def test_sandboxed_frame(page: Page, recorder: Any, until: Until) -> None:
    page.goto(recorder.url + "/frame")
    until(page, lambda: recorder.of("page"))
    page.frame_locator("iframe").locator("b").click()
    until(page, lambda: recorder.of("click"))
    assert "seq" not in recorder.of("click")[0]


def test_included_twice(page: Page, recorder: Any, until: Until) -> None:
    page.goto(recorder.url + "/plain")
    page.add_script_tag(url=recorder.url + "/autocapture.js")
    page.evaluate("""() => new Promise((resolve) => {
      const script = document.createElement('script');
      script.src = '/autocapture.js'; script.dataset.key = 'demo'; script.onload = resolve;
      document.head.append(script); })""")
    page.click("b")
    until(page, lambda: recorder.of("click"))
    page.goto("about:blank")
    until(page, lambda: recorder.of("dwell"))
    assert (len(recorder.of("page")), len(recorder.of("click"))) == (1, 1)


def test_click_in_a_large_document_visits_few_nodes(page: Page, recorder: Any, until: Until) -> None:
    page.add_init_script("""window.visits = 0;
      for (const [type, name] of [[Node, 'firstChild'], [Node, 'nextSibling'], [Node, 'parentNode'],
          [Element, 'previousElementSibling']]) {
        const found = Object.getOwnPropertyDescriptor(type.prototype, name);
        Object.defineProperty(type.prototype, name, { ...found,
          get() { window.visits++; return found.get.call(this); } });
      }""")
    page.goto(recorder.url + "/plain")
    page.evaluate("""() => { host.style.cursor = 'pointer';
      for (let i = 0; i < 10000; i++)
        host.append(Object.assign(document.createElement('i'), { textContent: '.' })); }""")
    until(page, lambda: recorder.of("page"))
    page.evaluate("window.visits = 0")
    page.evaluate("host.click(); host.lastChild.click()")
    until(page, lambda: len(recorder.of("click")) == 2)
    assert page.evaluate("window.visits") < 1000
    whole, last = recorder.of("click")
    assert len(whole["element"]["text"]) == 100
    assert "index" not in last["element"]
