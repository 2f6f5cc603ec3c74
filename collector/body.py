"""Reads request bodies within the limits of one request and of all together."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from collector.asgi import Receive
from collector.errors import OverloadedError, TooLargeBodyError
from collector.metrics import CollectorMetrics
from collector.settings import Limits

_LENGTH_DIGITS: Final = 18
"""Content-Length has no largest value (RFC 9110); this one is beyond any limit here."""


class ClientGoneError(Exception):
    """The client hung up before its body was complete; there is nobody to answer."""


class BodyReader:
    """Reads bodies; counts the bytes of all that are held at once."""

    def __init__(self, limits: Limits, metrics: CollectorMetrics) -> None:
        self._limits = limits
        self._metrics = metrics
        self._held = 0

    async def read(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
        """Return the body as sent.

        Raises:
            TooLargeBodyError: if it is, or says it is, larger than the limit.
            OverloadedError: if all bodies that are being read are together, or if it does not arrive in time.
            ClientGoneError: if the client hangs up.
        """
        declared = headers.get(b"content-length", b"").lstrip(b"0")
        if declared.isdigit() and (len(declared) > _LENGTH_DIGITS or int(declared) > self._limits.body_bytes):
            raise self._too_large()
        chunks: list[bytes] = []
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                await self._collect(receive, chunks)
        except TimeoutError as error:
            msg = f"the body was not complete after {self._limits.body_seconds:g} s"
            raise OverloadedError(msg) from error  # 503: every SDK keeps its events then, a page on a slow line, too
        finally:
            self._hold(-sum(map(len, chunks)))
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def _collect(self, receive: Receive, chunks: list[bytes]) -> None:
        size = 0
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            chunk: bytes = message.get("body", b"")
            more = message.get("more_body", False)
            size += len(chunk)
            if size > self._limits.body_bytes:
                raise self._too_large()
            chunks.append(chunk)
            self._hold(len(chunk))
            if self._held > self._limits.reading_bytes:
                msg = f"bodies of {self._held} bytes are being read; the limit is {self._limits.reading_bytes}"
                raise OverloadedError(msg)

    def _hold(self, size: int) -> None:
        self._held += size
        self._metrics.reading_bytes.set(self._held)

    def _too_large(self) -> TooLargeBodyError:
        return TooLargeBodyError(f"the body is larger than {self._limits.body_bytes} bytes: send less at once")
