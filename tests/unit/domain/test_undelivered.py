"""How many numbers of a device are missing: what a fold counts of gaps that open and close (R7)."""

from __future__ import annotations

import random

import pytest

from processors.domain.person import Device

MOST = 64


def missing(*numbers: int) -> int:
    """Return the sum over what each number opens or closes."""
    device = Device("x")
    return sum(device.number(seq, MOST) for seq in numbers)


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((0, 1, 2), 0),
        ((0, 2), 1),
        ((0, 2, 1), 0),
        ((0, 5, 2), 3),
        ((7,), 0),  # before its first number it was perhaps another person's
        ((7, 6, 5), 0),
        ((7, 9, 6, 8), 0),
        ((7, 9), 1),
        ((500, 499, 498, 501), 0),
        ((500, 502, 501), 0),
        ((0, 1000), MOST),  # a counter that jumped
    ],
)
def test_a_gap_counts_until_it_is_filled(numbers: tuple[int, ...], expected: int) -> None:
    assert missing(*numbers) == expected


@pytest.mark.parametrize("seed", range(20))
def test_it_is_what_did_not_come_between_the_first_and_the_last(seed: int) -> None:
    """In any order that is not too wild, as long as the first one to come is the lowest."""
    rng = random.Random(seed)
    sent = [n for n in range(rng.randrange(1, 90), 400) if rng.random() > 0.03]
    came = sorted(sent, key=lambda n: n + (rng.randrange(10) if n != sent[0] else 0))
    assert missing(*came) == sent[-1] - sent[0] + 1 - len(sent)
