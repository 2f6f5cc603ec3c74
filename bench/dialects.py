"""CPU of one event in each SDK's recorded requests, beside the native route, from the connection's bytes to the blocks.

One process, a transport that keeps nothing and a log that does nothing: what is left is the collector's own work. Each
dialect's requests are those that `tests/compat/recorded` has of it; beside them, in turn, the native route takes as
many events in as many requests: once with what autocapture.js says of a click, once with all that the SDK has said.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

import msgspec
from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from uvicorn import Config
from uvicorn.server import ServerState

from collector.decode.events import NativeEvent
from collector.http import CollectorApp, make_app
from collector.protocol import ingest_protocol
from collector.settings import CollectorSettings, WriteKey
from collector.sinks.port import Sink
from collector.wire.record import Draft

RECORDED: Final = Path(__file__).parents[1] / "tests/compat/recorded"
DIALECTS: Final = ("posthog", "segment", "rudder", "snowplow", "growingio", "sensors")
ROUNDS: Final = 15
REPEATS: Final = 12
FIELDS: Final = frozenset(NativeEvent.__struct_fields__)
NATIVE_KEY: Final = "native-key"


class _NoLog(Sink):
    """Makes nothing durable at all."""

    partitions = 32

    async def write(self, blocks: Sequence[tuple[int, Draft]]) -> None:
        """Forget the blocks."""

    async def write_rejected(self, rejected: Sequence[tuple[str, bytes]]) -> None:
        """Forget the rejected ones."""

    async def not_ready(self) -> str | None:
        """Return None."""

    async def close(self) -> None:
        """Nothing is open."""


class _Transport(asyncio.Transport):
    """Counts the answers that are written."""

    def __init__(self) -> None:
        super().__init__()
        self.statuses: list[bytes] = []

    def write(self, data: Any) -> None:  # noqa: ANN401 - as asyncio has it
        """Note the status line's number."""
        self.statuses.append(bytes(data[9:12]))

    def is_closing(self) -> bool:
        """Return False."""
        return False

    def close(self) -> None:
        """Nothing is open."""

    def pause_reading(self) -> None:
        """Nothing is read."""

    def resume_reading(self) -> None:
        """Nothing is read."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ANN401, ARG002 - as asyncio has it
        """Return nothing."""
        return default


class Connections:
    """Connections to a collector in this process, of which each has one request under way."""

    def __init__(self, app: CollectorApp, many: int) -> None:
        config = Config(app, http=ingest_protocol(app), lifespan="off", log_config=None)
        config.load()
        self.transport = _Transport()
        self._protocols: list[Any] = []
        for _ in range(many):
            protocol: Any = config.http_protocol_class(config, ServerState(), {})  # type: ignore[call-arg]
            protocol.connection_made(self.transport)
            self._protocols.append(protocol)

    async def send(self, requests: Sequence[bytes]) -> None:
        """Send requests all at once, and return when each is answered."""
        expected = len(self.transport.statuses) + len(requests)
        for protocol, one in zip(self._protocols, requests, strict=True):
            protocol.data_received(one)
        while len(self.transport.statuses) < expected:  # noqa: ASYNC110 - the loop has nothing else to do
            await asyncio.sleep(0)


def request(method: str, target: str, headers: dict[str, str], body: bytes) -> bytes:
    """Return a request's bytes."""
    lines = [f"{method} {target} HTTP/1.1", "host: collect.shop.example", *(f"{k}: {v}" for k, v in headers.items())]
    if method == "POST":
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def recorded(dialect: str) -> Iterator[tuple[str, bytes, list[dict[str, Any]]]]:
    """Yield (write key, request, its events) of what was recorded of a dialect's SDKs and is accepted as a whole."""
    for file in sorted(RECORDED.glob(f"{dialect}-*.json")):
        found = json.loads(file.read_text("utf-8"))
        for one in found["requests"]:
            if not one.get("events") or one.get("rejected") or one["answer"]["status"] not in {200, 204}:
                continue
            asked = one["request"]
            target = asked["path"] + (f"?{asked['query']}" if asked.get("query") else "")
            body = asked["text"].encode() if "text" in asked else base64.b64decode(asked.get("base64", ""))
            yield found["key"], request(asked["method"], target, asked["headers"], body), one["events"]


