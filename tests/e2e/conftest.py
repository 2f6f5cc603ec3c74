"""A real Chromium, and a collector that only records, for tests of autocapture.js."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, sync_playwright

from collector.sdk import program
from tests.chromium import launch, person

PAGES = Path(__file__).parent / "pages"


class Recorder:
    """Serves the script, test pages and the native route on loopback; keeps what it was sent."""

    def __init__(self) -> None:
        self.port = 0
        self.status = 200
        self.retry_after = ""
        self.headers: dict[str, str] = {}
        self.bodies: list[bytes] = []
        self.queries: list[str] = []
        self.content_types: list[str] = []
        self.events: dict[str, dict[str, Any]] = {}
        self.repeats = 0
        self.connections: set[socket.socket] = set()
        self._server: ThreadingHTTPServer | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    def start(self) -> None:
        """Listen, on the port of last time when there was one."""
        handler = type("Handler", (_Handler,), {"recorder": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Be absent: connections are refused."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        for connection in list(self.connections):  # Chromium connects ahead of its requests
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def take(self, body: bytes, query: str, content_type: str) -> dict[str, Any]:
        """Record a batch as the collector would and return its answer."""
        self.bodies.append(body)
        self.queries.append(query)
        self.content_types.append(content_type)
        duplicates = []
        batch = json.loads(body)["events"]
        for index, event in enumerate(batch):
            if event["id"] in self.events:
                duplicates.append(index)
                self.repeats += 1
            self.events.setdefault(event["id"], event)
        accepted = len(batch) - len(duplicates)
        return {
            "accepted": accepted,
            "duplicate": len(duplicates),
            "rejected": 0,
            "errors": [],
            "duplicates": duplicates,
        }

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return the events of one type, in order of arrival."""
        return [event for event in list(self.events.values()) if event["type"] == kind]

    @property
    def text(self) -> str:
        return b"\n".join(self.bodies).decode()


class _Handler(BaseHTTPRequestHandler):
    recorder: Recorder

    def setup(self) -> None:
        super().setup()
        self.recorder.connections.add(self.connection)

    def finish(self) -> None:
        self.recorder.connections.discard(self.connection)
        super().finish()

    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def reply(self, status: int, body: bytes, content_type: str, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("Access-Control-Expose-Headers", "Retry-After")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path == "/autocapture.js":
            self.reply(200, program().code, "text/javascript")
            return
        file = PAGES / (path.strip("/").split("/")[0] + ".html")
        found = file.exists()
        html = file.read_bytes() if found else b"<title>none</title>"
        self.reply(200 if found else 404, html, "text/html; charset=utf-8", **self.recorder.headers)

    def do_POST(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        keyed = "key" in parse_qs(url.query) or self.headers.get("Authorization", "").startswith("Bearer ")
        if url.path != "/v1/events" or not keyed:
            self.reply(303, b"", "text/plain", Location="/plain")
        elif self.recorder.status != 200:
            headers = {"Retry_After": self.recorder.retry_after} if self.recorder.retry_after else {}
            self.reply(self.recorder.status, b"{}", "application/json", **headers)
        else:
            answer = self.recorder.take(body, url.query, self.headers.get("Content-Type", ""))
            self.reply(200, json.dumps(answer).encode(), "application/json")


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """A collector that only records."""
    recorder = Recorder()
    yield recorder
    recorder.stop()


class Chromium:
    """One browser after another: a new one only where the last had to be ended."""

    def __init__(self, playwright: Playwright) -> None:
        self.playwright = playwright
        self._browser = launch(playwright)

    def browser(self) -> Browser:
        """Return a browser that runs."""
        if not self._browser.is_connected():
            self._browser = launch(self.playwright)
        return self._browser

    def close(self) -> None:
        """End it."""
        self._browser.close()


@pytest.fixture(scope="module")
def chromiums() -> Iterator[Chromium]:
    """Debian's Chromium, one for all tests of a file."""
    with sync_playwright() as playwright:
        chromium = Chromium(playwright)
        yield chromium
        chromium.close()


@pytest.fixture
def chromium(chromiums: Chromium) -> Browser:
    """A browser that runs."""
    return chromiums.browser()


@pytest.fixture
def context(chromium: Browser, recorder: Recorder) -> Iterator[BrowserContext]:  # noqa: ARG001 - see below
    """One person's browser: its own storage; closed before the recorder, so that no request of it hangs in the air."""
    with person(chromium) as context:
        yield context


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """A tab in which no script may fail."""
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    assert errors == []


@pytest.fixture
def until() -> Callable[[Page, Callable[[], object]], None]:
    """Lets a page run until something has become true, at most 15 s."""

    def wait(page: Page, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 15
        while not condition():
            assert time.monotonic() < deadline, "it did not become true within 15 s"
            page.wait_for_timeout(20)

    return wait
