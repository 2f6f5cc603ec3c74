"""What is mended of a body, and that nobody makes the mending long, or the splitting large."""

from __future__ import annotations

import time

import msgspec
import pytest

from collector.decode.lenient_json import parse_leniently
from collector.decode.records import split_array
from collector.errors import TooLargeBodyError, UnreadableBodyError

MANY = 3_000_000


def mended(body: bytes) -> list[bytes]:
    return parse_leniently(body, split_array, "events")


def test_half_a_pair_and_deep_nesting_cost_no_neighbours() -> None:
    deep = b"[" * 5000 + b"]" * 5000
    assert len(mended(b'[{"a":1},' + deep + b"]")) == 2
    halves = parse_leniently(b'["a\\ud83d","\\ud83d\\ude00","\\\\ud83d"]', msgspec.json.decode, "events")
    assert halves == ["a\ufffd", "\U0001f600", "\\ud83d"]


@pytest.mark.parametrize(
    "body",
    [b"[" * MANY, b'{"a":' * MANY, b'["' + b"\\n" * MANY, b'["' + b"\\ud800" * MANY, b'["' + b"\\" * MANY],
    ids=["brackets", "braces", "escapes", "halves", "backslashes"],
)
def test_what_would_take_seconds_to_mend_is_refused(body: bytes) -> None:
    """The mending looks at each mark in Python; what has millions of them may take no longer than what has few."""
    assert seconds(body) < 5 * max(seconds(b'["' + b"\\ud800" * 200_000), seconds(b"[" * 200_000))


def seconds(body: bytes) -> float:
    """Return the processor's time until a body is refused."""
    began = time.thread_time()
    with pytest.raises(UnreadableBodyError):
        mended(body)
    return time.thread_time() - began


def test_millions_of_values_are_refused_before_they_are_split() -> None:
    with pytest.raises(TooLargeBodyError, match="values"):
        mended(b"[" + b"0," * MANY + b"0]")
