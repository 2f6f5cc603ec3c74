"""The embedded deployment as a whole: events a second and CPU an event over HTTP, import, bytes a person."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench.processes import cpu_seconds
from bench.simulator import DEFAULT_START, simulate

CONNECTIONS: Final = 32
REQUESTS: Final = 6_000
EVENTS_A_REQUEST: Final = 10
PEOPLE: Final = 2_000
IMPORT_PEOPLE: Final = 500


def measure() -> dict[str, float]:
    """Return the figures of one run in a scratch folder."""
    with tempfile.TemporaryDirectory() as folder:
        return _over_http(Path(folder) / "http") | _import(Path(folder))


def _command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "phasewatch", *map(str, arguments)]


def _over_http(data: Path) -> dict[str, float]:
    ports = ("--port", "0", "--console-port", "0", "--admin-port", "0")
    process = subprocess.Popen(_command("up", "--data-dir", data, *ports), stderr=subprocess.PIPE, text=True)  # noqa: S603 - our own command
    try:
        collector = _address(process)
        _run_load(collector, requests=CONNECTIONS * 20)
        before, begun = cpu_seconds(process.pid), time.monotonic()
        _run_load(collector, requests=REQUESTS)
        _wait_until_folded(data)
        wall, cpu = time.monotonic() - begun, cpu_seconds(process.pid) - before
    finally:
        process.terminate()
        process.communicate(timeout=30)
    events = REQUESTS * EVENTS_A_REQUEST
    return {"http_events_per_second": events / wall, "http_cpu_us_per_event": cpu / events * 1e6}


def _address(process: subprocess.Popen[str]) -> str:
    for line in process.stderr or ():
        found = re.search(r'collector"?[=:] ?"?(http://[0-9.:]+)', line)
        if found:
            return found[1]
    msg = "phasewatch up ended before it was up"
    raise RuntimeError(msg)


def _run_load(collector: str, *, requests: int) -> None:
    host, port = collector.removeprefix("http://").split(":")
    bodies = _bodies(requests)

    async def post_all() -> None:
        async def post() -> None:
            reader, writer = await asyncio.open_connection(host, int(port))
            for body in bodies:
                head = f"POST /v1/events?key=demo HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n"
                writer.write(head.encode() + body)
                answer = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", answer)
                await reader.readexactly(int(length[1]) if length else 0)
                if b" 200 " not in answer[:20]:
                    raise RuntimeError(answer.decode())
            writer.close()

        await asyncio.gather(*(post() for _ in range(CONNECTIONS)))

    asyncio.run(post_all())


def _bodies(requests: int) -> Iterator[bytes]:
    """Yield requests of one visitor each: pages of the shop, numbered, as autocapture.js sends them."""
    for number in range(requests):
        person, now = number % PEOPLE, time.time_ns() // 1_000_000
        events = [
            {
                "id": f"{time.time_ns():x}-{number}-{step}",
                "type": "page",
                "ts": now,
                "anonymous_id": f"{person:032x}",
                "session_id": f"s{person}",
                "page": {
                    "url": f"https://shop.example/products/bond/b{step}?utm_source=news",
                    "path": f"/products/bond/b{step}",
                    "title": f"Bond fund {step}",
                    "referrer": "https://shop.example/products",
                },
            }
            for step in range(EVENTS_A_REQUEST)
        ]
        yield json.dumps({"sent_at": now, "events": events}).encode()


def _wait_until_folded(data: Path) -> None:
    status = subprocess.run(_command("status", "--json", "--data-dir", data), capture_output=True, check=True)  # noqa: S603 - our own command
    deadline = time.monotonic() + 60
    while json.loads(status.stdout)["records_behind"] and time.monotonic() < deadline:
        status = subprocess.run(_command("status", "--json", "--data-dir", data), capture_output=True, check=True)  # noqa: S603


def _import(folder: Path) -> dict[str, float]:
    file, data = folder / "history.ndjson", folder / "import"
    past = [event for event in simulate(1, IMPORT_PEOPLE, DEFAULT_START - 120 * 86_400_000, 14) if event.pop("arrives")]
    past.sort(key=lambda event: int(event["ts"]))
    file.write_text("".join(json.dumps(event) + "\n" for event in past), encoding="utf-8")
    begun = time.monotonic()
    subprocess.run(_command("import", file, "--data-dir", data, "--more-follows"), check=True, capture_output=True)  # noqa: S603 - our own command
    wall = time.monotonic() - begun
    connection = sqlite3.connect(data / "states.sqlite")
    people, states = connection.execute("SELECT count(*), sum(length(value)) FROM people").fetchone()
    connection.close()
    return {
        "import_events_per_second": len(past) / wall,
        "state_bytes_a_person": states / people,
        "store_file_bytes_a_person": (data / "states.sqlite").stat().st_size / people,
    }
