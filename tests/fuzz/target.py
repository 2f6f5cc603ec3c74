"""The collector as the fuzzer sees it: requests go into the application, what it makes durable comes back as bytes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import thread_time
from typing import Any, Final

from prometheus_client import CollectorRegistry

from collector.http import CollectorApp, make_app
from collector.settings import AddressLimits, CollectorSettings
from collector.wire.record import Draft
from tests.fuzz.request import Sent
from tests.fuzz.samples import write_keys

NOW: Final = 1_795_296_000_000
"""2026-11-22, after every sample; UTC milliseconds."""
RECENT_IDS: Final = 64
"""So few that samples with the same ids are accepted time and again: a repeat is read no further."""
COUNTED: Final = ("received", "accepted", "duplicate", "rejected", "failed")


class KeptSink:
    """A backend that keeps what was written until it is asked for."""

    partitions = 4

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.rejected: list[bytes] = []

    async def write(self, blocks: Sequence[tuple[int, Draft]]) -> None:
        for _, draft in blocks:
            found = draft.value.splitlines(keepends=True)
            if len(found) != draft.count:
                msg = f"a block of {draft.count} events has {len(found)} lines"
                raise AssertionError(msg)
            self.lines += found

    async def write_rejected(self, rejected: Sequence[tuple[str, bytes]]) -> None:
        self.rejected += [value for _, value in rejected]

    async def not_ready(self) -> str | None:
        return None

    async def close(self) -> None:
        pass

    def take(self) -> tuple[list[bytes], list[bytes]]:
        """Return the lines and the rejected records since the last call."""
        taken = self.lines, self.rejected
        self.lines, self.rejected = [], []
        return taken


@dataclass
class Outcome:
    """What became of a request; `seconds` are those of the processor: the machine may have others to serve."""

    status: int
    headers: Mapping[bytes, bytes]
    body: bytes
    lines: list[bytes]
    rejected: list[bytes]
    seconds: float = 0.0

    @property
    def json(self) -> Any:
        """The answer's body, None where it is no JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


@dataclass
class Target:
    """One collector in this process; used from one event loop."""

    sink: KeptSink = field(default_factory=KeptSink)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        as_much_as_it_can = AddressLimits(requests_per_second=None, events_per_second=None)
        settings = CollectorSettings(keys=write_keys(), linger_ms=0, recent_ids=RECENT_IDS, addresses=as_much_as_it_can)
        self.app: CollectorApp = make_app(settings, self.sink, lambda: NOW, registry=self.registry)

    async def send(self, request: Sent) -> Outcome:
        """Send a request as an ASGI server would; whatever the application raises is raised."""
        body = [{"type": "http.request", "body": request.body, "more_body": False}]
        sent: list[Any] = []

        async def receive() -> Any:
            return body.pop() if body else await asyncio.Future()

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": request.method,
            "path": request.path,
            "query_string": request.query,
            "headers": [*request.headers],
            "client": ("203.0.113.7", 40_000),
        }
        started = thread_time()
        await self.app(scope, receive, send)
        seconds = thread_time() - started
        headers = dict(sent[0]["headers"])
        answer = b"".join(message.get("body", b"") for message in sent[1:])
        return Outcome(sent[0]["status"], headers, answer, *self.sink.take(), seconds)

    def counts(self) -> dict[str, int]:
        """Return the metrics of events of all sources together, and `faults`."""
        found = dict.fromkeys((*COUNTED, "faults"), 0)
        for metric in self.registry.collect():
            for one in metric.samples:
                name = one.name.removeprefix("phasewatch_collector_").removesuffix("_total").removeprefix("events_")
                if name in found and one.name.endswith("_total"):
                    found[name] += int(one.value)
        return found
