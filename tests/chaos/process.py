"""A process of the product with named points in it, where it dies or stands still, and perhaps with a mutation.

`python -m tests.chaos.process worker ...` is the product's own command. CHAOS_POINT names a file: when it says
`POINT/SIGNAL`, the process sends itself that signal at that point, and the file is gone. CHAOS_MUTATION names one of
tests/chaos/mutants.py.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from phasewatch import backend
from phasewatch.cli import app
from processors.engine.ports import Commit
from tests.chaos import mutants
from tests.integration import faulty_worker

AWAKE_SECONDS = 0.1


def at(point: str) -> bool:
    """Die or stand still where this point is the one that the file names; return whether it has stood still."""
    armed = Path(os.environ["CHAOS_POINT"])
    try:
        wanted, _, name = armed.read_text("utf-8").partition("/")
    except FileNotFoundError:
        return False
    if wanted != point:
        return False
    armed.unlink()
    os.kill(os.getpid(), signal.Signals[name])
    return True


class Store(faulty_worker.FaultyStore):
    """A store whose owner, after it stood still before a commit, first hears what its connections have to say."""

    async def commit(self, commit: Commit) -> int:
        """Commit, or not."""
        if at("before commit"):
            await asyncio.sleep(AWAKE_SECONDS)  # else the commit would go out on a connection that is closed by now
        return await super().commit(commit)


def arm(path: Path, point: str, number: signal.Signals) -> None:
    """Write the file that makes a process send itself a signal at a point."""
    new = path.with_suffix(".new")
    new.write_text(f"{point}/{number.name}", "utf-8")
    new.rename(path)


def main() -> None:
    """Run a command of the product."""
    if "CHAOS_POINT" in os.environ:
        vars(faulty_worker).update(at=at)
        vars(backend).update(RedisStore=Store, KafkaPublisher=faulty_worker.FaultyPublisher)
    if mutation := os.environ["CHAOS_MUTATION"]:
        mutants.apply(mutation)
    app()


if __name__ == "__main__":
    main()
