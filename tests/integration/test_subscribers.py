"""Subscribers that know only the contract: an aiokafka consumer, kcat and a Java consumer group read what people did.

People act over HTTP before the production processes; what is expected of the topics is written down here by hand.
"""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from jsonschema import Draft202012Validator

from deploy.local.services import KAFKA_LIBS, RedisServer
from tests.integration.production import Deployment
from tests.services import skip_or_fail

pytestmark = pytest.mark.services

ROOT = Path(__file__).parents[2]
JAVA = ROOT / "tests/java"
PARTITIONS = 8
PATIENCE_SECONDS = 30
PHASES = ("decision", "holding", "post-redemption")
TOPICS = ("stage-changes", *(f"entered.{phase}" for phase in PHASES), "stages")
ORDERING = {"type": "submit", "page": {"path": "/orders/new"}}
CROWD = [f"crowd-{number}" for number in range(40)]


class Read(NamedTuple):
    """One record as a subscriber has it; the topic without the deployment's prefix."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes | None
    headers: dict[str, bytes]

    @property
    def change(self) -> dict[str, Any]:
        assert self.value is not None
        found: dict[str, Any] = json.loads(self.value)
        return found


def ordering(**who: str) -> list[dict[str, Any]]:
    """Return three submitted orders, 7.5 points: a decision."""
    return [{"id": f"{'-'.join(who.values())}-{n}", **who, **ORDERING} for n in range(3)]


def money(kind: str, user: str, order: str) -> list[dict[str, Any]]:
    facts = {"order_id": order, "product_id": "bond-1", "category": "bond", "amount": "100.00", "currency": "CNY"}
    return [{"id": f"{kind}-{order}", "type": kind, "user_id": user, "properties": facts}]


STORY = (
    # anna decides, buys and redeems
    ("demo", ordering(user_id="anna")),
    ("demo-secret", money("purchase", "anna", "o-1")),
    ("demo-secret", money("redeem", "anna", "o-1")),
    # 张三 buys from the browser, which the bank's ledger then confirms
    ("demo", money("purchase", "张三", "o-2")),
    ("demo-secret", [one | {"id": "ledger-o-2"} for one in money("purchase", "张三", "o-2")]),
    # clara's order is cancelled; edgar cancels in his browser what he bought there
    ("demo-secret", money("purchase", "clara", "o-3")),
    ("demo-secret", money("purchase_cancelled", "clara", "o-3")),
    ("demo", money("purchase", "edgar", "o-4")),
    ("demo", money("purchase_cancelled", "edgar", "o-4")),
    # a visitor decides and logs in as dora
    ("demo", ordering(anonymous_id="device-7")),
    ("demo", [{"id": "login", "type": "identify", "anonymous_id": "device-7", "user_id": "dora"}]),
    *(("demo", ordering(user_id=user)) for user in CROWD),
    # what was sent before is sent again, and something that is no event of anybody
    ("demo", ordering(user_id="anna")),
    ("demo", [{"id": "junk", "type": "click", "user_id": "undefined"}]),
)

CHANGES: dict[str, list[tuple[str, str | None, bool]]] = {
    "u:anna": [
        ("prospect", "decision", True),
        ("decision", "holding", True),
        ("holding", "post_redemption", True),
    ],
    "u:张三": [("prospect", "holding", False), ("holding", "holding", True)],
    "u:clara": [("prospect", "holding", True), ("holding", "prospect", True)],
    "u:edgar": [("prospect", "holding", False), ("holding", "prospect", True)],
    "a:device-7": [("prospect", "decision", True), ("decision", None, True)],
    "u:dora": [("prospect", "decision", True)],
    **{f"u:{user}": [("prospect", "decision", True)] for user in CROWD},
}
"""From, to and confirmed, by person."""
COUNT = sum(len(told) for told in CHANGES.values())

ENTERED = {
    "decision": {("u:anna", 1), ("a:device-7", 1), ("u:dora", 1), *((f"u:{user}", 1) for user in CROWD)},
    "holding": {
        ("u:anna", 2),
        ("u:张三", 1), ("u:张三", 2),  # entered, then confirmed
        ("u:clara", 1), ("u:clara", 2),  # entered, then taken back
        ("u:edgar", 1), ("u:edgar", 2),
    },
    "post-redemption": {("u:anna", 3)},
}  # fmt: skip
"""Person and version of what each topic carries."""


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory, kafka: str, redis_server: RedisServer) -> Iterator[Deployment]:
    """A deployment in which the story has happened, and everything that follows from it."""
    deployment = Deployment(tmp_path_factory.mktemp("subscribers"), kafka, redis_server.url, partitions=PARTITIONS)
    deployment.environment["PHASEWATCH_DEPLOYMENT__NAME"] = "fund-shop"
    try:
        collector, _ = deployment.start_everything()
        with httpx.Client(base_url=collector.url, trust_env=False, timeout=PATIENCE_SECONDS) as client:
            for key, events in STORY:
                answer = client.post("/v1/events", json=events, headers={"Authorization": f"Bearer {key}"})
                assert answer.status_code == 200, answer.text
        deployment.settle()
        yield deployment
        assert deployment.complaints() == []
    finally:
        deployment.close()


def brokers(deployment: Deployment) -> str:
    return deployment.environment["PHASEWATCH_KAFKA__BROKERS"]


def named(deployment: Deployment, topic: str) -> str:
    return deployment.environment["PHASEWATCH_KAFKA__TOPIC_PREFIX"] + topic


async def subscribe(deployment: Deployment, *topics: str, group: str, most: int | None = None) -> list[Read]:
    """Read topics as one member of a group that commits by itself, from where the group is to the end, or `most`."""
    consumer = AIOKafkaConsumer(
        *(named(deployment, topic) for topic in topics),
        bootstrap_servers=brokers(deployment),
        group_id=f"{deployment.name}-{group}",
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        max_poll_records=most,
    )
    found: list[Read] = []
    prefix = named(deployment, "")
    await consumer.start()
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await _at_the_end(consumer) and not (most and found):
                for records in (await consumer.getmany(timeout_ms=100)).values():
                    found += [
                        Read(
                            one.topic.removeprefix(prefix), one.partition, one.offset, one.key, one.value,
                            dict(one.headers),
                        )
                        for one in records
                    ]  # fmt: skip
    finally:
        await consumer.stop()
    return found


async def _at_the_end(consumer: AIOKafkaConsumer) -> bool:
    places: set[TopicPartition] = consumer.assignment()
    if not places:
        return False
    ends = await consumer.end_offsets(places)
    return all([await consumer.position(place) >= ends[place] for place in places])


def once(records: Sequence[Read]) -> dict[str, list[dict[str, Any]]]:
    """Return each person's changes in the order of one topic, without repeats; those have the same bytes."""
    first: dict[str, bytes | None] = {}
    changes: dict[str, list[dict[str, Any]]] = {}
    for one in records:
        change = one.change
        if first.setdefault(change["id"], one.value) != one.value:
            pytest.fail(f"{change['id']} came twice with different bytes")
        if change not in changes.setdefault(change["person"], []):
            changes[change["person"]].append(change)
    return changes


