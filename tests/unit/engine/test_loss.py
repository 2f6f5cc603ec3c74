"""Going on behind records that the log deleted before they were folded."""

from __future__ import annotations

import pytest

from collector.wire.record import Record
from processors.adapters.sqlite.store import SqliteStore
from processors.engine.loss import accept_loss
from processors.engine.ports import FencedError, Unreadable
from tests.unit.engine.partition import PartitionLog, acquire, contents


def moved(records: list[Record | Unreadable], by: int) -> list[Record | Unreadable]:
    """Return records as they would stand so many offsets later."""
    return [Record(0, one.offset + by, one.append_time, one.draft) for one in records if isinstance(one, Record)]


async def test_what_was_folded_stays_and_what_follows_is_folded() -> None:
    log = PartitionLog()
    log.decide(0)
    store = SqliteStore(":memory:")
    try:
        owner = await acquire(store)
        await owner.take(log.records)
        end = len(log.records)
        assert await accept_loss(store, 0, 1, end + 7) == 7
        log.decide(1, user="2")
        with pytest.raises(FencedError):
            await owner.take(log.records[end:])
        unit = await acquire(store)
        assert unit.position == (end + 7, 0)
        await unit.take(moved(log.records[end:], 7))
        assert [one["person"] for one in (await contents(store)).changes()] == ["u:1", "u:2"]
        assert await accept_loss(store, 0, 1, end + 7) == 0
    finally:
        store.close()


async def test_of_a_partition_that_folded_nothing_yet() -> None:
    store = SqliteStore(":memory:")
    try:
        assert await accept_loss(store, 0, 1, 3) == 3
        assert (await acquire(store)).position == (3, 0)
    finally:
        store.close()
