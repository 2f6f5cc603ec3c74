"""kill -9 of the embedded process in mid-load: everything acknowledged is in the log, and counts once."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.embedded_process import EmbeddedProcess
from tests.integration.load import Poster, Tally
from tests.integration.log_contents import LogContents, agrees_with_the_oracle, wait_until_folded

SEED = 20
KILLS = 30
POSTERS = 6


@pytest.fixture
def process(tmp_path: Path) -> Iterator[EmbeddedProcess]:
    process = EmbeddedProcess(tmp_path)
    yield process
    process.close()


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
    if moment == "at an answer":  # the worker is folding what was just answered
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
    wait_until_folded(process.data)
    assert process.stop()[0] == 0
    log = LogContents(process.data)
    print(f"\n{KILLS} kills {dict(moments)}; {tally.requests} answers, {tally.failures} requests without one")  # noqa: T201 - figures
    everything_acknowledged_is_there(log, tally)
    changes, repeats = agrees_with_the_oracle(log)
    seen = sum(map(len, changes.values()))
    print(f"changes expected and seen {seen}, repeats {repeats}")  # noqa: T201
    assert seen > 500
    assert {change["to"] for told in changes.values() for change in told} >= {"decision", "holding", None}
    each_event_counts_once(log, tally)
    assert process.complaints() == []


def everything_acknowledged_is_there(log: LogContents, tally: Tally) -> None:
    copies = log.copies()
    repeats = copies.total() - len(copies)
    print(f"acknowledged {len(tally.acknowledged)}, in the log {len(copies)} and {repeats} repeats")  # noqa: T201
    assert len(tally.acknowledged) > 3000
    assert repeats > 100
    assert set(copies) == tally.acknowledged


def each_event_counts_once(log: LogContents, tally: Tally) -> None:
    """Without the oracle: each person's behaviours are as often in the state as the client did them."""
    states = log.states()
    counted = {person: states[person]["counts"] for person in tally.counts}
    assert counted == {person: dict(counts) for person, counts in tally.counts.items()}
