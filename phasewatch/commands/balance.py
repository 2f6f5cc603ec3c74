"""`phasewatch balance`: what became of every event, by source."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from phasewatch.backend import open_backend
from phasewatch.balance import Balance, balance
from phasewatch.settings import Settings
from processors.domain.rules import DAY_MS
from processors.engine.changes import rfc3339
from processors.engine.tallies import Tally

__all__ = ["run_balance"]

_SHOWN: Final = 20
"""Differences and partitions not compared that are printed; the JSON has all."""
_SET_ASIDE: Final = "(set aside)"


def run_balance(settings: Settings, *, days: int, as_json: bool) -> int:
    """Print what became of every event; return 1 where something differs, else 0."""
    found = asyncio.run(_balance(settings, days))
    console = Console()
    if as_json:
        console.out(json.dumps(_as_json(found), ensure_ascii=False, indent=2), highlight=False)
    else:
        _print(console, found)
    return 1 if found.differences else 0


async def _balance(settings: Settings, days: int) -> Balance:
    async with open_backend(settings) as backend:
        return await balance(backend, days=days)


def _since(found: Balance) -> str | None:
    return None if found.since_day is None else rfc3339(found.since_day * DAY_MS)


def undelivered_share(tally: Tally) -> float | None:
    """Return the estimated share of numbered events that never came; None where none is numbered."""
    undelivered = max(0, tally.undelivered)
    sent = tally.folded - tally.unnumbered + undelivered
    return undelivered / sent if sent > 0 else None


def _as_json(found: Balance) -> dict[str, Any]:
    sources = {}
    for name in sorted(found.sources.keys() | found.tallies.keys()):
        tally = found.tallies.get(name, Tally())
        fates = {field: getattr(tally, field) for field in Tally.__struct_fields__}
        more = {"nowhere": tally.unaccounted, "undelivered_share": undelivered_share(tally)}
        sources[name] = asdict(found.of(name)) | {"since_beginning": fates | more}
    return {
        "balanced": not found.differences,
        "log_counted_since": _since(found),
        "sources": sources,
        "set_aside": asdict(found.set_aside),
        "on_the_way": found.on_the_way,
        "differences": found.differences,
        "not_compared": found.not_compared,
    }


def _print(console: Console, found: Balance) -> None:
    since = _since(found)
    title = "in the log, since its beginning" if since is None else f"in the log, since {since}"
    log = Table("source", title=title, title_justify="left")
    for heading in ("written", "read by workers", "difference", "behind"):
        log.add_column(heading, justify="right")
    for name, one in (*sorted(found.sources.items()), (_SET_ASIDE, found.set_aside)):
        log.add_row(Text(name), *(f"{n:,}" for n in (one.in_log, one.tallied, one.in_log - one.tallied, one.behind)))
    console.print(log)
    ended = Table("source", title="what became of them, since the states began", title_justify="left")
    for heading in ("read", "folded", "repeats", "on the way", "nowhere", "not delivered (estimate)"):
        ended.add_column(heading, justify="right")
    for name, tally in sorted(found.tallies.items()):
        share = undelivered_share(tally)
        shown = "-" if share is None else f"{max(0, tally.undelivered):,} ({share:.2%})"
        counts = (tally.read, tally.folded, tally.repeated, tally.sent_on - tally.sent_here, tally.unaccounted)
        ended.add_row(Text(name), *(f"{n:,}" for n in counts), shown)
    console.print(ended)
    for text in _first(found.not_compared):
        console.out(f"not compared: {text}", highlight=False)
    for text in _first(found.differences):
        console.out(f"difference: {text}", highlight=False)
    if found.differences:
        console.out("What to do: docs/runbooks/imbalance.md", highlight=False)
    else:
        console.out("balanced: every event of the log is folded, a repeat, set aside, on its way or still to come")


def _first(texts: list[str]) -> list[str]:
    left = len(texts) - _SHOWN
    return [*texts[:_SHOWN], f"and {left:,} more; --json names all"] if left > 0 else texts
