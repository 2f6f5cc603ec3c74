"""A log that holds what can't be read, is too small for what is written, or has lost records: said, and not skipped."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from collector.wire.kafka_access import KafkaAccess
from collector.wire.partition import partition_of
from collector.wire.record import Draft, Kind, Record
from deploy.local.services import KafkaBroker, RedisServer
from phasewatch.data_dir import now_ms
from processors.adapters.kafka.sending import Sender
from processors.engine.outputs import EVENTS, SET_ASIDE, Output
from processors.engine.ports import StoreUnavailableError
from tests.agreement import differences
from tests.integration.production import Deployment, Inside, Worker, once
from tests.integration.test_worker_crashes import until
from tests.oracle import run
from tests.services import StartService

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]

PARTITIONS = 4
SUBMIT: Final = {"type": "submit", "page": {"path": "/orders/new"}}


@asynccontextmanager
async def folding(directory: Path, kafka: str, redis: RedisServer) -> AsyncIterator[tuple[Deployment, Worker, Inside]]:
    """Run one worker on topics of the test's own."""
    deployment = Deployment(directory, kafka, redis.url, partitions=PARTITIONS)
    try:
        deployment.create_topics()
        worker = deployment.worker("one")
        await asyncio.to_thread(worker.wait_ready, 60)
        async with Inside.open(deployment) as inside:
            await inside.settle()
            yield deployment, worker, inside
    finally:
        deployment.close()


@pytest.fixture
def people() -> dict[int, list[str]]:
    """Users of each partition."""
    found: dict[int, list[str]] = {partition: [] for partition in range(PARTITIONS)}
    for number in range(200):
        found[partition_of(f"u:user-{number}", PARTITIONS)].append(f"user-{number}")
    return found


def block(user: str) -> Draft:
    value = b"".join(
        json.dumps(
            {"id": f"{user}-{n}", "occurred_at": now_ms(), "received_at": now_ms(), "user_id": user} | SUBMIT
        ).encode()
        + b"\n"
        for n in range(3)
    )
    return Draft(Kind.EVENTS, now_ms(), value, 3)


def raw_headers(**changed: bytes | None) -> list[tuple[str, bytes | None]]:
    said: dict[str, bytes | None] = {"kind": b"events", "schema": b"1", "count": b"1", "clock": b"%d" % now_ms()}
    return list((said | changed).items())


LINE = b'{"id":"x-%d","type":"page","occurred_at":1,"received_at":1,"user_id":"%s"}\n'


def junk(users: Mapping[int, list[str]]) -> dict[str, tuple[list[tuple[str, bytes | None]], bytes | None]]:
    """Return what no program of ours writes into partition 0, by what is wrong with it: headers and value."""
    here, elsewhere = users[0][0].encode(), users[1][0].encode()
    return {
        "no headers": ([], b"{}"),
        "headers without values": ([("kind", None), ("schema", None), ("count", None), ("clock", None)], b""),
        "an unknown kind": (raw_headers(kind=b"dance"), b"{}"),
        "a clock of words": (raw_headers(clock=b"noon"), LINE % (0, here)),
        "a clock before 1970": (raw_headers(clock=b"-5"), LINE % (1, here)),
        "binary": (raw_headers(), bytes(range(256)) * 40),
        "half a line": (raw_headers(), (LINE % (2, here))[:40]),
        "more events than said": (raw_headers(), LINE % (3, here) + LINE % (4, here)),
        "fewer events than said": (raw_headers(count=b"3"), LINE % (5, here)),
        "no value": (raw_headers(), None),
        "another partition's": (raw_headers(), LINE % (6, elsewhere)),
        "nested without end": (raw_headers(), b"[" * 100_000),
        "a number that nothing holds": (raw_headers(), (LINE % (7, here)).replace(b":1,", b":%d," % 10**40)),
    }


async def write(deployment: Deployment, topic: str, partition: int, rows: list[tuple[Any, bytes | None]]) -> list[int]:
    """Append rows of (headers, value) as anybody may; return their offsets."""
    settings = deployment.settings.kafka
    async with AIOKafkaProducer(bootstrap_servers=settings.brokers) as producer:
        sent = [
            await producer.send_and_wait(
                settings.topic_prefix + topic, value, key=b"k", partition=partition, headers=headers
            )
            for headers, value in rows
        ]
        return [one.offset for one in sent]


