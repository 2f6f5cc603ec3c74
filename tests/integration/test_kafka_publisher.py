"""Publishing on a real Kafka: who owns topic `stages`, what follows a failure, and what a subscriber reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest

from collector.wire.kafka_access import KafkaAccess
from deploy.local.services import KafkaBroker
from processors.adapters.kafka import sending, stages
from processors.adapters.kafka.log import KafkaLog
from processors.adapters.kafka.publisher import KafkaPublisher
from processors.adapters.kafka.sending import discard, send_in_order, start_producer
from processors.engine.outputs import EVENTS, Output
from processors.engine.ports import FencedError, StoreUnavailableError
from processors.wire import CHANGE_TYPE, STAGE_CHANGES, STAGES, change_headers, decode_change
from tests.kafka_topics import create_topics, read_topic
from tests.services import running
from tests.unit.console.messages import message

pytestmark = pytest.mark.services

PARTITIONS = 4


@pytest.fixture
async def prefix(kafka: str) -> str:
    return await create_topics(kafka, PARTITIONS, EVENTS, STAGE_CHANGES, STAGES, "entered.decision")


@pytest.fixture
async def owners(kafka: str, prefix: str) -> AsyncIterator[tuple[KafkaPublisher, KafkaPublisher]]:
    """Two workers' publishers; none owns anything yet."""
    async with AsyncExitStack() as closing:
        found = KafkaPublisher(KafkaAccess(kafka), prefix), KafkaPublisher(KafkaAccess(kafka), prefix)
        for one in found:
            closing.push_async_callback(one.close)
        yield found


def stage(person: str, value: bytes | None, partition: int = 0) -> Output:
    return Output(STAGES, partition, person.encode(), (), value)


async def stages_of(kafka: str, prefix: str, partition: int = 0) -> list[tuple[bytes, bytes | None]]:
    return [(one.key, one.value) for one in await read_topic(kafka, prefix + STAGES, partition)]


async def test_a_later_owner_fences_the_one_before(
    kafka: str, prefix: str, owners: tuple[KafkaPublisher, KafkaPublisher]
) -> None:
    former, later = owners
    await former.begin(0)
    await former.publish([stage("u:1", b"1")])
    await former.flush(0)
    await former.publish([stage("u:1", b"2")])
    await later.begin(0)
    with pytest.raises(FencedError, match="another owner"):
        await former.flush(0)
    with pytest.raises(FencedError, match="acquire anew"):
        await former.flush(0)
    await later.publish([stage("u:1", b"3")])
    await later.flush(0)
    assert await stages_of(kafka, prefix) == [(b"u:1", b"1"), (b"u:1", b"3")]


async def test_an_owner_paused_in_its_transaction_leaves_nothing_to_see(
    kafka: str, prefix: str, owners: tuple[KafkaPublisher, KafkaPublisher]
) -> None:
    paused = await start_producer(KafkaAccess(kafka), transactional_id=f"{prefix}{STAGES}-0")
    await paused.begin_transaction()
    await send_in_order(paused, prefix + STAGES, 0, [stage("u:1", b"old")])
    await owners[0].begin(0)
    await owners[0].publish([stage("u:1", b"new")])
    await owners[0].flush(0)
    with pytest.raises(stages._LOST):  # noqa: SLF001 - the errors by which the writer knows
        await paused.commit_transaction()
    await discard(paused)
    assert await stages_of(kafka, prefix) == [(b"u:1", b"new")]
    uncommitted = await read_topic(kafka, prefix + STAGES, 0, isolation="read_uncommitted")
    assert [one.value for one in uncommitted] == [b"old", b"new"]


async def test_owners_of_different_partitions_do_not_disturb_each_other(
    kafka: str, prefix: str, owners: tuple[KafkaPublisher, KafkaPublisher]
) -> None:
    for partition, owner in enumerate((*owners, *owners)):
        await owner.begin(partition)
        await owner.publish([stage("u:1", b"%d" % partition, partition)])
    for partition, owner in enumerate((*owners, *owners)):
        await owner.flush(partition)
        assert await stages_of(kafka, prefix, partition) == [(b"u:1", b"%d" % partition)]
    await owners[0].end(0)
    with pytest.raises(FencedError, match="not begun here"):
        await owners[0].publish([stage("u:1", b"late")])
    await owners[0].publish([stage("u:1", b"more", 2)])
    await owners[0].flush(2)
    assert (await stages_of(kafka, prefix, 2))[-1] == (b"u:1", b"more")


