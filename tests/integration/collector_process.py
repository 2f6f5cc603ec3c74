"""The production collector in processes of its own: started, killed in parts or as a whole, and stopped."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from collector.wire.block import decode_events
from tests.integration.embedded_process import COMMAND, DEADLINE_SECONDS, free_ports, wait_until
from tests.kafka_topics import create_topics, read_topic

PARTITIONS = 8


class CollectorProcess:
    """One `phasewatch collector`; started again it takes the same ports.

    Args:
        directory: where it runs, and where what it logs is written.
        settings: of a deployment whose topics are there, as environment variables.
        workers: how many processes share its port.
        command: that starts it; the product's own unless another is given.
    """

    def __init__(
        self, directory: Path, settings: Mapping[str, str], *, workers: int, command: Sequence[str] = ()
    ) -> None:
        self.settings = settings
        self._command = command or (*COMMAND, "collector")
        self.port, self._admin_port = free_ports(2)
        self._directory = directory
        self._workers = workers
        self._starts = 0
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def on_own_topics(cls, directory: Path, kafka: str, *, workers: int) -> CollectorProcess:
        """Return one that was not yet started, on new topics."""
        prefix = asyncio.run(create_topics(kafka, PARTITIONS))
        return cls(directory, environment(kafka, prefix), workers=workers)

    @property
    def url(self) -> str:
        """Where it takes events."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def admin_url(self) -> str:
        """Where it tells of itself."""
        return f"http://127.0.0.1:{self._admin_port}"

    @property
    def _output(self) -> Path:
        return self._directory / f"collector-{self._starts}.log"

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "it was never started"
        return self._process

    def launch(self) -> None:
        """Start it without waiting, with a process group of its own."""
        self._starts += 1
        ports = ("--port", str(self.port), "--admin-port", str(self._admin_port))
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [*self._command, "--workers", str(self._workers), *ports],
                cwd=self._directory,
                env=bare_environment() | dict(self.settings),
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def start(self) -> None:
        """Start it and wait until each of its processes is ready."""
        self.launch()
        wait_until(self._is_ready, "the collector is ready")

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, f"it ended by itself: {self._output.read_text('utf-8')}"
        return bool(self.readiness()["ready"])

    def readiness(self) -> dict[str, Any]:
        """Return what /readyz says, or that nobody answers."""
        try:
            return self._read_json("/readyz")
        except (OSError, http.client.HTTPException) as error:
            return {"ready": False, "not_ready": {"admin": repr(error)}}

    def _read_json(self, path: str) -> dict[str, Any]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._admin_port}{path}", timeout=5) as answer:
                found: dict[str, Any] = json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                found = json.load(error)
        return found

    def metric(self, name: str) -> float:
        """Return the sum of a metric over its labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._admin_port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.partition("{")[0].split(" ")[0] == name)

    def children(self) -> list[int]:
        """Return the process ids of those that accept."""
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def kill_everything(self) -> None:
        """Kill -9 of the whole process group."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(DEADLINE_SECONDS)

    def stop(self) -> int:
        """Ask it to stop; return its exit code."""
        self.process.terminate()
        return self.process.wait(DEADLINE_SECONDS)

    def close(self) -> None:
        """End it, however it is."""
        if self._process is not None and self._process.poll() is None:
            self.kill_everything()

    def lines(self) -> list[dict[str, Any]]:
        """Return what the latest one has logged."""
        return [json.loads(line) for line in self._output.read_text("utf-8").splitlines()]

    def ids(self) -> Counter[str]:
        """Return how often each event's id is in topic `events`, as a plain consumer reads it."""
        return asyncio.run(self._ids())

    async def _ids(self) -> Counter[str]:
        kafka, places = self.settings["PHASEWATCH_KAFKA__BROKERS"], range(PARTITIONS)
        topic = f"{self.settings['PHASEWATCH_KAFKA__TOPIC_PREFIX']}events"
        found = await asyncio.gather(*(read_topic(kafka, topic, place) for place in places))
        return Counter(str(event.id) for records in found for one in records for event in decode_events(one.value))


def environment(kafka: str, prefix: str) -> dict[str, str]:
    """Return the settings of a deployment on a Kafka of one broker."""
    return {
        "PHASEWATCH_KAFKA__BROKERS": kafka,
        "PHASEWATCH_KAFKA__TOPIC_PREFIX": prefix,
        "PHASEWATCH_KAFKA__REPLICATION_FACTOR": "1",
        "PHASEWATCH_KAFKA__MIN_INSYNC_REPLICAS": "1",
        "PHASEWATCH_LOG__PARTITIONS": str(PARTITIONS),
    }


def bare_environment() -> dict[str, str]:
    """Return this process's environment without what would be settings of the product."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PHASEWATCH_")}
