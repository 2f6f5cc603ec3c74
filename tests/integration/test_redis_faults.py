"""Redis in trouble under a worker: nothing is lost or doubled, the worker says why it waits, and goes on by itself."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from deploy.local.services import RedisSentinel, RedisServer
from processors.adapters.redis.store import COMMIT, RedisStore
from processors.engine.query import Query
from processors.engine.runner import RETRY_MOST_SECONDS
from tests.integration.production import Deployment, Inside, Worker
from tests.integration.redis_faults import PACE_SECONDS, PARTITIONS, RedisProxy, folding
from tests.integration.test_worker_crashes import Load, ready, until
from tests.services import StartService

pytestmark = [pytest.mark.services, pytest.mark.timeout(900)]

PATIENCE_SECONDS = 60
LONG_PACE_SECONDS = 0.2
"""Between two simulated hours of a load that goes on for minutes: what it writes is held against the oracle, too."""
WAITING = "phasewatch_worker_partitions_waiting"
OWNED = "phasewatch_worker_partitions_owned"
SECRET = "hunter2-and-more"


class Fault:
    """A Redis of the test's own, and a worker that folds by it."""

    def __init__(self, redis: RedisServer, deployment: Deployment, inside: Inside, load: Load) -> None:
        self.redis, self.deployment, self.inside, self.load = redis, deployment, inside, load
        self.worker: Worker = deployment.workers["one"]

    def ask(self, command: str) -> str:
        """Have Redis do something, and return what it says."""
        answer = self.redis.ask(command)
        assert not answer.startswith("-"), answer
        return answer

    async def waits(self, why: str) -> None:
        """Return when the worker folds nothing, and says why on /readyz."""
        await until(lambda: why in str(self.worker.ready()), f"/readyz says: {why}", PATIENCE_SECONDS)
        await until(
            lambda: self.worker.metric(WAITING) == PARTITIONS, "the metrics say that it waits", PATIENCE_SECONDS
        )

    async def goes_on(self) -> None:
        """Return when the worker folds all of it again, by itself."""
        begun = time.monotonic()
        await until(lambda: self.worker.ready()["ready"], "it goes on by itself", PATIENCE_SECONDS)
        await until(lambda: self.worker.metric(OWNED) == PARTITIONS, "the metrics say so", PATIENCE_SECONDS)
        print(f"\nready {time.monotonic() - begun:.1f} s after the fault")  # noqa: T201
        self.load.check()
        hours = self.load.hours
        await until(lambda: self.load.hours > hours + 5, "the load has run on", PATIENCE_SECONDS)


@asynccontextmanager
async def one_worker(
    directory: Path, kafka: str, redis: RedisServer, *, pace_seconds: float = LONG_PACE_SECONDS, **settings: str
) -> AsyncIterator[Fault]:
    """Run one worker under load; at the end the oracle has to agree."""
    own = {f"PHASEWATCH_{name}".upper(): value for name, value in settings.items()}
    async with folding(directory, kafka, redis.url, {"one": own}, pace_seconds=pace_seconds) as (
        deployment,
        inside,
        load,
    ):
        await until(lambda: load.hours > 5, "the load runs")
        yield Fault(redis, deployment, inside, load)


@pytest.fixture
def redis(tmp_path: Path, start_service: StartService) -> RedisServer:
    return start_service(RedisServer(tmp_path / "redis"))


async def test_an_answer_that_is_lost_and_what_is_refused_for_a_while_are_waited_for(
    tmp_path: Path, kafka: str, redis: RedisServer
) -> None:
    async with (
        RedisProxy.open(redis.port) as proxy,
        one_worker(tmp_path, kafka, redis, pace_seconds=PACE_SECONDS, redis__url=proxy.url) as fault,
    ):
        fault.ask("SCRIPT FLUSH")  # not even noticed: scripts are sent again
        proxy.lose = COMMIT.digest.encode()
        await until(lambda: proxy.lost, "a commit was done whose answer was lost")
        fault.ask("CONFIG SET maxmemory 1mb")
        await fault.waits("it has reached maxmemory")
        fault.ask("CONFIG SET maxmemory 0")
        await fault.goes_on()


@pytest.mark.long
@pytest.mark.parametrize(
    "refusal",
    [
        ("CONFIG SET maxmemory 1mb", "give it more memory", "CONFIG SET maxmemory 0"),
        ("REPLICAOF 127.0.0.1 1", "let redis.url name the master", "REPLICAOF NO ONE"),
        ("CONFIG SET min-replicas-to-write 1", "min-replicas-to-write", "CONFIG SET min-replicas-to-write 0"),
        ("ACL SETUSER default -evalsha", "its user may not do that", "ACL SETUSER default +evalsha"),
        ("ACL SETUSER default -hset", "its user may not do that", "ACL SETUSER default +hset"),
    ],
    ids=["full", "a replica", "too few replicas", "no scripts", "cut short"],
)
async def test_what_redis_refuses_for_long_is_waited_for(
    tmp_path: Path, kafka: str, redis: RedisServer, refusal: tuple[str, str, str]
) -> None:
    command, why, remedy = refusal
    async with one_worker(tmp_path, kafka, redis) as fault:
        fault.ask(command)
        await fault.waits(why)
        await asyncio.sleep(RETRY_MOST_SECONDS + 5)
        await fault.waits(why)
        fault.ask(remedy)
        await fault.goes_on()