async def test_what_can_not_be_read_is_set_aside(
    tmp_path: Path, kafka: str, redis_server: RedisServer, people: dict[int, list[str]]
) -> None:
    """With position and bytes, counted; what stands before, behind and beside it counts."""
    async with folding(tmp_path, kafka, redis_server) as (deployment, worker, inside):
        bad = junk(people)
        await inside.log.append([(partition, block(people[partition][0])) for partition in range(PARTITIONS)])
        offsets = await write(deployment, "events", 0, list(bad.values()))
        await inside.log.append([(partition, block(people[partition][1])) for partition in range(PARTITIONS)])
        await inside.settle()
        aside = await inside.messages(SET_ASIDE)
        found = {int(headers["offset"]): (partition, value, headers) for partition, _, value, headers in aside}
        assert len(aside) == len(bad)
        for (name, (_, value)), offset in zip(bad.items(), offsets, strict=True):
            partition, kept, headers = found[offset]
            assert (partition, kept, int(headers["bytes"])) == (0, value or b"", len(value or b"")), name
            assert headers["reason"], name
        assert worker.metric("phasewatch_worker_records_set_aside_total") == len(bad)
        changes, repeats = once(await inside.messages("stage-changes"))
        records = await inside.records(without={(0, offset) for offset in offsets})
        assert not differences(changes, await inside.states(), run(records))
        assert {f"u:{people[n][k]}" for n in range(PARTITIONS) for k in (0, 1)} <= changes.keys()
        assert repeats == 0
        assert await asyncio.to_thread(worker.is_ready)
        assert deployment.complaints() == []


async def administered(deployment: Deployment, what: Any) -> None:
    """Let an administrator of Kafka do something."""
    client = AIOKafkaAdminClient(bootstrap_servers=deployment.settings.kafka.brokers)
    await client.start()
    try:
        await what(client, deployment.settings.kafka.topic_prefix)
    finally:
        await client.close()


async def delete_records(deployment: Deployment, partition: int, before: int) -> None:
    """Delete a partition's records before an offset, as retention does."""

    async def delete(client: AIOKafkaAdminClient, prefix: str) -> None:
        place = TopicPartition(prefix + EVENTS, partition)
        await client.delete_records({place: RecordsToDelete(before_offset=before)})

    await administered(deployment, delete)


async def set_topic(deployment: Deployment, topic: str, **settings: str) -> None:
    """Set settings of a topic, and no others."""

    async def alter(client: AIOKafkaAdminClient, prefix: str) -> None:
        values = {name.replace("_", "."): value for name, value in settings.items()}
        await client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, prefix + topic, values)])

    await administered(deployment, alter)


async def says(worker: Worker, part: str, *words: str, seconds: float = 40) -> str:
    """Wait until /readyz has words for a part; return all that it says of that."""

    def found() -> bool:
        text = worker.ready().get("not_ready", {}).get(part, "")
        return all(word in text for word in words)

    await until(found, f"{part} says {words}: {worker.ready()}", seconds)
    return str(worker.ready()["not_ready"][part])


async def folded(inside: Inside, user: str) -> None:
    """Wait until a user is known."""
    deadline = time.monotonic() + 40
    while await inside.query.person(f"u:{user}") is None:
        assert time.monotonic() < deadline, f"{user} is not folded: {inside.deployment.workers['one'].ready()}"
        await asyncio.sleep(0.02)


