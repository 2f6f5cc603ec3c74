"""How many connections there may be, and which of them makes room: the one that has been quiet longest."""

from __future__ import annotations

import asyncio
import resource
from collections import Counter
from functools import lru_cache
from itertools import islice
from typing import Final, Protocol

from collector.guards.proxies import Networks, group_of
from collector.metrics import CollectorMetrics
from collector.settings import ConnectionLimits

SWEEP_SECONDS: Final = 1.0
RESERVED_FILES: Final = 256
"""Open files that are no clients: the log, the spool, Kafka's connections, metrics."""
_LOOKED_AT: Final = 16
"""How many of the longest quiet ones are asked whether they may go; more are busy only where the log stands still."""
_GROUPS: Final = 8192


class Closable(Protocol):
    """One client's connection."""

    @property
    def busy(self) -> bool:
        """Whether a request that is here as a whole waits for its answer."""
        ...

    def abort(self) -> None:
        """Close it now, whatever waits to be sent."""


class _Quiet:
    """Since when a connection is quiet, and whose it is."""

    __slots__ = ("group", "since")

    def __init__(self, group: str | None, since: float) -> None:
        self.group = group
        self.since = since


class Connections:
    """The open connections of this process, the one whose latest request is longest ago first.

    Args:
        limits: how many there may be.
        exempt: networks whose addresses have no limit of their own.
        quiet_seconds: how long a connection may live without a whole request and its answer taken.
        metrics: count what is closed, and show how many are open.
    """

    def __init__(
        self, limits: ConnectionLimits, exempt: Networks, quiet_seconds: float, metrics: CollectorMetrics
    ) -> None:
        self.most = min(limits.most, max(RESERVED_FILES, open_files() - RESERVED_FILES))
        self._of_address = limits.of_address
        self._exempt = exempt
        self._quiet_seconds = quiet_seconds
        self._metrics = metrics
        self.pipelined = 0
        """Requests of all connections that wait for their turn."""
        self._open: dict[Closable, _Quiet] = {}
        self._groups: Counter[str] = Counter()
        self._sweeping: asyncio.TimerHandle | None = None
        self._group = lru_cache(_GROUPS)(self._group_of)

    def __len__(self) -> int:
        return len(self._open)

    def _group_of(self, address: str) -> str | None:
        return None if address in self._exempt else group_of(address)

    def opened(self, connection: Closable, peer: str | None) -> bool:
        """Take a connection over; False if it is one too many, and to be closed."""
        group = self._group(peer) if peer is not None else None
        if group is not None and self._groups[group] >= self._of_address:
            self._metrics.connections_closed.labels("address").inc()
            return False
        if len(self._open) >= self.most and not self.make_room():
            self._metrics.connections_closed.labels("full").inc()
            return False
        if group is not None:
            self._groups[group] += 1
        loop = asyncio.get_running_loop()
        self._open[connection] = _Quiet(group, loop.time())
        self._metrics.connections_open.inc()
        if self._sweeping is None:
            self._sweeping = loop.call_later(SWEEP_SECONDS, self._sweep, loop)
        return True

    def closed(self, connection: Closable) -> None:
        """Forget a connection."""
        found = self._open.pop(connection, None)
        if found is None:
            return
        self._metrics.connections_open.dec()
        if found.group is not None:
            self._groups[found.group] -= 1
            if not self._groups[found.group]:
                del self._groups[found.group]

    def answered(self, connection: Closable, now: float) -> None:
        """Note that a connection is of use: a request on it has its answer."""
        found = self._open.pop(connection, None)
        if found is not None:
            found.since = now
            self._open[connection] = found

    def make_room(self) -> bool:
        """Close the connection that has been quiet longest; return whether there was one that is not busy."""
        for connection in islice(self._open, _LOOKED_AT):
            if not connection.busy:
                self._close(connection, "room")
                return True
        return False

    def _close(self, connection: Closable, reason: str) -> None:
        self._metrics.connections_closed.labels(reason).inc()
        self.closed(connection)
        connection.abort()

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close what has been quiet too long, whatever it does: says nothing, dribbles, or takes no answers."""
        before = loop.time() - self._quiet_seconds
        late: list[Closable] = []
        for connection, quiet in self._open.items():
            if quiet.since > before:
                break
            if not connection.busy:
                late.append(connection)
        for connection in late:
            self._close(connection, "quiet")
        self._sweeping = loop.call_later(SWEEP_SECONDS, self._sweep, loop) if self._open else None


def open_files() -> int:
    """Return how many files this process may have open; what the system allows a process to raise is raised first."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return soft if soft != resource.RLIM_INFINITY else 1_000_000
