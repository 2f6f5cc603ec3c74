"""The production collector over a real Kafka: what it has acknowledged is there, whatever dies under it."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.local.services import KafkaBroker
from tests.integration.collector_process import CollectorProcess, bare_environment, environment
from tests.integration.embedded_process import COMMAND, free_ports, wait_until
from tests.integration.load import Poster, Tally
from tests.services import StartService

pytestmark = pytest.mark.services

SEED = 7
POSTERS = 6
KILLS = 10


@pytest.fixture
def collector(kafka: str, tmp_path: Path) -> Iterator[CollectorProcess]:
    process = CollectorProcess.on_own_topics(tmp_path, kafka, workers=2)
    yield process
    process.close()


@contextmanager
def load(collector: CollectorProcess, tally: Tally) -> Iterator[None]:
    """Post all the time; at the end every poster gets its last answer, so the collector has to be up then."""
    closing = threading.Event()
    posters = [Poster(number, SEED, collector.port, tally, closing) for number in range(POSTERS)]
    for poster in posters:
        poster.start()
    try:
        yield
    finally:
        closing.set()
        for poster in posters:
            poster.join(30)
    assert not any(poster.is_alive() for poster in posters)


def post(port: int, *, seconds: float = 30) -> tuple[int, http.client.HTTPMessage, str]:
    """Post one event on a connection of its own; return status, headers and the event's id."""
    event_id = uuid.uuid4().hex
    event = {"id": event_id, "type": "page", "anonymous_id": "visitor-1", "page": {"path": "/products"}}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    try:
        connection.request("POST", "/v1/events", json.dumps([event]), {"Authorization": "Bearer demo"})
        response = connection.getresponse()
        response.read()
        return response.status, response.headers, event_id
    finally:
        connection.close()


def everything_acknowledged_is_there(collector: CollectorProcess, tally: Tally) -> None:
    found = collector.ids()
    missing = tally.acknowledged - set(found)
    print(  # noqa: T201 - figures
        f"\n{tally.requests} answers, {tally.failures} requests without one; acknowledged {len(tally.acknowledged)}, "
        f"in Kafka {len(found)} and {found.total() - len(found)} repeats"
    )
    assert not missing
    assert len(tally.acknowledged) > 500


def test_each_process_answers_on_the_one_port(collector: CollectorProcess) -> None:
    collector.start()
    ids = []
    for child in collector.children():
        os.kill(child, signal.SIGSTOP)  # only the other one is left to accept
        try:
            status, _, event = post(collector.port)
        finally:
            os.kill(child, signal.SIGCONT)
        assert status == 200
        ids.append(event)
    assert set(collector.ids()) == set(ids)
    assert collector.metric("phasewatch_collector_events_accepted_total") == 2
    assert collector.stop() == 0
    assert [line["event"] for line in collector.lines() if line["level"] != "info"] == []


def test_a_process_that_stands_still_is_named(collector: CollectorProcess) -> None:
    collector.start()
    first = collector.children()[0]
    os.kill(first, signal.SIGSTOP)
    try:
        not_ready = collector.readiness()["not_ready"]
    finally:
        os.kill(first, signal.SIGCONT)
    assert list(not_ready.values()) == ["it has not answered within 3 s: it is overloaded, or stands still"]
    wait_until(lambda: collector.readiness()["ready"], "it answers again")


def test_a_killed_process_comes_back_and_its_counts_stay(collector: CollectorProcess) -> None:
    tally = Tally()
    collector.start()
    with load(collector, tally):
        for _ in range(3):
            tally.await_answers(30, 10)
            before = collector.children()
            os.kill(before[0], signal.SIGKILL)
            wait_until(lambda: "signal 9" in str(collector.readiness()["not_ready"]), "its end is told")
            wait_until(lambda: collector.readiness()["ready"], "another has taken its place")
            assert len(collector.children()) == len(before)
    everything_acknowledged_is_there(collector, tally)
    assert collector.metric("phasewatch_collector_worker_deaths_total") == 3
    accepted = collector.metric("phasewatch_collector_events_accepted_total")
    assert accepted + tally.duplicates >= len(tally.acknowledged)
    assert collector.metric("phasewatch_collector_reading_bytes") == 0
    ended = [line for line in collector.lines() if line["event"] == "collector_worker_ended"]
    assert [line["ended"] for line in ended] == ["signal 9"] * 3


