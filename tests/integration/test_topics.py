"""`phasewatch topics` on a real Kafka: what it creates, what it corrects, and what it only tells."""

from __future__ import annotations

import asyncio
import json
import subprocess
import uuid
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from tests.integration.collector_process import bare_environment, environment
from tests.integration.embedded_process import COMMAND

pytestmark = pytest.mark.services

NAMES = {
    "events", "rejected", "stage-changes", "stages", "set-aside",
    "entered.decision", "entered.holding", "entered.post-redemption",
}  # fmt: skip


class Deployment:
    """Settings with a prefix of their own, and the command with them."""

    def __init__(self, kafka: str, directory: Path) -> None:
        self.prefix = f"test-{uuid.uuid4().hex}."
        self.settings = environment(kafka, self.prefix)
        self._kafka = kafka
        self._directory = directory

    def run(self, *options: str, **settings: str) -> tuple[int, str, str]:
        """Run `phasewatch topics`; return exit code, what it prints and the last line of what it complains of."""
        done = subprocess.run(
            [*COMMAND, "topics", *options],
            cwd=self._directory,
            env=bare_environment() | self.settings | {f"PHASEWATCH_{key}": value for key, value in settings.items()},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout, (done.stderr.splitlines() or [""])[-1]

    def states(self, *options: str) -> tuple[int, dict[str, Any]]:
        """Return the exit code, and by topic without prefix what it says."""
        code, out, _ = self.run("--json", *options)
        return code, {one["topic"].removeprefix(self.prefix): one for one in json.loads(out)}

    def create(self, name: str, partitions: int, **settings: str) -> None:
        """Create a topic by another hand."""
        asyncio.run(self._create(NewTopic(self.prefix + name, partitions, 1, topic_configs=settings)))

    async def _create(self, topic: NewTopic) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._kafka)
        await admin.start()
        try:
            answer = await admin.create_topics([topic])
            assert [error[1] for error in answer.topic_errors] == [0]
        finally:
            await admin.close()

    def settings_of(self, name: str) -> dict[str, str]:
        """Return all settings of a topic as Kafka has them."""
        return asyncio.run(self._settings_of(self.prefix + name))

    async def _settings_of(self, topic: str) -> dict[str, str]:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._kafka)
        await admin.start()
        try:
            (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
            ((_, _, _, _, entries),) = answer.resources
            return {entry[0]: entry[1] for entry in entries}
        finally:
            await admin.close()


@pytest.fixture
def deployment(kafka: str, tmp_path: Path) -> Deployment:
    return Deployment(kafka, tmp_path)


def test_topics_are_created_as_the_guarantees_need_them(deployment: Deployment) -> None:
    code, missing = deployment.states("--check")
    assert (code, {one["state"] for one in missing.values()}) == (1, {"missing"})
    code, created = deployment.states()
    assert (code, set(created)) == (0, NAMES)
    assert {one["state"] for one in created.values()} == {"created"}
    assert {name: one["partitions"] for name, one in created.items()} == dict.fromkeys(NAMES, 8) | {"rejected": 1}
    events = deployment.settings_of("events")
    assert events["message.timestamp.type"] == "LogAppendTime"
    assert events["retention.ms"] == str(90 * 24 * 3600 * 1000)
    assert {name: deployment.settings_of(name)["cleanup.policy"] for name in NAMES} == dict.fromkeys(
        NAMES, "delete"
    ) | {"stages": "compact"}
    code, same = deployment.states("--check")
    assert (code, {one["state"] for one in same.values()}) == (0, {"same"})
    code, out, _ = deployment.run()
    assert (code, f"{deployment.prefix}entered.decision" in out) == (0, True)


def test_what_deletes_nothing_is_corrected_and_the_rest_of_the_topic_stays(deployment: Deployment) -> None:
    own = {"retention.ms": "1000000", "unclean.leader.election.enable": "true", "segment.bytes": "123456789"}
    deployment.create("events", 8, **own, **{"message.timestamp.type": "LogAppendTime", "max.message.bytes": "500000"})
    code, found = deployment.states("--check")
    assert code == 1
    assert {one["what"]: one["found"] for one in found["events"]["differences"]} == {
        "retention.ms": "1000000",
        "unclean.leader.election.enable": "true",
        "max.message.bytes": "500000",
    }
    assert deployment.settings_of("events")["retention.ms"] == "1000000"
    code, found = deployment.states()
    assert (code, found["events"]["state"]) == (0, "corrected")
    after = deployment.settings_of("events")
    assert after["retention.ms"] == str(90 * 24 * 3600 * 1000)
    assert (after["segment.bytes"], after["max.message.bytes"]) == ("123456789", "1048588")
    assert after["message.timestamp.type"] == "LogAppendTime"


def test_what_would_move_or_delete_is_only_told(deployment: Deployment) -> None:
    deployment.create("events", 4)
    deployment.create("stages", 8, **{"message.timestamp.type": "LogAppendTime", "retention.ms": "-1"})
    for _ in range(2):
        code, found = deployment.states()
        assert code == 1
        assert found["events"]["state"] == found["stages"]["state"] == "differs"
        assert [one["what"] for one in found["events"]["differences"]] == ["partitions", "message.timestamp.type"]
        assert [one["what"] for one in found["stages"]["differences"]] == ["cleanup.policy"]
        assert found["events"]["partitions"] == 4
    assert found["stage-changes"]["state"] == "same"
    _, out, _ = deployment.run("--check")
    assert f"{deployment.prefix}events: partitions is 4, not 8: a person's place depends on it" in out


def test_more_of_a_good_thing_is_no_difference(deployment: Deployment) -> None:
    settings = {"message.timestamp.type": "LogAppendTime", "retention.ms": "-1", "max.message.bytes": "5000000"}
    deployment.create("events", 8, **settings)
    code, found = deployment.states()
    assert (code, found["events"]["state"]) == (0, "same")


def test_what_cannot_be_done_says_why(deployment: Deployment) -> None:
    code, _, why = deployment.run(KAFKA__BROKERS="127.0.0.1:1")
    assert (code, "Kafka at 127.0.0.1:1 does not answer" in why) == (3, True)
    code, _, why = deployment.run(KAFKA__BROKERS="")
    assert (code, "kafka.brokers is not set" in why) == (2, True)
    code, _, why = deployment.run(KAFKA__MIN_INSYNC_REPLICAS="2")
    assert (code, "nothing could ever be acknowledged" in why) == (2, True)
    code, _, why = deployment.run(KAFKA__REPLICATION_FACTOR="9")
    assert (code, "cannot be created" in why, "kafka.replication_factor" in why) == (1, True, True)
