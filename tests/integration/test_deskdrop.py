"""Real interactions of a year, imported as `phasewatch import` does it: the changes equal the oracle's.

The file is nobody's to pass on, so that it is no part of this repository and no `make` target can fetch it: where it
is absent these tests are skipped, with REQUIRE_SERVICES=1 too.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

import orjson
import pytest

from bench.deskdrop import DEFINITIONS, FILE_NAME, read_deskdrop
from phasewatch.history import HistoryImport, Report
from tests.agreement import assert_agrees
from tests.harness import Deployment

pytestmark = pytest.mark.timeout(900)  # 72,312 interactions, each hour of a year with its own commits and fsyncs

DAY: Final = 24 * 3_600_000


def interactions() -> list[dict[str, Any]]:
    """Return the interactions, from the folder in PHASEWATCH_DATA or from `shared/data` beside the repository."""
    folder = os.environ.get("PHASEWATCH_DATA", Path(__file__).parents[3] / "shared" / "data")
    path = Path(folder) / FILE_NAME
    if not path.is_file():
        pytest.skip(f"{path} does not exist; PHASEWATCH_DATA can name the folder that holds it")
    return list(read_deskdrop(path))


async def import_all(deployment: Deployment, file: Path) -> Report:
    async def catch_up() -> None:
        await deployment.settle()

    return await HistoryImport(deployment.log, lambda: deployment.now, catch_up).run(file, more_follows=False)


def transitions(changes: dict[str, list[dict[str, Any]]]) -> Counter[str]:
    return Counter(f"{change['from']} -> {change['to']}" for told in changes.values() for change in told)


@pytest.mark.long
def test_real_interactions_lead_into_decisions_and_out_of_them(tmp_path: Path) -> None:
    events = interactions()
    file = tmp_path / "deskdrop.ndjson"
    file.write_bytes(b"".join(orjson.dumps(event) + b"\n" for event in events))
    deployment = Deployment(
        start=events[0]["ts"],
        definitions=DEFINITIONS,
        path=str(tmp_path / "log.sqlite"),
        store_path=str(tmp_path / "states.sqlite"),
    )
    try:
        asyncio.run(check(deployment, file, events))
    finally:
        deployment.close()


async def check(deployment: Deployment, file: Path, events: list[dict[str, Any]]) -> None:
    await deployment.start(batch_records=200)
    deployment.now = events[-1]["ts"] + 60 * DAY  # when somebody imports it: everybody has been silent for long
    began = time.monotonic()
    report = await import_all(deployment, file)
    took = time.monotonic() - began
    assert (report.events, report.refused) == (len(events), 0)

    changes = deployment.changes()
    entered = {person for person, told in changes.items() if any(change["to"] == "decision" for change in told)}
    left = {person for person in entered if changes[person][-1]["to"] != "decision"}
    print(  # noqa: T201 - the figures are what this test is run for, with `pytest -s`
        f"\n{report.events:,} events over {report.hours:,} hours imported in {took:.1f} s; "
        f"{len(entered)} people entered a decision, {len(left)} left it; {dict(transitions(changes))}"
    )
    assert len(entered) >= 300
    assert left == entered

    began = time.monotonic()
    await assert_agrees(deployment, await deployment.records())
    print(f"the oracle took {time.monotonic() - began:.1f} s")  # noqa: T201 - as above
