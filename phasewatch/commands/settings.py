"""`phasewatch settings`: every setting with its value, origin and meaning."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from phasewatch.settings import Settings
from phasewatch.settings_source import as_text, describe

__all__ = ["run_settings"]


def run_settings(settings: Settings, origins: Mapping[str, str], *, as_json: bool) -> int:
    """Print the settings, secrets masked, and return the exit code."""
    rows = describe(settings, origins)
    console = Console()
    if as_json:
        console.out(json.dumps([asdict(row) for row in rows], ensure_ascii=False, indent=2), highlight=False)
        return 0
    for row in rows:
        # Text, as a value may hold brackets that rich would take for markup.
        console.print(
            Text.assemble((row.name, "bold"), " = ", (as_text(row.value), "cyan"), (f"  ({row.origin})", "dim"))
        )
        console.print(Padding(Text(row.meaning), (0, 0, 0, 4), expand=False))
    return 0
