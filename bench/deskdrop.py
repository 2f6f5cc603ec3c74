"""Real interactions of 1,895 people on a content platform, as native events with a definitions document for them."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import orjson
import zstandard

FILE_NAME: Final = "deskdrop_users_interactions.csv.zst"

_BEHAVIOUR: Final = """
[[behaviours]]
name = "{name}"
weight = {weight}
type = "custom"
event = ["{event}"]
"""

_WEIGHTS: Final = (
    ("viewed", "VIEW", 0.5),
    ("liked", "LIKE", 1),
    ("bookmarked", "BOOKMARK", 1.5),
    ("commented", "COMMENT CREATED", 1.5),
    ("followed", "FOLLOW", 2),
)


def _definitions() -> str:
    shipped = Path(__file__).parents[1] / "processors" / "definitions" / "fund-shop.toml"
    lines = shipped.read_text(encoding="utf-8").partition("[[behaviours]]")[0].splitlines()
    head = [line for line in lines if not line.startswith(("#", "name =", "categories =", "category_paths ="))]
    behaviours = "".join(_BEHAVIOUR.format(name=name, event=event, weight=weight) for name, event, weight in _WEIGHTS)
    return 'name = "deskdrop"\n' + "\n".join(head).rstrip() + "\n" + behaviours


DEFINITIONS: Final = _definitions()
"""The weights of these interactions, under the rules that the product ships with (TOML)."""


def data_file() -> Path:
    """Return the interactions' path: in the folder that the environment's `PHASEWATCH_DATA` names.

    Raises:
        FileNotFoundError: if it is not set, or holds no such file.
    """
    folder = os.environ.get("PHASEWATCH_DATA")
    if folder is None:
        msg = f"PHASEWATCH_DATA is not set: it has to name the folder that holds {FILE_NAME}"
        raise FileNotFoundError(msg)
    path = Path(folder) / FILE_NAME
    if not path.is_file():
        msg = f"{path} does not exist: PHASEWATCH_DATA has to name the folder that holds {FILE_NAME}"
        raise FileNotFoundError(msg)
    return path


def read_deskdrop(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the interactions at `path` (CSV, zstd) as native custom events, in the order of `ts` (UTC milliseconds).

    An event's id is a hash of its row and the row's ordinal among equal rows, so that it is the same every time.
    """
    with path.open("rb") as packed, zstandard.ZstdDecompressor().stream_reader(packed) as plain:
        rows = list(csv.DictReader(io.TextIOWrapper(plain, encoding="utf-8", newline="")))
    rows.sort(key=lambda row: int(row["timestamp"]))
    seen: Counter[str] = Counter()
    for row in rows:
        text = "\x1f".join(row.values())
        seen[text] += 1
        yield {
            "id": hashlib.sha256(f"{text}\x1f{seen[text]}".encode()).hexdigest()[:32],
            "type": "custom",
            "name": row["eventType"],
            "ts": int(row["timestamp"]) * 1_000,
            "user_id": row["personId"],
            "session_id": row["sessionId"],
            "properties": {"content_id": row["contentId"]},
            "trusted": False,
        }


def main() -> None:
    """Write the interactions to standard output as NDJSON, for `phasewatch import`."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else data_file()
    sys.stdout.buffer.writelines(orjson.dumps(event) + b"\n" for event in read_deskdrop(path))


if __name__ == "__main__":
    main()
