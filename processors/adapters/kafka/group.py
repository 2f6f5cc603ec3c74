"""Who is in the workers' consumer group, and which partitions each of them has."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    KafkaError,
    NotCoordinatorForGroupError,
    for_code,
)

from collector.wire.kafka_access import KafkaAccess, explained
from processors.adapters.kafka.sending import REQUEST_TIMEOUT_MS
from processors.engine.ports import StoreUnavailableError

COORDINATOR_SECONDS: Final = 10.0
"""How long a group's coordinator may take to be there: a topic is made, or another broker takes it over."""


@dataclass(frozen=True, slots=True, order=True)
class Member:
    """One worker: its name, and the partitions that the group has assigned it."""

    name: str
    partitions: list[int]


async def group_members(kafka: KafkaAccess, group: str) -> list[Member]:
    """Return a group's members, none where it does not exist.

    Args:
        kafka: where it is and how it is reached.
        group: name of the consumer group.

    Raises:
        StoreUnavailableError: if Kafka does not answer.
    """
    client = AIOKafkaAdminClient(**kafka.options, request_timeout_ms=REQUEST_TIMEOUT_MS)
    try:
        async with explained(kafka):
            await client.start()
        members = await _members(client, group)
    except (KafkaError, OSError, TimeoutError) as error:
        msg = f"Kafka at {kafka} does not say who is in group {group}: {error or type(error).__name__}"
        raise StoreUnavailableError(msg) from error
    finally:
        await client.close()
    return sorted(_member(group, *one) for one in members)


async def _members(client: AIOKafkaAdminClient, group: str) -> list[Any]:
    """Return a group's members as Kafka tells of them, once its coordinator is there.

    A Kafka in which nobody was ever in a group first makes a topic for its coordinators; later they move and load.
    """
    deadline = asyncio.get_running_loop().time() + COORDINATOR_SECONDS
    while True:
        try:
            (answer,) = await client.describe_consumer_groups([group])
            ((code, _, _, _, _, members),) = answer.groups
            if not code:
                return list(members)
            raise for_code(code)
        except (GroupCoordinatorNotAvailableError, GroupLoadInProgressError, NotCoordinatorForGroupError):
            if asyncio.get_running_loop().time() >= deadline:
                raise
        await asyncio.sleep(0.1)


def _member(group: str, member_id: str, client_id: str, _host: str, _metadata: bytes, assignment: bytes) -> Member:
    """Return a member as DescribeGroups tells of it; a worker's client id is the group's name and its own."""
    name = client_id.removeprefix(f"{group}-") or member_id
    if not assignment:  # the group is just being rebalanced
        return Member(name, [])
    assigned = ConsumerProtocolMemberAssignment.decode(assignment)
    return Member(name, sorted(number for _, numbers in assigned.assignment for number in numbers))
