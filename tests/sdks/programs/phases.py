"""What the programs for Python share; phases.mjs says how a test and a program talk."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterable

URL, KEY, VARIANT = sys.argv[1:4]
SECONDS = 20

_out = threading.Lock()
_waiting: set[str] = set()


def _say(**line: str) -> None:
    with _out:
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


def sent(name: str, kind: str) -> str:
    """Say that an event is being given to the SDK, and of which type it should be in the log; return its name."""
    _waiting.add(name)
    _say(sent=name, type=kind)
    return name


def delivered(names: Iterable[str]) -> None:
    """Say that the SDK says that events were delivered."""
    for name in names:
        _waiting.discard(name)
        _say(delivered=name)


def lost(names: Iterable[str]) -> None:
    """Say that the SDK says that it gave events up."""
    for name in names:
        _waiting.discard(name)
        _say(lost=name)


def unsettled() -> list[str]:
    """Return the events of which the SDK has not said yet what became of them."""
    return sorted(_waiting)


def run(visit: Callable[[str], None], again: Callable[[], None] = lambda: None) -> None:
    """Run a visit in each phase that the input names, and `again` now and then until the SDK has told of all events."""
    for line in sys.stdin:
        visit(line.strip())
        deadline = time.monotonic() + SECONDS
        while _waiting and time.monotonic() < deadline:
            again()
            time.sleep(0.1)
        _say(done=line.strip())
