"""What the tests of Redis' faults and of takeovers share: workers under load, and a proxy between them and Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from tests.integration.production import Deployment, Inside, Worker
from tests.integration.test_worker_crashes import Load, agrees, ready, until

PARTITIONS = 8
PACE_SECONDS = 0.05
HOURS_AT_LEAST = 60
"""Simulated before what was written is held against the oracle: enough for some tens of changes."""

Environments = Mapping[str, Mapping[str, str]]


@asynccontextmanager
async def folding(
    directory: Path,
    kafka: str,
    redis_url: str,
    workers: Environments,
    *,
    hours: int = HOURS_AT_LEAST,
    pace_seconds: float = PACE_SECONDS,
    settings: Mapping[str, str] | None = None,
) -> AsyncIterator[tuple[Deployment, Inside, Load]]:
    """Run workers under load; at the end hold what was written against the oracle.

    Args:
        directory: for logs.
        kafka: address of Kafka.
        redis_url: of the Redis, for workers that name no other.
        workers: their names, each with environment variables of its own.
        hours: simulated at least.
        pace_seconds: between two of them.
        settings: environment variables for all.
    """
    deployment = Deployment(directory, kafka, redis_url, partitions=PARTITIONS)
    deployment.environment |= settings or {}
    try:
        deployment.create_topics()
        for name, environment in workers.items():
            deployment.workers[name] = worker = Worker(deployment, name)
            worker.environment = dict(environment)
            worker.launch()
        for worker in deployment.workers.values():
            await ready(worker)
        async with Inside.open(deployment) as inside:
            await inside.settle()
            load = Load(inside, pace_seconds)
            try:
                yield deployment, inside, load
                await until(lambda: load.hours >= hours, "the load has run for a while", 120)
            finally:
                await load.end()
            await inside.settle()
            for worker in deployment.workers.values():
                worker.kill()  # else its ticks, of this year, would come into what is compared
            await agrees(inside)
    finally:
        deployment.close()


class RedisProxy:
    """Stands between a worker and its Redis: holds requests back, delays answers, or loses them; made by `open`."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self._passing = asyncio.Event()
        self._passing.set()
        self.answer_delay_seconds = 0.0
        """How long each answer takes in addition."""
        self.held: bytes | None = None
        """A request that contains this waits until `release`, whatever has become of its connection meanwhile."""
        self.holding = 0
        """How many requests wait."""
        self.lose: bytes | None = None
        """The answer to the next request that contains this is dropped, with its connection."""
        self.lost = 0
        """How many answers were dropped."""

    @classmethod
    @asynccontextmanager
    async def open(cls, port: int) -> AsyncIterator[RedisProxy]:
        """Listen on a free port of loopback for as long as it is needed; `port` is the Redis's."""
        proxy = cls(port)
        proxy._server = await asyncio.start_server(proxy._serve, "127.0.0.1", 0)
        try:
            yield proxy
        finally:
            proxy._server.close()
            proxy.release()
            for task in proxy._tasks:
                task.cancel()
            await asyncio.gather(*proxy._tasks, return_exceptions=True)
            for writer in proxy._writers:
                writer.close()

    @property
    def url(self) -> str:
        """Of the first database, through the proxy."""
        assert self._server is not None
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"

    def hold(self, what: bytes) -> None:
        """Hold requests back that contain `what`, until `release`."""
        self.held = what
        self._passing.clear()

    def release(self) -> None:
        """Let everything through again, what was held back first."""
        self.held = None
        self._passing.set()

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        redis, to_redis = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers += [to_client, to_redis]
        connection = _Connection()
        tasks = [
            asyncio.create_task(self._ask(client, to_redis, connection)),
            asyncio.create_task(self._answer(redis, to_client, connection)),
        ]
        self._tasks.update(tasks)
        await asyncio.wait(tasks)
        self._tasks.difference_update(tasks)

    async def _ask(self, client: asyncio.StreamReader, to_redis: asyncio.StreamWriter, connection: _Connection) -> None:
        try:
            while chunk := await client.read(1 << 16):
                if self.held is not None and self.held in chunk:
                    self.holding += 1
                    await self._passing.wait()
                    self.holding -= 1
                if self.lose is not None and self.lose in chunk:
                    connection.losing, self.lose = True, None
                to_redis.write(chunk)
                await to_redis.drain()
        except ConnectionError:
            pass
        finally:
            to_redis.close()

    async def _answer(self, redis: asyncio.StreamReader, to_client: asyncio.StreamWriter, one: _Connection) -> None:
        try:
            while chunk := await redis.read(1 << 16):
                if one.losing and chunk[:1] == b":":  # done; what was refused with NOSCRIPT or FENCED was not
                    self.lost += 1
                    break
                if self.answer_delay_seconds:
                    await asyncio.sleep(self.answer_delay_seconds)
                to_client.write(chunk)
                await to_client.drain()
        except ConnectionError:
            pass
        finally:
            to_client.close()


class _Connection:
    """One connection of the worker's."""

    losing = False
