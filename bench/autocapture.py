"""autocapture.js in Chromium: its bytes, and the main thread's time for a load and a click, beside the page without it.

Both pages are the same but for the tag, and clicked in turn by real mouse events; a figure is the median of the rounds.
The time is CPU of the renderer's main thread (`TaskDuration`, `ScriptDuration` of the DevTools protocol, in thread
ticks), which holds all that it does: capture, storage, the request.
"""

from __future__ import annotations

import gzip
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from statistics import median
from typing import Any, Final

import brotli
from playwright.sync_api import Browser, CDPSession, Page, sync_playwright

from collector import sdk

ROUNDS: Final = 9
CLICKS: Final = 60
CARDS: Final = 300
"""Of four elements each: a long list of products."""
PATHS: Final = ("/with", "/without")


def measure() -> dict[str, Any]:
    """Return the script's sizes in bytes and its milliseconds on the main thread."""
    code = sdk.program().code
    sizes = {"plain": len(code), "gzip": len(gzip.compress(code)), "br": len(brotli.compress(code))}
    with _server() as address, _chromium() as browser:
        rounds = [{path: _visit(browser, address + path) for path in PATHS} for _ in range(ROUNDS)]
    own, bare = PATHS
    more = {name: [one[own][name] - one[bare][name] for one in rounds] for name in rounds[0][own]}
    return {
        "autocapture": {f"bytes_{name}": size for name, size in sizes.items()}
        | {name: round(median(values), 3) for name, values in more.items()},
        "page_without": {name: round(median(one[bare][name] for one in rounds), 3) for name in rounds[0][bare]},
    }


@contextmanager
def _chromium() -> Iterator[Browser]:
    path = shutil.which("chromium")
    if path is None:
        msg = "Chromium is not installed: apt-get install chromium"
        raise RuntimeError(msg)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


def _visit(browser: Browser, address: str) -> dict[str, float]:
    context = browser.new_context()
    page = context.new_page()
    session = context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.goto(address)
    page.wait_for_timeout(500)  # what the page's load has left to do
    loaded = _seconds(session)
    _click(page)
    page.wait_for_timeout(500)  # the last request's answer
    clicked = _seconds(session)
    context.close()
    return {
        "script_ms_per_load": 1000 * loaded["ScriptDuration"],
        "task_ms_per_click": 1000 * (clicked["TaskDuration"] - loaded["TaskDuration"]) / CLICKS,
        "script_ms_per_click": 1000 * (clicked["ScriptDuration"] - loaded["ScriptDuration"]) / CLICKS,
    }


def _seconds(session: CDPSession) -> Mapping[str, float]:
    return {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}


def _click(page: Page) -> None:
    for at in range(CLICKS):
        page.mouse.click(20 + at % 3, 60 + 9 * at)


@contextmanager
def _server() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def do_GET(self) -> None:
        if self.path == sdk.SCRIPT_PATH:
            self._reply(sdk.program().code, "text/javascript; charset=utf-8")
        else:
            self._reply(_page(with_script=self.path == PATHS[0]).encode(), "text/html; charset=utf-8")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._reply(b"{}", "application/json")

    def _reply(self, body: bytes, content_type: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _page(*, with_script: bool) -> str:
    tag = f'<script src="{sdk.SCRIPT_PATH}" data-key="bench"></script>' if with_script else ""
    card = '<section class="card wide"><h3>A bond fund {0}</h3><p>3.{0}% a year</p><button>Invest</button></section>'
    cards = "".join(card.format(at) for at in range(CARDS))
    return (
        '<!doctype html><html><head><meta charset="utf-8"><link rel="icon" href="data:,"><title>Funds</title>'
        f"{tag}</head>"
        f'<body><main id="main"><div class="list">{cards}</div></main></body></html>'
    )
