"""`make services` and `make services-stop`: a Kafka and a Redis that go on after the command has ended.

python -m deploy.local.developer start | stop
"""
# ruff: noqa: INP001, T201 - beside bootstrap.sh, no package; it talks to whoever ran make

from __future__ import annotations

import argparse
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

from deploy.local.process import HOST, STOP_SECONDS, Service, ServiceError, port_is_free, runs_in, wait_until
from deploy.local.services import ROOT, KafkaBroker, RedisServer

DATA = ROOT / "data/services"


def pid_file(service: Service) -> Path:
    """Return the file that names the process; beside the data folder, which may be thrown away."""
    return service.data.with_suffix(".pid")


def running_pid(service: Service) -> int | None:
    """Return the process that the pid file names, if it is still that process."""
    with suppress(FileNotFoundError, ValueError):
        pid = int(pid_file(service).read_text(encoding="utf-8"))
        if runs_in(pid, service.data):
            return pid
    return None


def start(service: Service, ports: list[int]) -> str:
    """Start it unless it runs, and say which; raise ServiceError when it cannot run."""
    if pid := running_pid(service):
        if service.is_ready():
            return f"{service} runs already (process {pid})"
        message = (
            f"{service.name} runs as process {pid} but does not answer at {service.address}: it was started with "
            f"another port, is paused, or hangs. Its log is {service.log}. `make services-stop` ends it."
        )
        raise ServiceError(message)
    if taken := [port for port in ports if not port_is_free(port)]:
        message = (
            f"{service.name} was not started: another program listens at {HOST}:{taken[0]}, for example a service that "
            f"Debian started (systemctl status redis-server). End it, or choose other ports:\n"
            f'  make services ARGS="--kafka-port 19092 --redis-port 16379"'
        )
        raise ServiceError(message)
    service.launch(detached=True)
    pid_file(service).write_text(f"{service.pid}\n", encoding="utf-8")
    service.wait_until_ready()
    return (
        f"{service.name} started at {service.address} (process {service.pid}, data and log in {_shown(service.data)})"
    )


def stop(service: Service) -> str:
    """End what the pid file names, and nothing else; raise ServiceError when it does not end."""
    pid = running_pid(service)
    if pid is None:
        pid_file(service).unlink(missing_ok=True)
        return f"{service.name} does not run"
    for number in (signal.SIGCONT, signal.SIGTERM):  # a paused process would not hear
        with suppress(ProcessLookupError):
            os.kill(pid, number)
    what = f"{service.name} ends; it is process {pid}, its log is {service.log}"
    wait_until(lambda: not runs_in(pid, service.data), what, STOP_SECONDS)
    pid_file(service).unlink()
    return f"{service.name} stopped; its data stays in {_shown(service.data)}"


def _shown(path: Path) -> Path:
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def main() -> int:
    """Do what the command line says; return 0, or 3 when a service could not be started or stopped."""
    parser = argparse.ArgumentParser(prog="make services", description="Kafka and Redis on loopback.")
    parser.add_argument("action", choices=["start", "stop"])
    parser.add_argument("--kafka-port", type=int, default=9092, help="Kafka's; the next one is its controller's")
    parser.add_argument("--redis-port", type=int, default=6379)
    wanted = parser.parse_args()
    kafka = KafkaBroker(DATA / "kafka", port=wanted.kafka_port, controller_port=wanted.kafka_port + 1)
    redis = RedisServer(DATA / "redis", port=wanted.redis_port)
    failed = False
    for service, ports in ((kafka, [kafka.port, kafka.controller_port]), (redis, [redis.port])):
        try:
            print(start(service, ports) if wanted.action == "start" else stop(service))
        except ServiceError as error:
            print(f"services: {error}", file=sys.stderr)
            failed = True
    if failed:
        return 3
    if wanted.action == "start":
        print("Phasewatch uses them with\n")
        print(f"  export PHASEWATCH_KAFKA__BROKERS={kafka.address}\n  export PHASEWATCH_REDIS__URL={redis.url}\n")
        print("`make services-stop` ends them; their data stays.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
