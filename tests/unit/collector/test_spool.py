"""The spooling sink over a log in memory that can be away, sick in parts, or slow; the spool is a real one."""

from __future__ import annotations

import asyncio
import random
import re
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from collector.metrics import SpoolMetrics
from collector.sinks.port import Failed, SinkUnavailableError
from collector.sinks.spool import Spool, SpoolLimits
from collector.sinks.spool_drain import LANE_ROWS
from collector.sinks.spool_file import Lane, SpoolFile, look_around
from collector.sinks.spool_sink import SpoolingSink
from collector.wire.log_file import EVENTS, REJECTED, Row
from collector.wire.record import Draft, Kind, read_headers

NOW = 1_795_288_859_000
PARTITIONS = 4
PATIENCE_SECONDS = 20
ROOT = Path(__file__).parents[3]


class MemoryLog:
    """What several connections write to; a connection sends in rounds, as the one to Kafka does."""

    def __init__(self) -> None:
        self.rows: dict[Lane, list[Row]] = defaultdict(list)
        self.away = False
        self.sick: set[int] = set()
        self.seconds = 0.0
        self.sends = 0

    def takes(self, lane: Lane) -> bool:
        return not self.away and lane[1] not in self.sick

    def values(self, partition: int) -> list[bytes]:
        """Return a partition's values without repeats, as the fold sees them."""
        return list(dict.fromkeys(row.value or b"" for row in self.rows[EVENTS, partition]))

    @property
    def count(self) -> int:
        return sum(len(rows) for rows in self.rows.values())


class Connection:
    """A connection to it."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self._waiting: list[tuple[list[Row], Failed, asyncio.Future[None]]] = []
        self._rounds: asyncio.Task[None] | None = None

    @property
    def partitions(self) -> int:
        return PARTITIONS

    def send(self, rows: Sequence[Row], failed: Failed) -> asyncio.Future[None]:
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((list(rows), failed, done))
        if self._rounds is None:
            self._rounds = asyncio.create_task(self._run())
        return done

    async def _run(self) -> None:
        while self._waiting:
            writes, self._waiting = self._waiting, []
            await asyncio.sleep(self._log.seconds)
            self._log.sends += 1
            bad: set[Lane] = set()
            for rows, _, _ in writes:
                for row in rows:
                    lane = (row.topic, row.partition)
                    if lane not in bad and self._log.takes(lane):
                        self._log.rows[lane].append(row)
                    else:
                        bad.add(lane)
            for rows, failed, done in writes + self._waiting:
                back = [row for row in rows if (row.topic, row.partition) in bad]
                rows[:] = [row for row in rows if row not in back]
                if back and not done.done():
                    failed(back, SinkUnavailableError("it is away"))
                if (rows, failed, done) not in self._waiting and not done.done():
                    done.set_result(None)
            self._waiting = [write for write in self._waiting if write[0] or write[2].set_result(None)]  # type: ignore[func-returns-value]
        self._rounds = None

    async def not_ready(self) -> str | None:
        return "it is away" if self._log.away else None

    async def abandon(self) -> None:
        if self._rounds is not None:
            self._rounds.cancel()
            await asyncio.wait([self._rounds])

    async def close(self) -> None:
        if self._rounds is not None:
            await self._rounds


class Place:
    """A folder and a log, and the sinks of as many processes as a test wants."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = MemoryLog()
        self.registry = CollectorRegistry()
        self.now = NOW
        self._open: list[SpoolingSink] = []

    def sink(
        self, *, max_bytes: int = 100_000_000, rate: int = 100_000_000, registry: CollectorRegistry | None = None
    ) -> SpoolingSink:
        metrics = SpoolMetrics(registry or CollectorRegistry())
        spool = Spool(self.directory, SpoolLimits(max_bytes, 0), lambda: self.now, metrics)
        sink = SpoolingSink(spool, Connection(self.log), Connection(self.log), drain_bytes_per_second=rate)
        self._open.append(sink)
        return sink

    async def close(self) -> None:
        for sink in self._open:
            await sink.close()

    def spooled(self) -> int:
        return sum(one.rows for one in look_around(self.directory))

    async def drained(self, sink: SpoolingSink) -> None:
        await until(lambda: sink.note() is None)


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    found = Place(tmp_path / "spool")
    yield found
    await found.close()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110 - what is waited for is another task's or the disk's
            await asyncio.sleep(0.01)


