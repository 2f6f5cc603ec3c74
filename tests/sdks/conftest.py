"""A Chromium that SDKs take for somebody's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.chromium import launch

AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, which reaches this machine alone; its absence skips, or fails where REQUIRE_SERVICES=1.

    PostHog's SDK sends nothing for a browser that says it is driven; beacons do not say a context's `user_agent`.
    """
    arguments = [
        "--disable-blink-features=AutomationControlled",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost",
        f"--user-agent={AGENT}",
    ]
    with sync_playwright() as playwright:
        browser = launch(playwright, arguments)
        yield browser
        browser.close()
