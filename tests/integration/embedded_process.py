"""The real product in a process of its own: `phasewatch up`, killed and started again on the same ports and data."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

COMMAND = (sys.executable, "-c", "from phasewatch.cli import app; app()")
DEADLINE_SECONDS = 30


def free_ports(count: int) -> list[int]:
    """Return free ports below those that outgoing connections get, so that nobody takes one while a process is dead."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            if port not in found and probe.connect_ex(("127.0.0.1", port)):
                found.append(port)
    return found


def wait_until(condition: Callable[[], object], what: str, seconds: float = DEADLINE_SECONDS) -> None:
    """Poll until `condition` holds; fail with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.005)


def phasewatch(*arguments: str | Path, cwd: Path, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    """Run a command to its end in a directory without settings."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=seconds, check=False
    )


class EmbeddedProcess:
    """One `phasewatch up` on a data directory; started again it takes the same ports."""

    def __init__(self, directory: Path) -> None:
        self.data = directory / "data"
        self.directory = directory
        ports = free_ports(3)
        self.collector, self.console, self.admin = (f"http://127.0.0.1:{port}" for port in ports)
        names = ("--port", "--console-port", "--admin-port")
        self._arguments = [word for pair in zip(names, map(str, ports), strict=True) for word in pair]
        self._arguments += ["--data-dir", str(self.data)]
        self.environment: dict[str, str] = {}
        """Settings of the next start, as environment variables."""
        self._starts = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        """The collector's."""
        return int(self.collector.rsplit(":", 1)[1])

    @property
    def _output(self) -> Path:
        return self.directory / f"up-{self._starts}.log"

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "it was never started"
        return self._process

    def launch(self) -> None:
        """Start it without waiting."""
        self._starts += 1
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [*COMMAND, "up", *self._arguments],
                cwd=self.directory,
                env=os.environ | self.environment,
                stdout=output,
                stderr=output,
            )

    def start(self) -> None:
        """Start it and wait until it says where it listens."""
        self.launch()
        wait_until(self._up, "the process is up")

    def _up(self) -> bool:
        assert self.process.poll() is None, f"it ended by itself: {self._output.read_text('utf-8')}"
        return any(line["event"] == "up" for line in self.lines())

    def lines(self) -> list[dict[str, Any]]:
        """Return what the latest process has logged."""
        return _parsed(self._output)

    def complaints(self) -> list[dict[str, Any]]:
        """Return the warnings and errors of every process so far."""
        outputs = [self.directory / f"up-{n}.log" for n in range(1, self._starts + 1)]
        return [line for output in outputs for line in _parsed(output) if line["level"] != "info"]

    def kill(self) -> None:
        """Kill -9."""
        self.process.kill()
        self.process.wait(DEADLINE_SECONDS)

    def stop(self) -> tuple[int, float]:
        """Ask it to stop; return its exit code and how many seconds that took."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(DEADLINE_SECONDS)
        return code, time.monotonic() - began

    def close(self) -> None:
        """End it, however it is."""
        if self._process is not None and self._process.poll() is None:
            self.kill()


def _parsed(output: Path) -> list[dict[str, Any]]:
    """Return the lines that were written whole; what is no JSON, such as a traceback, as an error."""
    text = output.read_text("utf-8")
    lines = text[: text.rfind("\n") + 1].splitlines()
    return [json.loads(line) if line[:1] == "{" else {"level": "error", "event": line} for line in lines]
