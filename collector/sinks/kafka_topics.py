"""What the Kafka sink asks of its topics before it writes to them."""

from __future__ import annotations

from typing import Any, Final

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.admin import DescribeConfigsRequest
from aiokafka.protocol.metadata import MetadataRequest

MAX_BATCH_BYTES: Final = 900_000
"""A batch is what a topic's max.message.bytes bounds, 1,048,588 by default; the rest is room for a grown header."""
FOUND: Final = 0
"""Kafka's error code where there is none."""
_TOPIC: Final = 2
"""Kafka's resource type of topics in DescribeConfigs."""


class UnfitTopicError(Exception):
    """A topic is missing, or not as the guarantees need it; the text names it and what to do."""


def metadata_request(topics: list[str]) -> MetadataRequest:
    """Return a question for topics that creates none: one created by asking would lack our settings."""
    return MetadataRequest(topics, allow_auto_topic_creation=False)


async def check_topics(client: AIOKafkaClient, events: str, rejected: str, partitions: int) -> int:
    """Look at the topics before anything is written; return min.insync.replicas of topic `events`.

    Args:
        client: connected.
        events: name of topic `events`, with its prefix.
        rejected: likewise.
        partitions: that `events` has to have.

    Raises:
        UnfitTopicError: as the class says.
        KafkaError: if no broker answers.
    """
    answer = await _ask_any(client, metadata_request([events, rejected]))
    found = {topic["topic"]: topic for topic in answer.to_object()["topics"]}
    for name in (events, rejected):
        if found[name]["error_code"] != FOUND:
            reason = for_code(found[name]["error_code"]).__name__
            msg = f"Kafka has no topic {name} ({reason}), so nothing can be stored; run `phasewatch topics`"
            raise UnfitTopicError(msg)
    count = len(found[events]["partitions"])
    if count != partitions:
        msg = (
            f"topic {events} has {count} partitions and log.partitions is {partitions}: events would go to the wrong "
            "places; set log.partitions to what the topic was created with, see `phasewatch topics --check`"
        )
        raise UnfitTopicError(msg)
    client.add_topic(events)
    client.add_topic(rejected)
    await client.force_metadata_update()
    return await _check_settings(client, events)


async def _check_settings(client: AIOKafkaClient, events: str) -> int:
    names = ["cleanup.policy", "max.message.bytes", "message.timestamp.type", "min.insync.replicas"]
    answer = await _ask_any(client, DescribeConfigsRequest([(_TOPIC, events, names)]))
    ((code, message, _, _, entries),) = answer.resources
    if code != FOUND:
        msg = f"the settings of topic {events} cannot be read ({message}); give the collector the right to see them"
        raise UnfitTopicError(msg)
    found = {entry[0]: entry[1] for entry in entries}
    wrong = [
        f"{name} is {found[name]}, not {wanted}"
        for name, wanted, right in (
            ("message.timestamp.type", "LogAppendTime", found["message.timestamp.type"] == "LogAppendTime"),
            ("cleanup.policy", "delete", found["cleanup.policy"] == "delete"),
            ("max.message.bytes", f"{MAX_BATCH_BYTES} or more", int(found["max.message.bytes"]) >= MAX_BATCH_BYTES),
        )
        if not right
    ]
    if wrong:
        msg = f"topic {events}: {'; '.join(wrong)}. Nothing is stored like that; see `phasewatch topics --check`"
        raise UnfitTopicError(msg)
    return int(found["min.insync.replicas"])


async def _ask_any(client: AIOKafkaClient, request: Any) -> Any:  # noqa: ANN401 - aiokafka's requests and answers
    """Return the answer of the first broker that gives one; raises KafkaError where none does."""
    last: Exception = KafkaError("no broker is known")
    for broker in client.cluster.brokers():
        try:
            return await client.send(broker.nodeId, request)
        except KafkaError as error:
            last = error
    raise last
