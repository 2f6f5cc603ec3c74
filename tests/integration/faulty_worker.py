"""The worker's own command, which kills itself at a named point: `python -m tests.integration.faulty_worker ...`.

FAULT_POINT names the point, FAULT_AFTER how many times it is passed before.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence

from phasewatch import worker_process
from phasewatch.access import kafka_access
from phasewatch.cli import app
from phasewatch.settings import Settings
from processors.adapters.kafka.publisher import KafkaPublisher
from processors.adapters.redis.store import RedisStore
from processors.engine.outputs import Output
from processors.engine.ports import Commit, Hold

POINTS = ("before commit", "after commit", "after publish", "before trim")

_left = int(os.environ.get("FAULT_AFTER", "0"))


def at(point: str) -> None:
    """Die as by kill -9 where the point is the chosen one and was passed often enough."""
    global _left  # noqa: PLW0603 - one process, one life
    if point == os.environ["FAULT_POINT"]:
        if not _left:
            os.kill(os.getpid(), signal.SIGKILL)
        _left -= 1


class FaultyStore(RedisStore):
    """A store whose owner dies around its commits and trims."""

    async def load(self, partition: int, keys: Sequence[str], hold: Hold | None = None) -> dict[str, bytes]:
        """Load, or not."""
        at("before load")
        return await super().load(partition, keys, hold)

    async def commit(self, commit: Commit) -> int:
        """Commit, or not."""
        at("before commit")
        last = await super().commit(commit)
        at("after commit")
        return last

    async def trim(self, partition: int, token: str, upto: int) -> None:
        """Trim, or not."""
        at("before trim")
        await super().trim(partition, token, upto)


class FaultyPublisher(KafkaPublisher):
    """A way out whose owner dies after using it."""

    async def publish(self, outputs: Sequence[Output]) -> None:
        """Publish, and die perhaps."""
        at("before publish")
        await super().publish(outputs)
        at("after publish")


def open_store(settings: Settings) -> RedisStore:
    """Return a store as the product's own, with the fault in it."""
    redis = settings.redis
    return FaultyStore.open(redis.url, prefix=redis.prefix)


def open_publisher(settings: Settings) -> KafkaPublisher:
    """Return a publisher as the product's own, with the fault in it."""
    return FaultyPublisher(kafka_access(settings), settings.kafka.topic_prefix)


if __name__ == "__main__":
    vars(worker_process).update(open_redis_store=open_store, open_publisher=open_publisher)
    app()
