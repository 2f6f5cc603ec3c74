"""A real collector with a write key per SDK, whose log is read while it runs."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

from collector.wire.event import Event
from tests.integration.embedded_process import EmbeddedProcess
from tests.integration.log_contents import LogContents
from tests.sdks.collector_front import CollectorFront


class Scene:
    """`phasewatch up` and one front per SDK.

    Args:
        directory: for its data and output.
        dialects: the dialect of each SDK; an SDK's name is its write key, and the source of its events.
    """

    def __init__(self, directory: Path, dialects: dict[str, str]) -> None:
        self.collector = EmbeddedProcess(directory)
        keys = [{"name": name, "key": name, "dialects": [dialect]} for name, dialect in dialects.items()]
        self.collector.environment = {"PHASEWATCH_COLLECTOR__KEYS": json.dumps(keys)}
        self.collector.start()
        self.fronts = {name: CollectorFront(self.collector.collector) for name in dialects}

    def restart(self) -> None:
        """Kill the collector and start it again."""
        self.collector.kill()
        self.collector.start()

    def close(self) -> None:
        """End everything; no front may have failed."""
        for front in self.fronts.values():
            front.absent()
        self.collector.close()
        assert [failure for front in self.fronts.values() for failure in front.failures] == []

    def events(self, sdk: str) -> list[Event]:
        """Return an SDK's events in the log so far, repeats included."""
        return [event for event in LogContents(self.collector.data).events() if event.source == sdk]

    def copies(self, sdk: str) -> Counter[str]:
        """Return how many times each of an SDK's events is in the log so far, by id."""
        return Counter(event.id for event in self.events(sdk))

    def requests(self, sdk: str, **wanted: str) -> list[dict[str, Any]]:
        """Return what the collector understood of an SDK's requests since it was started, the newest first."""
        query = urllib.parse.urlencode({"source": sdk, "limit": "500"} | wanted)
        with urllib.request.urlopen(f"{self.collector.admin}/debug/requests?{query}", timeout=30) as answer:
            found: list[dict[str, Any]] = json.loads(answer.read())["requests"]
        return found

    def complaints(self, sdk: str) -> list[str]:
        """Return why requests and events of an SDK were refused since the collector was started."""
        return [
            json.dumps({name: one[name] for name in ("path", "status", "refused", "rejected")})
            for one in self.requests(sdk, rejected="true")
        ]