def block(partition: int, value: object, clock: int = NOW) -> tuple[int, Draft]:
    return partition, Draft(kind=Kind.EVENTS, clock=clock, value=str(value).encode(), count=1)


async def fill(sink: SpoolingSink) -> tuple[int, SinkUnavailableError]:
    """Write until it is refused; return how many were not, and what is said then."""
    for kept in range(100):
        try:
            await sink.write([block(0, f"{kept} " + "x" * 10_000)])
        except SinkUnavailableError as error:
            return kept, error
    pytest.fail("it is never full")


async def test_with_kafka_there_nothing_is_spooled(place: Place) -> None:
    sink = place.sink()
    await sink.write([block(0, "a"), block(1, "b")])
    await sink.write_rejected([("web", b"{}")])
    assert place.log.count == 3
    assert not list(place.directory.glob("*.spool"))
    assert (await sink.not_ready(), sink.note()) == (None, None)


async def test_while_kafka_is_away_all_is_kept_and_drained_in_order_with_its_clock(place: Place) -> None:
    sink = place.sink()
    place.log.away = True
    for number in range(60):
        await sink.write([block(partition, number, NOW - number) for partition in range(PARTITIONS)])
    await sink.write_rejected([("web", b'{"reason":"malformed"}')])
    assert (place.log.count, place.spooled()) == (0, 60 * PARTITIONS + 1)
    assert await sink.not_ready() is None
    assert "241 blocks and rejected events wait in the spool for Kafka: it is away" in str(sink.note())
    place.log.away = False
    await place.drained(sink)
    for partition in range(PARTITIONS):
        found = place.log.rows[EVENTS, partition]
        assert place.log.values(partition) == [b"%d" % number for number in range(60)]
        assert [read_headers(list(row.headers), b"").clock for row in found] == [NOW - number for number in range(60)]
    assert [(row.key, row.value) for row in place.log.rows[REJECTED, -1]] == [(b"web", b'{"reason":"malformed"}')]
    await sink.write([block(0, "direct")])
    assert place.log.values(0)[-1] == b"direct"
    assert sink.note() is None


async def test_all_partitions_are_drained_side_by_side(place: Place) -> None:
    """In the order of time over all of them: what one partition makes of another's is then seldom late."""
    sink = place.sink(rate=64_000)
    place.log.away = True
    for number in range(400):
        await sink.write([block(partition, f"{number:03}" + "x" * 100) for partition in range(PARTITIONS)])
    place.log.away = False
    await until(lambda: place.log.count > 200)
    furthest = [len(place.log.values(partition)) for partition in range(PARTITIONS)]
    assert max(furthest) - min(furthest) <= LANE_ROWS
    assert place.log.count < 1600, "it was drained at once"
    await sink.close()


async def test_the_rate_is_bounded(place: Place) -> None:
    sink = place.sink(rate=100_000)
    place.log.away = True
    await sink.write([block(0, "x" * 1000) for _ in range(100)])
    place.log.away = False
    began = time.monotonic()
    await place.drained(sink)
    assert time.monotonic() - began > 0.8


async def test_one_sick_partition_keeps_nobody_else_waiting(place: Place) -> None:
    sink = place.sink()
    place.log.sick = {2}
    await sink.write([block(2, "a"), block(0, "b")])
    place.log.seconds = 0.0
    for number in range(20):
        await sink.write([block(2, number), block(0, number)])
    assert place.log.values(0) == [b"b", *(b"%d" % number for number in range(20))]
    assert place.log.values(2) == []
    place.log.sick = set()
    await place.drained(sink)
    assert place.log.values(2) == [b"a", *(b"%d" % number for number in range(20))]


