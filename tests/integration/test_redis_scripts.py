"""Scripts that go to Redis together: each caller gets its own answer, whatever becomes of the others."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from deploy.local.services import RedisServer
from processors.adapters.redis import scripts as scripts_module
from processors.adapters.redis.scripts import Script, Scripts
from tests.services import StartService

pytestmark = pytest.mark.services

OUTBOX = Script("outbox")
"""Returns [base, outputs] of two keys: enough of a script to tell answers apart."""


@pytest.fixture
async def client(redis_server: RedisServer) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_server.url, protocol=2) as redis:
        yield redis


async def _lists(client: Redis, many: int) -> list[tuple[str, str]]:
    """Make outboxes of one output each, its own number."""
    prefix = secrets.token_hex(8)
    keys = [(f"{prefix}:{n}:partition", f"{prefix}:{n}:outbox") for n in range(many)]
    for n, (_, outbox) in enumerate(keys):
        await client.rpush(outbox, str(n))
        await client.expire(outbox, 600)
    return keys


async def test_callers_get_their_own_answers(client: Redis) -> None:
    keys, scripts = await _lists(client, 200), Scripts(client)
    await client.script_flush()
    answers = await asyncio.gather(*(scripts.run(OUTBOX, pair, [10]) for pair in keys))
    assert answers == [[0, [b"%d" % n]] for n in range(200)]


async def test_they_share_exchanges_but_not_beyond_the_bytes(client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    keys, scripts = await _lists(client, 9), Scripts(client)
    monkeypatch.setattr(scripts_module, "MOST_BYTES", 1)
    answers = await asyncio.gather(*(scripts.run(OUTBOX, pair, [10]) for pair in keys))
    assert answers == [[0, [b"%d" % n]] for n in range(9)]


async def test_one_that_fails_fails_alone(client: Redis) -> None:
    keys, scripts = await _lists(client, 3), Scripts(client)
    await client.delete(keys[1][1])
    await client.set(keys[1][1], "no list", ex=600)
    answers = await asyncio.gather(*(scripts.run(OUTBOX, pair, [10]) for pair in keys), return_exceptions=True)
    assert isinstance(answers[1], ResponseError)
    assert [answers[0], answers[2]] == [[0, [b"0"]], [0, [b"2"]]]


async def test_one_that_is_given_up_takes_nobody_with_it(client: Redis) -> None:
    keys, scripts = await _lists(client, 3), Scripts(client)
    tasks = [asyncio.create_task(scripts.run(OUTBOX, pair, [10])) for pair in keys]
    await asyncio.sleep(0)
    tasks[0].cancel()
    assert await asyncio.gather(*tasks[1:]) == [[0, [b"1"]], [0, [b"2"]]]


async def test_what_was_under_way_fails_and_the_next_is_answered(start_service: StartService, tmp_path: Path) -> None:
    server = start_service(RedisServer(tmp_path))
    async with Redis.from_url(server.url, protocol=2) as own:
        keys, scripts = await _lists(own, 20), Scripts(own)
        await scripts.run(OUTBOX, keys[0], [10])
        server.kill()
        found = await asyncio.gather(*(scripts.run(OUTBOX, pair, [10]) for pair in keys), return_exceptions=True)
        assert all(isinstance(one, RedisError) for one in found)
        server.start()
        await own.delete(keys[0][1])
        assert await scripts.run(OUTBOX, keys[0], [10]) == [0, []]
