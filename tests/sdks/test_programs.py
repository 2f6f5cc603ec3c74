"""SDKs for Node and Python in programs: what they say was delivered is in the log once, whatever befell it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from collector.wire.event import Event
from tests.sdks import installed
from tests.sdks.collector_front import Fault, wait_for
from tests.sdks.driven import Driven, Program
from tests.sdks.matrix import Result, note
from tests.sdks.scene import Scene

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]

V1 = {"POSTHOG_CAPTURE_MODE": "v1"}
SENSORS = "SensorsAnalyticsSDK"
CURRENT = (
    Program("posthog-node", "posthog", "with_posthog.mjs", "posthog-node"),
    Program("posthog-node-v1", "posthog", "with_posthog.mjs", "posthog-node", environment=V1),
    Program("posthog-python", "posthog", "with_posthog.py", "posthog", "v0"),
    Program("posthog-python-v1", "posthog", "with_posthog.py", "posthog", "v1"),
    Program("segment-node", "segment", "with_segment.mjs", "@segment/analytics-node"),
    Program("segment-python", "segment", "with_segment.py", "segment-analytics-python", "segment"),
    Program("rudder-node", "rudder", "with_segment.mjs", "@rudderstack/rudder-sdk-node"),
    Program("rudder-python", "rudder", "with_segment.py", "rudder-sdk-python", "rudder"),
    Program("snowplow-node", "snowplow", "with_snowplow.mjs", "@snowplow/node-tracker"),
    Program("snowplow-python", "snowplow", "with_snowplow.py", "snowplow-tracker", "post", events=3),
    Program("growingio-python", "growingio", "with_growingio.py", "growingio-tracker", "json", events=3),
    Program("sensors-node", "sensors", "with_sensors.mjs", "sa-sdk-node"),
    Program("sensors-python-default", "sensors", "with_sensors.py", SENSORS, "default"),
    Program("sensors-python-batch", "sensors", "with_sensors.py", SENSORS, "batch"),
    Program("sensors-python-async", "sensors", "with_sensors.py", SENSORS, "async", ends_at_a_fault=True),
)
OLDER = (
    Program("posthog-node-4", "posthog", "with_posthog.mjs", "posthog-node-4-2-1"),
    Program("posthog-python-3", "posthog", "with_posthog.py", "posthog", "older", older="3.7.0"),
    Program("segment-node-6", "segment", "with_segment.mjs", "analytics-node-6-2-0"),
    Program("snowplow-python-get", "snowplow", "with_snowplow.py", "snowplow-tracker", "get", events=3),
    Program("growingio-python-snappy", "growingio", "with_growingio.py", "growingio-tracker", "snappy", events=3),
    Program("growingio-python-protobuf", "growingio", "with_growingio.py", "growingio-tracker", "protobuf", events=3),
)
PHASES = {"quiet": None, "unavailable": Fault.UNAVAILABLE, "answer-lost": Fault.ANSWER_LOST, "reset": Fault.RESET}
UNAVAILABLE_TIMES = 2


@dataclass
class Told:
    """What the programs said and were answered, and the log and complaints of their collector."""

    programs: dict[str, Driven]
    answers: dict[str, set[int | None]]
    events: dict[str, list[Event]]
    complaints: dict[str, list[str]]
    understood: dict[str, list[dict[str, Any]]]


def drive(programs: Sequence[Program], directory: Path) -> Told:
    """Run all programs at once: through the phases each at its own pace, then together through a kill."""
    scene = Scene(directory, {program.name: program.dialect for program in programs})
    with ExitStack() as stack:
        stack.callback(scene.close)
        pool = stack.enter_context(ThreadPoolExecutor(len(programs)))
        running = {one.name: Driven(one, scene.fronts[one.name].url, directory / one.name) for one in programs}
        for one in running.values():
            stack.callback(one.close)
        list(pool.map(lambda one: go_through_phases(one, scene), running.values()))
        complaints = {name: scene.complaints(name) for name in running}
        for one in running.values():
            one.begin("killed")
        before = sum(len(front.requests) for front in scene.fronts.values())
        wait_for(lambda: sum(len(front.requests) for front in scene.fronts.values()) > before, lambda: "a request")
        scene.restart()
        list(pool.map(Driven.finish, running.values()))
        return Told(
            running,
            {name: {one.status for one in scene.fronts[name].requests} for name in running},
            {name: scene.events(name) for name in running},
            {name: complaints[name] + scene.complaints(name) for name in running},
            {name: scene.requests(name) for name in running},
        )


def go_through_phases(one: Driven, scene: Scene) -> None:
    front = scene.fronts[one.program.name]
    for phase, fault in PHASES.items():
        if fault is not None:
            front.break_next(fault, UNAVAILABLE_TIMES if fault is Fault.UNAVAILABLE else 1)
        one.begin(phase)
        one.finish()
        front.heal()


@pytest.fixture(scope="module")
def current(tmp_path_factory: pytest.TempPathFactory) -> Told:
    installed.require()
    return drive(CURRENT, tmp_path_factory.mktemp("programs"))


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Told:
    installed.require()
    return drive(OLDER, tmp_path_factory.mktemp("older"))


def name_of(event: Event, names: dict[str, str]) -> str:
    """Return under which name the program knows an event: its id, or else what stands as `visit` in it."""
    return event.id if event.id in names else str(found_in(msgspec.json.decode(event.properties), "visit"))


def found_in(value: Any, name: str) -> Any:
    """Return what stands under a name in an object or in an object within it."""
    if not isinstance(value, dict):
        return None
    return value.get(name) or next(filter(None, (found_in(inner, name) for inner in value.values())), None)


def check(told: Told, program: Program) -> None:
    said = told.programs[program.name]
    arrived = Counter(name_of(event, said.types) for event in told.events[program.name])
    note(
        Result(
            sdk=program.name,
            version=program.version,
            runtime=program.runtime,
            phase="503s, a lost answer, a reset, a kill",
            sent=len(said.types),
            delivered=len(set(said.delivered)),
            arrived=len(arrived),
            lost_by_sdk=len(set(said.lost)),
        )
    )
    assert len(said.types) == program.events * (len(PHASES) + 1), "the program itself sends what it should"
    assert told.answers[program.name] >= ({503} if program.ends_at_a_fault else {503, None}), "the faults befell it"
    assert told.complaints[program.name] == []
    assert {name: count for name, count in arrived.items() if count != 1} == {}, told.understood[program.name]
    assert set(said.delivered) <= set(arrived), told.understood[program.name]
    assert set(arrived) <= set(said.types), told.understood[program.name]
    types = {name_of(event, said.types): event.type for event in told.events[program.name]}
    assert types == {name: said.types[name] for name in arrived}
    quiet = list(said.types)[: program.events]
    assert set(quiet) <= set(said.delivered), "without a fault everything is delivered"


@pytest.mark.parametrize("program", CURRENT, ids=lambda program: program.name)
def test_what_was_delivered_is_in_the_log_once(current: Told, program: Program) -> None:
    check(current, program)


@pytest.mark.long
@pytest.mark.parametrize("program", OLDER, ids=lambda program: program.name)
def test_what_an_older_sdk_delivered_is_in_the_log_once(older: Told, program: Program) -> None:
    check(older, program)