@pytest.mark.long
async def test_a_redis_that_cannot_write_its_snapshot_is_waited_for(
    tmp_path: Path, kafka: str, start_service: StartService
) -> None:
    in_the_way = tmp_path / "redis" / "dump.rdb"
    in_the_way.mkdir(parents=True)
    redis = start_service(RedisServer(tmp_path / "redis", settings={"save": "3600 1000000"}))
    async with one_worker(tmp_path, kafka, redis) as fault:
        fault.ask("BGSAVE")
        await fault.waits("it can't write to its disk")
        in_the_way.rmdir()
        fault.ask("BGSAVE")
        await fault.goes_on()


@pytest.mark.long
@pytest.mark.parametrize("seconds", [5, 90])
async def test_a_redis_that_is_away_is_waited_for(
    tmp_path: Path, kafka: str, redis: RedisServer, seconds: float
) -> None:
    async with one_worker(tmp_path, kafka, redis) as fault:
        redis.stop()
        await fault.waits("it can't be reached")
        await asyncio.sleep(seconds)
        await asyncio.to_thread(redis.start)
        await fault.goes_on()


@pytest.mark.long
async def test_a_redis_that_stands_still_does_late_what_it_was_asked(
    tmp_path: Path, kafka: str, redis: RedisServer
) -> None:
    async with one_worker(tmp_path, kafka, redis) as fault:
        for _ in range(3):
            redis.pause()
            await fault.waits("no answer came in time")
            redis.resume()
            await fault.goes_on()


@pytest.mark.long
async def test_answers_that_come_too_late_are_waited_for(tmp_path: Path, kafka: str, redis: RedisServer) -> None:
    async with (
        RedisProxy.open(redis.port) as proxy,
        one_worker(tmp_path, kafka, redis, redis__url=proxy.url) as fault,
    ):
        proxy.answer_delay_seconds = 6.0
        await fault.waits("no answer came in time")
        proxy.answer_delay_seconds = 0.0
        await fault.goes_on()
        proxy.answer_delay_seconds = 0.3  # slow, and in time
        hours = fault.load.hours
        await until(lambda: fault.load.hours > hours + 20, "the load goes on", PATIENCE_SECONDS)
        assert fault.worker.is_ready()
        proxy.answer_delay_seconds = 0.0


@pytest.mark.long
async def test_a_redis_that_reads_its_data_back_is_waited_for(tmp_path: Path, kafka: str, redis: RedisServer) -> None:
    async with one_worker(tmp_path, kafka, redis) as fault:
        fault.ask("BGREWRITEAOF")  # read back key by key then, not command by command
        await until(lambda: "aof_rewrite_in_progress:0" in fault.ask("INFO persistence"), "it has written its file")
        # Settings for Redis' own tests: it waits at each key that it reads back, and answers in between.
        redis.settings |= {"key-load-delay": "100000", "loading-process-events-interval-bytes": "1024"}
        redis.stop()
        redis.launch()
        await fault.waits("it is reading its data back")
        fault.ask("CONFIG SET key-load-delay 0")
        await fault.goes_on()


@pytest.mark.long
async def test_a_password_that_was_changed_is_waited_for_and_shown_nowhere(
    tmp_path: Path, kafka: str, redis: RedisServer
) -> None:
    redis.ask(f"ACL SETUSER worker on >{SECRET} ~* +@all")
    async with one_worker(tmp_path, kafka, redis, redis__username="worker", redis__password=SECRET) as fault:
        fault.ask("ACL SETUSER worker resetpass >another")
        fault.ask("CLIENT KILL USER worker")
        await fault.waits("check redis.username and redis.password")
        said = json.dumps(fault.worker.ready())
        fault.ask(f"ACL SETUSER worker >{SECRET}")
        await fault.goes_on()
        assert SECRET not in said + fault.worker.log.read_text("utf-8")


