"""kill -9 of the embedded process in mid-load: everything acknowledged is in the log, and counts once."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from phasewatch.data_dir import now_ms
from phasewatch.history import wait_for_fold
from processors.adapters.sqlite.log import SqliteLog
from processors.adapters.sqlite.store import SqliteStore
from processors.engine.changes import rfc3339
from processors.engine.query import Query
from tests.integration.embedded_process import EmbeddedProcess
from tests.integration.load import Poster, Tally
from tests.integration.log_contents import LogContents
from tests.oracle import run

SEED = 20
KILLS = 30
POSTERS = 6
STATE_FIELDS = ("score", "decision_score", "intent", "tier", "customer", "preference", "funds", "evidence", "stage")


@pytest.fixture
def process(tmp_path: Path) -> Iterator[EmbeddedProcess]:
    process = EmbeddedProcess(tmp_path)
    yield process
    process.close()


def folded(data: Path) -> None:
    """Wait until a running process has folded everything that is in its log."""

    async def wait() -> None:
        log = SqliteLog(data / "log.sqlite", partitions=32, log_id="", clock=now_ms)
        store = SqliteStore(data / "states.sqlite")
        try:
            async with asyncio.timeout(30):
                await wait_for_fold(log, store, Query(store, log.partitions))
        finally:
            store.close()
            log.close()

    asyncio.run(wait())


def kill_in_mid_load(process: EmbeddedProcess, tally: Tally, rng: random.Random) -> str:
    """Start the process, kill it at one of the moments that matter, and say which."""
    # Every other life has forgotten what is durable: repeats reach the log, and the fold has to drop them.
    process.environment = {"PHASEWATCH_COLLECTOR__RECENT_IDS": "2"} if rng.random() < 0.5 else {}
    moment = rng.choice(("while starting", "just started", "at an answer", "at an answer", "any time", "any time"))
    if moment == "while starting":
        process.launch()
        time.sleep(rng.uniform(0, 1.5))
        process.kill()
        return moment
    process.start()
    if moment == "at an answer":
        tally.await_answers(rng.randrange(1, 80), 5)
    elif moment == "any time":
        time.sleep(rng.uniform(0, 0.7))
    process.kill()
    return moment


@pytest.mark.timeout(240)
def test_thirty_kills(process: EmbeddedProcess) -> None:
    rng, tally, closing = random.Random(SEED), Tally(), threading.Event()
    posters = [Poster(number, SEED, process.port, tally, closing) for number in range(POSTERS)]
    for poster in posters:
        poster.start()
    moments = Counter(kill_in_mid_load(process, tally, rng) for _ in range(KILLS))
    process.environment = {}
    process.start()
    tally.await_answers(2 * POSTERS, 10)
    closing.set()
    for poster in posters:
        poster.join(30)
        assert not poster.is_alive()
    folded(process.data)
    assert process.stop()[0] == 0
    log = LogContents(process.data)
    print(f"\n{KILLS} kills {dict(moments)}; {tally.requests} answers, {tally.failures} requests without one")  # noqa: T201 - figures
    everything_acknowledged_is_there(log, tally)
    the_product_says_what_the_oracle_says(log)
    each_event_counts_once(log, tally)
    assert process.complaints() == []


def everything_acknowledged_is_there(log: LogContents, tally: Tally) -> None:
    copies = log.copies()
    repeats = copies.total() - len(copies)
    print(f"acknowledged {len(tally.acknowledged)}, in the log {len(copies)} and {repeats} repeats")  # noqa: T201
    assert len(tally.acknowledged) > 3000
    assert repeats > 100
    assert set(copies) == tally.acknowledged


def the_product_says_what_the_oracle_says(log: LogContents) -> None:
    expected = run(log.records)
    changes, repeats = log.changes()
    wanted = {person: told for person, told in expected.changes.items() if told}
    seen = sum(map(len, changes.values()))
    print(f"changes expected {sum(map(len, wanted.values()))}, seen {seen} and {repeats} repeats")  # noqa: T201
    assert seen > 500
    assert {change["to"] for told in changes.values() for change in told} >= {"decision", "holding", None}
    assert changes == wanted
    for person, told in changes.items():
        versions_have_no_gap(told)
        latest = log.stages[person]
        assert (latest is None) == (told[-1]["to"] is None)
    people = sorted({f"u:{e.user_id}" if e.user_id else f"a:{e.anonymous_id}" for e in log.events()})
    states = asyncio.run(log.states(people))
    differing = {key: (shown(state), readable(expected.state(key))) for key, state in states.items()}
    assert {key: pair for key, pair in differing.items() if pair[0] != pair[1]} == {}
    assert sum(state is not None for _, state in differing.values()) > 100


def versions_have_no_gap(told: list[dict[str, Any]]) -> None:
    lives: dict[str, list[int]] = {}
    for change in told:
        lives.setdefault(change["life"], []).append(change["version"])
    assert all(versions == list(range(1, len(versions) + 1)) for versions in lives.values())


def shown(state: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return a state of the query API in the oracle's words; None for somebody who is another person by now."""
    if state is None or "stage" not in state:
        return None
    fields = {name: state[name] for name in (*STATE_FIELDS, "confirmed")}
    return fields | {"visits": state["visits_30_days"], "last_activity": state["last_activity"]}


def readable(state: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if state is None else state | {"last_activity": rfc3339(state["last_activity"])}


def each_event_counts_once(log: LogContents, tally: Tally) -> None:
    """Without the oracle: each person's behaviours are as often in the state as the client did them."""
    states = asyncio.run(log.states(sorted(tally.counts)))
    counted = {key: (state or {}).get("counts") for key, state in states.items()}
    assert counted == {key: dict(counts) for key, counts in tally.counts.items()}
