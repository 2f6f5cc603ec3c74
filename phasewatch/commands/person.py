"""`phasewatch person`: everything known about one person."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from phasewatch.backend import open_backend
from phasewatch.errors import FaultError
from phasewatch.settings import Settings

__all__ = ["run_person"]


def run_person(settings: Settings, person: str, *, as_json: bool) -> int:
    """Print one person; return 0, or stop with 1 where nothing is known of it."""
    found, timeline = asyncio.run(_find(settings, person))
    if found is None:
        msg = f"nothing is known of {person}: it never came, or was forgotten after 45 days of silence"
        raise FaultError(msg)
    console = Console()
    if as_json:
        console.out(json.dumps(found | {"timeline": timeline}, ensure_ascii=False, indent=2), highlight=False)
    else:
        _print(console, found, timeline or {})
    return 0


async def _find(settings: Settings, person: str) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    async with open_backend(settings) as backend:
        query = backend.query
        keys = [person] if person[:2] in ("u:", "a:") else [f"u:{person}", f"a:{person}"]
        for key in keys:
            found = await query.person(key)
            if found is not None:
                return found, await query.timeline(key)
        return None, None


def _print(console: Console, found: dict[str, Any], timeline: dict[str, Any]) -> None:
    facts = Table(show_header=False, box=None, pad_edge=False)
    for name, value in found.items():
        if name not in ("evidence", "positions"):
            shown = "-" if value in (None, {}, []) else json.dumps(value, ensure_ascii=False).strip('"')
            facts.add_row(Text(name, "dim"), Text(shown))
    console.print(facts)
    if found.get("evidence"):
        table = Table(
            "behaviour", "count", "weight", "sum", title="what makes up the decision score", title_justify="left"
        )
        for one in found["evidence"]:
            table.add_row(
                Text(one["behaviour"]), str(one["count"]), f"{one['weight']:g}", f"{one['count'] * one['weight']:g}"
            )
        console.print(table)
    if found.get("positions"):
        table = Table("order", "product", "amount", "purchased", "closed", title="positions", title_justify="left")
        for order_id, one in found["positions"].items():
            closed = one["closings"][-1]["at"] if one["closings"] else "open"
            amount = f"{one['amount'] or ''} {one['currency'] or ''}".strip()
            table.add_row(Text(order_id), Text(one["product_id"] or "-"), Text(amount), one["purchased_at"], closed)
        console.print(table)
    if timeline.get("changes"):
        table = Table("at", "from", "to", "confirmed", title="last changes", title_justify="left")
        for one in timeline["changes"]:
            table.add_row(one["at"], one["from"], one["to"], "yes" if one["confirmed"] else "provisional")
        console.print(table)
