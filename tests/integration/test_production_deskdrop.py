"""Real interactions of a year, imported over Kafka and Redis with two workers: the same changes as embedded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from bench.deskdrop import DEFINITIONS
from deploy.local.services import RedisServer
from phasewatch.backend import open_backend
from phasewatch.data_dir import now_ms
from phasewatch.history import HistoryImport
from tests.harness import Deployment as Embedded
from tests.integration.production import Deployment, Inside, once
from tests.integration.test_deskdrop import DAY, import_all, interactions

pytestmark = [pytest.mark.services, pytest.mark.long, pytest.mark.timeout(5400)]

PLACES = ("id", "life", "position", "retracts")
"""What names a place in the log: derived records stand elsewhere, as two workers take turns."""


async def test_the_same_changes_as_embedded(tmp_path: Path, kafka: str, redis_server: RedisServer) -> None:
    events = interactions()
    file = tmp_path / "deskdrop.ndjson"
    file.write_bytes(b"".join(orjson.dumps(event) + b"\n" for event in events))
    expected = await embedded(file, events)
    definitions = tmp_path / "deskdrop.toml"
    definitions.write_text(DEFINITIONS, encoding="utf-8")
    deployment = Deployment(tmp_path, kafka, redis_server.url)
    done = deployment.run("topics", "--definitions", definitions)
    assert done.returncode == 0, done.stderr
    try:
        for name in ("one", "two"):
            deployment.worker(name)
        for worker in deployment.workers.values():
            await asyncio.to_thread(worker.wait_ready)
        began = time.monotonic()
        async with open_backend(deployment.settings, write=True) as backend:
            await backend.settle()
            report = await HistoryImport(backend.history, now_ms, backend.settle).run(file, more_follows=False)
        print(f"\n{report.events:,} events, {report.hours:,} hours in {time.monotonic() - began:.0f} s")  # noqa: T201
        async with Inside.open(deployment) as inside:
            found, repeats = once(await inside.messages("stage-changes"))
    finally:
        deployment.close()
    print(f"{sum(map(len, found.values()))} changes of {len(found)} people, {repeats} repeats")  # noqa: T201
    assert without_places(found) == without_places(expected)


async def embedded(file: Path, events: Sequence[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return each person's changes as the embedded form makes them."""
    deployment = Embedded(start=events[0]["ts"], definitions=DEFINITIONS)
    try:
        await deployment.start(batch_records=200)
        deployment.now = events[-1]["ts"] + 60 * DAY
        await import_all(deployment, file)
        return deployment.changes()
    finally:
        deployment.close()


def without_places(changes: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    return {
        person: [{name: value for name, value in change.items() if name not in PLACES} for change in told]
        for person, told in changes.items()
    }
