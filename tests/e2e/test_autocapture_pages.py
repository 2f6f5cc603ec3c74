"""autocapture.js and what pages are made of: links, marks, shadow trees, frames; and what it masks."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

pytestmark = pytest.mark.services
Until = Callable[[Page, Callable[[], object]], None]


def by_selector(events: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {event["element"]["selector"]: event for event in events}


def test_links(page: Page, recorder: Any, until: Until) -> None:
    page.goto(recorder.url + "/links")
    names = ["pdf", "named", "blob", "away", "mail", "broken", "plain"]
    for name in names:
        page.click(f"#{name}")
    until(page, lambda: len(recorder.of("click")) == len(names))
    found = {event["element"]["selector"].partition("#")[2]: event for event in recorder.of("click")}
    marks = {"product_id": "161725", "category": "index"}
    assert {name: found[name]["properties"] for name in names} == {
        "pdf": {**marks, "download": "prospectus 110022.PDF"},
        "named": {**marks, "download": "orders-***.csv"},
        "blob": {**marks, "download": ""},
        "away": {**marks, "outbound": "other.example"},
        "mail": marks,
        "broken": marks,
        "plain": marks,
    }
    assert found["away"]["element"]["href"] == "https://other.example/x?token=***"
    assert [name for name in names if "href" in found[name]["element"]] == ["pdf", "named", "away"]
    assert "secret" not in recorder.text
    assert "jane" not in recorder.text


def test_marks_of_the_nearest_element_and_of_the_page(page: Page, recorder: Any, until: Until) -> None:
    """An empty mark is none; the page's own stand after the script, so its view waits for them."""
    page.goto(recorder.url + "/links")
    page.click("#marked")
    page.check("#check")
    page.goto("about:blank")
    until(page, lambda: recorder.of("click") and recorder.of("change") and recorder.of("dwell"))
    marks = {"product_id": "161725", "category": "index"}
    assert recorder.of("click")[0]["properties"] == {"product_id": "000001"}
    assert recorder.of("change")[0]["properties"] == marks
    assert recorder.of("page")[0]["properties"] == marks
    assert recorder.of("dwell")[0]["properties"].items() > marks.items()


def test_rage_clicks(page: Page, recorder: Any, until: Until) -> None:
    page.clock.install()
    page.goto(recorder.url + "/links")
    page.clock.pause_at(page.evaluate("Date.now()") + 60_000)
    box = page.locator("#plain").bounding_box()
    assert box is not None
    x, y = box["x"] + 5, box["y"] + 5
    for dx, ms in [(0, 300), (8, 300), (0, 300), (4, 1000), (0, 200), (0, 200), (300, 0), (0, 0)]:
        page.mouse.click(x + dx, y)
        page.clock.run_for(ms)
    page.evaluate("for (let i = 0; i < 9; i++) document.querySelector('#plain').click()")
    page.clock.run_for(2000)
    for _ in range(2):  # each is a click of the field as well
        page.click("#label", position={"x": 5, "y": 5})
        page.clock.run_for(100)
    page.clock.resume()
    until(page, lambda: len(recorder.of("click")) == 21)
    rages = [event["properties"].get("rage") for event in recorder.of("click")]
    assert rages == [None, None, 3, 4, *[None] * 17]


def test_open_shadow_trees(page: Page, recorder: Any, until: Until) -> None:
    page.goto(recorder.url + "/trees")
    page.click("x-card span")
    page.click("x-icon b")
    page.go_back()
    page.goto(recorder.url + "/trees")
    page.fill("#field >> nth=0", "secret")
    page.click("#go")
    page.click("x-secret button")
    page.click("x-closed")
    until(page, lambda: len(recorder.of("click")) == 4 and recorder.of("change") and recorder.of("submit"))
    clicks = by_selector(recorder.of("click"))
    assert {selector: event["element"]["text"] for selector, event in clicks.items()} == {
        "x-card#card>>>section>button.buy": "slotted words",
        "a#around": "*",
        "x-card#card>>>section>x-inner>>>button#go": "Go on",
        "x-closed#closed": "",
    }
    [change], [submit] = recorder.of("change"), recorder.of("submit")
    assert change["element"]["selector"].endswith("x-inner>>>input#field")
    assert submit["element"]["tag"] == "form"
    for event in (clicks["x-card#card>>>section>button.buy"], change, submit):
        assert event["properties"] == {"product_id": "110022", "category": "bond"}
    assert "secret" not in recorder.text
    assert "Do not look" not in recorder.text


def test_frames_of_this_origin_are_part_of_the_page(page: Page, recorder: Any, until: Until) -> None:
    """Also one with the script of its own: no view is counted twice, and its calls are the page's."""
    page.goto(recorder.url + "/trees")
    bare, own = page.frame_locator("#bare"), page.frame_locator("#own")
    bare.locator("#deep").click()
    bare.locator("#field").fill("secret")
    bare.locator("#ignored").click()
    own.locator("b").click()
    own.locator("body").evaluate("phasewatch.track('from the frame')")
    until(page, lambda: len(recorder.of("click")) == 2 and recorder.of("change") and recorder.of("custom"))
    deep, button = recorder.of("click")
    assert deep["element"]["href"] == recorder.url + "/bare/next"
    assert deep["properties"] == {"frame": "/bare", "product_id": "000001"}
    assert button["properties"] == {"frame": "/plain/framed"}
    assert recorder.of("change")[0]["properties"] == deep["properties"]
    assert {event["page"]["path"] for event in list(recorder.events.values())} == {"/trees"}
    page.goto("about:blank")
    until(page, lambda: recorder.of("dwell"))
    assert (len(recorder.of("page")), len(recorder.of("dwell"))) == (1, 1)
    assert "secret" not in recorder.text


