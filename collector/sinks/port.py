"""Where the collector puts what it accepted: one backend each, all passing one contract suite."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from collector.wire.log_file import EVENTS, REJECTED, Row
from collector.wire.record import Draft

ANY_PARTITION: Final = -1
"""The partition of a row that goes to that of its key, of which the backend knows how many there are."""

Failed = Callable[[Sequence[Row], Exception], None]
"""Is handed the rows that a backend could not make durable, and why."""


class SinkUnavailableError(Exception):
    """Nothing was made durable as far as is known; the client should try again later."""


class Sink(Protocol):
    """A durable place for blocks and for rejected events."""

    @property
    def partitions(self) -> int:
        """The number of partitions of topic `events`, fixed when the log was created."""
        ...

    async def write(self, blocks: Sequence[tuple[int, Draft]]) -> None:
        """Append (partition, block) pairs in order and return when all of them are durable.

        Raises:
            SinkUnavailableError: if that could not be achieved; a part may be durable all the same.
        """
        ...

    async def write_rejected(self, rejected: Sequence[tuple[str, bytes]]) -> None:
        """Append (write key's name, JSON) pairs to topic `rejected`; raises as `write`."""
        ...

    async def not_ready(self) -> str | None:
        """Return why nothing can be made durable right now, or None when it can."""
        ...

    async def close(self) -> None:
        """Finish what was accepted, then give up files and connections."""
        ...


class LanedSink(Protocol):
    """A backend whose partitions can fail one by one, below a sink that knows where to put what failed."""

    @property
    def partitions(self) -> int:
        """As of `Sink`."""
        ...

    def send(self, rows: Sequence[Row], failed: Failed) -> asyncio.Future[None]:
        """Take over rows, behind all that were taken before; done when each is durable or was handed to `failed`.

        `failed` is called before anything that was taken later is sent; rows of one write that share topic and
        partition with one that failed are handed back too, so that their order can be kept.

        Raises:
            SinkUnavailableError: if it is closed.
        """
        ...

    async def not_ready(self) -> str | None:
        """As of `Sink`."""
        ...

    async def abandon(self) -> None:
        """Close without waiting for what is under way."""
        ...

    async def close(self) -> None:
        """As of `Sink`."""
        ...


def event_row(partition: int, draft: Draft) -> Row:
    """Return a block as a row of topic `events`."""
    return Row(EVENTS, partition, None, draft.headers(), draft.value)


def rejected_row(name: str, value: bytes) -> Row:
    """Return a rejected event, the write key's name and JSON, as a row of topic `rejected`."""
    return Row(REJECTED, ANY_PARTITION, name.encode(), (), value)
