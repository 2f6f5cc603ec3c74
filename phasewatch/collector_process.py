"""`phasewatch collector`: several processes that accept on one port, and their supervisor with the one admin port."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from asyncio import StreamReader, StreamWriter
from asyncio.subprocess import Process
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import structlog
import uvloop
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from pydantic import SecretStr

from collector.admin import AdminApp
from collector.guards.files import BrokenFileError
from collector.guards.live import live_files
from collector.metrics import FILE_BROKEN, WORKER_DEATHS
from collector.sinks.kafka import KafkaSink
from collector.sinks.kafka_topics import UnfitTopicError
from collector.sinks.port import SinkUnavailableError
from collector.sinks.spool_file import PATTERN
from phasewatch.access import kafka_access
from phasewatch.backend import require_kafka
from phasewatch.collector_worker import MAX_LINE_BYTES, SERVING
from phasewatch.data_dir import spool_dir
from phasewatch.errors import FaultError, ServiceAwayError, UsageError
from phasewatch.places import require_places
from phasewatch.serving import Servers, listen
from phasewatch.settings import Settings
from phasewatch.tls import served_certificate

__all__ = ["run_collector"]

ADMIN_PORT: Final = 8610
ANSWER_SECONDS: Final = 3.0
"""How long a process may take to say whether it is ready; its sink takes two at most."""
STOP_SECONDS: Final = 9.0
"""How long requests under way may take at a stop; container engines kill after ten."""
STEADY_SECONDS: Final = 10.0
"""A process that lived as long is started again at once; one that did not waits, longer each time."""
FIRST_WAIT_SECONDS: Final = 0.2
LONGEST_WAIT_SECONDS: Final = 30.0

NOTE: Final = "log.json"
"""What the spool's folder says of the log that its blocks were made for."""

_logger = structlog.get_logger(__name__)


def run_collector(settings: Settings, *, workers: int) -> int:
    """Run until a signal comes; return the exit code.

    Args:
        settings: of the deployment; they have to name a Kafka.
        workers: how many processes share the port.

    Raises:
        UsageError: if no Kafka is set, a port is taken, a file of keys or places is broken, or nothing can be spooled.
        ServiceAwayError: if Kafka does not answer at the first start; later what comes in is spooled.
        FaultError: if a topic is missing or does not keep the guarantees.
    """
    require_kafka(settings, "collector")
    _check_files(settings)
    require_places(settings)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_Supervisor(settings, workers).run())
    return 0


def _check_files(settings: Settings) -> None:
    shown = FILE_BROKEN.gauge(CollectorRegistry())
    served_certificate(settings, shown, [])
    try:
        live_files(settings.collector, shown, lambda _: None, lambda _: None)
    except BrokenFileError as error:
        raise UsageError(str(error)) from error


class _Worker:
    """One accepting process, started again whenever it ends."""

    def __init__(
        self, number: int, processes: int, settings: Settings, listener: socket.socket, metrics_dir: Path
    ) -> None:
        self.number = number
        self._processes = processes
        self.serving = asyncio.Event()
        """Set when it has accepted for the first time."""
        self._settings = settings
        self._listener = listener
        self._metrics_dir = metrics_dir
        self._process: Process | None = None
        self._streams: tuple[StreamReader, StreamWriter] | None = None
        self._asking = asyncio.Lock()
        self._questions = 0
        self._note: str | None = None
        self._why = "it is being started"

    async def live(self) -> str:
        """Start the process, and return how it has ended."""
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "phasewatch.collector_worker",
                str(self._listener.fileno()),
                str(theirs.fileno()),
                pass_fds=(self._listener.fileno(), theirs.fileno()),
                env=os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(self._metrics_dir)},
            )
        reader, writer = await asyncio.open_connection(sock=ours, limit=MAX_LINE_BYTES)
        # Not in its arguments or environment, which others on this machine may see.
        given = {"number": self.number, "processes": self._processes, "settings": self._settings.model_dump()}
        writer.write(json.dumps(given, default=_plain).encode() + b"\n")
        try:
            if await _line(reader) == SERVING:
                self._streams = (reader, writer)
                self.serving.set()
            code = await self._process.wait()
        finally:
            self._streams = None
            writer.close()
        mark_process_dead(self.number, str(self._metrics_dir))  # type: ignore[no-untyped-call]
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def wait_for_restart(self, ended: str, seconds: float) -> None:
        """Note why nobody is there."""
        self._why = f"it has ended with {ended} and is started again after {seconds:g} s; see the log"

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it is there."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    async def not_ready(self) -> str | None:
        """Return why it can't make anything durable right now, or None."""
        if self._streams is None:
            return self._why
        try:
            async with asyncio.timeout(ANSWER_SECONDS), self._asking:
                return await self._ask(*self._streams)
        except TimeoutError:
            return f"it has not answered within {ANSWER_SECONDS:g} s: it is overloaded, or stands still"

    async def note(self) -> str | None:
        """Return what it had to say beside that when it was last asked: that it spools, or nothing."""
        return self._note if self._streams is not None else None

    async def _ask(self, reader: StreamReader, writer: StreamWriter) -> str | None:
        self._questions += 1
        writer.write(b"%d\n" % self._questions)
        while line := await _line(reader):
            number, why, note = json.loads(line)
            if number == self._questions:  # else the late answer to an earlier question
                self._note = note
                return None if why is None else str(why)
        return "it has just ended"


