"""The production collector under full load beside its yardsticks: CPU an event, requests a second, time to an answer.

Servers run on one core, wrk on another; a round measures one after the other, and a figure is the median of the rounds,
because neighbours on the machine make whole rounds slow. Kafka is TEST_KAFKA, else one is started.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from bench.collector_load import EVENTS_A_REQUEST, write_bodies
from bench.processes import cpu_seconds
from deploy.local.services import KafkaBroker

ROUNDS: Final = 5
SECONDS: Final = 5
WARM_SECONDS: Final = 2
CONNECTIONS: Final = 128
KEY: Final = "bench"
YARDSTICKS: Final = Path(__file__).parent / "yardsticks"
START_SECONDS: Final = 60
PARTITIONS: Final = 32

Figures = dict[str, float]


@dataclass(slots=True, frozen=True)
class Server:
    """Something that answers on a port: its processes are `pid` and whatever that has started."""

    name: str
    pid: int
    port: int


def measure() -> dict[str, Any]:
    """Return the collector's figures, the yardsticks', and the ratios between them."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        write_bodies(folder / "bodies")
        brokers = stack.enter_context(_kafka(folder))
        prefix = f"bench-{secrets.token_hex(4)}."
        stack.callback(lambda: asyncio.run(_delete_topics(brokers, prefix)))
        servers = [
            stack.enter_context(_collector(folder, brokers, prefix)),
            stack.enter_context(_fastapi(brokers, prefix)),
            stack.enter_context(_nginx(folder)),
        ]
        rounds = [{server.name: _load(server, folder / "bodies") for server in servers} for _ in range(ROUNDS)]
    return summary(rounds)


def summary(rounds: Sequence[Mapping[str, Figures]]) -> dict[str, Any]:
    """Return the medians of all rounds; a ratio is the median of each round's own."""
    medians = {
        name: {figure: round(median(one[name][figure] for one in rounds), 2) for figure in rounds[0][name]}
        for name in rounds[0]
    }
    cheaper = [one["fastapi_aiokafka"]["cpu_us_per_event"] / one["collector"]["cpu_us_per_event"] for one in rounds]
    of_nginx = [one["collector"]["requests_per_second"] / one["nginx_204"]["requests_per_second"] for one in rounds]
    return {
        "collector": medians.pop("collector"),
        "yardsticks": medians,
        "ratios": {
            "times_cheaper_than_fastapi_aiokafka": round(median(cheaper), 2),
            "requests_of_nginx_204": round(median(of_nginx), 4),
        },
    }


# The servers


@contextmanager
def _kafka(folder: Path) -> Iterator[str]:
    if lent := os.environ.get("TEST_KAFKA"):
        yield lent
        return
    broker = KafkaBroker(folder / "kafka")
    if lacking := broker.missing():
        raise RuntimeError(lacking)
    try:
        broker.start()
        yield broker.address
    finally:
        broker.close()


@contextmanager
def _collector(folder: Path, brokers: str, prefix: str) -> Iterator[Server]:
    settings = folder / "phasewatch.toml"
    settings.write_text(
        f'[kafka]\nbrokers = "{brokers}"\ntopic_prefix = "{prefix}"\nreplication_factor = 1\nmin_insync_replicas = 1\n'
        f'[log]\npartitions = {PARTITIONS}\n[spool]\ndir = "{folder / "spool"}"\n'
        f'[[collector.keys]]\nname = "bench"\nkey = "{KEY}"\n',
        encoding="utf-8",
    )
    phasewatch = [sys.executable, "-m", "phasewatch"]
    # Nothing of the caller's shell shall count.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PHASEWATCH_")}
    topics = [*phasewatch, "topics", "--settings", str(settings)]
    subprocess.run(topics, check=True, stdout=subprocess.DEVNULL, env=environment)  # noqa: S603 - our own command
    port = _free_port()
    command = [*phasewatch, "collector", "--settings", str(settings), "--port", str(port), "--admin-port", "0"]
    with _running("collector", command, port, environment) as server:
        yield server


@contextmanager
def _fastapi(brokers: str, prefix: str) -> Iterator[Server]:
    topic = f"{prefix}yardstick"
    asyncio.run(_create_topic(brokers, topic))
    port = _free_port()
    application = "bench.yardsticks.fastapi_aiokafka:app"
    command = [sys.executable, "-m", "uvicorn", application, "--port", str(port), "--no-access-log"]
    environment = os.environ | {"BROKERS": brokers, "TOPIC": topic}
    with _running("fastapi_aiokafka", [*command, "--log-level", "warning"], port, environment) as server:
        yield server


@contextmanager
def _nginx(folder: Path) -> Iterator[Server]:
    port = _free_port()
    configuration = folder / "nginx.conf"
    configuration.write_text(
        f"daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr crit;\n"
        "events { worker_connections 1024; }\n"
        f"http {{ access_log off; keepalive_requests 1000000000; client_body_temp_path {folder}/body;\n"
        f"  proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u;\n"
        f"  scgi_temp_path {folder}/s; server {{ listen 127.0.0.1:{port}; location / {{ return 204; }} }} }}\n",
        encoding="utf-8",
    )
    with _running("nginx_204", ["nginx", "-e", "stderr", "-c", str(configuration)], port) as server:
        yield server


@contextmanager
def _running(
    name: str, command: Sequence[str], port: int, environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    server_core, _ = _cores()
    process = subprocess.Popen(["taskset", "-c", server_core, *command], env=environment)  # noqa: S603, S607 - as above
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                msg = f"{name} does not listen on port {port}: {' '.join(command)}"
                raise RuntimeError(msg)
            time.sleep(0.05)
        yield Server(name, process.pid, port)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(START_SECONDS)


def _cores() -> tuple[str, str]:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        msg = "servers and load need a core each, and this process may use only one"
        raise RuntimeError(msg)
    return str(cores[0]), str(cores[1])


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


async def _create_topic(brokers: str, name: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=brokers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, PARTITIONS, 1)])
    finally:
        await admin.close()


async def _delete_topics(brokers: str, prefix: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=brokers)
    await admin.start()
    try:
        await admin.delete_topics([name for name in await admin.list_topics() if name.startswith(prefix)])
    finally:
        await admin.close()


# The load


def _load(server: Server, bodies: Path) -> Figures:
    _wrk(server, bodies, WARM_SECONDS)
    before = cpu_seconds(server.pid)
    found = _wrk(server, bodies, SECONDS)
    cpu = cpu_seconds(server.pid) - before
    events = found["requests"] * EVENTS_A_REQUEST
    per_second = found["requests"] / found["micros"] * 1e6
    return {
        "cpu_us_per_event": cpu / events * 1e6,
        "requests_per_second": per_second,
        "events_per_second": per_second * EVENTS_A_REQUEST,
        "p50_ms": found["p50_us"] / 1000,
        "p99_ms": found["p99_us"] / 1000,
    }


def _wrk(server: Server, bodies: Path, seconds: int) -> dict[str, float]:
    _, load_core = _cores()
    url = f"http://127.0.0.1:{server.port}/v1/events?key={KEY}"
    options = ["-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(YARDSTICKS / "post.lua")]
    command = ["taskset", "-c", load_core, "wrk", *options, url, "--", str(bodies), secrets.token_hex(8)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603
    found: dict[str, float] = json.loads(output.splitlines()[-1])
    if found["errors"] or not found["requests"]:
        msg = f"{server.name} has not answered every request with 200: {output}"
        raise RuntimeError(msg)
    return found
