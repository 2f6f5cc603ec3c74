"""Where the collector puts what it accepted: one backend each, all passing one contract suite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from collector.wire.record import Draft


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
