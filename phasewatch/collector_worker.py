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

from collector.http import make_app
from collector.protocol import ingest_protocol
from collector.sinks.kafka import KafkaSink
from collector.sinks.port import Sink
from phasewatch import logs
from phasewatch.data_dir import now_ms
from phasewatch.serving import Servers
from phasewatch.settings import Settings

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
    kafka = settings.kafka
    sink = KafkaSink(kafka.brokers, topic_prefix=kafka.topic_prefix, partitions=settings.log.partitions)
    app = make_app(settings.collector, sink, now_ms, registry=CollectorRegistry())
    servers = Servers()
    await servers.serve_on(app, listener, http=ingest_protocol(app))
    writer.write(SERVING)
    answering = asyncio.create_task(_answer(reader, writer, sink, stop))
    await stop.wait()
    await servers.stop()
    await sink.close()
    answering.cancel()
    writer.close()


async def _answer(reader: StreamReader, writer: StreamWriter, sink: Sink, stop: asyncio.Event) -> None:
    """Answer each question, a number, with the number and why nothing can be made durable: nothing if it can."""
    try:
        while question := await reader.readline():
            why = await sink.not_ready()
            writer.write(b"%b %b\n" % (question.strip(), " ".join((why or "").split()).encode()))
    except ConnectionError:
        pass  # the same as its end
    finally:
        stop.set()  # whatever has ended this: a process that does not answer is started again


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(*(socket.socket(fileno=int(number)) for number in sys.argv[1:])))
