"""Whatever dies: nothing acknowledged is lost, nothing is counted twice, every change arrives; and the harness sees."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deploy.local.services import KafkaBroker, RedisServer
from tests.chaos.mutants import MUTANTS
from tests.chaos.schedule import KINDS, make_schedule, read_schedule, write_schedule
from tests.services import skip_or_fail

SHORT = Path(__file__).parent / "schedules/short.jsonl"
FAULTS = int(os.environ.get("CHAOS_FAULTS", "300"))
SEED = int(os.environ.get("CHAOS_SEED", "1"))


@pytest.fixture
def _services(tmp_path: Path) -> None:
    for service in (KafkaBroker(tmp_path), RedisServer(tmp_path)):
        if lacking := service.missing():
            skip_or_fail(lacking)


def command(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run one of the harness's commands to its end; what it prints are figures."""
    words = [sys.executable, "-m", f"tests.chaos.{module}", *map(str, arguments)]
    done = subprocess.run(words, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True, check=False)
    print(f"\n{done.stdout}")  # noqa: T201 - figures
    return done


def figures(tmp_path: Path, *arguments: object) -> dict[str, Any]:
    done = command("run", *arguments, "--json", tmp_path / "figures.json", "--directory", tmp_path / "run")
    assert done.returncode == 0, done.stdout[-3000:]
    found: dict[str, Any] = json.loads((tmp_path / "figures.json").read_text("utf-8"))
    return found


@pytest.mark.services
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("_services")
def test_a_dozen_faults(tmp_path: Path) -> None:
    found = figures(tmp_path, "--schedule", SHORT)
    assert found["events_acknowledged"] > 500
    assert found["changes_seen"] == found["changes_expected"] > 50
    assert sum(found["kinds"].values()) >= 10


@pytest.mark.services
@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("_services")
@pytest.mark.parametrize("schedule", sorted(set(SHORT.parent.glob("*.jsonl")) - {SHORT}), ids=lambda path: path.stem)
def test_what_once_found_something(tmp_path: Path, schedule: Path) -> None:
    figures(tmp_path, "--schedule", schedule)


@pytest.mark.services
@pytest.mark.long
@pytest.mark.timeout(6 * 3600)
@pytest.mark.usefixtures("_services")
def test_hundreds_of_faults(tmp_path: Path) -> None:
    found = figures(tmp_path, "--faults", FAULTS, "--seed", SEED, "--pause", 0.6)
    assert found["events_lost"] == found["events_counted_less"] == found["events_doubled"] == 0
    assert found["kinds"].keys() == KINDS.keys()


@pytest.mark.services
@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("_services")
def test_every_mutation_is_found(tmp_path: Path) -> None:
    done = command("mutations", "--json", tmp_path / "mutations.json")
    found = json.loads((tmp_path / "mutations.json").read_text("utf-8"))
    assert {one["mutation"] for one in found if one["mutated"] and not one["unharmed"]} == MUTANTS.keys()
    assert done.returncode == 0


def test_a_seed_is_a_schedule_and_a_file_brings_it_back(tmp_path: Path) -> None:
    schedule = make_schedule(7, 60)
    assert schedule == make_schedule(7, 60) != make_schedule(8, 60)
    assert {fault.kind for fault in schedule[: len(KINDS)]} == KINDS.keys()
    write_schedule(tmp_path / "schedule.jsonl", schedule)
    assert list(read_schedule(tmp_path / "schedule.jsonl")) == schedule
    assert {fault.kind for fault in read_schedule(SHORT)} <= KINDS.keys()
