"""Posts events at a steady rate from a process of its own, and notes what each request got and how long it took.

python -m tests.integration.outage_load PORT EVENTS_PER_SECOND RESULT_FILE; ends at SIGTERM. Each request has ten events
and is sent when its time has come, however late earlier ones are answered. Event number N has the id `e-N`.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from pathlib import Path

EVENTS = 10
"""In a request."""
PERSONS = 5000
PATIENCE_SECONDS = 60.0
KEEP_SECONDS = 2.0


class Load:
    """The requests and what became of them: [when it was due, seconds since the epoch; milliseconds; status]."""

    def __init__(self, port: int, rate: float) -> None:
        self._port = port
        self._every = EVENTS / rate
        self._idle: list[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.results: list[tuple[float, float, int]] = []

    async def run(self, stop: asyncio.Event) -> None:
        """Post until told to stop, then wait for the last answers."""
        begin = time.time()
        posts: set[asyncio.Task[None]] = set()
        number = 0
        while not stop.is_set():
            due = begin + number * self._every
            await asyncio.sleep(due - time.time())
            task = asyncio.create_task(self._post(number, due))
            posts.add(task)
            task.add_done_callback(posts.discard)
            number += 1
        await asyncio.gather(*posts)

    async def _post(self, number: int, due: float) -> None:
        events = [
            {
                "id": f"e-{at}",
                "type": "page",
                "anonymous_id": f"visitor-{at * 7919 % PERSONS}",
                "page": {"path": "/products/bond/steady-90", "title": "Steady 90"},
            }
            for at in range(number * EVENTS, (number + 1) * EVENTS)
        ]
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                status = await self._ask(json.dumps(events).encode())
        except (OSError, EOFError, TimeoutError):
            status = 0
        self.results.append((due, (time.time() - due) * 1000, status))

    async def _ask(self, body: bytes) -> int:
        reader, writer = self._kept() or await asyncio.open_connection("127.0.0.1", self._port)
        head = (
            f"POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer demo\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(answer.partition(b"content-length:")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
        self._idle.append((time.monotonic(), reader, writer))
        return int(answer.split(b" ", 2)[1])

    def _kept(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """Return a connection that was used just now; the collector closes those that are idle for 5 s."""
        while self._idle:
            used, reader, writer = self._idle.pop()
            if time.monotonic() - used < KEEP_SECONDS:
                return reader, writer
            writer.close()
        return None


async def _main(port: int, rate: float, result: Path) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    load = Load(port, rate)
    await load.run(stop)
    await asyncio.to_thread(result.write_text, json.dumps(load.results), "utf-8")


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3])))