async def test_order_holds_through_faults_at_random(place: Place) -> None:
    rng, sink = random.Random(5), place.sink()
    place.log.seconds = 0.002
    numbers = [0] * PARTITIONS
    writing = [asyncio.create_task(sink.write([]))]
    ends = time.monotonic() + 2
    while time.monotonic() < ends:
        if rng.random() < 0.05:
            place.log.away = rng.random() < 0.5
            place.log.sick = {partition for partition in range(PARTITIONS) if rng.random() < 0.3}
        blocks = []
        for partition in rng.sample(range(PARTITIONS), rng.randrange(1, PARTITIONS + 1)):
            blocks.append(block(partition, numbers[partition]))
            numbers[partition] += 1
        writing.append(asyncio.create_task(sink.write(blocks)))
        await asyncio.sleep(rng.choice((0, 0.001, 0.005)))
    place.log.away, place.log.sick = False, set()
    await asyncio.gather(*writing)
    await place.drained(sink)
    assert sum(numbers) > 200
    for partition, count in enumerate(numbers):
        assert place.log.values(partition) == [b"%d" % number for number in range(count)]


async def test_it_is_left_again_however_fast_more_comes(place: Place) -> None:
    sink = place.sink()
    place.log.away = True
    await sink.write([block(0, "first")])
    place.log.away, place.log.seconds = False, 0.001
    stop = asyncio.Event()

    async def writer(name: int) -> int:
        count = 0
        while not stop.is_set():
            await sink.write([block(0, f"{name}-{count}")])
            count += 1
        return count

    writers = [asyncio.create_task(writer(name)) for name in range(5)]
    await until(lambda: place.log.count > 5)
    await place.drained(sink)
    stop.set()
    counts = await asyncio.gather(*writers)
    assert place.log.values(0)[0] == b"first"
    for name, count in enumerate(counts):
        own = [value for value in place.log.values(0) if value.startswith(b"%d-" % name)]
        assert own == [b"%d-%d" % (name, number) for number in range(count)]


async def test_a_full_spool_refuses_and_says_so_and_the_rest_is_kept(place: Place) -> None:
    sink = place.sink(max_bytes=300_000, registry=place.registry)
    place.log.away = True
    kept, error = await fill(sink)
    assert re.search(r"is full: .* bytes are taken, spool.max_bytes is 300,000", str(error))
    assert 5 < kept < 30
    assert str(await sink.not_ready()).startswith("it is away; and the spool in ")
    assert place.registry.get_sample_value("phasewatch_collector_spool_refused_total", {"reason": "full"}) == 1
    place.log.away = False
    await place.drained(sink)
    assert len(place.log.values(0)) == kept
    await sink.write([block(0, "again")])
    assert place.log.values(0)[-1] == b"again"


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size, which the kernel tells as it tells of a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_disk_that_fails_refuses_and_what_was_kept_stays(place: Place) -> None:
    sink = place.sink()
    place.log.away = True
    with largest_file(200_000):
        kept, error = await fill(sink)
    assert "cannot be used" in str(error)
    assert kept > 5
    await sink.write([block(0, "more room")])
    place.log.away = False
    await place.drained(sink)
    assert len(place.log.values(0)) == kept + 1


async def test_a_disk_without_any_room_left_is_drained_all_the_same(place: Place) -> None:
    """Deleting needs room too: what was sent is remembered, and the file removed as a whole."""
    sink = place.sink()
    place.log.away = True
    for number in range(200):
        await sink.write([block(number % PARTITIONS, number)])
    with largest_file(1):
        place.log.away = False
        await place.drained(sink)
        await until(lambda: not list(place.directory.glob("*.spool")))
    assert place.log.count == 200, "nothing is sent twice"
    place.log.away = True
    await sink.write([block(0, "again")])
    place.log.away = False
    await place.drained(sink)
    assert place.log.values(0)[-1] == b"again"


async def test_one_outage_after_the_other(place: Place) -> None:
    sink = place.sink()
    for number in range(6):
        place.log.away = number % 2 == 0
        await sink.write([block(0, number)])
        await until(lambda: place.log.away or sink.note() is None)
    place.log.away = False
    await place.drained(sink)
    assert place.log.values(0) == [b"%d" % number for number in range(6)]


