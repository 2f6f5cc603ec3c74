"""Mutated requests over all routes: the short run; the long one has a million."""

from __future__ import annotations

import json
import os

import pytest

from tests.fuzz.figures import Figures
from tests.fuzz.mutator import Mutator
from tests.fuzz.run import run, tell

SHORT_BODIES = 10_000
LONG_BODIES = 1_000_000
SEED = int(os.environ.get("FUZZ_SEED", "1"))
GROWN_BYTES = 4 * 1024 * 1024
"""Between the middle and the last third of a long run; what a cache or an allocator may still take."""
STALL = 5000
"""How much longer than an ordinary body any may take: a bomb of 24 MiB, unpacked to the limit, takes some 200 times."""


def check(figures: Figures, bodies: int) -> None:
    tell(json.dumps(figures.as_json(), indent=1))
    assert figures.findings == []
    assert figures.bodies >= bodies
    assert figures.read > figures.bodies / 4, "mostly refused as a whole: the mutations do not get inside"
    assert min(figures.dialects.values()) > figures.bodies / 20
    assert max(figures.slowest).seconds < STALL * figures.median_seconds, max(figures.slowest)


def test_mutated_requests() -> None:
    check(run(SHORT_BODIES, SEED, 2), SHORT_BODIES)


@pytest.mark.long
@pytest.mark.timeout(2 * 60 * 60)
def test_a_million_mutated_requests() -> None:
    figures = run(LONG_BODIES, SEED, 2)
    check(figures, LONG_BODIES)
    assert figures.grown_bytes < GROWN_BYTES


def test_a_number_is_always_the_same_request() -> None:
    """Else nothing that was found could be sent again."""
    one, other = Mutator(7), Mutator(7)
    assert [one.case(number) for number in range(200)] == [other.case(number) for number in reversed(range(200))][::-1]
