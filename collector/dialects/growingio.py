"""What GrowingIO's SDKs want of HTTP: 204, and nothing else."""

from __future__ import annotations

from typing import Final

from collector.decode.growingio import GROWINGIO
from collector.dialects.path import EventPath, always, no_content
from collector.dialects.settings_path import SettingsPath

EVENT_PATHS: Final = (
    EventPath("growingio", "/v3/projects/{project}/collect", ("GET", "POST"), always(GROWINGIO), no_content),
    EventPath("growingio_items", "/projects/{project}/collect/item", ("POST",), always(GROWINGIO), no_content),
)
"""Pages send what was refused with any status once more, as a pixel, and then give it up: no status needs another."""

SETTINGS_PATHS: Final[tuple[SettingsPath, ...]] = ()
"""They ask for nothing before they send."""
