"""One process of `phasewatch collector`: accepts on a socket that it was given, and answers its supervisor.

Started as `python -m phasewatch.collector_worker LISTENER CHANNEL`, two file descriptors. On the channel, a socket to
the supervisor, come one line of JSON with everything there is to know, then questions whether something can be made
durable; its end is the supervisor's, and this process then stops too.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from asyncio import StreamReader, StreamWriter
from typing import Final

import structlog
import uvloop
from prometheus_client import CollectorRegistry, values

from collector.http import CollectorApp, make_app
from collector.metrics import SpoolMetrics
from collector.protocol import ingest_protocol
from collector.sinks.kafka import DELIVERY_SECONDS, KafkaSink
from collector.sinks.spool import Spool, SpoolLimits
from collector.sinks.spool_sink import LIVE_SECONDS, SpoolingSink
from phasewatch import logs
from phasewatch.access import kafka_access
from phasewatch.data_dir import now_ms, spool_dir
from phasewatch.serving import Servers
from phasewatch.settings import Settings
from phasewatch.tls import served_certificate

MAX_LINE_BYTES: Final = 4 * 1024 * 1024
"""Of the settings: thousands of write keys."""
SERVING: Final = b"serving\n"


async def run(listener: socket.socket, channel: socket.socket) -> None:
    """Serve until a signal comes or the supervisor is gone; then finish what is under way."""
    reader, writer = await asyncio.open_connection(sock=channel, limit=MAX_LINE_BYTES)
    given = json.loads(await reader.readline())
    settings = Settings.model_validate(given["settings"])
    logs.configure(settings.logging.level)
    structlog.contextvars.bind_contextvars(worker=given["number"])
    # By its number, not by its process id: a process that takes a dead one's place goes on with its counts.
    values.ValueClass = values.MultiProcessValue(lambda: given["number"])  # type: ignore[no-untyped-call]
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    registry = CollectorRegistry()
    sink = _open_sink(settings, registry)
    sink.task.add_done_callback(lambda _: stop.set())  # only by a fault: a process that does not drain is started again
    app = make_app(settings.collector, sink, now_ms, registry=registry, processes=given["processes"])
    servers = Servers()
    tls = served_certificate(settings, app.metrics.file_broken, app.files)
    idle = settings.collector.connections.idle_seconds
    await servers.serve_on(app, listener, http=ingest_protocol(app), tls=tls, idle_seconds=idle)
    writer.write(SERVING)
    answering = asyncio.create_task(_answer(reader, writer, (sink, app), stop))
    await stop.wait()
    await servers.stop()
    await sink.close()
    answering.cancel()
    writer.close()


def _open_sink(settings: Settings, registry: CollectorRegistry) -> SpoolingSink:
    spool, kafka = settings.spool, kafka_access(settings)

    def connection(delivery_seconds: float) -> KafkaSink:
        return KafkaSink(
            kafka,
            topic_prefix=settings.kafka.topic_prefix,
            partitions=settings.log.partitions,
            delivery_seconds=delivery_seconds,
        )

    limits = SpoolLimits(spool.max_bytes, spool.min_free_bytes)
    return SpoolingSink(
        Spool(spool_dir(settings), limits, now_ms, SpoolMetrics(registry)),
        connection(LIVE_SECONDS),
        connection(DELIVERY_SECONDS),
        drain_bytes_per_second=spool.drain_bytes_per_second,
    )


async def _answer(
    reader: StreamReader, writer: StreamWriter, parts: tuple[SpoolingSink, CollectorApp], stop: asyncio.Event
) -> None:
    """Answer each question, a number, with a line of JSON: the number, why nothing can be made durable, and a note."""
    sink, app = parts
    try:
        while question := await reader.readline():
            note = "; ".join(one for one in (sink.note(), app.note()) if one) or None
            found = [int(question), await sink.not_ready(), note]
            writer.write(json.dumps(found).encode() + b"\n")
    except ConnectionError:
        pass  # the same as its end
    finally:
        stop.set()  # whatever has ended this: a process that does not answer is started again


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(*(socket.socket(fileno=int(number)) for number in sys.argv[1:])))
