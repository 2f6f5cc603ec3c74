"""Files that an operator changes while the collector runs: looked at every second, taken over if they can be read."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import structlog
from prometheus_client import Gauge

LOOK_SECONDS: Final = 1.0
MOST_BYTES: Final = 64 * 1024 * 1024
"""About two million lines of the suppression list; a second to read, in a thread beside the requests."""
_SETTLED_SECONDS: Final = 2.0
"""A file that was written within it is read again: two writes may have the same time, for clocks of file systems are
coarse (ext4: up to 10 ms)."""

_logger = structlog.get_logger(__name__)


class BrokenFileError(Exception):
    """A file cannot be taken over; the text says which, why, and what would be right, and holds nothing of a secret."""


class WatchedFile:
    """One file and what is done with it; a broken one leaves everything as it was.

    Args:
        name: what it is, in logs, metrics and notes: `keys`, `suppressed`.
        path: where it is; it has to exist.
        take: reads its text and takes it over; raises BrokenFileError, where nothing was taken over.
        shown: is 1 while the file is broken, else 0.

    Raises:
        BrokenFileError: if it cannot be taken over at the start, when there is nothing yet to go on with.
    """

    def __init__(self, name: str, path: Path, take: Callable[[str], Callable[[], None]], shown: Gauge) -> None:
        self.name = name
        self.problem: str | None = None
        self._path = path
        self._take = take
        self._shown = shown.labels(name)
        self._seen = self._signature()
        self._digest = b""
        self._apply(self._read())

    def _signature(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size

    def _read(self) -> Callable[[], None] | None:
        """Return what takes the file over, None where it says what it said before; called in a thread.

        Raises:
            BrokenFileError: if it cannot be read.
        """
        try:
            with self._path.open("rb") as file:
                content = file.read(MOST_BYTES + 1)
            if len(content) > MOST_BYTES:
                msg = f"{self._path} is larger than {MOST_BYTES} bytes"
                raise BrokenFileError(msg)
            text = content.decode()
        except OSError as error:
            msg = f"{self._path} cannot be read: {error.strerror}"
            raise BrokenFileError(msg) from error
        except UnicodeDecodeError as error:
            msg = f"{self._path} is not UTF-8 (byte {error.start})"
            raise BrokenFileError(msg) from error
        digest = hashlib.blake2b(content, digest_size=16).digest()
        if digest == self._digest:
            return None
        try:
            apply = self._take(text)
        except BrokenFileError as error:
            msg = f"{self._path}: {error}"
            raise BrokenFileError(msg) from error
        self._digest = digest
        return apply

    def _apply(self, apply: Callable[[], None] | None) -> None:
        if apply is not None:
            apply()
        self.problem = None
        self._shown.set(0)

    async def look(self) -> None:
        """Take the file over if it has changed; tell once what is wrong with it."""
        found = self._signature()
        written = found[0] / 1e9 if found is not None else 0.0
        if found == self._seen and self.problem is None and abs(time.time() - written) > _SETTLED_SECONDS:
            return
        self._seen, was_broken = found, self.problem is not None
        try:
            apply = await asyncio.to_thread(self._read)
        except BrokenFileError as error:
            if self.problem != str(error):
                self.problem = str(error)
                self._shown.set(1)
                meaning = "what it said before holds"
                _logger.error("file_broken", file=self.name, problem=self.problem, meaning=meaning)  # noqa: TRY400
            return
        try:
            self._apply(apply)
        except (OSError, ValueError) as error:  # it has changed once more since it was tried
            self.problem = f"{self._path} cannot be taken over: {error}"
            self._digest = b""
            self._shown.set(1)
            _logger.warning("file_changes", file=self.name, problem=self.problem)
            return
        if apply is not None or was_broken:
            _logger.info("file_taken_over", file=self.name, path=os.fspath(self._path))


async def watch(files: Iterable[WatchedFile]) -> None:
    """Look at the files every second, until cancelled."""
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        for file in files:
            await file.look()
