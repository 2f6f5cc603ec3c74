"""Honest clients beside an attack: how long they wait for an answer, alone and beside it, and what memory it takes.

One embedded deployment, to which this machine's addresses are strangers' as any other. Honest clients post at a fixed
rate; a wait is counted from when a request was due, so that one that is late for another's sake counts as well. Rounds
measure both in turn, and a figure is the median of the rounds: neighbours on the machine make whole rounds slow.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Final

from bench.processes import cpu_seconds
from collector.guards.connections import open_files

ROUNDS: Final = 3
SECONDS: Final = 8.0
SLOW_CONNECTIONS: Final = 5000
CLIENTS: Final = 20
POSTS_A_SECOND: Final = 100.0
EVENTS_A_POST: Final = 5
BEGIN_SECONDS: Final = 60

Figures = dict[str, float]


def measure(
    *, connections: int = SLOW_CONNECTIONS, rounds: int = ROUNDS, seconds: float = SECONDS, clients: int = CLIENTS
) -> Figures:
    """Return the figures: medians of rounds, memory over all of them."""
    open_files()
    with tempfile.TemporaryDirectory() as folder, deployment(Path(folder)) as (pid, port):
        asyncio.run(honest(port, seconds=2, clients=clients))
        before = memory_mb(pid)
        found: list[Figures] = []
        most = before
        for _ in range(rounds):
            at = cpu_seconds(pid)
            alone = asyncio.run(honest(port, seconds=seconds, clients=clients))
            cpu = {"alone_cores": (cpu_seconds(pid) - at) / seconds}
            with attacked(port, connections):
                at = cpu_seconds(pid)
                beside = asyncio.run(honest(port, seconds=seconds, clients=clients))
                cpu["attacked_cores"] = (cpu_seconds(pid) - at) / seconds
                most = max(most, memory_mb(pid))
            found.append(_compared(alone, beside) | cpu)
        figures = {name: round(median(one[name] for one in found), 2) for name in found[0]}
    return figures | {"memory_before_mb": round(before, 1), "memory_most_mb": round(most, 1)}


def _compared(alone: Sequence[float | None], beside: Sequence[float | None]) -> Figures:
    figures: Figures = {}
    for name, waits in (("alone", alone), ("attacked", beside)):
        answered = sorted(wait * 1000 for wait in waits if wait is not None)
        figures[f"{name}_p50_ms"] = answered[len(answered) // 2]
        figures[f"{name}_p99_ms"] = answered[int(len(answered) * 0.99)]
        figures[f"{name}_not_200"] = len(waits) - len(answered)
    for quantile in ("p50", "p99"):
        figures[f"{quantile}_ratio"] = figures[f"attacked_{quantile}_ms"] / figures[f"alone_{quantile}_ms"]
    return figures


@contextmanager
def deployment(folder: Path) -> Iterator[tuple[int, int]]:
    """Run one, and give its process id and the collector's port."""
    settings = folder / "phasewatch.toml"
    settings.write_text(
        f'[store]\ndata_dir = "{folder / "data"}"\n[collector]\nport = 0\n[collector.addresses]\nexempt = []\n'
        "[console]\nport = 0\n[admin]\nport = 0\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "phasewatch", "up", "--settings", str(settings)]
    with (folder / "log").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)  # noqa: S603 - our own command
    try:
        yield process.pid, _port(process, folder / "log")
    finally:
        process.terminate()
        process.wait(30)


def _port(process: subprocess.Popen[bytes], log: Path) -> int:
    deadline = time.monotonic() + BEGIN_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        found = re.search(r'collector"?[=:] ?"?http://[0-9.]+:([0-9]+)', log.read_text("utf-8"))
        if found:
            return int(found[1])
        time.sleep(0.05)
    raise RuntimeError(log.read_text("utf-8"))


@contextmanager
def attacked(port: int, connections: int) -> Iterator[None]:
    """Attack from another process, which has begun when this does."""
    command = [sys.executable, "-m", "bench.guards_attack", str(port), str(connections)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:  # noqa: S603 - our own
        try:
            if process.stdout is None or process.stdout.readline() != b"begun\n":
                msg = "the attack did not begin"
                raise RuntimeError(msg)
            yield
        finally:
            process.terminate()


def memory_mb(pid: int) -> float:
    """Return what a process has in memory, in MB."""
    status = Path(f"/proc/{pid}/status").read_text("utf-8")
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


async def honest(port: int, *, seconds: float, clients: int) -> list[float | None]:
    """Post at a fixed rate; return each wait in seconds, None where the answer was not 200 or none came."""
    waits: list[float | None] = []
    began = time.monotonic() + 0.1
    interval = clients / POSTS_A_SECOND
    await asyncio.gather(
        *(_client(port, began + number / POSTS_A_SECOND, began + seconds, interval, waits) for number in range(clients))
    )
    return waits


async def _client(port: int, due: float, ends: float, interval: float, waits: list[float | None]) -> None:
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    while due < ends:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        try:
            async with asyncio.timeout(10):
                if connection is None:
                    connection = await asyncio.open_connection("127.0.0.1", port)
                status = await _post(*connection, f"{due}")
        except (OSError, asyncio.IncompleteReadError):  # a timeout is an OSError
            status = 0
        waits.append(time.monotonic() - due if status == 200 else None)
        if status == 0 and connection is not None:
            connection[1].transport.abort()
            connection = None
        due += interval
    if connection is not None:
        connection[1].close()
        await connection[1].wait_closed()


async def _post(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, name: str) -> int:
    event = {"type": "click", "anonymous_id": f"a-{name}", "page": {"url": "https://shop.example/products/bond/B-3"}}
    body = json.dumps([{"id": f"{name}-{at}", **event} for at in range(EVENTS_A_POST)]).encode()
    head = b"POST /v1/events?key=demo HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
    writer.write(head + body)
    answer = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", answer)
    await reader.readexactly(int(length[1]) if length else 0)
    return int(answer.split(maxsplit=2)[1])