async def test_the_latest_of_each_person_is_written_and_tombstones_are(
    kafka: str, prefix: str, owners: tuple[KafkaPublisher, KafkaPublisher]
) -> None:
    publisher = owners[0]
    await publisher.begin(1)
    await publisher.publish([stage(who, value, 1) for who, value in (("u:1", b"a"), ("u:2", b"b"), ("u:1", b"c"))])
    assert await stages_of(kafka, prefix, 1) == []
    await publisher.flush(1)
    await publisher.publish([stage("u:2", None, 1)])
    await publisher.flush(1)
    await publisher.flush(1)
    assert await stages_of(kafka, prefix, 1) == [(b"u:2", b"b"), (b"u:1", b"c"), (b"u:2", None)]


async def test_what_waits_for_a_flush_is_bounded(
    kafka: str, prefix: str, owners: tuple[KafkaPublisher, KafkaPublisher]
) -> None:
    publisher = owners[0]
    await publisher.begin(0)
    count = stages.MOST_WAITING_BYTES // 10_000 + 10
    await publisher.publish([stage(f"u:{n}", bytes(10_000)) for n in range(count)])
    assert count - 20 < len(await stages_of(kafka, prefix)) < count
    await publisher.flush(0)
    assert [key for key, _ in await stages_of(kafka, prefix)] == [b"u:%d" % n for n in range(count)]


async def test_batches_keep_their_order(kafka: str, prefix: str, owners: tuple[KafkaPublisher, KafkaPublisher]) -> None:
    """Of some MB: several batches to each of two partitions, and one record that is larger than any batch."""
    outputs = [Output(STAGE_CHANGES, n % 2, b"u", (), b"%05d" % n + bytes(n % 7 * 2000)) for n in range(600)]
    outputs.insert(300, Output(STAGE_CHANGES, 0, b"u", (), b"00299" + bytes(1_000_000)))
    await owners[0].publish(outputs)
    for partition in range(2):
        found = await read_topic(kafka, prefix + STAGE_CHANGES, partition)
        assert [one.value[:5] for one in found] == [
            one.value[:5] for one in outputs if one.partition == partition and one.value
        ]


async def test_a_subscriber_reads_keys_and_cloudevents_headers(
    kafka: str, prefix: str, owners: tuple[KafkaPublisher, KafkaPublisher]
) -> None:
    value = message("张三")
    change = decode_change(value)
    headers = tuple(change_headers(change, "shop"))
    await owners[0].publish([Output("entered.decision", 3, change.person.encode(), headers, value)])
    (record,) = await read_topic(kafka, prefix + "entered.decision", 3)
    assert (record.key, record.value) == ("u:张三".encode(), value)
    found = dict(record.headers)
    assert (found["ce_specversion"], found["ce_type"], found["ce_source"]) == (b"1.0", CHANGE_TYPE.encode(), b"shop")
    assert (found["ce_id"], found["user_id"]) == (change.id.encode(), "张三".encode())
    assert record.timestamp_type == 1  # LogAppendTime


async def test_a_partition_that_is_not_there_is_told(owners: tuple[KafkaPublisher, KafkaPublisher]) -> None:
    with pytest.raises(StoreUnavailableError, match=f"has {PARTITIONS} partitions, and none of number 9"):
        await owners[0].publish([Output(STAGE_CHANGES, 9, b"u:1", (), b"x")])
    await owners[0].publish([Output(STAGE_CHANGES, 3, b"u:1", (), b"x")])


async def test_the_id_of_a_log_tells_it_from_one_of_the_same_name(kafka: str, prefix: str) -> None:
    async def log_id(of: str) -> str:
        log = await KafkaLog.open(KafkaAccess(kafka), of)
        await log.close()
        return log.log_id

    assert await log_id(prefix) == await log_id(prefix)
    assert await log_id(prefix) != await log_id(
        await create_topics(kafka, PARTITIONS, EVENTS, STAGE_CHANGES, STAGES, "entered.decision")
    )
    with pytest.raises(StoreUnavailableError, match=r"has no topic nobody\.events: `phasewatch topics` creates it"):
        await KafkaLog.open(KafkaAccess(kafka), "nobody.")


@pytest.fixture(scope="module")
def own_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    with running(KafkaBroker(tmp_path_factory.mktemp("kafka"))) as broker:
        yield broker


