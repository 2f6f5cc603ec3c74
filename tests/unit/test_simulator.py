"""The simulated fund shop: the same from the same seed, well-formed, in order of arrival, and never at a loss."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import zstandard

from bench.deskdrop import DEFINITIONS, data_file, read_deskdrop
from bench.live import LiveVisitors
from bench.simulator import DEFAULT_START, STORIES, simulate
from collector.wire.event import EVENT_TYPES, MONEY_TYPES

DAY = 24 * 3_600_000
PEOPLE = 2 * len(STORIES)
NATIVE = {"id", "type", "ts", "anonymous_id", "user_id", "session_id", "seq", "page", "element", "properties", "name"}


@pytest.fixture(scope="module")
def month() -> list[dict[str, Any]]:
    return list(simulate(7, PEOPLE, DEFAULT_START, 30))


def run(*arguments: str) -> Iterator[bytes]:
    command = [sys.executable, "-m", "bench.simulator", "--people", "20", "--seed", "3", *arguments]
    yield subprocess.run(command, check=True, capture_output=True, cwd=Path(__file__).parents[2]).stdout


def test_two_processes_write_the_same_bytes() -> None:
    (one,), (other,) = run("--arrivals"), run("--arrivals")
    assert one == other
    assert one.count(b"\n") > 1_000


def test_other_seeds_live_other_lives(month: list[dict[str, Any]]) -> None:
    other = simulate(8, PEOPLE, DEFAULT_START, 30)
    assert not {event["id"] for event in month} & {event["id"] for event in other}


def test_events_come_in_order_of_arrival_and_never_before_they_happened(month: list[dict[str, Any]]) -> None:
    assert all(earlier["arrives"] <= later["arrives"] for earlier, later in pairwise(month))
    assert all(event["ts"] <= event["arrives"] for event in month)
    assert any(earlier["ts"] > later["ts"] + DAY for earlier, later in pairwise(month))


def test_every_event_is_a_native_one_with_a_person(month: list[dict[str, Any]]) -> None:
    for event in month:
        assert event.keys() - NATIVE == {"arrives", "trusted"}
        assert event["type"] in EVENT_TYPES
        assert "user_id" in event or "anonymous_id" in event
        assert ("name" in event) == (event["type"] == "custom")
        if event["type"] in MONEY_TYPES:
            assert event["user_id"]
            assert event["properties"]["order_id"]
            assert event["trusted"] == ("anonymous_id" not in event)


def test_only_the_ledgers_old_books_are_older_than_the_start(month: list[dict[str, Any]]) -> None:
    old = [event for event in month if event["ts"] < DEFAULT_START]
    assert old
    assert all(event["trusted"] for event in old)


def test_an_id_names_one_event(month: list[dict[str, Any]]) -> None:
    """A repeat differs at most in the user and in its arrival."""
    contents: dict[str, Any] = {}
    for event in month:
        content = {name: event[name] for name in event.keys() - {"arrives", "user_id"}}
        assert contents.setdefault(event["id"], content) == content


def test_numbered_devices_leave_no_gap(month: list[dict[str, Any]]) -> None:
    numbers: dict[str, set[int]] = {}
    for event in month:
        if "seq" in event:
            numbers.setdefault(event["anonymous_id"], set()).add(event["seq"])
    assert numbers
    assert sum(found == set(range(len(found))) for found in numbers.values()) > 0.9 * len(numbers)


def test_people_are_nearly_silent_after_the_month(month: list[dict[str, Any]]) -> None:
    days = Counter((event["arrives"] - DEFAULT_START) // DAY for event in month)
    assert sum(days[day] for day in range(42, 80)) < 0.2 * days.total()
    assert max(days) >= 60


def test_an_import_file_is_in_the_order_of_ts() -> None:
    (lines,) = run()
    times = [int(line.split(b'"ts":')[1].split(b",")[0]) for line in lines.splitlines()]
    assert times == sorted(times)
    assert b'"arrives"' not in lines


def test_live_visitors_go_on_where_their_past_ends() -> None:
    start = DEFAULT_START + 30 * DAY
    visitors = LiveVisitors(1, 60, start)
    past = list(visitors.history(30))
    assert all(start - 30 * DAY <= event["ts"] < start for event in past)
    assert all(earlier["ts"] <= later["ts"] for earlier, later in pairwise(past))
    sent: list[dict[str, Any]] = []
    for now in range(start, start + 120_000, 500):
        due = visitors.due(now)
        assert all(event["ts"] <= now and "arrives" not in event for event in due)
        sent += due
    kinds = Counter((event["type"], event["trusted"]) for event in sent)
    assert kinds["purchase", False] >= 5
    assert kinds["purchase", True] >= 3
    assert kinds["redeem", True] >= 3
    assert not {event["id"] for event in past} & {event["id"] for event in sent}


def test_live_visitors_do_not_catch_up_after_a_long_pause() -> None:
    visitors = LiveVisitors(1, 10, DEFAULT_START)
    visitors.due(DEFAULT_START + 10_000)
    assert len(visitors.due(DEFAULT_START + 30 * DAY)) < 2_000


def test_deskdrop_rows_become_custom_events_in_order(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv.zst"
    header = "timestamp,eventType,contentId,personId,sessionId,userAgent,userRegion,userCountry\n"
    row = '20,VIEW,-3,-88,12,"Mozilla (X, like Y)",NY,US\n'
    path.write_bytes(zstandard.compress((header + row + row + "10,COMMENT CREATED,5,-88,13,,,\n").encode()))
    first, second, third = read_deskdrop(path)
    assert (first["ts"], first["name"], first["user_id"], first["session_id"]) == (
        10_000,
        "COMMENT CREATED",
        "-88",
        "13",
    )
    assert second["id"] != third["id"]
    assert {**second, "id": None} == {**third, "id": None}
    assert [event["id"] for event in read_deskdrop(path)] == [first["id"], second["id"], third["id"]]


def test_deskdrop_definitions_keep_the_rules() -> None:
    shipped = Path(__file__).parents[2] / "processors" / "definitions" / "fund-shop.toml"
    document = tomllib.loads(DEFINITIONS)
    assert document["rules"] == tomllib.loads(shipped.read_text())["rules"]
    assert {b["event"][0]: b["weight"] for b in document["behaviours"]} == {
        "VIEW": 0.5,
        "LIKE": 1,
        "BOOKMARK": 1.5,
        "COMMENT CREATED": 1.5,
        "FOLLOW": 2,
    }


def test_deskdrop_says_where_its_data_has_to_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PHASEWATCH_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match="PHASEWATCH_DATA is not set"):
        data_file()
    monkeypatch.setenv("PHASEWATCH_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="does not exist"):
        data_file()