async def _line(reader: StreamReader) -> bytes:
    """Return the next line, nothing at the end."""
    try:
        return await reader.readline()
    except ConnectionError:  # a killed process resets what it has not read
        return b""


def _plain(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


class _Supervisor:
    """Keeps the processes running, and shows all of them on one admin port."""

    def __init__(self, settings: Settings, workers: int) -> None:
        self._settings = settings
        self._count = workers
        self._registry = CollectorRegistry()
        self._deaths = WORKER_DEATHS.counter(self._registry)
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Run until a signal comes."""
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._stop.set)
        await _check_log(self._settings)
        settings, servers = self._settings, Servers()
        with (
            TemporaryDirectory(prefix="phasewatch-collector-") as metrics_dir,
            listen(settings.collector.host, settings.collector.port) as listener,
        ):
            MultiProcessCollector(self._registry, metrics_dir)  # type: ignore[no-untyped-call]
            workers = [
                _Worker(n, self._count, settings, listener, Path(metrics_dir)) for n in range(1, self._count + 1)
            ]
            parts = {f"worker {worker.number}": worker.not_ready for worker in workers}
            port = ADMIN_PORT if settings.admin.port is None else settings.admin.port
            notes = {f"worker {worker.number}": worker.note for worker in workers}
            app = AdminApp(self._registry, parts, sink_parts=parts, notes=notes)
            admin = await servers.serve(app, settings.admin.host, port)
            kept = [asyncio.create_task(self._keep(worker)) for worker in workers]
            told = asyncio.create_task(_tell_when_up(workers, listener, admin, tls=settings.collector.tls_certificate))
            await self._stop.wait()
            told.cancel()
            listener.close()  # what would still be accepted there would find nobody
            await _end(workers, kept)
            await servers.stop()

    async def _keep(self, worker: _Worker) -> None:
        """Start a process again and again; one that keeps dying, after longer and longer waits."""
        loop = asyncio.get_running_loop()
        wait = FIRST_WAIT_SECONDS
        while not self._stop.is_set():
            began = loop.time()
            try:
                ended = await worker.live()
            except OSError as error:  # no memory, no file descriptors: that passes
                ended = f"nothing: it could not be started ({error})"
            if self._stop.is_set():
                return
            wait = FIRST_WAIT_SECONDS if loop.time() - began >= STEADY_SECONDS else min(2 * wait, LONGEST_WAIT_SECONDS)
            self._deaths.inc()
            worker.wait_for_restart(ended, wait)
            _logger.error("collector_worker_ended", worker=worker.number, ended=ended, starts_again_in_seconds=wait)
            try:
                async with asyncio.timeout(wait):
                    await self._stop.wait()
            except TimeoutError:
                continue


async def _check_log(settings: Settings) -> None:
    """Look at Kafka's topics; where Kafka is away, at what was noted of them in the spool's folder.

    A block's partition is decided before Kafka is asked, so a log that was never seen may not be written, nor spooled.
    """
    kafka, directory = settings.kafka, spool_dir(settings)
    log = {"topic_prefix": kafka.topic_prefix, "partitions": settings.log.partitions}
    known = _read_note(directory)
    if known not in (None, log) and any(directory.glob(PATTERN)):
        msg = (
            f"what is spooled in {directory} belongs to another log ({known}) than the settings name ({log}): set "
            "kafka.topic_prefix and log.partitions as they were until it is drained, or name another folder (spool.dir)"
        )
        raise UsageError(msg)
    try:
        sink = await KafkaSink.open(
            kafka_access(settings), topic_prefix=kafka.topic_prefix, partitions=settings.log.partitions
        )
    except SinkUnavailableError as error:
        if known != log:
            raise ServiceAwayError(str(error)) from error
        _logger.warning("kafka_away", reason=str(error), meaning="everything is spooled until it answers")
        return
    except UnfitTopicError as error:
        raise FaultError(str(error)) from error
    await sink.close()
    _write_note(directory, log)


def _read_note(directory: Path) -> dict[str, object] | None:
    """Return what was noted of the log, None where nothing was, or nothing that can be read."""
    try:
        found = json.loads((directory / NOTE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _write_note(directory: Path, log: dict[str, object]) -> None:
    beside = directory / f"{NOTE}.new"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        beside.write_text(json.dumps(log), encoding="utf-8")
        beside.replace(directory / NOTE)
    except OSError as error:
        msg = (
            f"the spool's folder {directory} can't be written ({error.strerror}), so nothing could be accepted while "
            "Kafka is away: make it, or name another one (spool.dir)"
        )
        raise UsageError(msg) from error


async def _tell_when_up(workers: Sequence[_Worker], listener: socket.socket, admin: str, *, tls: Path | None) -> None:
    host, port = listener.getsockname()[:2]
    for worker in workers:
        await worker.serving.wait()
    scheme = "http" if tls is None else "https"
    address = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
    _logger.info("collector_up", collector=address, admin=admin, workers=len(workers))


async def _end(workers: Sequence[_Worker], kept: Sequence[asyncio.Task[None]]) -> None:
    """Let the processes finish what is under way; kill those that take too long."""
    for worker in workers:
        worker.send(signal.SIGTERM)
    _, late = await asyncio.wait(kept, timeout=STOP_SECONDS)
    if late:
        _logger.warning("collector_workers_killed", count=len(late), after_seconds=STOP_SECONDS)
        for worker in workers:
            worker.send(signal.SIGKILL)
    await asyncio.gather(*kept)
