"""docs/openapi-console.json, from the code: `python -m console.openapi` writes it below a checkout's root."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from console.app import make_console_app

FILE: Final = "docs/openapi-console.json"


def document() -> str:
    """Return the query API's OpenAPI document as indented JSON."""
    nobody: Any = None  # no request is served, so nothing is ever asked
    app = make_console_app(query=nobody, changes=nobody, clock=nobody)
    return json.dumps(app.openapi(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    Path(__file__).parents[1].joinpath(FILE).write_text(document(), encoding="utf-8")