def test_a_frame_of_another_origin_is_a_page_of_its_own(page: Page, recorder: Any, until: Until) -> None:
    page.goto(recorder.url + "/frame")
    until(page, lambda: recorder.of("page"))
    [view] = recorder.of("page")
    assert view["page"]["path"] == "/plain"
    assert view["properties"] == {"frame": "/plain"}


def test_a_frame_whose_page_has_no_script_is_a_page_of_its_own(page: Page, recorder: Any, until: Until) -> None:
    page.goto(recorder.url + "/bare")
    page.evaluate("""() => { const frame = document.createElement('iframe');
      frame.src = '/plain/inner'; document.body.append(frame); }""")
    page.frame_locator("iframe").locator("b").click()
    until(page, lambda: recorder.of("page") and recorder.of("click"))
    assert {event["properties"]["frame"] for event in list(recorder.events.values())} == {"/plain/inner"}


@pytest.mark.parametrize("where", ["shadow tree", "object"])
def test_a_frame_that_the_page_does_not_find_is_a_page_of_its_own(
    page: Page, recorder: Any, until: Until, where: str
) -> None:
    page.goto(recorder.url + "/trees")
    page.evaluate(
        """(where) => { const host = document.createElement('div'); document.body.prepend(host);
      const frame = document.createElement(where === 'object' ? 'object' : 'iframe');
      frame[where === 'object' ? 'data' : 'src'] = '/plain/inner';
      (where === 'object' ? host : host.attachShadow({ mode: 'closed' })).append(frame); }""",
        where,
    )
    until(page, lambda: any(frame.url.endswith("/plain/inner") for frame in page.frames))
    inner = next(frame for frame in page.frames if frame.url.endswith("/plain/inner"))
    inner.click("b")
    until(page, lambda: recorder.of("click"))
    [click] = recorder.of("click")
    assert (click["page"]["path"], click["properties"]) == ("/plain/inner", {"frame": "/plain/inner"})


def test_masks_are_those_of_the_collector(page: Page, recorder: Any, until: Until) -> None:
    """By the table that collector.masking is held against as well; texts and URLs are properties here."""
    cases = json.loads(Path("tests/masking_cases.json").read_text("utf-8"))
    rows = [*cases["texts"], *cases["urls"]]
    page.goto(recorder.url + "/plain")
    page.evaluate("texts => phasewatch.track('table', { texts })", [row["text"] for row in rows])
    until(page, lambda: recorder.of("custom"))
    told = dict(zip([row["text"] for row in rows], recorder.of("custom")[0]["properties"]["texts"], strict=True))
    assert told == {row["text"]: row["masked"] for row in rows}


def test_masks_everywhere(page: Page, recorder: Any, until: Until) -> None:
    """Before anything is stored: what waits in the queue is masked already."""
    page.goto(recorder.url + "/links/13800138000?password=x#token=y", referer=recorder.url + "/?session=z")
    page.evaluate("document.title = 'Jane jane@example.com'; history.pushState({}, '', '?sid=q')")
    until(page, lambda: len(recorder.of("page")) == 2)
    recorder.status = 503
    page.click("#private")
    page.evaluate("""() => phasewatch.track('jane@example.com', {
      password: 'x', accessToken: { a: 1 }, password_strength: 'weak', phone: 13800138000, amount: 13800138000,
      order_no: '4111111111111111', note: '4111111111111111', code: '110022', verified: true,
      'jane@example.com': 1, deep: [{ url: '/a?pwd=x' }] })""")
    stored = page.evaluate("Object.keys(localStorage).map((key) => localStorage[key]).join()")
    recorder.status = 200
    until(page, lambda: recorder.of("click") and recorder.of("custom"))
    first, second = recorder.of("page")
    assert first["page"] == {
        "url": recorder.url + "/links/***?password=***#token=***",
        "path": "/links/***",
        "title": "Links",
        "referrer": recorder.url + "/?session=***",
    }
    assert (second["page"]["title"], second["page"]["referrer"]) == ("Jane ***", first["page"]["url"])
    element = recorder.of("click")[0]["element"]
    assert (element["text"], element["href"]) == ("Call ***", recorder.url + "/users/***?password=***")
    [custom] = recorder.of("custom")
    assert custom["name"] == "***"
    assert custom["properties"] == {
        "password": "***",
        "accessToken": "***",
        "password_strength": "weak",
        "phone": "***",
        "amount": 13800138000,
        "order_no": "4111111111111111",
        "note": "***",
        "code": "110022",
        "verified": True,
        "***": 1,
        "deep": [{"url": "/a?pwd=***"}],
    }
    assert "***" in stored
    assert "13800138000" not in stored.replace('"amount":13800138000', "")
    assert "jane@" not in stored


def test_every_member_is_declared(page: Page, recorder: Any) -> None:
    page.goto(recorder.url + "/plain")
    declared = files("collector.sdk").joinpath("autocapture.d.ts").read_text("utf-8")
    body = declared.partition("interface Phasewatch {")[2].partition("\n}")[0]
    assert re.findall(r"^  (\w+)\(", body, flags=re.MULTILINE) == page.evaluate("Object.keys(phasewatch)")