async def test_stage_changes_as_the_contract_says(deployment: Deployment) -> None:
    records = await subscribe(deployment, "stage-changes", group="crm")
    changes = once(records)
    assert {
        person: [(one["from"], one["to"], one["confirmed"]) for one in told] for person, told in changes.items()
    } == CHANGES
    validator = Draft202012Validator(json.loads((ROOT / "docs/schemas/stage-change.json").read_text("utf-8")))
    for one in records:
        validator.validate(one.change)
        change = one.change
        assert one.key == change["person"].encode()
        assert one.headers["ce_specversion"] == b"1.0"
        assert one.headers["ce_type"] == b"phasewatch.stage-change.v1"
        assert one.headers["ce_source"] == b"fund-shop"
        assert one.headers["ce_id"] == change["id"].encode()
        assert one.headers.get("user_id") == (None if change["user_id"] is None else change["user_id"].encode())
        assert one.partition == change["position"]["partition"]
    for told in changes.values():
        assert [one["version"] for one in told] == list(range(1, len(told) + 1))
        assert len({one["life"] for one in told}) == 1
    assert len({one["id"] for told in changes.values() for one in told}) == COUNT
    tells_why(changes)


def tells_why(changes: dict[str, list[dict[str, Any]]]) -> None:
    decision, holding, redeemed = changes["u:anna"]
    assert (decision["decision_score"], decision["intent"], decision["customer"]) == (7.5, "strong", "new")
    assert decision["evidence"] == [{"behaviour": "order_submitted", "count": 3, "weight": 2.5}]
    assert (decision["cause"]["kind"], decision["cause"]["event_id"]) == ("event", "anna-2")
    assert (holding["cause"]["order_id"], holding["cause"]["trusted"], holding["funds"]) == ("o-1", True, "held")
    assert (redeemed["funds"], redeemed["customer"], redeemed["actionable"]) == ("redeemed", "returning", True)
    for person in ("u:clara", "u:edgar"):
        entered, taken_back = changes[person]
        assert (entered["retracts"], taken_back["retracts"]) == (None, entered["id"])
    [_, end] = changes["a:device-7"]
    [merged] = changes["u:dora"]
    assert (end["merged_into"], end["user_id"], end["anonymous_id"]) == ("u:dora", None, "device-7")
    assert (merged["cause"]["kind"], merged["actionable"]) == ("transfer", False)


