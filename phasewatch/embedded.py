"""Embedded mode: collector, worker and console in one process over SQLite files, with no servers."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, Self

import structlog
import uvloop
from prometheus_client import CollectorRegistry

from collector.admin import make_admin_app
from collector.debug import DebugLog
from collector.debug_routes import DebugRoutes
from collector.guards.files import BrokenFileError
from collector.http import make_app
from collector.protocol import ingest_protocol
from collector.sinks.sqlite import SqliteSink
from collector.wire.block import decode_events
from collector.wire.event import known_as, person_key
from console.app import end_streams, make_console_app
from phasewatch.console_door import require_door, serve_console
from phasewatch.data_dir import log_file, now_ms, open_log, open_store, worker_lock
from phasewatch.embedded_worker import (
    EmbeddedWorker,
    ensure_definitions,
    in_force_everywhere,
)
from phasewatch.errors import FaultError, UsageError
from phasewatch.places import require_places
from phasewatch.serving import Servers
from phasewatch.settings import Settings, is_loopback
from phasewatch.tls import served_certificate
from processors.adapters.sqlite.log import SqliteLog
from processors.domain.definitions import DefinitionsError
from processors.domain.document import parse
from processors.engine.query import Query

_POLL_SECONDS: Final = 0.02
_ADMIN_PORT: Final = 8630

_logger = structlog.get_logger(__name__)


@dataclass(slots=True)
class Addresses:
    """Where a running deployment answers."""

    collector: str
    console: str
    admin: str


class Embedded:
    """One running deployment; `async with` starts it and stops it."""

    def __init__(self, settings: Settings, *, definitions: str | None = None) -> None:
        self._settings = settings
        self._definitions = definitions
        self._registry = CollectorRegistry()
        self._servers = Servers()
        self._close: list[Callable[[], Awaitable[None] | None]] = []
        self._end_streams: Callable[[], None] = lambda: None
        self.worker = EmbeddedWorker(settings, self._registry)
        self.addresses = Addresses("", "", "")

    async def __aenter__(self) -> Self:
        """Start: the worker, the definitions of a new log, then the ports.

        Raises:
            UsageError: if a port is taken, the console is open to others without what that needs, or the file of places
                cannot be read.
            FaultError: if the worker can't go on.
        """
        require_door(self._settings.console)
        try:
            await self._start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def _start(self) -> None:
        settings = self._settings
        require_places(settings)
        log, store = open_log(settings), open_store(settings)
        self._close = [store.close, log.close]
        query = Query(store, log.partitions)
        self.worker.start()
        await self._ensure_definitions(log, query)
        sink = SqliteSink.open(log_file(settings), partitions=log.partitions, log_id=log.log_id, clock=now_ms)
        self._close.insert(0, sink.close)
        debug = DebugLog(now_ms) if is_loopback(settings.admin.host) else None
        try:
            collector = make_app(settings.collector, sink, now_ms, registry=self._registry, debug=debug)
        except BrokenFileError as error:
            raise UsageError(str(error)) from error
        collector.remember(_durable(log, settings.collector.recent_ids))
        console = make_console_app(
            query=query, changes=log, clock=now_ms, settings=settings.console, registry=self._registry
        )
        self._end_streams = partial(end_streams, console)
        debug_routes = DebugRoutes(debug) if debug is not None else None
        notes = {"collector": collector.told}
        admin = make_admin_app(sink, self._registry, {"worker": self._worker_not_ready}, debug_routes, notes)
        self.addresses.console = await serve_console(self._servers, console, settings.console)
        self.addresses.collector = await self._servers.serve(
            collector,
            settings.collector.host,
            settings.collector.port,
            http=ingest_protocol(collector),
            tls=served_certificate(settings, collector.metrics.file_broken, collector.files),
            idle_seconds=settings.collector.connections.idle_seconds,
        )
        # Last, as whoever finds /readyz true may send events at once.
        port = _ADMIN_PORT if settings.admin.port is None else settings.admin.port
        self.addresses.admin = await self.serve(admin, settings.admin.host, port)

    async def __aexit__(self, *_: object) -> None:
        """Stop: no new requests, answers under way, the batch under way, then the files."""
        self._end_streams()
        await self._servers.stop()
        await asyncio.to_thread(self.worker.stop)
        for close in self._close:
            closing = close()
            if closing is not None:
                await closing

    async def _ensure_definitions(self, log: SqliteLog, query: Query) -> None:
        await ensure_definitions(log, self._definitions)
        while await in_force_everywhere(query, log.partitions) == 0:
            self.check()
            await asyncio.sleep(_POLL_SECONDS)

    async def _worker_not_ready(self) -> str | None:
        return self.worker.why_not_ready

    def check(self) -> None:
        """Raise FaultError when the worker has stopped by itself."""
        if self.worker.failure is not None:
            msg = f"the worker has stopped: {self.worker.failure}"
            raise FaultError(msg) from self.worker.failure

    async def serve(self, app: Callable[..., Any], host: str, port: int) -> str:
        """Serve one more application and return its address.

        Raises:
            UsageError: if nothing can listen there.
        """
        return await self._servers.serve(app, host, port)


def _durable(log: SqliteLog, most: int) -> Iterator[tuple[str, str]]:
    """Yield (person key, id) of the log's latest events, the oldest first: their repeats are answered `duplicate`."""
    for record in reversed(log.latest(most)):
        for event in decode_events(record.draft.value):
            yield person_key(event.user_id, event.anonymous_id), known_as(event)


