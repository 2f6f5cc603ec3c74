"""Which topic a name stands for right now: the id that Kafka gives a topic when it is created, and its partitions.

A topic that is deleted and created anew keeps its name and begins at offset 0 again; only its id tells. aiokafka asks
for metadata in version 5, ids came with version 10 (KIP-516): so version 12 is described here, with aiokafka's own
types and sent by its own client, which negotiates versions per connection. Every broker since Kafka 3.1 knows it.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    AbstractType,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from collector.wire.kafka_access import KafkaAccess, explained
from processors.engine.ports import StoreUnavailableError

_NO_ID: Final = bytes(16)
_REQUEST_TIMEOUT_MS: Final = 10_000
_UNKNOWN_TOPIC: Final = 3
"""UNKNOWN_TOPIC_OR_PARTITION, Kafka protocol guide, "Error codes"."""


class _Uuid(AbstractType[bytes]):  # type: ignore[misc]  # aiokafka ships no types
    """Sixteen bytes as they are (Kafka protocol guide, "Protocol primitive types")."""

    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        return data.read(16)


_COMPACT: Final = CompactString("utf-8")


class _MetadataResponse(Response):  # type: ignore[misc]  # as above
    API_KEY = 3
    API_VERSION = 12
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32), ("host", _COMPACT), ("port", Int32), ("rack", _COMPACT), ("tags", TaggedFields)
            ),
        ),
        ("cluster_id", _COMPACT),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", _COMPACT),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader_id", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _MetadataRequestV12(RequestStruct):  # type: ignore[misc]  # as above
    API_KEY = 3
    API_VERSION = 12
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _MetadataResponse
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Uuid), ("name", _COMPACT), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _MetadataRequest(Request[_MetadataRequestV12]):  # type: ignore[misc]  # as above
    API_KEY = 3

    def __init__(self, topic: str) -> None:
        self._topic = topic

    def build(self, request_struct_class: type[_MetadataRequestV12]) -> _MetadataRequestV12:
        return request_struct_class([(_NO_ID, self._topic, {})], False, False, {})  # noqa: FBT003 - fields have places


@dataclass(frozen=True, slots=True)
class TopicIdentity:
    """What a topic's name stands for."""

    topic_id: str
    """As Kafka's own tools print it: sixteen bytes in base64 for URLs, no padding."""
    partitions: int


async def identify_topic(kafka: KafkaAccess, topic: str) -> TopicIdentity:
    """Return which topic bears a name.

    Args:
        kafka: where it is and how it is reached.
        topic: the topic's full name.

    Raises:
        StoreUnavailableError: if Kafka can't be reached, is older than 3.1, or has no topic of that name.
    """
    client = AIOKafkaClient(**kafka.options, request_timeout_ms=_REQUEST_TIMEOUT_MS)
    try:
        async with explained(kafka):
            await client.bootstrap()
        answer: Any = await client.send(client.get_random_node(), _MetadataRequest(topic))
    except (KafkaError, NotImplementedError, TimeoutError) as error:
        msg = (
            f"Kafka at {kafka} does not answer ({error or type(error).__name__}): nothing can be read or written. "
            "See whether its brokers run, and whether kafka.brokers names them"
        )
        raise StoreUnavailableError(msg) from error
    finally:
        await client.close()
    ((code, _, topic_id, _, partitions, *_),) = answer.topics
    if code == _UNKNOWN_TOPIC:
        msg = f"Kafka at {kafka} has no topic {topic}: `phasewatch topics` creates it"
        raise StoreUnavailableError(msg)
    if code:
        msg = f"Kafka at {kafka} does not tell about topic {topic}: {for_code(code).__name__}"
        raise StoreUnavailableError(msg)
    return TopicIdentity(base64.urlsafe_b64encode(topic_id).decode().rstrip("="), len(partitions))