async def test_those_who_want_one_phase_only_get_it(deployment: Deployment) -> None:
    changes = once(await subscribe(deployment, "stage-changes", group="whole"))
    values = {(one["person"], one["version"]): one for told in changes.values() for one in told}
    for phase in PHASES:
        records = await subscribe(deployment, f"entered.{phase}", group=phase)
        told = once(records)
        assert {(one["person"], one["version"]) for of_one in told.values() for one in of_one} == ENTERED[phase]
        for one in records:
            assert one.change == values[one.change["person"], one.change["version"]]
            assert (one.key, one.headers["ce_id"]) == (one.change["person"].encode(), one.change["id"].encode())


async def test_stages_hold_the_latest_of_each_person(deployment: Deployment) -> None:
    changes = once(await subscribe(deployment, "stage-changes", group="latest"))
    latest = {one.key.decode(): one.value for one in await subscribe(deployment, "stages", group="latest-stages")}
    assert latest.keys() == CHANGES.keys()
    assert latest["a:device-7"] is None
    for person, told in changes.items():
        value = latest[person]
        assert (None if value is None else json.loads(value)) == (None if told[-1]["to"] is None else told[-1])


async def test_a_group_goes_on_where_it_stopped(deployment: Deployment) -> None:
    """Auto commit when a consumer closes, and nothing of Phasewatch's is needed."""
    first = await subscribe(deployment, "stage-changes", group="resuming", most=5)
    assert 0 < len(first) < COUNT
    rest = await subscribe(deployment, "stage-changes", group="resuming")
    places = Counter((one.partition, one.offset) for one in (*first, *rest))
    everything = await subscribe(deployment, "stage-changes", group="everything")
    assert places == Counter((one.partition, one.offset) for one in everything)


async def test_what_was_refused_is_on_a_topic_too(deployment: Deployment) -> None:
    [one] = await subscribe(deployment, "rejected", group="data-quality")
    assert one.key == b"demo"
    assert one.change["reason"] == "junk_identity"
    assert "events[0].user_id" in one.change["detail"]


async def test_kcat_reads_the_same(deployment: Deployment, require_program: Callable[[str], Path]) -> None:
    kcat = str(require_program("kcat"))
    records = await subscribe(deployment, *TOPICS, group="beside-kcat")
    for topic in TOPICS:
        # -Z: a tombstone is shown as NULL, else it would look like an empty value.
        shown = await asyncio.to_thread(
            subprocess.run,
            [kcat, "-C", "-q", "-e", "-Z", "-b", brokers(deployment), "-t", named(deployment, topic),
             "-f", "%p %o %k %h %s\n"],
            capture_output=True, timeout=60, check=True,
        )  # fmt: skip
        found = []
        for line in shown.stdout.splitlines():
            partition, offset, key, headers, value = line.split(b" ", 4)
            pairs = (pair.split(b"=", 1) for pair in headers.split(b",") if pair)
            found.append(
                Read(
                    topic, int(partition), int(offset), key, None if value == b"NULL" else value,
                    {name.decode(): content for name, content in pairs},
                )
            )  # fmt: skip
        assert sorted(found) == sorted(one for one in records if one.topic == topic)


def java(program: str, *arguments: str, given: str = "") -> str:
    """Run a program of tests/java with Kafka's own client; return what it prints."""
    if not any(KAFKA_LIBS.glob("kafka-clients-*.jar")):
        skip_or_fail("Kafka's jars are missing; `make test` fetches them or says how")
    done = subprocess.run(
        ["java", "-cp", f"{KAFKA_LIBS}/*", str(JAVA / program), *arguments],
        input=given,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_a_java_consumer_group_reads_the_same(deployment: Deployment) -> None:
    topics = [named(deployment, topic) for topic in TOPICS]
    printed = await asyncio.to_thread(java, "Subscribers.java", brokers(deployment), f"{deployment.name}-java", *topics)
    lines = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    assert {line["member"] for line in lines} == {0, 1}, "both members of the group had a share"
    prefix = named(deployment, "")
    found = [
        Read(
            line["topic"].removeprefix(prefix), line["partition"], line["offset"], base64.b64decode(line["key"]),
            None if line["value"] is None else base64.b64decode(line["value"]),
            {name: base64.b64decode(value) for name, value in line["headers"].items()},
        )
        for line in lines
    ]  # fmt: skip
    expected = await subscribe(deployment, *TOPICS, group="beside-java")
    assert sorted(found, key=place) == sorted(expected, key=place)


def place(one: Read) -> tuple[str, int, int]:
    return one.topic, one.partition, one.offset


async def test_a_person_is_where_a_keyed_java_producer_puts_it(deployment: Deployment) -> None:
    """So that a subscriber can join these topics with its own by key, partition by partition."""
    records = await subscribe(deployment, *TOPICS, group="joining")
    lines = "".join(base64.b64encode(one.key).decode() + "\n" for one in records)
    chosen = await asyncio.to_thread(java, "Partitions.java", str(PARTITIONS), given=lines)
    assert [one.partition for one in records] == [int(line) for line in chosen.splitlines()]
    assert {one.partition for one in records} == set(range(PARTITIONS))