def test_a_stop_in_mid_load_loses_nothing_acknowledged(collector: CollectorProcess) -> None:
    tally = Tally()
    collector.start()
    with load(collector, tally):
        for _ in range(3):
            tally.await_answers(60, 10)
            assert collector.stop() == 0
            assert [line for line in collector.lines() if line["level"] == "error"] == []
            collector.start()
        tally.await_answers(2 * POSTERS, 10)
    everything_acknowledged_is_there(collector, tally)


@pytest.mark.timeout(240)
@pytest.mark.long
def test_ten_kills_of_everything_in_mid_request_lose_nothing_acknowledged(collector: CollectorProcess) -> None:
    tally, rng = Tally(), random.Random(SEED)
    collector.start()
    with load(collector, tally):
        for _ in range(KILLS):
            tally.await_answers(rng.randrange(20, 120), 10)
            collector.kill_everything()
            collector.start()
        tally.await_answers(2 * POSTERS, 10)
    assert tally.failures > 0
    everything_acknowledged_is_there(collector, tally)


def test_processes_do_not_outlive_their_supervisor(collector: CollectorProcess) -> None:
    collector.start()
    children = collector.children()
    collector.process.kill()
    collector.process.wait(10)
    wait_until(lambda: not any(Path(f"/proc/{child}").exists() for child in children), "they have ended", 20)


def test_while_kafka_stands_still_the_spool_takes_everything_until_it_is_full(
    start_service: StartService, tmp_path: Path
) -> None:
    broker = start_service(KafkaBroker(tmp_path / "kafka"))
    collector = CollectorProcess.on_own_topics(tmp_path, broker.address, workers=1)
    without_room = CollectorProcess(
        tmp_path,
        dict(collector.settings) | {"PHASEWATCH_SPOOL__MIN_FREE_BYTES": str(10**18), "PHASEWATCH_SPOOL__DIR": "full"},
        workers=1,
    )
    try:
        collector.start()
        without_room.start()
        events = [post(collector.port)[2]]
        broker.pause()
        began = time.monotonic()
        status, _, event = post(collector.port)
        assert status == 200
        assert time.monotonic() - began < 9
        events += [event, *(post(collector.port)[2] for _ in range(20))]
        readiness = collector.readiness()
        assert readiness["ready"]
        assert f"for Kafka: Kafka at {broker.address}" in readiness["notes"]["worker 1"]
        assert collector.metric("phasewatch_collector_sink_ready") == 1
        assert collector.metric("phasewatch_collector_events_accepted_total") == len(events)
        status, headers, _ = post(without_room.port)
        assert (status, headers["retry-after"]) == (503, "2")
        assert "is full" in without_room.readiness()["not_ready"]["worker 1"]
        assert without_room.metric("phasewatch_collector_sink_ready") == 0
        broker.resume()
        wait_until(lambda: "notes" not in collector.readiness(), "all is drained", 60)
        assert set(events) <= set(collector.ids())
        wait_until(lambda: without_room.readiness()["ready"], "it is ready again", 30)
        assert post(without_room.port)[0] == 200
    finally:
        collector.close()
        without_room.close()


def test_what_cannot_start_says_why(kafka: str, tmp_path: Path) -> None:
    def run(settings: dict[str, str], port: int) -> tuple[int, str]:
        done = subprocess.run(
            [*COMMAND, "collector", "--port", str(port), "--admin-port", "0"],
            cwd=tmp_path,
            env=bare_environment() | settings,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stderr.splitlines()[-1]

    (port,) = free_ports(1)
    code, why = run({}, port)
    assert (code, "kafka.brokers is not set" in why) == (2, True)
    code, why = run(environment("127.0.0.1:1", "gone."), port)
    assert (code, "Kafka at 127.0.0.1:1" in why) == (3, True)
    code, why = run(environment(kafka, "nowhere."), port)
    assert (code, "run `phasewatch topics`" in why) == (1, True)
    settings = dict(CollectorProcess.on_own_topics(tmp_path, kafka, workers=1).settings)
    with socket.create_server(("127.0.0.1", port)):
        code, why = run(settings, port)
    assert (code, f"nothing can listen on 127.0.0.1:{port}" in why) == (2, True)
