"""The load that collectors are measured under: visits of ten events, 3.7 KB as JSON, in the file that wrk reads."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Final

EVENTS_A_REQUEST: Final = 10
VISITORS: Final = 2000
MARK: Final = "\x01"
"""Where the script puts what makes an id fresh."""
TYPES: Final = ("page", "click", "dwell", "click", "change", "click", "submit", "dwell", "page", "custom")


def write_bodies(path: Path) -> None:
    """Write one request of each visitor, as autocapture.js sends it, a line each."""
    now = time.time_ns() // 1_000_000
    with path.open("w", encoding="utf-8") as file:
        for visitor in range(VISITORS):
            events = [_event(visitor, step, now) for step in range(EVENTS_A_REQUEST)]
            body = json.dumps({"sent_at": now + 9000, "events": events}, separators=(",", ":"), ensure_ascii=False)
            file.write(body.replace("MARK", MARK) + "\n")


def _event(visitor: int, step: int, now: int) -> dict[str, Any]:
    product = visitor % 211
    event: dict[str, Any] = {
        "id": f"{step}-MARK",
        "type": TYPES[step],
        "ts": now + 900 * step,
        "anonymous_id": f"{visitor:08x}-1f4c-4c1e-9a55-2b7d0f4f{visitor:04x}",
        "session_id": f"s-{visitor:06x}",
        "seq": step,
        "page": {
            "url": f"https://fund.example/products/bond/b-{product}?utm_source=news&visit={visitor}",
            "path": f"/products/bond/b-{product}",
            "title": f"Bond fund {product}",
            "referrer": "https://fund.example/products",
        },
    }
    if TYPES[step] in {"click", "change", "submit"}:
        event["element"] = {"tag": "a", "text": "Invest", "selector": "main > a.buy", "href": f"/orders/{product}"}
    if TYPES[step] == "dwell":
        event["properties"] = {"ms": 9000 + step}
    if TYPES[step] == "custom":
        event |= {"name": "returns_calculated", "properties": {"amount": "1000", "months": 12, "risk": "low"}}
    return event
