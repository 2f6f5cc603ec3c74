"""The topics: how many partitions and which settings the guarantees need, and how Kafka comes to have them.

One table for everybody: `phasewatch topics` creates what is missing and compares what is there, and who reads or writes
a topic finds its name here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Literal, Self

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, UnknownTopicOrPartitionError, for_code

from collector.wire.kafka_access import KafkaAccess, explained
from collector.wire.log_file import EVENTS, REJECTED
from processors.engine.outputs import SET_ASIDE
from processors.engine.ports import StoreUnavailableError
from processors.wire import ENTERED, STAGE_CHANGES, STAGES

DAY_MS: Final = 86_400_000
REQUEST_TIMEOUT_MS: Final = 10_000
"""How long Kafka may take to answer one question of an administrator."""
PROPAGATION_SECONDS: Final = 10.0
"""How long a broker may take to hear of a topic that the controller has created."""
_TOPIC_SETTING: Final = 1
"""Kafka's config_source DYNAMIC_TOPIC_CONFIG: set on the topic itself (DescribeConfigs, KIP-226)."""


class RefusedError(Exception):
    """Kafka has answered, and refuses; the text says what and why."""


@dataclass(slots=True, frozen=True)
class Setting:
    """A topic's setting: the value, and what would be lost with another one."""

    value: str
    meaning: str
    at_least: bool = False
    """A larger number serves as well; raising it deletes nothing."""
    mended: bool = False
    """`phasewatch topics` may correct it on a topic that is there: nothing is deleted, and it can be taken back."""

    def served_by(self, found: str) -> bool:
        """Return whether a topic with this value keeps the guarantees."""
        if not self.at_least:
            return found == self.value
        return int(found) >= int(self.value) or int(found) == -1  # -1: without limit (retention.ms)


@dataclass(slots=True, frozen=True)
class Topic:
    """A topic as it has to be; `name` with the prefix."""

    name: str
    partitions: int
    replication_factor: int
    settings: Mapping[str, Setting]


def topics(
    *, prefix: str, partitions: int, retention_days: int, replication_factor: int, min_insync_replicas: int
) -> list[Topic]:
    """Return every topic of a deployment.

    Args:
        prefix: begin of every name.
        partitions: of `events`, and of all that is written in the order of `events`.
        retention_days: how long records are kept, except in `stages`.
        replication_factor: copies of each topic.
        min_insync_replicas: copies that must have a record before it is acknowledged.
    """
    common = {
        "message.timestamp.type": Setting(
            "LogAppendTime", "with the writers' clocks one that runs ahead would fire timers too early"
        ),
        "min.insync.replicas": Setting(
            str(min_insync_replicas),
            "with fewer, what was acknowledged can be lost with one broker",
            at_least=True,
            mended=True,
        ),
        "unclean.leader.election.enable": Setting(
            "false", "else a copy that lacks acknowledged records may become the leader", mended=True
        ),
        "max.message.bytes": Setting(
            "1048588", "smaller, blocks that the collector makes are refused", at_least=True, mended=True
        ),
        "compression.type": Setting("producer", "else the broker spends its CPU on compressing every block anew"),
    }
    aging = common | {
        "cleanup.policy": Setting("delete", "compaction deletes records that replay and subscribers still need"),
        "retention.ms": Setting(
            str(retention_days * DAY_MS),
            "shorter, history is gone before log.retention_days are over",
            at_least=True,
            mended=True,
        ),
    }
    latest = common | {
        "cleanup.policy": Setting("compact", "else a person's latest stage is deleted when it gets old"),
    }
    in_order = (EVENTS, STAGE_CHANGES, *ENTERED.values(), SET_ASIDE)
    of_events = [Topic(prefix + name, partitions, replication_factor, aging) for name in in_order]
    return [
        *of_events,
        Topic(prefix + STAGES, partitions, replication_factor, latest),
        Topic(prefix + REJECTED, 1, replication_factor, aging),
    ]


@dataclass(slots=True, frozen=True)
class Difference:
    """What of a topic is not as it has to be, and what that means."""

    what: str
    found: str
    wanted: str
    meaning: str
    mended: bool = False


@dataclass(slots=True)
class Finding:
    """One topic compared; `partitions` is None where it is missing."""

    topic: Topic
    partitions: int | None
    differences: list[Difference] = field(default_factory=list)
    state: Literal["same", "missing", "differs", "created", "corrected"] = "same"


