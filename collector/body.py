"""Reads request bodies within the limits of one request and of all together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from collector.asgi import Receive
from collector.errors import OverloadedError, TooLargeBodyError
from collector.metrics import CollectorMetrics
from collector.settings import Limits

_LENGTH_DIGITS: Final = 18
"""Content-Length has no largest value (RFC 9110); this one is beyond any limit here."""


class ClientGoneError(Exception):
    """The client hung up before its body was complete; there is nobody to answer."""


class Bodies:
    """Opens bodies; counts the bytes of all that are held at once."""

    def __init__(self, limits: Limits, metrics: CollectorMetrics) -> None:
        self.limits = limits
        self._metrics = metrics
        self.held = 0
        self.arriving: dict[Body, None] = {}
        """Those that can be given up for others, in the order in which they began."""
        self._shown = 0

    def open(self, headers: Mapping[bytes, bytes]) -> Body:
        """Return a body of which nothing is here yet.

        Raises:
            TooLargeBodyError: if it says it is larger than the limit.
        """
        declared = headers.get(b"content-length", b"").lstrip(b"0")
        if declared.isdigit() and (len(declared) > _LENGTH_DIGITS or int(declared) > self.limits.body_bytes):
            raise self.too_large()
        return Body(self)

    def hold(self, size: int) -> None:
        """Count `size` bytes more, or less, as held."""
        self.held += size
        if self._shown:
            self.show()

    def show(self) -> None:
        """Let the metric tell what is held; what arrives in one piece, as most does, is gone at once."""
        self._shown = self.held
        self._metrics.reading_bytes.set(self.held)

    def over(self) -> OverloadedError:
        """Return what is said where all that is being read is too much."""
        return OverloadedError(f"too much is being read at once; the limit is {self.limits.reading_bytes} bytes")

    def too_large(self) -> TooLargeBodyError:
        """Return what is said of a body beyond the limit."""
        return TooLargeBodyError(f"the body is larger than {self.limits.body_bytes} bytes: send less at once")

    def too_slow(self) -> OverloadedError:
        """Return what is said of a body that takes too long: 503, with which every SDK keeps its events."""
        return OverloadedError(f"the body was not complete after {self.limits.body_seconds:g} s")


class Body:
    """What has arrived of one body; `take` or `release` ends it.

    `on_shed` is called with what to answer where it has to make room for the bodies of others: the one that began first
    does, because a body in one piece, as most are, is never among them.
    """

    def __init__(self, bodies: Bodies) -> None:
        self.on_shed: Callable[[OverloadedError], None] | None = None
        self._bodies = bodies
        self._chunks: list[bytes] = []
        self._size = 0

    @property
    def size(self) -> int:
        """Return how many bytes are here."""
        return self._size

    def add(self, chunk: bytes) -> None:
        """Take over what has arrived.

        Raises:
            TooLargeBodyError: if the body is larger than the limit.
            OverloadedError: if all that is being read is too much, and none of it began earlier.
        """
        bodies = self._bodies
        if self._size + len(chunk) > bodies.limits.body_bytes:
            raise bodies.too_large()
        if not self._size and self.on_shed is not None:
            bodies.arriving[self] = None
        self._size += len(chunk)
        self._chunks.append(chunk)
        bodies.hold(len(chunk))
        while bodies.held > bodies.limits.reading_bytes:
            first = next(iter(bodies.arriving), self)
            if first is self or first.on_shed is None:
                raise bodies.over()
            first.on_shed(bodies.over())

    def take(self) -> bytes:
        """Return the whole body as sent, and hold it no longer."""
        chunks = self._chunks
        self.release()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def release(self) -> None:
        """Give up what has arrived."""
        if self._size:
            self._bodies.hold(-self._size)
            self._bodies.arriving.pop(self, None)
        self._chunks, self._size = [], 0

    async def receive(self, receive: Receive) -> None:
        """Read it to its end from an ASGI server.

        Raises:
            TooLargeBodyError, OverloadedError: as `add`, and if it does not arrive in time.
            ClientGoneError: if the client hangs up.
        """
        try:
            async with asyncio.timeout(self._bodies.limits.body_seconds):
                await self._receive(receive)
        except TimeoutError as error:
            self.release()
            raise self._bodies.too_slow() from error
        except BaseException:
            self.release()
            raise

    async def _receive(self, receive: Receive) -> None:
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            self.add(message.get("body", b""))
            more = message.get("more_body", False)
            if more:
                self._bodies.show()