class Deployment(Protocol):
    """What runs for a while, in this process or beside it."""

    addresses: Addresses

    async def __aenter__(self) -> Self:
        """Start."""
        ...

    async def __aexit__(self, *_: object) -> None:
        """Stop."""

    def check(self) -> None:
        """Raise FaultError when it has stopped by itself."""
        ...

    async def serve(self, app: Callable[..., Any], host: str, port: int) -> str:
        """Serve one more application and return its address; raises UsageError if nothing can listen there."""
        ...


async def serve(
    deployment: Deployment,
    *,
    seconds: float | None,
    started: Callable[[], Awaitable[Sequence[Coroutine[Any, Any, None]]]],
) -> None:
    """Run a deployment until a signal comes, `seconds` are over, or its worker fails.

    Args:
        deployment: not yet started.
        seconds: how long at most; None: until a signal.
        started: called once it runs; returns what is to run beside it.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    deadline = None if seconds is None else loop.time() + seconds
    async with deployment:
        beside = [asyncio.create_task(one) for one in await started()]
        while not stop.is_set() and (deadline is None or loop.time() < deadline):
            deployment.check()
            try:
                await asyncio.wait_for(stop.wait(), 0.2)
            except TimeoutError:
                continue
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)


def run_up(settings: Settings, *, definitions: Path | None, seconds: float | None) -> int:
    """Run `phasewatch up`; return the exit code."""
    document = None if definitions is None else read_definitions(definitions)

    embedded = Embedded(settings, definitions=document)

    async def started() -> Sequence[Coroutine[Any, Any, None]]:
        at = embedded.addresses
        _logger.info(
            "up", collector=at.collector, console=at.console, admin=at.admin, data=str(settings.store.data_dir)
        )
        return ()

    with worker_lock(settings) as mine:
        if not mine:
            msg = f"another phasewatch is running on {settings.store.data_dir}; stop it, or use another --data-dir"
            raise UsageError(msg)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(embedded, seconds=seconds, started=started))
    return 0


def read_definitions(path: Path) -> str:
    """Return a definitions document's text once it is known to be valid.

    Raises:
        UsageError: naming every problem with its line.
    """
    try:
        text = path.read_text(encoding="utf-8")
        parse(text)
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path} can't be read: {error}"
        raise UsageError(msg) from error
    except DefinitionsError as error:
        msg = f"{path} is no valid definitions document:\n{error}"
        raise UsageError(msg) from error
    return text
