"""Records past their retention go; what is still needed stays."""

from __future__ import annotations

from pathlib import Path

from collector.wire.record import Draft, Kind, Record
from processors.adapters.sqlite.log import SqliteLog
from processors.engine.outputs import Output


async def test_old_records_go_but_for_what_is_still_needed(tmp_path: Path) -> None:
    """Unfolded records, each partition's last one (it tells the next offset), and everybody's latest stage stay."""
    now = 1_000
    log = SqliteLog(tmp_path / "log.sqlite", partitions=2, log_id="t", clock=lambda: now)
    await log.append([(0, Draft(Kind.TICK, n)) for n in range(5)] + [(1, Draft(Kind.TICK, n)) for n in range(3)])
    await log.publish(
        [Output("stages", 0, key, (), value) for key, value in ((b"u:1", b"a"), (b"u:1", b"b"), (b"u:2", b"c"))]
        + [Output("stage-changes", 0, b"u:1", (), value) for value in (b"a", b"b")]
    )
    now = 5_000
    await log.append([(0, Draft(Kind.TICK, now))])

    await log.forget_before(2_000, [4, 3])

    assert await log.bounds(0) == (3, 6)
    assert await log.bounds(1) == (2, 3)
    assert [record.offset for record in await log.read(0, 0, 10) if isinstance(record, Record)] == [3, 4, 5]
    assert [value for _, value in await log.changes("0", 10)] == [b"b"]
    await log.append([(1, Draft(Kind.TICK, now))])
    assert await log.bounds(1) == (2, 4)
    log.close()
