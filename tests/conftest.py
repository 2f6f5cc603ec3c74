"""Guards that every test passes through, and the few fixtures that several tests share."""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import os
import shutil
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import structlog

from tests.services import kafka, redis_server, start_service  # noqa: F401 - fixtures of all tests

# No assertion on absolute time: a busy machine takes ten times as long. CI tells of a failure as it was found: to
# make it smaller takes minutes, and at the end of the test's time it would go on with services cut off half way.
phases = set(hypothesis.Phase) - ({hypothesis.Phase.shrink} if os.environ.get("CI") else set())
hypothesis.settings.register_profile("unhurried", deadline=None, phases=phases, print_blob=True)
hypothesis.settings.load_profile("unhurried")

THREAD_DEADLINE_SECONDS = 5.0
"""How long a thread that was told to stop may take; a busy machine needs more than an idle one."""


@pytest.fixture
def require_program() -> Callable[[str], Path]:
    """Return a function that finds a program, or skips the test; with REQUIRE_SERVICES=1 it fails instead."""

    def find(name: str) -> Path:
        found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")  # not on everybody's PATH
        if found is not None:
            return Path(found)
        reason = f"{name} is not installed; `make test` installs it or says how"
        if os.environ.get("REQUIRE_SERVICES") == "1":
            pytest.fail(reason)
        pytest.skip(reason)

    return find


@pytest.fixture
def logged_errors() -> list[str]:
    """Return the errors logged so far; a test that asks for them expects some and checks them itself."""
    return []


@pytest.fixture(autouse=True)
def _no_unexpected_error_in_the_log(request: pytest.FixtureRequest) -> Iterator[None]:
    expected = "logged_errors" in request.fixturenames
    errors: list[str] = request.getfixturevalue("logged_errors") if expected else []
    make_record = logging.getLogRecordFactory()

    def note_errors(*arguments: Any, **named: Any) -> logging.LogRecord:
        record = make_record(*arguments, **named)
        if (record.levelno or 0) >= logging.ERROR:  # logging.makeLogRecord makes one without a level first
            errors.append(f"{record.name}: {record.getMessage()}")
        return record

    # Where records are made rather than in a handler: code under test may configure the handlers anew.
    logging.setLogRecordFactory(note_errors)
    structlog.configure(
        processors=[structlog.stdlib.render_to_log_kwargs],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    logging.setLogRecordFactory(make_record)
    # What a test configured must not reach the next one.
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    if errors and not expected:
        pytest.fail("errors were logged:\n" + "\n".join(errors))


@pytest.fixture
async def _task_guard() -> AsyncIterator[None]:
    """Fail a test that leaves a task behind on its event loop; it runs on the test's own loop."""
    before = asyncio.all_tasks()
    yield
    for _ in range(3):  # a task that was just cancelled ends within a turn or two of the loop
        await asyncio.sleep(0)
    left = {task for task in asyncio.all_tasks() - before if task is not asyncio.current_task() and not task.done()}
    if left:
        pytest.fail(f"tasks were left behind: {sorted(repr(task) for task in left)}")


@pytest.fixture(autouse=True)
def _nothing_lingers(request: pytest.FixtureRequest) -> Iterator[None]:
    threads = set(threading.enumerate())
    if inspect.iscoroutinefunction(getattr(request, "function", None)):
        request.getfixturevalue("_task_guard")
    yield
    gc.collect(1)  # an unclosed file or socket warns when it is collected; warnings are errors
    deadline = time.monotonic() + THREAD_DEADLINE_SECONDS
    for thread in set(threading.enumerate()) - threads:
        # A loop's default executor belongs to the test runner, which closes it with the loop.
        if not thread.daemon and not thread.name.startswith("asyncio_"):
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                pytest.fail(f"a thread was left behind: {thread!r}")


@pytest.fixture(autouse=True, scope="module")
def _no_open_resource() -> Iterator[None]:
    """Collect what a cheap collection leaves, so that a ResourceWarning shows in the module that caused it."""
    yield
    gc.collect()
