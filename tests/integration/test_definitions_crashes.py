"""Publishing definitions while owners and publishers die, and by two publishers at once: every partition gets them all.

Partition 0 numbers what is handed in and sends it to every partition; in the end every one stands at the same number.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from collector.wire.record import Draft, Kind, Record
from deploy.local.services import RedisServer
from processors.engine.codec import decode_state
from processors.engine.outputs import Output
from tests.integration.collector_process import bare_environment
from tests.integration.embedded_process import COMMAND
from tests.integration.faulty_worker import POINTS
from tests.integration.mortal import PARTITIONS, MortalLog, Story
from tests.integration.production import Deployment, Inside
from tests.unit.engine.partition import SHIPPED

ROOT: Final = Path(__file__).parents[2]
DOCUMENTS: Final = tuple(SHIPPED.replace("weight = 2.5", f"weight = {weight}") for weight in ("2.6", "3.1", "6", "0.9"))


async def in_force(story: Story) -> list[tuple[int, str | None]]:
    """Return number and document in force in each partition."""
    found = []
    for partition in range(PARTITIONS):
        held = await story.store.state(partition)
        assert held is not None
        state = decode_state(partition, PARTITIONS, held)
        found.append((state.definitions, state.document))
    return found


def taken(records: Sequence[Any]) -> dict[int, list[tuple[int, str]]]:
    """Return the numbered documents that each partition was sent, without repeats, in the order of its log."""
    found: dict[int, dict[tuple[int, str], None]] = {}
    for one in records:
        if isinstance(one, Record) and one.draft.kind is Kind.DEFINITIONS:
            body = json.loads(one.draft.value)
            found.setdefault(one.partition, {})[body["number"], body["toml"]] = None
    return {partition: list(sent) for partition, sent in found.items()}


async def tell(seed: int, steps: int) -> Counter[str]:
    """Live through a story in which documents are handed in all the time; return what happened."""
    story = Story(seed, DOCUMENTS)
    try:
        await story.start()
        await story.live(steps)
        await story.assert_agrees()
        expected = list(enumerate(story.published, 1))
        assert await in_force(story) == [expected[-1]] * PARTITIONS
        sent = taken(await story.deployment.records())
        assert sent == dict.fromkeys(range(PARTITIONS), expected)
        return await story.what_happened()
    finally:
        story.close()


def what_happened(seeds: Sequence[int], steps: int) -> Counter[str]:
    found: Counter[str] = sum((asyncio.run(tell(seed, steps)) for seed in seeds), Counter())
    print(f"\n{len(seeds)} runs: {dict(sorted(found.items()))}")  # noqa: T201 - figures
    return found


def test_every_partition_gets_every_document_whoever_dies() -> None:
    found = what_happened(range(6), 120)
    assert found["definitions repeated"]


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_every_partition_gets_every_document_in_many_more_runs() -> None:
    found = what_happened(range(2_000, 2_060), 250)
    assert found["definitions repeated"] > 100


@pytest.mark.parametrize("reached", range(PARTITIONS + 1))
async def test_a_fan_out_that_has_reached_some_partitions(reached: int) -> None:
    """The others follow when the next owner publishes what its store holds; who had it drops the repeat."""
    story = Story(1, DOCUMENTS)
    try:
        await story.start()
        await story.publish()
        log, owner = story.log, story.deployment.workers[0]
        cut = CutShort(log, reached)
        owner._publisher = cut  # noqa: SLF001 - of this one owner, for its last breath
        with pytest.raises(ConnectionResetError):
            await owner.step()
        others = story.deployment.workers[1:]
        while any([await one.step() for one in others]):
            pass
        numbers = [number for number, _ in await in_force(story)]
        assert numbers[1:] == [2 if partition < reached else 1 for partition in range(1, PARTITIONS)]
        story.deployment.workers[0] = await story.owner(0)
        await story.deployment.settle()
        assert await in_force(story) == [(2, story.published[-1])] * PARTITIONS
        again = [await log.read(partition, 0, 1000) for partition in range(PARTITIONS)]
        counts = [sum(isinstance(one, Record) and one.draft.kind is Kind.DEFINITIONS for one in some) for some in again]
        assert counts == [3 if partition < reached else 2 for partition in range(PARTITIONS)]
        await story.assert_agrees()
    finally:
        story.close()


class CutShort:
    """Publishes so many outputs, and then nothing any more."""

    def __init__(self, log: MortalLog, most: int) -> None:
        self._log, self._most = log, most

    async def publish(self, outputs: Sequence[Output]) -> None:
        await self._log.publish(outputs[: self._most])
        raise ConnectionResetError

    async def flush(self, partition: int) -> None:
        """Return: nothing waits."""


def publisher(deployment: Deployment, name: str, document: str) -> subprocess.Popen[bytes]:
    """Start `phasewatch definitions publish`."""
    path = deployment.directory / f"{name}.toml"
    path.write_text(document, encoding="utf-8")
    return subprocess.Popen(
        [*COMMAND, "definitions", "publish", str(path)],
        cwd=deployment.directory,
        env=bare_environment() | deployment.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


async def all_the_same(inside: Inside) -> list[tuple[int, str]]:
    """Assert that every partition was sent the same documents in the same order, and has the last one in force."""
    await inside.settle()
    sent = taken(await inside.records())
    first = sent[0]
    assert sent == dict.fromkeys(range(inside.log.partitions), first)
    assert [number for number, _ in first] == list(range(1, len(first) + 1))
    for partition in range(inside.log.partitions):
        state = await inside.query.state(partition)
        assert state is not None
        assert (state.definitions, state.document) == first[-1]
    return first


@pytest.mark.long
@pytest.mark.services
@pytest.mark.timeout(1800)
async def test_publishers_and_workers_die(tmp_path: Path, kafka: str, redis_server: RedisServer) -> None:
    """Two publishers at once; publishers killed at any time; the worker killed at each point of the fan-out."""
    rng = random.Random(3)
    deployment = Deployment(tmp_path, kafka, redis_server.url, partitions=8)
    deployment.create_topics()
    try:
        victim = deployment.worker("one")
        await asyncio.to_thread(victim.wait_ready, 120)
        async with Inside.open(deployment) as inside:
            for _ in range(3):
                both = [publisher(deployment, f"{n}", DOCUMENTS[n]) for n in range(2)]
                for one in both:
                    _, complaint = await asyncio.to_thread(one.communicate)
                    assert one.returncode == 0, complaint.decode()
            published = await all_the_same(inside)
            assert len(published) == 7
            assert Counter(document for _, document in published[1:]) == dict.fromkeys(DOCUMENTS[:2], 3)
            for number in range(8):
                one = publisher(deployment, f"{number}", DOCUMENTS[number % 4])
                try:
                    await asyncio.to_thread(one.wait, rng.uniform(0.5, 4))
                except subprocess.TimeoutExpired:
                    one.kill()
                await asyncio.to_thread(one.communicate)
            killed = len(await all_the_same(inside))
            assert 7 <= killed <= 15
            for point in POINTS:
                victim.kill()
                victim.environment = {"FAULT_POINT": point, "FAULT_AFTER": "0", "PYTHONPATH": str(ROOT)}
                victim.launch(sys.executable, "-m", "tests.integration.faulty_worker", "worker")
                await asyncio.to_thread(victim.wait_ready, 120)
                body = json.dumps({"definitions": DOCUMENTS[0]}).encode()
                await inside.log.append([(0, Draft(Kind.PUBLISH, 0, body))])
                assert await asyncio.to_thread(victim.process.wait, 120) == -9
                victim.environment = {}
                victim.launch()
                await asyncio.to_thread(victim.wait_ready, 120)
                await all_the_same(inside)
            assert len(await all_the_same(inside)) == killed + len(POINTS)
    finally:
        deployment.close()
