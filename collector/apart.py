"""A thread beside the event loop in which large bodies are read, so that one which is slow holds nobody else up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar

from collector.errors import OverloadedError

APART_BYTES: Final = 64 * 1024
"""What is larger, unpacked, is read apart; SDKs in pages send less. Of bodies that are made to be slow 16 MiB take
seconds, and this much up to 0.1 s (docs/guards.md)."""

_Given = ParamSpec("_Given")
_Found = TypeVar("_Found")


class Apart:
    """One thread that does one thing after the other; used from one event loop.

    Args:
        most_bytes: how much may wait for it.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="large-bodies")

    async def run(self, size: int, work: Callable[[], _Found]) -> _Found:
        """Return what `work` returns; raise what it raises.

        Args:
            size: bytes that are held meanwhile.
            work: touches nothing that belongs to the event loop.

        Raises:
            OverloadedError: if too much waits already.
        """
        if self._bytes and self._bytes + size > self._most_bytes:
            msg = f"{self._bytes} bytes of large bodies wait to be read; the limit is {self._most_bytes}"
            raise OverloadedError(msg)
        self._bytes += size
        try:
            return await asyncio.wrap_future(self._thread.submit(work))
        finally:
            self._bytes -= size

    def close(self) -> None:
        """Begin nothing more; what runs is left to its end."""
        self._thread.shutdown(wait=False, cancel_futures=True)


class Stopwatch:
    """Adds up what was spent, also on what failed; `seconds` by the clock it is given."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.seconds = 0.0

    def time(self, work: Callable[_Given, _Found], *given: _Given.args, **named: _Given.kwargs) -> _Found:
        """Return what `work` returns; raise what it raises."""
        started = self._clock()
        try:
            return work(*given, **named)
        finally:
            self.seconds += self._clock() - started
