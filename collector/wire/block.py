"""The block codec: many events of one partition as newline-delimited JSON in one record."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from collector.wire.event import Event, routing_key
from collector.wire.partition import partition_of
from collector.wire.record import HOUR_MS, Draft, Kind, UnreadableRecordError

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Event)


def encode_event(event: Event) -> bytes:
    """Return the event as one JSON line, without the newline."""
    return _encoder.encode(event)


def encode_events(events: Sequence[Event]) -> bytes:
    """Return the events as JSON lines, a newline after each; half of the cost of one by one."""
    return _encoder.encode_lines(events)


def decode_events(value: bytes) -> list[Event]:
    """Return the events of a block's value, in order.

    Raises:
        UnreadableRecordError: if a line is no event.
    """
    try:
        return _decoder.decode_lines(value)
    except msgspec.MsgspecError as error:
        msg = f"a block's value: {error}"
        raise UnreadableRecordError(msg) from error


class BlockBuilder:
    """Collects events of any person and cuts them into blocks, one partition and one hour of `clock` each.

    A block ends at an `identify`, so that an anonymous person's next life begins at another offset, and when it
    reaches `max_bytes`.
    """

    def __init__(self, partitions: int, *, max_bytes: int, imported: bool = False) -> None:
        self._partitions = partitions
        self._max_bytes = max_bytes
        self._imported = imported
        self._open: dict[int, list[bytes]] = {}
        self._size: dict[int, int] = {}
        self._count: dict[int, int] = {}
        self._clock: dict[int, int] = {}
        self._closed: list[tuple[int, Draft]] = []

    def add(self, event: Event, clock: int) -> None:
        """Add one event that was received, or for history happened, at `clock` (UTC milliseconds)."""
        self.add_lines(routing_key(event), encode_events((event,)), 1, clock, last=event.type == "identify")

    def add_lines(self, key: str, encoded: bytes, count: int, clock: int, *, last: bool = False) -> None:
        """Add `count` events of the person `key`, as `encode_events` gives them; `last` ends their block."""
        partition = partition_of(key, self._partitions)
        lines = self._open.get(partition)
        if lines is not None and (
            self._clock[partition] // HOUR_MS != clock // HOUR_MS
            or self._size[partition] + len(encoded) > self._max_bytes
        ):
            self._close(partition)
            lines = None
        if lines is None:
            lines = self._open[partition] = []
            self._size[partition] = 0
            self._count[partition] = 0
            self._clock[partition] = clock
        lines.append(encoded)
        self._size[partition] += len(encoded)
        self._count[partition] += count
        self._clock[partition] = max(self._clock[partition], clock)
        if last:
            self._close(partition)

    def _close(self, partition: int) -> None:
        lines = self._open.pop(partition)
        self._closed.append(
            (
                partition,
                Draft(
                    kind=Kind.EVENTS,
                    clock=self._clock.pop(partition),
                    value=b"".join(lines),
                    count=self._count.pop(partition),
                    imported=self._imported,
                ),
            )
        )
        del self._size[partition]

    def take(self) -> list[tuple[int, Draft]]:
        """Return all blocks so far as (partition, draft), in the order they were closed, and start anew."""
        for partition in list(self._open):
            self._close(partition)
        closed, self._closed = self._closed, []
        return closed
