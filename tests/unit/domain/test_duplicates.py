"""R7: two events of a person with the same id are one."""

from __future__ import annotations

import copy

from hypothesis import given
from hypothesis import strategies as st

from processors.domain.fold import REPEATED
from processors.domain.person import Device
from processors.domain.remembered import ROW_BYTES
from processors.domain.rules import DAY_MS, HOUR_MS
from tests.unit.domain.folding import Folding


def test_an_id_counts_once(folding: Folding) -> None:
    folding.view(0, id="same")
    assert folding.view(1000, id="same") == REPEATED
    assert folding.person.score == 500


def test_a_dropped_event_changes_nothing(folding: Folding) -> None:
    folding.view(0, id="same", seq=4)
    before = copy.deepcopy(folding.person.__getstate__())
    assert folding.submit(1000, id="same", session_id="s", anonymous_id="y") == REPEATED
    assert folding.submit(1000, id="another", seq=4, session_id="s") == REPEATED
    after = folding.person.__getstate__()
    assert repr(after) == repr(before)


def test_an_id_is_remembered_for_a_day_of_stream_time(folding: Folding) -> None:
    folding.view(0, id="same")
    assert folding.view(DAY_MS, id="same") == REPEATED
    assert folding.view(DAY_MS + 1, id="same") != REPEATED
    assert folding.person.score == 1000
    assert folding.view(2 * DAY_MS, id="same") == REPEATED


def test_an_id_is_remembered_among_the_last_256(folding: Folding) -> None:
    folding.view(0, id="first")
    for _ in range(255):
        folding.add(1)
    assert folding.view(2, id="first") == REPEATED
    folding.add(3)
    assert folding.view(4, id="first") != REPEATED
    assert len(folding.person.remembered) == 256 * ROW_BYTES


def test_numbered_events_are_exact_without_limit_in_time(folding: Folding) -> None:
    folding.view(0, seq=0)
    folding.view(1, seq=1)
    assert folding.view(300 * DAY_MS, seq=0) == REPEATED
    assert folding.view(300 * DAY_MS, seq=1) == REPEATED
    assert folding.view(300 * DAY_MS, seq=2) != REPEATED


def test_gaps_are_filled_once(folding: Folding) -> None:
    folding.view(0, seq=3)
    assert folding.person.devices["x"].gaps == [0, 1, 2]
    assert folding.view(1, seq=1) != REPEATED
    assert folding.view(2, seq=1) == REPEATED
    assert folding.person.devices["x"].gaps == [0, 2]


def test_64_gaps_are_kept_and_the_oldest_then_counts_as_filled(folding: Folding) -> None:
    folding.view(0, seq=70)
    assert folding.person.devices["x"].gaps == list(range(6, 70))
    assert folding.view(1, seq=5) == REPEATED
    assert folding.view(2, seq=6) != REPEATED
    folding.view(3, seq=72)
    assert folding.person.devices["x"].gaps == [*range(7, 70), 71]
    folding.view(4, seq=10**9)
    assert folding.person.devices["x"].gaps == list(range(10**9 - 64, 10**9))


def test_numbers_are_a_devices_own(folding: Folding) -> None:
    folding.view(0, seq=5)
    assert folding.view(1, seq=5, anonymous_id="y") != REPEATED
    assert folding.view(2, seq=5) == REPEATED


def test_a_number_without_an_anonymous_id_means_nothing(folding: Folding) -> None:
    folding.view(0, seq=5, anonymous_id=None)
    assert folding.view(1, seq=5, anonymous_id=None) != REPEATED


def test_the_16_latest_devices_are_remembered(folding: Folding) -> None:
    for number in range(16):
        folding.view(0, seq=0, anonymous_id=f"d{number}")
    folding.view(1, seq=1, anonymous_id="d0")
    folding.view(2, seq=0, anonymous_id="d16")
    assert list(folding.person.devices) == [*(f"d{number}" for number in range(2, 16)), "d0", "d16"]
    assert folding.view(3, seq=0, anonymous_id="d0") == REPEATED
    assert folding.view(3, seq=0, anonymous_id="d1") != REPEATED


def test_an_event_without_a_number_keeps_its_device(folding: Folding) -> None:
    folding.view(0, anonymous_id="old", seq=0)
    for number in range(15):
        folding.view(1, anonymous_id=f"d{number}")
    folding.view(2, anonymous_id="old")
    folding.view(3, anonymous_id="d99")
    assert "old" in folding.person.devices
    assert "d0" not in folding.person.devices


def test_what_is_older_than_a_day_is_not_kept_in_memory_for_ever(folding: Folding) -> None:
    for number in range(10):
        folding.view(number)
    folding.refresh(26 * HOUR_MS)
    assert folding.person.remembered == b""


@given(first=st.lists(st.integers(0, 90)), second=st.lists(st.integers(0, 90)), asked=st.integers(0, 90))
def test_of_united_devices_a_number_is_seen_when_either_has_seen_it(
    first: list[int], second: list[int], asked: int
) -> None:
    one, other = Device("x"), Device("x")
    for device, numbers in ((one, first), (other, second)):
        for seq in numbers:
            if not device.seen(seq):
                device.number(seq, 64)
    expected = one.seen(asked) or other.seen(asked)
    one.unite(other, 64)
    assert len(one.gaps) <= 64
    assert one.high == max([-1, *first, *second])
    if asked >= one.high - 64:
        assert one.seen(asked) == expected
    else:
        assert one.seen(asked) or not expected
