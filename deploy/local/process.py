"""A service as a process on loopback: started, killed, paused and started again on the same ports and data."""
# ruff: noqa: INP001, S603 - beside bootstrap.sh, no package; the commands are put together in services.py

from __future__ import annotations

import random
import shutil
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

HOST = "127.0.0.1"

START_SECONDS = 60.0
"""How long a start may take: Kafka needs 4 to 6 s on an idle machine, and a busy one is ten times slower."""
STOP_SECONDS = 30.0
POLL_SECONDS = 0.02
LOG_TAIL_LINES = 30


class ServiceError(Exception):
    """A service did not do what it was told; the text says what happened and where to look."""


def free_ports(count: int) -> list[int]:
    """Return free ports below those that outgoing connections get, so that nobody takes one while a service is dead."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(20_000, 32_000)  # noqa: S311 - no secret
        if port not in found and port_is_free(port):
            found.append(port)
    return found


def port_is_free(port: int) -> bool:
    """Say whether a program could listen on this port of loopback now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what a dead service's connections leave is no bar
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def wait_until(condition: Callable[[], object], what: str, seconds: float) -> None:
    """Poll until `condition` holds; raise ServiceError with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            message = f"not within {seconds:g} s: {what}"
            raise ServiceError(message)
        time.sleep(POLL_SECONDS)


class Service(ABC):
    """One program with a data folder, on ports of loopback that stay the same over every restart."""

    name: str
    """What messages call it."""
    programs: tuple[str, ...]
    """What has to be on the PATH."""

    def __init__(self, data: Path, port: int) -> None:
        self.data = data.resolve()
        self.port = port or free_ports(1)[0]
        self.log = self.data / "log.txt"
        self._process: subprocess.Popen[bytes] | None = None

    def __str__(self) -> str:
        return f"{self.name} at {self.address}"

    @property
    def address(self) -> str:
        """Host and port."""
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        """Of the process started last."""
        return self._started().pid

    def missing(self) -> str:
        """Say what the machine lacks to run this, or return an empty text."""
        lacking = [program for program in self.programs if shutil.which(program) is None]
        return f"not installed: {', '.join(lacking)}; `make test` installs it or says how" if lacking else ""

    @abstractmethod
    def prepare(self) -> None:
        """Write what the program reads when it starts; the data folder is there."""

    @abstractmethod
    def command(self) -> list[str]:
        """Return the command; its working directory is the data folder."""

    @abstractmethod
    def answers(self) -> bool:
        """Ask it something real; false, or an OSError, as long as it cannot do its work."""

    def is_ready(self) -> bool:
        """Say whether it answers now."""
        try:
            return self.answers()
        except OSError:
            return False

    def launch(self, *, detached: bool = False) -> None:
        """Start the program without waiting; `detached` lets it outlive its terminal. Raises ServiceError."""
        if lacking := self.missing():
            raise ServiceError(lacking)
        self.data.mkdir(parents=True, exist_ok=True)
        self.prepare()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                cwd=self.data,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=detached,
            )

    def start(self) -> None:
        """Start it and wait until it answers; raise ServiceError with the end of its log when it does not."""
        self.launch()
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Wait until it answers; raise ServiceError with the end of its log when it ends or START_SECONDS are over."""
        try:
            wait_until(self._ready_or_ended, f"{self} answers", START_SECONDS)
        except ServiceError as error:
            message = f"{error}\n{self.log_tail()}"
            raise ServiceError(message) from None

    def _ready_or_ended(self) -> bool:
        code = self._started().poll()
        if code is not None:
            message = f"{self} ended with exit code {code} before it answered; its log, {self.log}, ends with:"
            raise ServiceError(message)
        return self.is_ready()

    def log_tail(self) -> str:
        """Return the last lines of what it has written."""
        return "\n".join(self.log.read_text("utf-8", errors="replace").splitlines()[-LOG_TAIL_LINES:])

    def stop(self) -> None:
        """Ask it to end and wait; raise ServiceError when it is still there after STOP_SECONDS."""
        self.resume()  # a paused process would not hear
        self._started().terminate()
        try:
            self._started().wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            message = f"{self} did not end within {STOP_SECONDS:g} s of SIGTERM; its log is {self.log}"
            raise ServiceError(message) from None

    def kill(self) -> None:
        """Kill -9."""
        self._started().kill()
        self._started().wait(STOP_SECONDS)

    def pause(self) -> None:
        """Let it stand still with its connections open, as a machine that swaps or hangs."""
        self._started().send_signal(signal.SIGSTOP)
        wait_until(self._stands_still, f"{self} stands still", STOP_SECONDS)

    def _stands_still(self) -> bool:
        """Say whether every thread has heard: each of them stops when it runs next, and until then may answer."""
        threads = Path(f"/proc/{self.pid}/task").glob("*/stat")
        return all(thread.read_text().rpartition(")")[2].split()[0] == "T" for thread in threads)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        self._started().send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """Stop it and start it on the same ports and data."""
        self.stop()
        self.start()

    def close(self) -> None:
        """End it, however it is, and without waiting for what it would still do."""
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            message = f"{self} was not started from here, so that it cannot be stopped, killed or paused from here"
            raise ServiceError(message)
        return self._process


def runs_in(pid: int, folder: Path) -> bool:
    """Say whether the process `pid` is alive and works in `folder`, as every service here does in its data folder."""
    try:
        return Path(f"/proc/{pid}/cwd").readlink() == folder.resolve()
    except OSError:  # it is gone, or somebody else's
        return False
