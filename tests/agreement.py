"""Holding the product against the oracle: the changes of every person, message by message, and the states."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from collector.wire.record import Record
from tests.harness import Deployment
from tests.oracle import EPOCH, run

_SHOWN: Final = 5
"""Differences named in a failure; the first one is what matters."""

Changes = Mapping[str, Sequence[Mapping[str, Any]]]


async def assert_agrees(deployment: Deployment, records: Sequence[Record]) -> Any:
    """Run the oracle over `records`, the whole log of `deployment`; return its result, equal to the product's."""
    expected = run(list(records))
    found = differences(deployment.changes(), await deployment.states(), expected)
    assert not found, f"{len(found)} differences, of which\n" + "\n".join(found[:_SHOWN])
    return expected


def differences(changes: Changes, states: Mapping[str, Mapping[str, Any]], expected: Any) -> list[str]:
    """Return where changes by person, or states, are not what the oracle expects."""
    return [*_changes(changes, expected.changes), *_states(states, expected.states)]


def _changes(ours: Changes, expected: Changes) -> Iterator[str]:
    for person in sorted({*ours, *expected}):
        told, foretold = ours.get(person, ()), expected.get(person, ())
        for number in range(max(len(told), len(foretold))):
            one, other = [*told[number : number + 1], None][0], [*foretold[number : number + 1], None][0]
            if one != other:
                yield f"change {number} of {person}: {_differs(one, other)}"
                break


def _states(ours: Mapping[str, Mapping[str, Any]], expected: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for person in sorted({*ours, *expected}):
        state = None
        if person in ours:
            state = {name: ours[person][name] for name in expected.get(person, ours[person])}
            state["last_activity"] = _ms(state["last_activity"])
        if state != expected.get(person):
            yield f"state of {person}: {_differs(state, expected.get(person))}"


def _differs(ours: Mapping[str, Any] | None, expected: Mapping[str, Any] | None) -> str:
    if ours is None or expected is None:
        return f"the product says {ours}, the oracle {expected}"
    names = sorted(name for name in {*ours, *expected} if ours.get(name) != expected.get(name))
    return "; ".join(f"{name}: the product {ours.get(name)}, the oracle {expected.get(name)}" for name in names)


def _ms(instant: str | None) -> int:
    return 0 if instant is None else (datetime.fromisoformat(instant) - EPOCH) // timedelta(milliseconds=1)
