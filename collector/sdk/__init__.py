"""The web SDK: `autocapture.js`, written to be read, served small (docs/autocapture.md)."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from collector.sdk.minify import minify

EVENTS_PATH: Final = "/v1/events"
"""Where the script sends events unless it is served with another path or its tag says `data-events`."""
SCRIPT_PATH: Final = "/autocapture.js"
_DIGEST_CHARS: Final = 16
_EVENTS_LITERAL: Final = f"'{EVENTS_PATH}'"


@dataclass(slots=True, frozen=True)
class Program:
    """One version of the script: its bytes as they are served, at most 8,192 after gzip, and what belongs to them."""

    path: str
    """Under which nothing else is ever served: it names the content."""
    code: bytes
    source_map: bytes | None
    """Served at `path` and `.map`; the versions of earlier releases have none."""

    @property
    def integrity(self) -> str:
        """The value of the tag's `integrity` attribute (W3C Subresource Integrity)."""
        return "sha384-" + base64.b64encode(hashlib.sha384(self.code).digest()).decode()


@lru_cache
def program(script_path: str = SCRIPT_PATH, events_path: str = EVENTS_PATH) -> Program:
    """Return this release's script.

    Args:
        script_path: where the newest script is served; the version stands before its `.js`.
        events_path: path of the native route at the script's own host, as the collector's settings name it.
    """
    source = _asset("autocapture.js").replace(_EVENTS_LITERAL, _quoted(events_path))
    minified = minify(source, "autocapture.js")
    return _program(script_path, minified.code, json.dumps(minified.source_map).encode())


def released(script_path: str, events_path: str, folder: Traversable | None = None) -> tuple[Program, ...]:
    """Return the scripts of earlier releases, to which tags with `integrity` still point.

    Args:
        script_path: as `program` has it.
        events_path: as `program` has it.
        folder: where the releases put them; the package's own if None.
    """
    kept = (folder or files(__name__).joinpath("released")).iterdir()
    codes = [one.read_text("utf-8").replace(_EVENTS_LITERAL, _quoted(events_path)) for one in kept if _is_script(one)]
    return tuple(_program(script_path, code, None) for code in codes)


def _is_script(file: Traversable) -> bool:
    return file.name.endswith(".js")


def _program(script_path: str, code: str, source_map: bytes | None) -> Program:
    digest = hashlib.sha256(code.encode()).hexdigest()[:_DIGEST_CHARS]
    path = f"{script_path.removesuffix('.js')}-{digest}.js"
    pointer = f"//# sourceMappingURL={path.rpartition('/')[2]}.map\n"
    return Program(path, (code + pointer).encode(), source_map)


def types() -> bytes:
    """Return the TypeScript declarations of `window.phasewatch`."""
    return _asset("autocapture.d.ts").encode()


def _asset(name: str) -> str:
    return files(__name__).joinpath(name).read_text("utf-8")


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