@pytest.mark.long
async def test_records_deleted_before_they_were_folded_stop_their_partition(
    tmp_path: Path, kafka: str, redis_server: RedisServer, people: dict[int, list[str]]
) -> None:
    """Until an operator accepts the loss; other partitions go on, and no restart is needed."""
    async with folding(tmp_path, kafka, redis_server) as (deployment, worker, inside):
        worker.pause()
        await inside.log.append([(2, block(people[2][n])) for n in range(5)])
        _, end = await inside.log.bounds(2)
        await delete_records(deployment, 2, end - 1)
        worker.resume()
        told = await says(worker, "partitions", "2: stopped", "4 records are missing", "phasewatch accept-loss 2")
        print(f"\n/readyz: {told}")  # noqa: T201 - what an operator reads
        await inside.log.append([(1, block(people[1][0]))])
        await folded(inside, people[1][0])
        doctor = await asyncio.to_thread(deployment.run, "doctor")
        assert doctor.returncode == 1
        assert "positions" in doctor.stdout
        assert "4 records are missing" in doctor.stdout
        asked = await asyncio.to_thread(deployment.run, "accept-loss", "2")
        assert (asked.returncode, "--yes" in asked.stdout) == (1, True), asked.stderr
        print(asked.stdout)  # noqa: T201
        other = await asyncio.to_thread(deployment.run, "accept-loss", "1", "--yes")
        assert (other.returncode, "nothing was deleted" in other.stderr) == (2, True)
        done = await asyncio.to_thread(deployment.run, "accept-loss", "2", "--yes")
        assert done.returncode == 0, done.stdout + done.stderr
        await folded(inside, people[2][4])
        assert await inside.query.person(f"u:{people[2][0]}") is None
        await until(worker.is_ready, "all partitions are folded")
        assert worker.metric_of("phasewatch_worker_takeovers_total", result="mismatch") >= 1


@pytest.mark.long
async def test_a_log_that_ends_before_the_states_stops_its_partition(
    tmp_path: Path,
    redis_server: RedisServer,
    people: dict[int, list[str]],
    start_service: StartService,
    logged_errors: list[str],
) -> None:
    """As after the election of a leader that lacks records; here its only broker has lost a partition's files."""
    broker = start_service(KafkaBroker(tmp_path / "kafka"))
    async with folding(tmp_path, broker.address, redis_server) as (deployment, worker, inside):
        await inside.log.append([(3, block(people[3][n])) for n in range(5)])
        await inside.settle()
        await asyncio.to_thread(broker.stop)
        folder = broker.data / "topics" / f"{deployment.settings.kafka.topic_prefix}{EVENTS}-3"
        for file in folder.iterdir():
            if file.name != "partition.metadata":
                file.unlink()
        await asyncio.to_thread(broker.start)
        assert all(one.startswith("aiokafka: Unable") for one in logged_errors), "this test's own client tells of it"
        told = await says(worker, "partitions", "3: stopped", "6 records are missing", "cut or made anew")
        print(f"\n/readyz: {told}")  # noqa: T201
        await inside.log.append([(n, block(people[n][0])) for n in range(3)])
        for n in range(3):
            await folded(inside, people[n][0])
        doctor = await asyncio.to_thread(deployment.run, "doctor")
        assert (doctor.returncode, "6 records are missing" in doctor.stdout) == (1, True), doctor.stdout
        refused = await asyncio.to_thread(deployment.run, "accept-loss", "3", "--yes")
        assert refused.returncode == 2
        # Once the log has grown beyond the states again, the record before them is another one than was folded.
        await inside.log.append([(3, block(people[3][10 + n])) for n in range(8)])
        await says(worker, "partitions", "3: stopped", "is not the one that was folded")
        assert await inside.query.person(f"u:{people[3][17]}") is None


@pytest.mark.long
async def test_a_topic_made_anew_stops_every_worker(
    tmp_path: Path, kafka: str, redis_server: RedisServer, people: dict[int, list[str]]
) -> None:
    async with folding(tmp_path, kafka, redis_server) as (deployment, worker, inside):
        await inside.log.append([(n, block(people[n][0])) for n in range(PARTITIONS)])
        await inside.settle()

        async def delete(client: AIOKafkaAdminClient, prefix: str) -> None:
            await client.delete_topics([prefix + EVENTS])

        await administered(deployment, delete)

        def created() -> bool:
            return deployment.run("topics").returncode == 0

        await until(created, "the topic is made anew")
        await until(lambda: worker.process.poll() is not None, "the worker has stopped")
        assert "was made anew" in worker.log.read_text("utf-8")
        worker.launch()
        await until(lambda: worker.process.poll() is not None, "it does not start on another log")
        doctor = await asyncio.to_thread(deployment.run, "doctor")
        assert doctor.returncode == 1
        assert "they belong to the log" in doctor.stdout


