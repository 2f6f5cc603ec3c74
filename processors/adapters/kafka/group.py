"""Who is in the workers' consumer group, and which partitions each of them has."""

from __future__ import annotations

from dataclasses import dataclass

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import KafkaError

from processors.adapters.kafka.sending import REQUEST_TIMEOUT_MS
from processors.engine.ports import StoreUnavailableError


@dataclass(frozen=True, slots=True, order=True)
class Member:
    """One worker: its name, and the partitions that the group has assigned it."""

    name: str
    partitions: list[int]


async def group_members(brokers: str, group: str) -> list[Member]:
    """Return a group's members, none where it does not exist.

    Args:
        brokers: addresses of Kafka, host:port and commas between.
        group: name of the consumer group.

    Raises:
        StoreUnavailableError: if Kafka does not answer.
    """
    client = AIOKafkaAdminClient(bootstrap_servers=brokers, request_timeout_ms=REQUEST_TIMEOUT_MS)
    try:
        await client.start()
        (answer,) = await client.describe_consumer_groups([group])
    except (KafkaError, OSError, TimeoutError) as error:
        msg = f"Kafka at {brokers} does not say who is in group {group}: {error}"
        raise StoreUnavailableError(msg) from error
    finally:
        await client.close()
    return sorted(_member(group, *one) for _, _, _, _, _, members in answer.groups for one in members)


def _member(group: str, member_id: str, client_id: str, _host: str, _metadata: bytes, assignment: bytes) -> Member:
    """Return a member as DescribeGroups tells of it; a worker's client id is the group's name and its own."""
    name = client_id.removeprefix(f"{group}-") or member_id
    if not assignment:  # the group is just being rebalanced
        return Member(name, [])
    assigned = ConsumerProtocolMemberAssignment.decode(assignment)
    return Member(name, sorted(number for _, numbers in assigned.assignment for number in numbers))