@pytest.fixture
def broker(own_broker: KafkaBroker, monkeypatch: pytest.MonkeyPatch) -> Iterator[KafkaBroker]:
    """A Kafka that may be paused, and little patience with it."""
    monkeypatch.setattr(sending, "DELIVERY_SECONDS", 0.5)
    monkeypatch.setattr(stages, "DELIVERY_SECONDS", 0.5)
    yield own_broker
    own_broker.resume()


async def until_published(publisher: KafkaPublisher, outputs: list[Output]) -> int:
    """Publish as a worker does, from the first output again after every failure; return how often it failed."""
    failures = 0
    async with asyncio.timeout(60):
        while True:
            try:
                await publisher.publish(outputs)
            except StoreUnavailableError:
                failures += 1
            else:
                return failures


async def test_after_a_failure_nothing_is_skipped(broker: KafkaBroker, logged_errors: list[str]) -> None:
    """A reader that drops what is lower than what it has heard still hears everything."""
    prefix = await create_topics(broker.address, 1, EVENTS, STAGE_CHANGES, STAGES)
    publisher = KafkaPublisher(KafkaAccess(broker.address), prefix)
    failures = sent = 0
    for pause in range(6):
        outputs = [Output(STAGE_CHANGES, 0, b"u", (), b"%05d" % n + bytes(90_000)) for n in range(sent, sent + 60)]
        sent += len(outputs)
        publishing = asyncio.create_task(until_published(publisher, outputs))
        await asyncio.sleep(pause * 0.01)  # anywhere in it
        broker.pause()
        await asyncio.sleep(0.8)  # longer than the publisher is patient
        broker.resume()
        failures += await publishing
    await publisher.close()
    assert failures > 3
    heard = -1
    for one in await read_topic(broker.address, prefix + STAGE_CHANGES, 0):
        number = int(one.value[:5])
        assert number <= heard + 1, f"{number} came after {heard}: what is between is lost"
        heard = max(heard, number)
    assert heard == sent - 1
    logged_errors.clear()  # aiokafka's, about connections


async def test_a_flush_without_an_answer_is_done_again_by_a_new_writer(
    broker: KafkaBroker, logged_errors: list[str]
) -> None:
    prefix = await create_topics(broker.address, 1, EVENTS, STAGE_CHANGES, STAGES)
    publisher = KafkaPublisher(KafkaAccess(broker.address), prefix)
    await _begin(publisher)
    await publisher.publish([stage("u:1", b"1")])
    await publisher.flush(0)
    outbox = [stage("u:1", b"2"), stage("u:2", b"3")]
    await publisher.publish(outbox)
    broker.pause()
    with pytest.raises(StoreUnavailableError, match="no acknowledgement in time"):
        await publisher.flush(0)
    with pytest.raises(FencedError):
        await publisher.flush(0)
    with pytest.raises(StoreUnavailableError):
        await publisher.begin(0)
    broker.resume()
    await _begin(publisher)
    await publisher.publish(outbox)
    await publisher.flush(0)
    await publisher.close()
    found = dict(await stages_of(broker.address, prefix))
    assert found == {b"u:1": b"2", b"u:2": b"3"}
    logged_errors.clear()  # aiokafka's, about connections


async def _begin(publisher: KafkaPublisher) -> None:
    """Begin; a transaction's coordinator takes its time when a broker is new or was paused."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await publisher.begin(0)
            except StoreUnavailableError:
                continue


async def test_readers_of_a_log_are_told_when_it_is_away(
    broker: KafkaBroker, logged_errors: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from processors.adapters.kafka import log as module  # noqa: PLC0415 - patched below

    monkeypatch.setattr(module, "REQUEST_TIMEOUT_MS", 500)
    prefix = await create_topics(broker.address, 1, EVENTS, STAGE_CHANGES, STAGES)
    log = await KafkaLog.open(KafkaAccess(broker.address), prefix)
    assert await log.bounds(0) == (0, 0)
    broker.pause()
    for asking in (log.bounds(0), log.all_bounds(), log.read(0, 0, 1)):
        with pytest.raises(StoreUnavailableError, match=r"topic .*events of Kafka at .* can't be read"):
            await asking
    broker.resume()
    async with asyncio.timeout(30):
        while True:
            try:
                assert await log.bounds(0) == (0, 0)
                break
            except StoreUnavailableError:
                continue
    await log.close()
    logged_errors.clear()  # aiokafka's, about connections
