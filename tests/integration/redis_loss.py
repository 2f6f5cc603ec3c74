"""A Redis that comes back without the last it was told, as after a power cut with `appendfsync everysec`."""

from __future__ import annotations

import asyncio
import shutil

from deploy.local.services import RedisServer


def keep_files(redis: RedisServer) -> None:
    """Put a copy of its append-only files aside."""
    before = redis.data / "before"
    shutil.rmtree(before, ignore_errors=True)
    shutil.copytree(redis.data / "appendonlydir", before)


def bring_back(redis: RedisServer) -> None:
    """Kill it, put its files back to what they were at `keep_files`, and start it again."""
    redis.kill()
    shutil.rmtree(redis.data / "appendonlydir")
    (redis.data / "before").rename(redis.data / "appendonlydir")
    redis.start()


async def lose_a_second(redis: RedisServer) -> None:
    """Set it back by a second."""
    await asyncio.to_thread(keep_files, redis)
    await asyncio.sleep(1)  # the second that is lost
    await asyncio.to_thread(bring_back, redis)
