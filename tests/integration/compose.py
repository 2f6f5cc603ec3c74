"""A compose file without a container engine: the same commands with the same environment, as processes on loopback.

Every service keeps its own ports, but each becomes a free one of this machine, in whatever names it: `worker-2:8620` in
Prometheus' file, `127.0.0.1:8620` in worker-2's own health check.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from deploy.local.process import HOST, Service
from deploy.local.services import KAFKA_LIBS, KafkaBroker, Prometheus, RedisServer
from tests.integration.embedded_process import COMMAND, free_ports
from tests.integration.image import stages

PORT_SETTINGS = {
    "collector": {8600: "PHASEWATCH_COLLECTOR__PORT", 8610: "PHASEWATCH_ADMIN__PORT"},
    "worker": {8620: "PHASEWATCH_ADMIN__PORT"},
    "console": {8601: "PHASEWATCH_CONSOLE__PORT", 8640: "PHASEWATCH_ADMIN__PORT"},
    "topics": {},
    "snapshot": {},
    "up": {8600: "PHASEWATCH_COLLECTOR__PORT", 8601: "PHASEWATCH_CONSOLE__PORT", 8630: "PHASEWATCH_ADMIN__PORT"},
}
"""The ports on which each command listens by itself, and which setting moves them to other numbers."""
OTHER_PORTS = {"kafka": (9092, 9093, 19092), "redis": (6379,), "prometheus": (9090,), "grafana": (3000,)}
READY_SECONDS = 120
CHECK_SECONDS = 0.5
"""Between two health checks; each starts a Python, which would take the machine from those that are starting."""


class MissingVariableError(Exception):
    """The compose file needs a variable that is not set."""


def load(file: Path, variables: dict[str, str]) -> dict[str, Any]:
    """Return a compose file with its anchors resolved and its variables put in, as far as ours use the language."""
    document: dict[str, Any] = _filled(yaml.safe_load(file.read_text("utf-8")), variables)
    return document


def _filled(value: Any, variables: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _filled(one, variables) for name, one in value.items()}
    if isinstance(value, list):
        return [_filled(one, variables) for one in value]
    if not isinstance(value, str):
        return value

    def put(found: re.Match[str]) -> str:
        name, why = found[1], found[2]
        if not variables.get(name):
            message = f"{name}: {why}"
            raise MissingVariableError(message)
        return variables[name]

    filled = re.sub(r"\$\{([A-Z_]+):\?([^}]*)\}", put, value)
    assert "$" not in re.sub(r"\$\{[A-Z_]+:\?[^}]*\}", "", value), f"a variable in another form: {value}"
    return filled


def seconds(text: str) -> float:
    """Return a duration as compose writes it, `15s`."""
    assert text.endswith("s"), text
    return float(text.removesuffix("s"))


def server_properties(environment: dict[str, str]) -> dict[str, str]:
    """Return the lines of server.properties that the image apache/kafka makes of its environment."""
    names = [name for name in environment if name.startswith("KAFKA_")]
    assert not [name for name in names if "__" in name], "the image has more rules for these"
    return {name.removeprefix("KAFKA_").lower().replace("_", "."): environment[name] for name in names}


class Composition:
    """The services of a compose file on this machine.

    Args:
        file: the compose file.
        directory: an empty folder for everything that they write.
        variables: what .env holds.
    """

    def __init__(self, file: Path, directory: Path, variables: dict[str, str]) -> None:
        self._folder = file.parent
        self._directory = directory
        self.services: dict[str, dict[str, Any]] = load(file, variables)["services"]
        wanted = [(name, port) for name in self.services for port in OTHER_PORTS.get(name) or self._moved(name)]
        self._ports = dict(zip(wanted, free_ports(len(wanted)), strict=True))
        self._programs: dict[str, Service] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._started: list[str] = []

    def address(self, service: str, port: int) -> str:
        """Return where a port of a service is on this machine."""
        return f"{HOST}:{self._ports[service, port]}"

    def placed(self, text: str, service: str) -> str:
        """Return a text of this service with every address in it on this machine."""
        names = "|".join(sorted(self.services, key=len, reverse=True))

        def place(found: re.Match[str]) -> str:
            host, port = found[1], int(found[2])
            return self.address(host if host in self.services else service, port)

        text = re.sub(rf"(?<![\w.-])({names}|127\.0\.0\.1|(?<=://)):(\d+)\b", place, text)
        return text.replace("0.0.0.0", HOST)  # the whole world is no place for a test

    def up(self, *names: str) -> None:
        """Start services, and before each what it depends on, in the state that it asks for."""
        for name in names:
            self._up(name)

    def _up(self, name: str) -> None:
        if name in self._started:
            return
        for other, how in self.services[name].get("depends_on", {}).items():
            self._up(other)
            if how["condition"] == "service_completed_successfully":
                code = self._processes[other].wait(READY_SECONDS)
                assert code == 0, f"{other} ended with {code}: {self.log(other)}"
            else:
                assert how["condition"] == "service_healthy"
                self.wait_until_healthy(other)
        self._started.append(name)
        self._launch(name)

    def _launch(self, name: str) -> None:
        folder = self._directory / name
        (folder / "tmp").mkdir(parents=True)
        image = self.services[name]["image"].partition(":")[0]
        if image == "phasewatch":
            with (folder / "log.txt").open("wb") as output:
                self._processes[name] = subprocess.Popen(
                    self.command(name), cwd=folder, env=self.environment(name), stdout=output, stderr=output
                )
            return
        makers = {"apache/kafka": self._kafka, "redis": self._redis, "prom/prometheus": self._prometheus}
        self._programs[name] = makers[image](name, folder)
        self._programs[name].start()

    def command(self, name: str) -> list[str]:
        """Return the command of one of our services."""
        program, *words = self.services[name]["command"]
        assert program == "phasewatch"
        return [*COMMAND, *(self.within(word, name) for word in words)]

    def within(self, text: str, name: str) -> str:
        """Return a text of one of our services with its volume in it on this machine."""
        return re.sub(r"(?<![\w/])/data\b", str(self._directory / name / "data"), text)

    def environment(self, name: str) -> dict[str, str]:
        """Return what one of our services sees: the image's environment, the compose file's, and its ports."""
        given = stages()[-1].environment() | self.services[name].get("environment", {})
        given = {key: self.placed(value, name) for key, value in given.items() if key != "PATH"}
        outside = {key: value for key, value in os.environ.items() if not key.startswith("PHASEWATCH_")}
        folder = self._directory / name
        return (
            outside
            | {"TMPDIR": str(folder / "tmp")}
            | {key: str(folder / "data") if value == "/data" else value for key, value in given.items()}
            | {key: str(self._ports[name, port]) for port, key in self._moved(name).items()}
        )

    def _moved(self, name: str) -> dict[int, str]:
        return PORT_SETTINGS[self.services[name]["command"][1]]

    def _kafka(self, name: str, folder: Path) -> Service:
        found = {key: self.placed(value, name) for key, value in self.services[name]["environment"].items()}
        broker = KafkaBroker(folder / "data", port=self._ports[name, 9092], controller_port=self._ports[name, 9093])
        broker.settings = server_properties(found) | {"log.dirs": broker.settings["log.dirs"]}
        return broker

    def _redis(self, name: str, folder: Path) -> Service:
        program, *words = self.services[name]["command"]
        assert program == "redis-server"
        server = RedisServer(folder / "data", port=self._ports[name, 6379])
        server.settings = {"bind": HOST} | {
            option.removeprefix("--"): value for option, value in zip(words[::2], words[1::2], strict=True)
        }
        return server

    def _prometheus(self, name: str, folder: Path) -> Service:
        options = dict(word.split("=", 1) for word in self.services[name]["command"])
        file = self.mounted(name, options["--config.file"])
        configuration = folder / file.name
        configuration.write_text(self.placed(file.read_text("utf-8"), name), encoding="utf-8")
        for rules in yaml.safe_load(file.read_text("utf-8"))["rule_files"]:
            (folder / rules).write_bytes((file.parent / rules).read_bytes())
        prometheus = Prometheus(folder / "data", configuration)
        prometheus.port = self._ports[name, 9090]
        return prometheus

    def mounted(self, name: str, path: str) -> Path:
        """Return the file of this tree that a service finds at a path."""
        for volume in self.services[name]["volumes"]:
            source, target, *_ = volume.split(":")
            if source.startswith(".") and Path(path).is_relative_to(target):
                found: Path = self._folder / source / Path(path).relative_to(target)
                return found.resolve()
        message = f"nothing is mounted at {path} in {name}"
        raise AssertionError(message)

    def wait_until_healthy(self, name: str) -> None:
        """Wait until the service's own health check is content; fails with its log."""
        deadline = time.monotonic() + READY_SECONDS
        while not self.is_healthy(name):
            process = self._processes.get(name)
            assert process is None or process.poll() is None, f"{name} ended by itself: {self.log(name)}"
            assert time.monotonic() < deadline, f"{name} is not healthy within {READY_SECONDS} s: {self.log(name)}"
            time.sleep(CHECK_SECONDS)

    def is_healthy(self, name: str) -> bool:
        """Run the service's health check once."""
        check = self.services[name]["healthcheck"]
        kind, *words = [self.placed(word, name) for word in check["test"]]
        if self.services[name]["image"] == "phasewatch":
            words = [self.within(word, name) for word in words]
        if kind == "CMD-SHELL":
            words = ["/bin/sh", "-c", words[0].replace("redis-cli", f"redis-cli -p {self._ports[name, 6379]}")]
        elif words[0] == "python":
            words[0] = sys.executable
        elif words[0].endswith("/kafka-broker-api-versions.sh"):  # what that script starts
            words[:1] = ["java", "-cp", f"{KAFKA_LIBS}/*", "org.apache.kafka.tools.BrokerApiVersionsCommand"]
        else:
            assert words[:3] == ["wget", "-q", "--spider"], words
            words[:3] = [sys.executable, "-c", "import sys, urllib.request as r; r.urlopen(sys.argv[1], timeout=5)"]
        done = subprocess.run(words, capture_output=True, timeout=60, check=False)
        return done.returncode == 0

    def run(self, name: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end in a container like that of a service, as `docker compose run` does."""
        return subprocess.run(
            [*COMMAND, *words],
            cwd=self._directory,
            env=self.environment(name),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def run_beside(self, settings_file: Path, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end on the machine itself, where only what is published can be reached.

        Args:
            settings_file: is rewritten, with the published addresses where they are.
            words: the command without `phasewatch`.
        """
        published = {
            f"{HOST}:{outer}": self.address(name, int(inner))
            for name, service in self.services.items()
            if name in self._started
            for _, outer, inner in (port.split(":") for port in service.get("ports", []))
        }
        text = settings_file.read_text("utf-8")
        for outer, address in published.items():
            text = text.replace(outer, address)
        settings_file.write_text(text, encoding="utf-8")
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PHASEWATCH_")}
        for name in self._started:
            if self.services[name]["image"] == "phasewatch":
                moved = self._moved(name).items()
                environment |= {key: str(self._ports[name, port]) for port, key in moved}
        environment.pop("PHASEWATCH_ADMIN__PORT")  # it is not published
        return subprocess.run(
            [*COMMAND, *words, "--settings", str(settings_file)],
            cwd=self._directory,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def written(self, name: str) -> set[str]:
        """Return what one of our processes has left where its read-only file system would be; no mount is of it."""
        mounted = {volume.split(":")[1].strip("/") for volume in self.services[name].get("volumes", [])}
        return {path.name for path in (self._directory / name).iterdir()} - {"log.txt", "tmp"} - mounted

    def ask_redis(self, command: str) -> str:
        """Return what Redis answers."""
        server = self._programs["redis"]
        assert isinstance(server, RedisServer)
        return server.ask(command)

    def log(self, name: str) -> str:
        """Return what a service has written so far."""
        program = self._programs.get(name)
        return program.log_tail() if program else (self._directory / name / "log.txt").read_text("utf-8")

    def get(self, service: str, port: int, path: str) -> bytes:
        """Return what a service answers; fails where it does not answer with 200."""
        with urllib.request.urlopen(f"http://{self.address(service, port)}{path}", timeout=10) as answer:
            body: bytes = answer.read()
            return body

    def stop(self) -> None:
        """Stop all in the opposite order; fails where one takes longer than its grace period, or ends badly."""
        for name in reversed(self._started):
            grace = seconds(self.services[name].get("stop_grace_period", "10s"))
            began = time.monotonic()
            if name in self._programs:
                self._programs[name].stop()
            else:
                process = self._processes[name]
                if process.poll() is None:
                    process.send_signal(signal.SIGTERM)
                code = process.wait(grace)
                assert code == 0, f"{name} ended with {code}: {self.log(name)}"
            assert time.monotonic() - began < grace, f"{name} would have been killed"

    def close(self) -> None:
        """End all, however they are."""
        for process in self._processes.values():
            if process.poll() is None:
                process.kill()
                process.wait(30)
        for program in self._programs.values():
            program.close()


@contextmanager
def composed(file: Path, directory: Path, variables: dict[str, str]) -> Iterator[Composition]:
    """Yield the services of a compose file, not yet started; they end with the block."""
    composition = Composition(file, directory, variables)
    try:
        yield composition
    finally:
        composition.close()
