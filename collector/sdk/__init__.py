"""The web SDK: `autocapture.js`, written to be read, served small (docs/autocapture.md)."""

from __future__ import annotations

import json
from functools import lru_cache
from importlib.resources import files
from typing import Final

from collector.sdk.minify import minify

EVENTS_PATH: Final = "/v1/events"
"""Where the script sends events unless it is served with another path or its tag says `data-events`."""


@lru_cache
def source(events_path: str = EVENTS_PATH) -> bytes:
    """Return autocapture.js as it is served, at most 4,096 bytes after gzip.

    Args:
        events_path: path of the native route at the script's own host, as the collector's settings name it.
    """
    script = files(__name__).joinpath("autocapture.js").read_text("utf-8")
    return minify(script).replace(f"'{EVENTS_PATH}'", json.dumps(events_path)).encode()
