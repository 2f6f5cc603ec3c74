"""What a fold sends out: messages of the output topics, and derived records back into `events`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

EVENTS: Final = "events"
SET_ASIDE: Final = "set-aside"
"""Records that could not be read, with their position."""


@dataclass(frozen=True, slots=True)
class Output:
    """One message: topic, the partition it goes to, key, headers, and its value (None: a tombstone)."""

    topic: str
    partition: int
    key: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    value: bytes | None