class TopicAdmin:
    """An administrator's connection to Kafka; `async with` opens it and closes it.

    Raises:
        StoreUnavailableError: on entering, and from every method, if Kafka does not answer.
        RefusedError: from every method, if it answers and refuses.
    """

    def __init__(self, kafka: KafkaAccess) -> None:
        self._kafka = kafka
        self._client = AIOKafkaAdminClient(**kafka.options, request_timeout_ms=REQUEST_TIMEOUT_MS)

    async def __aenter__(self) -> Self:
        try:
            async with explained(self._kafka):
                await self._client.start()
        except (KafkaError, OSError, TimeoutError) as error:
            await self._client.close()
            raise self._away(error) from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()

    def _away(self, error: Exception) -> StoreUnavailableError:
        return StoreUnavailableError(
            f"Kafka at {self._kafka} does not answer ({error}), so nothing can be said or changed; see whether its "
            "brokers run, and whether kafka.brokers names them"
        )

    async def brokers_in_service(self) -> int:
        """Return how many brokers there are right now."""
        try:
            return len((await self._client.describe_cluster())["brokers"])
        except (KafkaError, OSError, TimeoutError) as error:
            raise self._away(error) from error

    async def compare(self, wanted: Sequence[Topic]) -> list[Finding]:
        """Return for each topic what of it is not as it has to be; changes nothing."""
        try:
            found = {one["topic"]: one for one in await self._client.describe_topics([topic.name for topic in wanted])}
            there = {name for name, one in found.items() if one["error_code"] == 0}
            settings = {name: values for name, (values, _) in (await self._settings(sorted(there))).items()}
        except (KafkaError, OSError, TimeoutError) as error:
            raise self._away(error) from error
        return [
            _compare(topic, found[topic.name]["partitions"], settings[topic.name])
            if topic.name in settings
            else Finding(topic, None, state="missing")
            for topic in wanted
        ]

    async def create(self, wanted: Sequence[Topic]) -> list[Finding]:
        """Create what is missing and correct what may be; return for each topic what was done and what still differs.

        A setting of an existing topic is corrected when that deletes nothing and can be taken back (`Setting.mended`);
        the number of partitions never is: every person would move.
        """
        before = {finding.topic.name: finding for finding in await self.compare(wanted)}
        try:
            await self._create([one.topic for one in before.values() if one.state == "missing"])
            mended = [one for one in before.values() if any(difference.mended for difference in one.differences)]
            for finding in mended:
                await self._correct(finding)
        except (KafkaError, OSError, TimeoutError) as error:
            raise self._away(error) from error
        after = await self._compare_when_known(wanted)
        for finding in after:
            if finding.state == "same" and before[finding.topic.name].state != "same":
                finding.state = "created" if before[finding.topic.name].state == "missing" else "corrected"
        return after

    async def _create(self, missing: Sequence[Topic]) -> None:
        if not missing:
            return
        answer = await self._client.create_topics(
            [
                NewTopic(
                    topic.name,
                    topic.partitions,
                    topic.replication_factor,
                    topic_configs={name: setting.value for name, setting in topic.settings.items()},
                )
                for topic in missing
            ]
        )
        for name, code, message in answer.topic_errors:
            error = for_code(code)
            if code and error is not TopicAlreadyExistsError:  # another `phasewatch topics` was faster
                text = f"topic {name} cannot be created: {message or error.__name__}"
                raise RefusedError(text)

    async def _correct(self, finding: Finding) -> None:
        """Set what may be set; Kafka's request replaces all settings of a topic, so the others are sent along."""
        name = finding.topic.name
        known = await self._settings([name])
        if name not in known:
            return  # deleted meanwhile: what is compared next says so
        _, own = known[name]
        own |= {one.what: one.wanted for one in finding.differences if one.mended}
        for answer in await self._client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, own)]):
            for code, message, *_ in answer.resources:
                if code:
                    text = f"the settings of topic {name} cannot be corrected: {message or for_code(code).__name__}"
                    raise RefusedError(text)

    async def _compare_when_known(self, wanted: Sequence[Topic]) -> list[Finding]:
        """Compare once every broker asked knows the topics; what is still missing after PROPAGATION_SECONDS is told."""
        findings = await self.compare(wanted)
        with suppress(TimeoutError):
            async with asyncio.timeout(PROPAGATION_SECONDS):
                while any(one.state == "missing" or any(d.mended for d in one.differences) for one in findings):
                    await asyncio.sleep(0.1)
                    findings = await self.compare(wanted)
        return findings

    async def _settings(self, names: Sequence[str]) -> dict[str, tuple[dict[str, str], dict[str, str]]]:
        """Return by topic all its settings, and those that were set on the topic itself.

        A topic that the broker asked does not know is left out: it was created a moment ago through another one.
        """
        if not names:
            return {}
        answers = await self._client.describe_configs(
            [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
        )
        found: dict[str, tuple[dict[str, str], dict[str, str]]] = {}
        for answer in answers:
            for code, message, _, name, entries in answer.resources:
                error = for_code(code)
                if error is UnknownTopicOrPartitionError:
                    continue
                if code:
                    text = f"the settings of topic {name} cannot be read: {message or error.__name__}"
                    raise RefusedError(text)
                own = {entry[0]: entry[1] for entry in entries if entry[3] == _TOPIC_SETTING}
                found[name] = ({entry[0]: entry[1] for entry in entries}, own)
        return found


def _compare(topic: Topic, partitions: Sequence[Mapping[str, Any]], settings: Mapping[str, str]) -> Finding:
    differences = []
    if len(partitions) != topic.partitions:
        differences.append(
            Difference(
                "partitions",
                str(len(partitions)),
                str(topic.partitions),
                "a person's place depends on it, so it is never changed: set log.partitions to what the topic was "
                "created with, or take another kafka.topic_prefix",
            )
        )
    copies = min((len(partition["replicas"]) for partition in partitions), default=0)
    if copies < topic.replication_factor:
        differences.append(
            Difference(
                "replication factor",
                str(copies),
                str(topic.replication_factor),
                "records can be lost with fewer brokers than meant; add copies with kafka-reassign-partitions",
            )
        )
    differences += [
        Difference(name, settings.get(name, "?"), setting.value, setting.meaning, setting.mended)
        for name, setting in topic.settings.items()
        if name not in settings or not setting.served_by(settings[name])
    ]
    return Finding(topic, len(partitions), differences, "differs" if differences else "same")