async def test_with_neither_kafka_nor_a_spool_each_request_asks_kafka(place: Place) -> None:
    place.directory.parent.joinpath("spool").write_text("no folder")
    sink = place.sink()
    place.log.away = True
    for _ in range(3):
        with pytest.raises(SinkUnavailableError, match="spool's folder"):
            await sink.write([block(0, "a")])
    place.log.away = False
    await sink.write([block(0, "b")])
    assert place.log.values(0) == [b"b"]


async def test_what_a_stop_leaves_is_drained_by_any_other_process(place: Place) -> None:
    place.log.away = True
    for name in range(3):
        sink = place.sink()
        await sink.write([block(partition, f"{name}-{partition}") for partition in range(PARTITIONS)])
        await sink.close()
    assert place.spooled() == 3 * PARTITIONS
    assert [one.held for one in look_around(place.directory)] == [False] * 3
    place.log.away = False
    others = [place.sink(), place.sink()]
    await until(lambda: place.log.count >= 3 * PARTITIONS)
    for sink in others:
        await place.drained(sink)
    assert place.log.count == 3 * PARTITIONS, "each file has one process that drains it"
    await until(lambda: not list(place.directory.iterdir()))


async def test_what_a_living_process_has_is_left_to_it(place: Place) -> None:
    place.log.away = True
    one, two = place.sink(), place.sink()
    await one.write([block(0, "a")])
    await two.write([block(0, "b")])
    assert [found.held for found in look_around(place.directory)] == [True, True]
    assert SpoolFile.adopt(look_around(place.directory)[0].path) is None


WRITER = """
import sys
from pathlib import Path
from collector.sinks.spool_file import SpoolFile
from collector.wire.log_file import Row
file = SpoolFile.create(Path(sys.argv[1]))
for number in range(100000):
    file.append([Row("events", number % 4, None, [("clock", b"1")], b"%d" % number)], 1)
    print(number, flush=True)
"""


def killed_writer(directory: Path) -> int:
    """Run a process that spools one row after the other, kill it, and return the last number that it acknowledged."""
    command = [sys.executable, "-c", WRITER, str(directory)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = next(line for line in process.stdout if int(line) >= 50)
        process.send_signal(signal.SIGKILL)
        return int([line, *process.stdout.read().split()][-1])


async def test_a_process_that_is_killed_while_it_spools_loses_nothing_acknowledged(place: Place) -> None:
    place.directory.mkdir()
    last = killed_writer(place.directory)
    assert place.spooled() in {last + 1, last + 2}
    sink = place.sink()
    await until(lambda: place.log.count > last)
    await place.drained(sink)
    values = {int(value) for partition in range(PARTITIONS) for value in place.log.values(partition)}
    assert values >= set(range(last + 1))


async def spooled_file(place: Place, rows: int) -> Path:
    """Return the file that a process has left with so many rows, each large enough to lie on pages of its own."""
    place.log.away = True
    sink = place.sink()
    for number in range(rows):
        await sink.write([block(0, f"{number} " + "x" * 20_000)])
    await sink.close()
    (found,) = place.directory.glob("*.spool")
    return found


def garbage(path: Path, *, begin: int) -> None:
    """Write over a file from a place on."""
    data = bytearray(path.read_bytes())
    data[begin:] = random.Random(1).randbytes(len(data) - begin)
    path.write_bytes(data)


async def is_set_aside(place: Place, path: Path) -> None:
    sink = place.sink(registry=place.registry)
    aside = path.with_name(path.name + ".set-aside")
    await until(aside.exists)
    await until(lambda: place.registry.get_sample_value("phasewatch_collector_spool_set_aside_total"))
    place.log.away = False
    await sink.write([block(0, "goes on")])
    await place.drained(sink)
    assert place.log.values(0)[-1] == b"goes on"
    assert [one.fault for one in look_around(place.directory)] == ["it was set aside as damaged"]


async def test_a_file_that_is_no_database_is_set_aside(place: Place, logged_errors: list[str]) -> None:
    path = await spooled_file(place, 3)
    garbage(path, begin=0)
    await is_set_aside(place, path)
    assert "spool_file_set_aside" in logged_errors[0]


async def test_a_file_that_is_torn_is_set_aside_after_what_can_be_read(place: Place, logged_errors: list[str]) -> None:
    path = await spooled_file(place, 40)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 3)
    await is_set_aside(place, path)
    assert "spool_file_set_aside" in logged_errors[0]