def native(events: Iterable[dict[str, Any]], *, everything: bool) -> bytes:
    """Return a native request with as many events: with all they say, or with what autocapture.js says of a click."""
    said = []
    for event in events:
        plain = {"type": "click", "id": event["id"], "ts": event["received_at"], "seq": 7, "session_id": "s-1"}
        plain["anonymous_id"] = event.get("anonymous_id") or event["user_id"]
        plain["page"] = {"url": "https://shop.example/products/bond/b-7?utm_source=news", "title": "Bond 7"}
        plain["element"] = {"tag": "button", "text": "Invest", "selector": "main > button.invest", "index": 0}
        if everything:
            kept = (
                "type",
                "id",
                "ts",
                "anonymous_id",
                "user_id",
                "session_id",
                "name",
                "page",
                "element",
                "properties",
            )
            plain = {name: event[name] for name in kept if name in event}
        said.append(plain)
    body = msgspec.json.encode({"sent_at": events_at(said), "events": said})
    return request("POST", "/v1/events", {"authorization": f"Bearer {NATIVE_KEY}"}, body)


def events_at(said: Sequence[dict[str, Any]]) -> int:
    """Return a time at which they may have been sent."""
    return max((int(one["ts"]) for one in said if one.get("ts")), default=1_795_290_000_000)


async def _cpu_us(connections: Connections, requests: Sequence[bytes], events: int) -> float:
    before = time.process_time_ns()
    for _ in range(REPEATS):
        await connections.send(requests)
    return (time.process_time_ns() - before) / 1000 / REPEATS / events


async def _of(dialect: str) -> dict[str, float]:
    found = list(recorded(dialect))
    names = {
        key: WriteKey(name=f"k{n}", key=SecretStr(key)) for n, key in enumerate(sorted({key for key, _, _ in found}))
    }
    keys = (WriteKey(name="native", key=SecretStr(NATIVE_KEY)), *names.values())
    # Every request is sent again and again: nothing is a repeat where so little is remembered.
    settings = CollectorSettings(keys=keys, linger_ms=0, recent_ids=2)
    app = make_app(settings, _NoLog(), lambda: 1_795_290_000_000, registry=CollectorRegistry())
    connections = Connections(app, len(found))
    events = sum(len(one) for _, _, one in found)
    kinds = {
        "sdk": [one for _, one, _ in found],
        "native": [native(one, everything=False) for _, _, one in found],
        "native_same": [native(one, everything=True) for _, _, one in found],
    }
    times: dict[str, list[float]] = defaultdict(list)
    for _ in range(ROUNDS):
        for kind, requests in kinds.items():
            times[kind].append(await _cpu_us(connections, requests, events))
    if refused := set(connections.transport.statuses) - {b"200", b"204"}:
        msg = f"requests of {dialect} were refused: {refused}"
        raise RuntimeError(msg)
    await app.close()
    return {
        f"{dialect}_cpu_us_per_event": min(times["sdk"]),
        f"{dialect}_times_native": median(a / b for a, b in zip(times["sdk"], times["native"], strict=True)),
        f"{dialect}_times_native_saying_the_same": median(
            a / b for a, b in zip(times["sdk"], times["native_same"], strict=True)
        ),
    }


def measure() -> dict[str, dict[str, float]]:
    """Return CPU µs an event (the best round), and its ratios to the native route (medians of rounds in turn)."""
    figures: dict[str, float] = {}
    for dialect in DIALECTS:
        figures |= asyncio.run(_of(dialect))
    return {"dialects": figures}
