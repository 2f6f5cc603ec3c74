"""The worker's own command with a bug in it, `python -m tests.integration.forgetful_worker ...`: it drops clicks."""

from __future__ import annotations

from collector.wire.event import Event
from collector.wire.record import Record
from phasewatch.cli import app
from processors.domain.person import Person
from processors.engine.fold import PartitionFold

_whole = PartitionFold._event  # noqa: SLF001 - a bug that is put in


def _forgetful(fold: PartitionFold, key: str, event: Event, index: int, record: Record) -> Person | None:
    return None if event.type == "click" else _whole(fold, key, event, index, record)


if __name__ == "__main__":
    setattr(PartitionFold, "_event", _forgetful)  # noqa: B010 - mypy takes an assignment to a method for a mistake
    app()
