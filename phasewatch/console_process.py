"""`phasewatch console`: query API and live page over Kafka and Redis."""

from __future__ import annotations

import asyncio
import signal
from functools import partial
from typing import Final

import structlog
import uvloop
from prometheus_client import CollectorRegistry

from collector.admin import AdminApp, NotReady
from console.app import end_streams, make_console_app
from phasewatch.backend import open_changes, open_kafka_log, open_redis_store, require_kafka
from phasewatch.console_door import require_door, serve_console
from phasewatch.data_dir import now_ms
from phasewatch.errors import FaultError
from phasewatch.serving import Servers
from phasewatch.settings import Settings
from processors.adapters.redis.store import RedisStore
from processors.engine.ports import LogMismatchError, StoreUnavailableError
from processors.engine.query import Query

__all__ = ["ADMIN_PORT", "run_console"]

ADMIN_PORT: Final = 8640
_RETRY_SECONDS: Final = 2.0

_logger = structlog.get_logger(__name__)


def run_console(settings: Settings) -> int:
    """Serve until a signal comes; return the exit code.

    Raises:
        UsageError: if no Kafka is set, the console is open to others without what that needs, or a port is taken.
        FaultError: if the states in Redis belong to another log.
    """
    require_kafka(settings, "console")
    require_door(settings.console)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings))
    return 0


async def _serve(settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    store, changes, servers, registry = (
        open_redis_store(settings),
        open_changes(settings),
        Servers(),
        CollectorRegistry(),
    )
    serving = asyncio.Event()

    async def not_serving() -> str | None:
        return None if serving.is_set() else "the log was not yet found"

    try:
        parts: dict[str, NotReady] = {"console": not_serving, "store": partial(_store_not_ready, store)}
        port = ADMIN_PORT if settings.admin.port is None else settings.admin.port
        admin = await servers.serve(AdminApp(registry, parts), settings.admin.host, port)
        partitions = await _partitions(settings, stop)
        if partitions is None:
            return
        console = make_console_app(
            query=Query(store, partitions), changes=changes, clock=now_ms, settings=settings.console, registry=registry
        )
        address = await serve_console(servers, console, settings.console)
        serving.set()
        _logger.info("console_serves", console=address, admin=admin)
        await stop.wait()
        end_streams(console)
    finally:
        await servers.stop()
        await changes.close()
        await store.close()


async def _store_not_ready(store: RedisStore) -> str | None:
    try:
        await store.bound_to()
    except StoreUnavailableError as error:
        return str(error)
    return None


async def _partitions(settings: Settings, stop: asyncio.Event) -> int | None:
    """Return how many partitions the log has, once Kafka answers; None if told to stop before."""
    store = open_redis_store(settings)
    try:
        while not stop.is_set():
            try:
                log = await open_kafka_log(settings)
                try:
                    await store.bind(log.log_id, log.partitions)
                finally:
                    await log.close()
            except StoreUnavailableError as error:
                _logger.warning("console_waits", reason=str(error), seconds=_RETRY_SECONDS)
                try:
                    async with asyncio.timeout(_RETRY_SECONDS):
                        await stop.wait()
                except TimeoutError:
                    continue
            except LogMismatchError as error:
                raise FaultError(str(error)) from error
            else:
                return log.partitions
        return None
    finally:
        await store.close()