@pytest.mark.long
@pytest.mark.parametrize(
    "mistake",
    [
        ({"username": "worker", "password": SECRET}, "check redis.username and redis.password", f"+@all >{SECRET}"),
        ({"username": "worker", "password": "right"}, "its user may not do that", "+@all"),
        ({"url": "redis://{address}/99"}, "check the number at the end of redis.url", None),
        ({"sentinels": '["{address}"]'}, "redis.sentinels", None),
    ],
    ids=["wrong password", "rights", "wrong db", "no Sentinel"],
)
async def test_what_is_wrong_from_the_start_is_said(
    tmp_path: Path, kafka: str, redis: RedisServer, mistake: tuple[dict[str, str], str, str | None]
) -> None:
    settings, why, remedy = mistake
    redis.ask("ACL SETUSER worker on >right ~*")
    deployment = Deployment(tmp_path, kafka, redis.url, partitions=PARTITIONS)
    worker = deployment.workers["one"] = Worker(deployment, "one")
    worker.environment = {
        f"PHASEWATCH_REDIS__{name}".upper(): value.replace("{address}", redis.address)
        for name, value in settings.items()
    }
    try:
        deployment.create_topics()
        worker.launch()
        await until(lambda: why in str(worker.ready()), f"/readyz says: {why}", PATIENCE_SECONDS)
        assert SECRET not in str(worker.ready())
        if remedy is not None:
            assert redis.ask(f"ACL SETUSER worker {remedy}") == "+OK"
            await ready(worker)
        assert SECRET not in worker.log.read_text("utf-8")
        assert why in worker.log.read_text("utf-8")
    finally:
        deployment.close()


def told_of_redis(deployment: Deployment) -> list[str]:
    found = [one["fault"] for one in deployment.complaints() if one["event"] == "redis_endangers_states"]
    return [fault.partition(" (")[0] for fault in found]


@pytest.mark.long
async def test_a_redis_that_may_lose_states_is_told_of(tmp_path: Path, kafka: str, start_service: StartService) -> None:
    careless = {"appendonly": "no", "maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"}
    redis = start_service(RedisServer(tmp_path / "redis", settings=careless))
    deployment = Deployment(tmp_path, kafka, redis.url, partitions=PARTITIONS)
    persistent, may_evict = "phasewatch_redis_persistent", "phasewatch_redis_may_evict"
    try:
        deployment.create_topics()
        worker = deployment.worker("one")
        await ready(worker)
        wanted = ["Redis keeps no append-only file", "Redis may evict states"]
        await until(lambda: told_of_redis(deployment) == wanted, "it says what endangers the states", PATIENCE_SECONDS)
        assert (worker.metric(persistent), worker.metric(may_evict)) == (0, 1)
        told = await asyncio.to_thread(deployment.run, "doctor")
        assert told.returncode == 1
        assert all(remedy in told.stdout for remedy in ("Set appendonly yes", "Set maxmemory-policy noeviction"))
        redis.ask("CONFIG SET appendonly yes")
        redis.ask("CONFIG SET maxmemory-policy noeviction")
        await until(lambda: worker.metric(persistent) > worker.metric(may_evict), "it sees both", PATIENCE_SECONDS)
    finally:
        deployment.close()


@pytest.mark.long
async def test_the_replica_without_the_last_seconds_is_folded_on(
    tmp_path: Path, kafka: str, start_service: StartService
) -> None:
    master = start_service(RedisServer(tmp_path / "master"))
    replica = start_service(RedisServer(tmp_path / "replica", replica_of=master))
    sentinel = start_service(RedisSentinel(tmp_path / "sentinel", master=master))
    await until(lambda: "slaves=1" in sentinel.ask("INFO sentinel"), "the Sentinel knows the replica")
    where = {"PHASEWATCH_REDIS__SENTINELS": json.dumps([sentinel.address])}
    both: dict[str, dict[str, str]] = {"one": {}, "two": {}}
    async with folding(tmp_path, kafka, master.url, both, settings=where) as (deployment, inside, load):
        await until(lambda: load.hours > 20, "the load runs")
        replica.ask("CONFIG SET masterauth nobody-asks-for-one")  # so that it is not let in again
        master.ask("CLIENT KILL TYPE replica")
        await until(lambda: "master_link_status:down" in replica.ask("INFO replication"), "it lags")
        hours = load.hours
        await until(lambda: load.hours > hours + 20, "the load goes on")
        copy = RedisStore.open(replica.url, prefix=deployment.name)
        older, newer = await positions(copy), await positions(inside.store)
        await copy.close()
        assert any(old < new for old, new in zip(older, newer, strict=True))
        master.kill()
        await until(lambda: sentinel.master_address() == replica.address, "the replica is the master now")
        for worker in deployment.workers.values():
            await ready(worker)
        print(f"\n{sum(newer) - sum(older)} records of {sum(newer)} had to be folded again")  # noqa: T201


async def positions(store: RedisStore) -> list[int]:
    """Return up to where each partition is folded."""
    query = Query(store, PARTITIONS)
    return [0 if (state := await query.state(n)) is None else state.position.offset for n in range(PARTITIONS)]
