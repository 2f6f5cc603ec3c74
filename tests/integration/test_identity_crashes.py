"""Claims, chains, stragglers, refused users and repeated transfers while owners die and the store falls back.

In memory, with a death possible around every commit, publication and trim; one long run has production workers die at
the named points under the same kind of load.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from collector.wire.record import Kind
from deploy.local.services import RedisServer
from tests.agreement import differences
from tests.integration.faulty_worker import POINTS
from tests.integration.mortal import PEOPLE, START, Story
from tests.integration.production import Deployment, Inside, once
from tests.oracle import run

ROOT: Final = Path(__file__).parents[2]
EXPECTED: Final = ("deaths", "changes repeated", "claim repeated", "transfer repeated", "forward repeated")


async def tell(seed: int, steps: int) -> Counter[str]:
    """Live through a story of a seed; return what happened in it."""
    story = Story(seed)
    try:
        await story.start()
        await story.live(steps)
        await story.assert_agrees()
        states = (await story.deployment.states()).values()
        counted = sum(behaviour["count"] for one in states for behaviour in one["evidence"])
        assert counted == sum(story.events.values()), "an event counts nowhere, or in two places"
        return await story.what_happened()
    finally:
        story.close()


def what_happened(seeds: Sequence[int], steps: int) -> Counter[str]:
    """Tell the story of each seed; say what happened in all of them."""
    found: Counter[str] = sum((asyncio.run(tell(seed, steps)) for seed in seeds), Counter())
    print(f"\n{len(seeds)} runs: {dict(sorted(found.items()))}")  # noqa: T201 - figures
    return found


def test_each_event_counts_in_one_place_whoever_dies() -> None:
    found = what_happened(range(12), 120)
    assert all(found[name] for name in EXPECTED)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_each_event_counts_in_one_place_in_many_more_runs() -> None:
    found = what_happened(range(1_000, 1_120), 250)
    assert all(found[name] > 100 for name in EXPECTED)


def crowd(rng: random.Random, number: int, now: int) -> list[dict[str, Any]]:
    """Return some events of a few persons each, who share devices among them, all within a second."""
    events: list[dict[str, Any]] = []
    for _ in range(40):
        user, device = rng.choice(PEOPLE)
        group = rng.randrange(25)
        event: dict[str, Any] = {"id": f"{number}-{len(events)}", "arrives": now + 20 * len(events), "trusted": False}
        event |= {} if user is None else {"user_id": f"{group}-{user}"}
        event |= {} if device is None else {"anonymous_id": f"{group}-{device}"}
        identifies = user is not None and device is not None and rng.random() < 0.4
        events.append(
            event | ({"type": "identify"} if identifies else {"type": "submit", "page": {"path": "/orders/new"}})
        )
    return events


@pytest.mark.long
@pytest.mark.services
@pytest.mark.timeout(1800)
async def test_workers_die_while_people_turn_out_to_be_others(
    tmp_path: Path, kafka: str, redis_server: RedisServer
) -> None:
    rng = random.Random(7)
    deployment = Deployment(tmp_path, kafka, redis_server.url, partitions=8)
    deployment.create_topics()
    try:
        victim = deployment.worker("one")
        async with Inside.open(deployment) as inside:
            number, now = 0, START
            for point in POINTS:
                victim.environment = {
                    "FAULT_POINT": point,
                    "FAULT_AFTER": str(rng.randrange(2, 60)),
                    "PYTHONPATH": str(ROOT),
                }
                victim.kill()
                victim.launch(sys.executable, "-m", "tests.integration.faulty_worker", "worker")
                deadline = time.monotonic() + 120
                while victim.process.poll() is None:
                    assert time.monotonic() < deadline, f"it never came to {point}"
                    number, now = number + 1, now + 60_000
                    await inside.feed(crowd(rng, number, now), settle_every=0)
                    await asyncio.sleep(0.1)  # the pace of the load
                assert victim.process.returncode == -9, victim.log.read_text("utf-8")[-3000:]
            victim.environment = {}
            victim.launch()
            await asyncio.to_thread(victim.wait_ready, 120)
            await inside.settle()
            await counts_once(inside)
    finally:
        deployment.close()


async def counts_once(inside: Inside) -> None:
    """Assert that all is as the oracle says, and that derived records did come twice."""
    records = await inside.records()
    changes, repeats = once(await inside.messages("stage-changes"))
    found = differences(changes, await inside.states(), await asyncio.to_thread(run, records))
    assert not found, f"{len(found)} differences, of which\n" + "\n".join(found[:5])
    derived = Counter((one.draft.kind, one.partition, one.draft.source) for one in records if one.draft.source)
    kinds = Counter(kind for kind, _, _ in derived)
    again = Counter(kind for (kind, _, _), times in derived.items() if times > 1)
    print(f"\n{dict(kinds)}, of which came again {dict(again)}; {repeats} changes repeated")  # noqa: T201 - figures
    assert kinds[Kind.TRANSFER] > 20
    assert again
