"""Opening what the settings name in production: the log on Kafka, the states in Redis."""

from __future__ import annotations

from typing import Final

from phasewatch.errors import UsageError
from phasewatch.settings import Settings
from processors.adapters.kafka.log import KafkaLog
from processors.adapters.kafka.publisher import KafkaPublisher
from processors.adapters.redis.store import RedisStore
from processors.engine.outputs import EVENTS

__all__ = ["events_topic", "group_of", "open_kafka_log", "open_publisher", "open_redis_store", "require_kafka"]

_WORKERS: Final = "worker"


def require_kafka(settings: Settings, what: str) -> None:
    """Raise UsageError, naming the setting, where no Kafka is set."""
    if not settings.kafka.brokers:
        msg = (
            f"phasewatch {what} works on Kafka, and kafka.brokers is not set. Name its addresses in the settings file "
            "or in PHASEWATCH_KAFKA__BROKERS=host:9092; without a Kafka, `phasewatch up` does it all in one process"
        )
        raise UsageError(msg)


def events_topic(settings: Settings) -> str:
    """Return the name of topic `events`."""
    return settings.kafka.topic_prefix + EVENTS


def group_of(settings: Settings) -> str:
    """Return the name of the workers' consumer group: `phasewatch-worker` with the default prefix (contract)."""
    return f"{settings.kafka.topic_prefix.removesuffix('.')}-{_WORKERS}"


async def open_kafka_log(settings: Settings) -> KafkaLog:
    """Connect to the log.

    Raises:
        StoreUnavailableError: if Kafka can't be reached, or has no such topic.
    """
    return await KafkaLog.open(settings.kafka.brokers, settings.kafka.topic_prefix)


def open_publisher(settings: Settings) -> KafkaPublisher:
    """Return the way out for a worker's outputs; it connects when it is first used."""
    return KafkaPublisher(settings.kafka.brokers, settings.kafka.topic_prefix)


def open_redis_store(settings: Settings) -> RedisStore:
    """Return the state store; it connects when it is first used."""
    redis = settings.redis
    return RedisStore.open(
        redis.url,
        username=redis.username,
        password=redis.password.get_secret_value(),
        sentinels=redis.sentinels,
        sentinel_service=redis.sentinel_service,
        prefix=redis.prefix,
    )
