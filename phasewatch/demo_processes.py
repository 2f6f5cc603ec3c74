"""The demo over Kafka and Redis: the production processes, started where none answers, and stopped at the end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Self

from pydantic import SecretStr
from rich.console import Console

from phasewatch.backend import open_backend
from phasewatch.commands.topics import run_topics
from phasewatch.embedded import Addresses
from phasewatch.errors import FaultError, UsageError
from phasewatch.serving import Servers, listen
from phasewatch.settings import ENV_PREFIX, SECTION_DELIMITER, Settings

_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 15.0
_POLL_SECONDS: Final = 0.1
_ADMIN_PORTS: Final = {"collector": 8610, "worker": 8620, "console": 8640}
"""Where they are free; any other will do."""


class Processes:
    """A deployment over Kafka and Redis: `with` brings up what is missing of it, `async with` lives beside it."""

    def __init__(self, settings: Settings, console: Console) -> None:
        self._settings = settings
        self._console = console
        self._started: dict[str, subprocess.Popen[bytes]] = {}
        self._stack = ExitStack()
        self._servers = Servers()
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        collector, console_at, admin = settings.collector, settings.console, settings.admin
        self.addresses = Addresses(
            f"http://{collector.host}:{collector.port}",
            f"http{'s' if console_at.tls_certificate else ''}://{console_at.host}:{console_at.port}",
            f"http://{admin.host}:{_ADMIN_PORTS['collector']}",
        )

    def __enter__(self) -> Self:
        """Create the topics, and start collector, worker and console where no collector answers.

        Raises:
            ServiceAwayError: if Kafka or Redis does not answer.
            FaultError: if a process ends, or is not ready in time.
        """
        run_topics(self._settings, check=False, as_json=False)
        with self._stack:
            if self._answers(f"{self.addresses.collector}/healthz"):
                self._console.print(f"the collector at {self.addresses.collector} is running already: it is used")
            else:
                # Else a SIGTERM would leave what was started here; SIGINT does this by itself.
                self._stack.callback(signal.signal, signal.SIGTERM, signal.getsignal(signal.SIGTERM))
                signal.signal(signal.SIGTERM, signal.default_int_handler)
                self._start_all()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop what was started here."""
        self._stack.close()

    def _start_all(self) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX)}
        environment |= as_environment(self._settings)
        admin = self._settings.admin.host
        ports = {name: _free_port(admin, port) for name, port in _ADMIN_PORTS.items()}
        self.addresses.admin = f"http://{admin}:{ports['collector']}"
        ready = {  # in this order they start; they stop the other way round
            "console": f"http://{admin}:{ports['console']}/readyz",
            "worker": f"http://{admin}:{ports['worker']}/readyz",
            "collector": f"{self.addresses.admin}/readyz",
        }
        for name in ready:
            command = [sys.executable, "-m", "phasewatch", name, "--admin-port", str(ports[name])]
            process = subprocess.Popen(command, env=environment)  # noqa: S603 - our own command
            self._started[name] = process
            self._stack.callback(_end, process)
        deadline = time.monotonic() + _START_SECONDS
        for name, url in ready.items():
            while not self._answers(url):
                self.check()
                if time.monotonic() > deadline:
                    msg = f"phasewatch {name} is not ready after {_START_SECONDS:g} s; its messages stand above"
                    raise FaultError(msg)
                time.sleep(_POLL_SECONDS)

    def _answers(self, url: str) -> bool:
        try:
            with self._opener.open(url, timeout=2) as answer:
                return bool(answer.status == 200)  # noqa: PLR2004 - OK
        except OSError:
            return False

    def log_is_new(self) -> bool:
        """Return whether nobody has done anything yet."""
        return asyncio.run(self._nobody_is_known())

    async def _nobody_is_known(self) -> bool:
        async with open_backend(self._settings) as backend:
            return not sum((await backend.query.stages()).values())

    def check(self) -> None:
        """Raise FaultError when a process that was started here has ended by itself."""
        for name, process in self._started.items():
            if process.poll() is not None:
                msg = f"phasewatch {name} has ended with exit code {process.returncode}; its messages stand above"
                raise FaultError(msg)

    async def __aenter__(self) -> Self:
        """Begin to serve what belongs to the demo alone."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop serving it."""
        await self._servers.stop()

    async def serve(self, app: Callable[..., Any], host: str, port: int) -> str:
        """Serve one more application and return its address.

        Raises:
            UsageError: if nothing can listen there.
        """
        return await self._servers.serve(app, host, port)


def _free_port(host: str, wanted: int) -> int:
    """Return `wanted`, or another port where something listens there already."""
    try:
        listen(host, wanted).close()
    except UsageError:
        with listen(host, 0) as listener:
            port: int = listener.getsockname()[1]
            return port
    return wanted


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def as_environment(settings: Settings) -> dict[str, str]:
    """Return settings as the environment variables that stand for them."""
    found = {}
    for section, values in settings.model_dump().items():
        for key, value in values.items():
            if value is not None:
                text = str(value) if isinstance(value, str | Path) else json.dumps(value, default=_plain)
                found[f"{ENV_PREFIX}{section}{SECTION_DELIMITER}{key}".upper()] = (
                    _plain(value) if isinstance(value, SecretStr) else text
                )
    found.pop(f"{ENV_PREFIX}ADMIN{SECTION_DELIMITER}PORT", None)
    return found


def _plain(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)
