"""Kafka, and the spool while Kafka is away: what is accepted is durable in one of the two.

A partition's blocks go to Kafka until one is refused or late. That one and all that follow go to the spool, and to
Kafka again once the spool has nothing of that partition left: so each partition has them in the order of the calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import compress
from operator import not_
from typing import Final

from collector.sinks.port import LanedSink, SinkUnavailableError, event_row, rejected_row
from collector.sinks.spool import Spool
from collector.sinks.spool_drain import Drain
from collector.wire.log_file import Row
from collector.wire.record import Draft

LIVE_SECONDS: Final = 3.0
"""How long a request waits for Kafka before its events are spooled; clients give up after about ten."""
CLOSED: Final = "the way to Kafka is closed: the process is stopping"


class SpoolingSink:
    """Stands above Kafka; used from one event loop, made inside it.

    Args:
        spool: of this process; closed with this sink.
        live: Kafka, for what comes in.
        draining: a second connection to the same Kafka, for what is spooled.
        drain_bytes_per_second: of what is spooled, at most.
    """

    def __init__(self, spool: Spool, live: LanedSink, draining: LanedSink, *, drain_bytes_per_second: int) -> None:
        self._spool = spool
        self._live = live
        self._drain = Drain(spool, live, draining, bytes_per_second=drain_bytes_per_second)
        self._closed = False
        self.task = asyncio.get_running_loop().create_task(self._drain.run())
        """Ends only by a fault of ours: then nothing is drained any more, and the process should end too."""

    @property
    def partitions(self) -> int:
        """The number of partitions of topic `events`."""
        return self._live.partitions

    async def write(self, blocks: Sequence[tuple[int, Draft]]) -> None:
        """Append (partition, block) pairs in order; returns when each is in Kafka or on this machine's disk.

        Raises:
            SinkUnavailableError: if neither could be achieved; a part may be durable all the same.
        """
        await self._write([event_row(place, draft) for place, draft in blocks])

    async def write_rejected(self, rejected: Sequence[tuple[str, bytes]]) -> None:
        """Append (write key's name, JSON) pairs to topic `rejected`; raises as `write`."""
        await self._write([rejected_row(name, value) for name, value in rejected])

    async def _write(self, rows: Sequence[Row]) -> None:
        if self._closed:
            raise SinkUnavailableError(CLOSED)
        direct, held = self._split(rows)
        spooled: list[asyncio.Future[None]] = []

        def spool(failed: Sequence[Row], error: Exception) -> None:
            self._drain.failed(((row.topic, row.partition) for row in failed), error)
            spooled.append(self._spool.put(failed))
            if len(failed) == len(direct):
                self._drain.kafka_away = True

        if held:
            spooled.append(self._spool.put(held))
        if direct:
            await self._live.send(direct, spool)
        if spooled:
            await self._until_durable(spooled)

    def _split(self, rows: Sequence[Row]) -> tuple[Sequence[Row], Sequence[Row]]:
        """Return what goes to Kafka, and what has to go behind what is spooled."""
        if self._drain.kafka_away:
            return (), rows
        if self._spool.is_empty:
            return rows, ()
        held = [self._spool.holds((row.topic, row.partition)) for row in rows]
        return list(compress(rows, map(not_, held))), list(compress(rows, held))

    async def _until_durable(self, spooled: Sequence[asyncio.Future[None]]) -> None:
        results = await asyncio.gather(*spooled, return_exceptions=True)
        error = next((one for one in results if one is not None), None)
        if error is not None:
            if self._spool.is_empty:  # with nothing to drain nobody but requests would find Kafka back
                self._drain.kafka_away = False
            raise error

    # Readiness

    async def not_ready(self) -> str | None:
        """Return why nothing can be made durable right now, neither in Kafka nor in the spool, or None."""
        if self._closed:
            return CLOSED
        why = self._drain.reason if self._drain.kafka_away else await self._live.not_ready()
        if why is None:
            return None
        full = await self._spool.no_room()
        return None if full is None else f"{why}; and {full}"

    def note(self) -> str | None:
        """Return what an operator should know though something can be made durable, or None: that the spool is used."""
        rows = self._drain.rows_waiting()
        if not rows:
            return None
        why = self._drain.reason or "they are being sent"
        return f"{rows} blocks and rejected events wait in the spool for Kafka: {why}"

    async def close(self) -> None:
        """Finish what was accepted, and leave what is spooled to who comes next; takes about as long as Kafka's close.

        Raises:
            Exception: what has ended the drain, if something did.
        """
        if self._closed:
            return
        self._closed = True
        self.task.cancel()
        await asyncio.wait([self.task])
        await asyncio.gather(self._live.close(), self._drain.close())
        await self._spool.close()
        if not self.task.cancelled():
            self.task.result()
