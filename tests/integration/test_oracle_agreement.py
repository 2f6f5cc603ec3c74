"""A month of simulated people, and the silence after it: product and oracle agree, however commits are cut."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import pytest

from bench.simulator import DEFAULT_START, simulate
from collector.wire.record import Record
from tests.agreement import assert_agrees
from tests.harness import Deployment
from tests.property.coverage import EXPECTED_CASES, EXPECTED_TRANSITIONS, count_cases

pytestmark = pytest.mark.timeout(900)  # a minute or two each on an idle machine

SEED: Final = 1
DAYS: Final = 30


class Size(NamedTuple):
    """How many people live, and how often each transition and each case has to occur among them.

    Agreement about what never happens says nothing.
    """

    people: int
    at_least: int


SIZES: Final = [
    pytest.param(Size(500, 12), id="short"),
    pytest.param(Size(2_000, 50), id="long", marks=pytest.mark.long),
]


@dataclass(frozen=True, slots=True)
class Month:
    """What the product made of the events: its deployment, and the log as it stands in the end."""

    size: Size
    deployment: Deployment
    records: list[Record]


async def _live(size: Size) -> Month:
    events = simulate(SEED, size.people, DEFAULT_START, DAYS)
    first = next(events)
    deployment = Deployment(start=first["arrives"])
    await deployment.start()
    await deployment.feed(_with_first(first, events))
    return Month(size, deployment, await deployment.records())


def _with_first(first: dict[str, Any], others: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    yield first
    yield from others


@pytest.fixture(scope="module", params=SIZES)
def month(request: pytest.FixtureRequest) -> Iterator[Month]:
    found = asyncio.run(_live(request.param))
    yield found
    found.deployment.close()


def test_each_transition_and_case_occurs_often_enough(month: Month) -> None:
    counts = count_cases(month.records, month.deployment.changes())
    least = month.size.at_least
    rare = {name: counts[name] for name in (*EXPECTED_TRANSITIONS, *EXPECTED_CASES) if counts[name] < least}
    assert not rare, f"fewer than {least} times: {rare}"


def test_changes_and_states_equal_the_oracle(month: Month) -> None:
    asyncio.run(assert_agrees(month.deployment, month.records))


def test_commits_cut_differently_change_nothing(month: Month) -> None:
    """The same log into a fresh store, 7 records and at most 13 persons a commit: the same bytes, the same states."""
    kept, states = asyncio.run(month.deployment.fold_again(batch_records=7, slice_persons=13))
    assert kept.changes() == month.deployment.messages()
    assert states == asyncio.run(month.deployment.states())