async def test_a_row_that_has_changed_on_disk_is_kept_apart_and_the_rest_drained(
    place: Place, logged_errors: list[str]
) -> None:
    path = await spooled_file(place, 5)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE rows SET value = zeroblob(100) WHERE id = 3")
    place.log.away = False
    sink = place.sink(registry=place.registry)
    await until(lambda: place.log.count == 4)
    await place.drained(sink)
    assert [value.split()[0] for value in place.log.values(0)] == [b"0", b"1", b"3", b"4"]
    assert place.registry.get_sample_value("phasewatch_collector_spool_set_aside_total") == 1
    aside = path.with_name(path.name + ".set-aside")
    await until(aside.exists)
    with closing(sqlite3.connect(aside)) as connection:
        assert connection.execute("SELECT id, length(value) FROM damaged").fetchall() == [(3, 100)]
    assert "spool_rows_set_aside" in logged_errors[0]


async def test_its_own_file_may_break_while_it_runs(place: Place, logged_errors: list[str]) -> None:
    place.log.away = True
    sink = place.sink()
    for number in range(40):
        await sink.write([block(0, f"{number} " + "x" * 20_000)])
    (path,) = place.directory.glob("*.spool")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    garbage(path, begin=4096)
    failures = 0
    for number in range(20):
        try:
            await sink.write([block(1, number)])
        except SinkUnavailableError:
            failures += 1
    assert failures <= 2
    place.log.away = False
    await place.drained(sink)
    assert len(place.log.values(1)) == 20 - failures
    assert any("spool_file_set_aside" in line for line in logged_errors)


async def test_the_metrics_tell_how_much_waits_and_for_how_long(place: Place) -> None:
    def value(name: str) -> float:
        return place.registry.get_sample_value(f"phasewatch_collector_spool_{name}") or 0

    place.log.away = True
    sink = place.sink(registry=place.registry)
    await sink.write([block(0, "a"), block(1, "b")])
    place.now += 90_000
    await until(lambda: value("rows") == 2 and value("oldest_seconds") == 90)
    assert 0 < value("bytes") < value("limit_bytes") == 100_000_000
    assert value("written_total") == 2
    place.log.away = False
    await place.drained(sink)
    await until(lambda: value("rows") == 0 == value("oldest_seconds"))
    assert value("drained_total") == 2


async def test_a_large_file_gives_the_disk_back_once_it_is_drained(place: Place) -> None:
    place.log.away = True
    sink = place.sink()
    for _ in range(6):
        await sink.write([block(0, "x" * 1_000_000)])
    place.log.away = False
    await place.drained(sink)
    await until(lambda: not list(place.directory.iterdir()))


async def test_a_writer_that_is_cancelled_harms_nobody(place: Place) -> None:
    place.log.away = True
    sink = place.sink()
    task = asyncio.create_task(sink.write([block(0, "a")]))
    await asyncio.sleep(0)
    task.cancel()
    await sink.write([block(0, "b")])
    place.log.away = False
    await place.drained(sink)
    assert place.log.values(0)[-1] == b"b"


async def test_a_stop_in_mid_write_makes_it_durable(place: Place) -> None:
    place.log.seconds = 0.05
    sink = place.sink()
    await sink.write([block(0, "there")])
    place.log.away = True
    writing: list[Awaitable[None]] = [asyncio.ensure_future(sink.write([block(0, number)])) for number in range(20)]
    await asyncio.sleep(0)
    await sink.close()
    await asyncio.gather(*writing)
    assert place.spooled() == 20
    with pytest.raises(SinkUnavailableError, match="stopping"):
        await sink.write([block(0, "late")])
    assert "stopping" in str(await sink.not_ready())
