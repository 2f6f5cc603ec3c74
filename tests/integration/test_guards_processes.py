"""Keys and the suppression list change under load in a collector of several processes: nobody is refused in between."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.collector_process import CollectorProcess, environment
from tests.integration.embedded_process import DEADLINE_SECONDS, wait_until
from tests.kafka_topics import create_topics

pytestmark = pytest.mark.services

OLD, NEW = "pk-old", "pk-new"


class _Clients:
    """Threads that post one event after the other, each on connections of its own, until told to stop."""

    def __init__(self, port: int, count: int) -> None:
        self.key = OLD
        self.statuses: list[tuple[str, int]] = []
        self._port = port
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(count)]
        for one in self._threads:
            one.start()

    def _run(self, number: int) -> None:
        at = 0
        while not self._stop.is_set():
            at += 1
            key = self.key
            self.statuses.append((key, post(self._port, key, f"{number}-{at}")[0]))

    def stop(self) -> None:
        self._stop.set()
        for one in self._threads:
            one.join()


def post(port: int, key: str, name: str, **more: Any) -> tuple[int, Any]:
    """Post one event on a connection of its own, so that any process may have it."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_SECONDS)
    try:
        event = {"id": name, "type": "page", "anonymous_id": "a-1", **more}
        connection.request("POST", f"/v1/events?key={key}", json.dumps([event]))
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def write_keys(path: Path, *keys: str) -> None:
    beside = path.with_suffix(".new")
    beside.write_text("".join(f'[[keys]]\nname = "web"\nkey = "{one}"\n' for one in keys), encoding="utf-8")
    beside.replace(path)


def everywhere(port: int, key: str, status: int) -> bool:
    """Whether each of many connections, of which every process has some, is answered so."""
    return all(post(port, key, f"probe-{time.monotonic_ns()}")[0] == status for _ in range(30))


def _settings(kafka: str, folder: Path) -> dict[str, str]:
    files = {
        "PHASEWATCH_COLLECTOR__KEYS_FILE": str(folder / "keys.toml"),
        "PHASEWATCH_COLLECTOR__SUPPRESSED_FILE": str(folder / "suppressed"),
    }
    return environment(kafka, asyncio.run(create_topics(kafka, 8))) | files


def _started(kafka: str, folder: Path) -> CollectorProcess:
    write_keys(folder / "keys.toml", OLD)
    (folder / "suppressed").write_text("", encoding="utf-8")
    return CollectorProcess(folder, _settings(kafka, folder), workers=2)


def test_a_key_is_rotated_under_load(kafka: str, tmp_path: Path) -> None:
    collector = _started(kafka, tmp_path)
    clients = None
    try:
        collector.start()
        clients = _Clients(collector.port, 4)
        write_keys(tmp_path / "keys.toml", OLD, NEW)
        wait_until(lambda: everywhere(collector.port, NEW, 200), "both processes know the new key")
        clients.key = NEW
        seen = len(clients.statuses)
        wait_until(lambda: [key for key, _ in clients.statuses[seen + 8 :]].count(NEW) > 50, "all use the new key")
        write_keys(tmp_path / "keys.toml", NEW)
        wait_until(lambda: everywhere(collector.port, OLD, 401), "both processes have forgotten the old key")
        (tmp_path / "keys.toml").write_text("[[keys", encoding="utf-8")
        wait_until(lambda: "keys.toml" in json.dumps(collector.readiness().get("notes", {})), "it says what is broken")
        assert everywhere(collector.port, NEW, 200)
        assert collector.readiness()["ready"]
        clients.stop()
        assert {status for _, status in clients.statuses} == {200}
    finally:
        if clients is not None:
            clients.stop()
        collector.close()


def test_who_is_suppressed_is_known_to_every_process(kafka: str, tmp_path: Path) -> None:
    collector = _started(kafka, tmp_path)
    try:
        collector.start()
        assert post(collector.port, OLD, "1", user_id="42")[1]["accepted"] == 1
        (tmp_path / "suppressed").write_text("user 42\n", encoding="utf-8")
        wait_until(
            lambda: all(post(collector.port, OLD, f"n{at}", user_id="42")[1]["accepted"] == 0 for at in range(30)),
            "both processes know",
        )
        assert post(collector.port, OLD, "2", user_id="43")[1]["accepted"] == 1
    finally:
        collector.close()
