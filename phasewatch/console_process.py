"""`phasewatch console`: query API and live page over Kafka and Redis."""

from __future__ import annotations

import asyncio
import signal
from typing import Final

import structlog
import uvloop

from console.app import end_streams, make_console_app
from phasewatch.backend import open_changes, open_kafka_log, open_redis_store, require_kafka
from phasewatch.data_dir import now_ms
from phasewatch.errors import FaultError
from phasewatch.serving import Servers
from phasewatch.settings import Settings
from processors.engine.ports import LogMismatchError, StoreUnavailableError
from processors.engine.query import Query

__all__ = ["run_console"]

_RETRY_SECONDS: Final = 2.0

_logger = structlog.get_logger(__name__)


def run_console(settings: Settings) -> int:
    """Serve until a signal comes; return the exit code.

    Raises:
        UsageError: if no Kafka is set, or the port is taken.
        FaultError: if the states in Redis belong to another log.
    """
    require_kafka(settings, "console")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings))
    return 0


async def _serve(settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    store, changes, servers = open_redis_store(settings), open_changes(settings), Servers()
    try:
        partitions = await _partitions(settings, stop)
        if partitions is None:
            return
        console = make_console_app(query=Query(store, partitions), changes=changes, clock=now_ms)
        address = await servers.serve(console, settings.console.host, settings.console.port)
        _logger.info("console_serves", console=address)
        await stop.wait()
        end_streams(console)
    finally:
        await servers.stop()
        await changes.close()
        await store.close()


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