@pytest.mark.long
async def test_a_topic_that_takes_only_small_records_is_named_and_waited_for(
    tmp_path: Path, kafka: str, redis_server: RedisServer, people: dict[int, list[str]]
) -> None:
    async with folding(tmp_path, kafka, redis_server) as (deployment, worker, inside):
        await set_topic(deployment, "stage-changes", max_message_bytes="300", message_timestamp_type="LogAppendTime")
        await inside.log.append([(0, block(people[0][0]))])
        prefix = deployment.settings.kafka.topic_prefix
        told = await says(worker, "partitions", f"0: Kafka at {kafka}", f"{prefix}stage-changes", "max.message.bytes")
        print(f"\n/readyz: {told}")  # noqa: T201
        await inside.log.append([(1, Draft(Kind.TICK, now_ms()))])
        mended = await asyncio.to_thread(deployment.run, "topics")
        assert mended.returncode == 0, mended.stdout + mended.stderr
        await inside.settle()
        changes, _ = once(await inside.messages("stage-changes"))
        assert len(changes[f"u:{people[0][0]}"]) == 1
        await until(worker.is_ready, "it goes on by itself")


@pytest.mark.long
async def test_what_can_not_be_unpacked_holds_up_its_partition_alone(
    tmp_path: Path, kafka: str, redis_server: RedisServer, people: dict[int, list[str]]
) -> None:
    async with folding(tmp_path, kafka, redis_server) as (deployment, worker, inside):
        await set_topic(deployment, EVENTS, compression_type="zstd", message_timestamp_type="LogAppendTime")
        await inside.log.append([(1, block(people[1][0]))])
        told = await says(worker, "partitions", "1: partition 1 of topic", "compression.type=producer")
        print(f"\n/readyz: {told}")  # noqa: T201
        await set_topic(deployment, EVENTS, message_timestamp_type="LogAppendTime")
        others = (0, 2, 3)
        for turn in range(3):
            await inside.log.append([(n, block(people[n][turn])) for n in others])
            for n in others:
                await folded(inside, people[n][turn])
        assert worker.process.poll() is None
        assert worker.metric("phasewatch_worker_partitions_owned") >= len(others)


@pytest.mark.long
async def test_a_transfer_larger_than_a_record_may_be_goes_compressed(kafka: str, tmp_path: Path) -> None:
    """The largest state under the largest definitions of a window of 14 days: 200 behaviours in each of 336 hours."""
    deployment = Deployment(tmp_path, kafka, "redis://unused", partitions=1)
    await asyncio.to_thread(deployment.create_topics)
    rng = random.Random(1)
    counts = b",".join(
        b'"%d":%d' % ((490_000 + h) * 4096 + n, rng.randrange(300)) for h in range(336) for n in range(200)
    )
    value = b"{" + counts + b"}" + counts
    draft = Draft(Kind.TRANSFER, 1, value, 0, source="0-1/0")
    sender = Sender(KafkaAccess(kafka), deployment.settings.kafka.topic_prefix)
    small = Output(EVENTS, 0, None, tuple(Draft(Kind.TICK, 2).headers()), b"")
    try:
        await sender.send([small, Output(EVENTS, 0, None, tuple(draft.headers()), value), small])
        random_bytes = Output(EVENTS, 0, None, (), random.Random(2).randbytes(2_000_000))
        with pytest.raises(StoreUnavailableError, match=r"max\.message\.bytes"):
            await sender.send([random_bytes])
        await sender.send([small])
    finally:
        await sender.close()
    async with Inside.open(deployment) as inside:
        found = await inside.log.read(0, 0, 10)
    assert [isinstance(one, Record) and len(one.draft.value) for one in found[-4:]] == [0, len(value), 0, 0]
    print(f"\n{len(value)} bytes")  # noqa: T201
