"""Debian's Chromium for tests: started in one way, and closed also when it does not want to."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, BrowserContext, Playwright
from playwright.sync_api import Error as PlaywrightError

ARGUMENTS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
CLOSE_SECONDS: Final = 20
"""What closing may take; it once took more than 300 on a machine without a rest of load."""


def launch(playwright: Playwright, arguments: Sequence[str] = (), **options: Any) -> Browser:
    """Return a new browser; the absence of Chromium skips, or fails where REQUIRE_SERVICES=1.

    Args:
        playwright: that drives it.
        arguments: beside those that every test has.
        options: of Playwright's `launch`.
    """
    path = shutil.which("chromium")
    if path is None:
        message = "Chromium is not installed: apt-get install chromium"
        if os.environ.get("REQUIRE_SERVICES") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return playwright.chromium.launch(executable_path=path, args=[*ARGUMENTS, *arguments], **options)


@contextmanager
def person(browser: Browser, **options: Any) -> Iterator[BrowserContext]:
    """Somebody's own storage; a browser that does not close it in time is ended, so that only one test waits.

    Args:
        browser: launched above.
        options: of Playwright's `new_context`.
    """
    pid = _pid(browser)
    context = browser.new_context(**options)
    try:
        yield context
    finally:
        _close(context, pid)


def _pid(browser: Browser) -> int:
    session = browser.new_browser_cdp_session()
    processes = session.send("SystemInfo.getProcessInfo")["processInfo"]
    session.detach()
    return next(int(process["id"]) for process in processes if process["type"] == "browser")


def _close(context: BrowserContext, pid: int) -> None:
    ended = threading.Event()

    def end() -> None:
        ended.set()
        os.kill(pid, signal.SIGKILL)

    timer = threading.Timer(CLOSE_SECONDS, end)
    timer.start()
    try:
        context.close()
    except PlaywrightError:
        if not ended.is_set():
            raise
    finally:
        timer.cancel()
        timer.join()
    if ended.is_set():
        sys.stderr.write(f"Chromium did not close a context within {CLOSE_SECONDS} s and was ended; a new one starts\n")
