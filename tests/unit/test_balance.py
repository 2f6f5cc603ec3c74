"""What `phasewatch balance` says of an embedded deployment, and how it ends."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from phasewatch.cli import app

EVENTS = [
    {"ts": f"2026-03-{day:02}T08:00:00Z", "type": "page", "anonymous_id": "a", "seq": seq, "page": {"path": "/"}}
    for day, seq in ((1, 1), (2, 2), (3, 5), (4, 4), (9, 6))
]
"""Number 3 was left out; 4 came late."""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.chdir(tmp_path)
    return CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})


def balance(run: CliRunner, *options: str) -> Result:
    return run.invoke(app, ["balance", "--data-dir", "data", *options])


def test_what_is_said_of_a_log_that_is_whole_and_of_one_that_is_not(run: CliRunner, tmp_path: Path) -> None:
    assert balance(run).exit_code == 3, "nothing has run there yet"
    (tmp_path / "history").write_text("\n".join(map(json.dumps, EVENTS)))
    assert run.invoke(app, ["import", "history", "--data-dir", "data"]).exit_code == 0

    whole = balance(run)
    assert whole.exit_code == 0, whole.output
    assert "balanced: " in whole.output
    found = json.loads(balance(run, "--json", "--days", "1000").stdout)
    one = found["sources"]["import"]
    assert found["balanced"] is True
    assert found["log_counted_since"] is None
    assert (one["in_log"], one["tallied"], one["behind"]) == (5, 5, 0)
    ended = one["since_beginning"]
    assert (ended["read"], ended["folded"], ended["undelivered"], ended["undelivered_share"]) == (5, 5, 1, 1 / 6)
    latest = json.loads(balance(run, "--json").stdout)
    assert latest["log_counted_since"] is not None
    assert latest["sources"]["import"]["in_log"] < 5

    with closing(sqlite3.connect(tmp_path / "data" / "log.sqlite")) as log, log:
        (block,) = log.execute('SELECT max(id) FROM records WHERE headers LIKE \'%"kind","events"%\'').fetchone()
        log.execute("DELETE FROM records WHERE id = ?", (block,))
    broken = balance(run, "--days", "1000")
    assert broken.exit_code == 1
    assert "source import: 4 events stand in the log" in broken.output
    assert "docs/runbooks/imbalance.md" in broken.output
