"""What the other tests take for granted of their Kafka, Redis and Prometheus: what is killed comes back as it was."""

from __future__ import annotations

import socket
import uuid
from contextlib import closing
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from deploy.local import developer
from deploy.local.process import ServiceError, wait_until
from deploy.local.services import KafkaBroker, KafkaCluster, Prometheus, RedisSentinel, RedisServer
from tests.services import StartService

pytestmark = pytest.mark.services


async def create_topic(address: str, copies: int = 1) -> str:
    topic = f"test-{uuid.uuid4().hex}"
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, 1, copies)])
    finally:
        await admin.close()
    return topic


async def send(address: str, topic: str, value: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=address, acks="all", enable_idempotence=True) as producer:
        await producer.send_and_wait(topic, value)


async def read(address: str, topic: str, count: int) -> list[bytes]:
    async with AIOKafkaConsumer(bootstrap_servers=address, auto_offset_reset="earliest") as consumer:
        consumer.assign([TopicPartition(topic, 0)])
        return [(await consumer.getone()).value for _ in range(count)]


async def test_the_shared_kafka_takes_and_gives(kafka: str) -> None:
    topic = await create_topic(kafka)
    await send(kafka, topic, b"one")
    assert await read(kafka, topic, 1) == [b"one"]


async def test_a_killed_kafka_comes_back_with_its_records(start_service: StartService, tmp_path: Path) -> None:
    broker = start_service(KafkaBroker(tmp_path / "kafka", settings={"message.max.bytes": "2000000"}))
    topic = await create_topic(broker.address)
    await send(broker.address, topic, b"before")
    broker.kill()
    assert not broker.is_ready()
    broker.start()
    await send(broker.address, topic, b"after")
    assert await read(broker.address, topic, 2) == [b"before", b"after"]
    broker.pause()
    assert not broker.is_ready()
    broker.resume()
    wait_until(broker.is_ready, "Kafka answers after a pause", 20)
    broker.restart()
    assert await read(broker.address, topic, 2) == [b"before", b"after"]


@pytest.mark.long
@pytest.mark.usefixtures("logged_errors")  # aiokafka logs one for each address where nobody answers
async def test_a_cluster_loses_nothing_with_one_broker(start_service: StartService, tmp_path: Path) -> None:
    cluster = start_service(KafkaCluster(tmp_path / "cluster"))
    topic = await create_topic(cluster.address, copies=3)
    await send(cluster.address, topic, b"with three")
    cluster.brokers[0].kill()
    await send(cluster.address, topic, b"with two")
    assert await read(cluster.address, topic, 2) == [b"with three", b"with two"]
    cluster.brokers[0].start()
    cluster.wait_until_whole()
    cluster.brokers[1].kill()
    await send(cluster.address, topic, b"with another two")
    assert await read(cluster.address, topic, 3) == [b"with three", b"with two", b"with another two"]


def test_the_shared_redis_answers_and_may_neither_evict_nor_forget(redis_server: RedisServer) -> None:
    assert redis_server.ask("PING") == "+PONG"
    assert "maxmemory_policy:noeviction" in redis_server.ask("INFO memory")
    assert "aof_enabled:1" in redis_server.ask("INFO persistence")


def test_a_killed_redis_comes_back_with_its_keys(start_service: StartService, tmp_path: Path) -> None:
    server = start_service(RedisServer(tmp_path / "redis"))
    assert server.ask("SET stage decision") == "+OK"
    server.kill()
    assert not server.is_ready()
    server.start()
    assert server.ask("GET stage") == "decision"
    server.pause()
    assert not server.is_ready()
    server.resume()
    assert server.ask("GET stage") == "decision"
    server.pause()
    server.restart()
    assert server.ask("GET stage") == "decision"


@pytest.mark.long
def test_a_sentinel_makes_the_replica_master_and_a_restart_keeps_that(
    start_service: StartService, tmp_path: Path
) -> None:
    master = start_service(RedisServer(tmp_path / "master"))
    replica = start_service(RedisServer(tmp_path / "replica", replica_of=master))
    sentinel = start_service(RedisSentinel(tmp_path / "sentinel", master=master))
    wait_until(lambda: "slaves=1" in sentinel.ask("INFO sentinel"), "the Sentinel knows the replica", 20)
    assert sentinel.master_address() == master.address
    assert master.ask("SET stage holding") == "+OK"
    assert master.ask("WAIT 1 5000") == ":1"
    master.kill()
    wait_until(lambda: sentinel.master_address() == replica.address, "the replica is master", 30)
    assert replica.ask("GET stage") == "holding"
    master.start()
    wait_until(lambda: "role:slave" in master.ask("INFO replication"), "the old master is a replica", 60)
    master.restart()
    assert "role:slave" in master.ask("INFO replication")
    assert master.ask("GET stage") == "holding"


def test_prometheus_runs_over_a_given_configuration(start_service: StartService, tmp_path: Path) -> None:
    configuration = tmp_path / "prometheus.yml"
    configuration.write_text("global: {scrape_interval: 1s}\n", encoding="utf-8")
    prometheus = start_service(Prometheus(tmp_path / "prometheus", configuration))
    prometheus.restart()
    prometheus.stop()
    assert not prometheus.is_ready()


def test_a_failed_start_shows_the_end_of_the_log(start_service: StartService, tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match=r"ended with exit code 1(?s:.*)appendfsync"):
        start_service(RedisServer(tmp_path / "redis", settings={"appendfsync": "sometimes"}))


def test_what_was_not_started_from_here_is_left_alone(redis_server: RedisServer, tmp_path: Path) -> None:
    lent = RedisServer(tmp_path / "lent", port=redis_server.port)
    assert lent.is_ready()
    with pytest.raises(ServiceError, match="was not started from here"):
        lent.kill()
    lent.close()
    assert lent.is_ready()


def test_make_services_starts_what_does_not_run_and_ends_what_it_started(
    start_service: StartService, tmp_path: Path
) -> None:
    somebodys = start_service(RedisServer(tmp_path / "somebodys"))
    with closing(RedisServer(tmp_path / "redis")) as server:
        ports = [server.port]
        assert developer.start(server, ports).startswith(f"Redis started at {server.address}")
        later = RedisServer(server.data, port=server.port)
        assert developer.start(later, ports).startswith(f"Redis at {server.address} runs already")
        with pytest.raises(ServiceError, match="does not answer"):
            developer.start(RedisServer(server.data), [])
        server.pause()
        assert developer.stop(later).startswith("Redis stopped")
        assert not server.is_ready()
        developer.pid_file(server).write_text(str(somebodys.pid), encoding="utf-8")
        assert developer.stop(later) == "Redis does not run"
        assert somebodys.is_ready()


def test_make_services_says_that_a_port_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        port = somebody.getsockname()[1]
        with pytest.raises(ServiceError, match=f"another program listens at 127.0.0.1:{port}"):
            developer.start(RedisServer(tmp_path / "redis", port=port), [port])
