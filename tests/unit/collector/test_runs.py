"""Events that are encoded a person at a time make the same blocks as one by one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from collector.ingest import Ingest
from collector.metrics import CollectorMetrics
from collector.wire.block import BlockBuilder, decode_events
from collector.wire.event import Event
from collector.wire.record import Draft

NOW = 1_795_288_859_000
PARTITIONS = 3
EVENTS = st.builds(
    Event,
    id=st.uuids().map(str),
    type=st.sampled_from(["page", "page", "click", "identify"]),
    occurred_at=st.just(NOW),
    received_at=st.just(NOW),
    anonymous_id=st.sampled_from(["a-1", "a-2", "a-3"]),
    user_id=st.sampled_from([None, None, "u-1"]),
)


class KeepingSink:
    """Keeps what it is given."""

    partitions = PARTITIONS

    def __init__(self) -> None:
        self.blocks: list[tuple[int, Draft]] = []

    async def write(self, blocks: Sequence[tuple[int, Draft]]) -> None:
        self.blocks += blocks

    async def write_rejected(self, rejected: Sequence[tuple[str, bytes]]) -> None:
        assert not rejected

    async def not_ready(self) -> str | None:
        return None

    async def close(self) -> None:
        pass


def through_ingest(requests: list[list[Event]], block_bytes: int) -> list[tuple[int, Draft]]:
    sink = KeepingSink()

    async def put() -> None:
        metrics = CollectorMetrics(CollectorRegistry())
        ingest = Ingest(sink, linger_ms=0, queue_bytes=2**20, block_bytes=block_bytes, metrics=metrics)
        await asyncio.gather(*[ingest.put(events, []) for events in requests])

    asyncio.run(put())
    return sink.blocks


REQUESTS: Any = st.lists(st.lists(EVENTS, max_size=6), max_size=4)


@given(REQUESTS)
def test_the_same_blocks_as_one_by_one(requests: list[list[Event]]) -> None:
    builder = BlockBuilder(PARTITIONS, max_bytes=2**20)
    for event in (event for events in requests for event in events):
        builder.add(event, event.received_at)
    assert through_ingest(requests, 2**20) == builder.take()


@given(REQUESTS, st.sampled_from([1, 200, 400]))
def test_small_blocks_hold_the_same_in_the_same_order(requests: list[list[Event]], block_bytes: int) -> None:
    blocks = through_ingest(requests, block_bytes)
    expected = through_ingest(requests, 2**20)
    for partition in range(PARTITIONS):
        values = [draft.value for place, draft in blocks if place == partition]
        assert b"".join(values) == b"".join(draft.value for place, draft in expected if place == partition)
    for _, draft in blocks:
        events = decode_events(draft.value)
        assert len(events) == draft.count
        assert len(draft.value) <= block_bytes or len(events) == 1
        assert all(event.type != "identify" for event in events[:-1])
