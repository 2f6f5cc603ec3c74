"""All paths of all dialects, in one table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Generic, TypeVar

from collector.dialects import growingio, posthog, rudder, segment, sensors, snowplow
from collector.dialects.path import EventPath, Templated
from collector.dialects.settings_path import SettingsPath

EVENT_PATHS: Final[tuple[EventPath, ...]] = (
    *posthog.EVENT_PATHS,
    *segment.EVENT_PATHS,
    *rudder.EVENT_PATHS,
    *snowplow.EVENT_PATHS,
    *growingio.EVENT_PATHS,
    *sensors.EVENT_PATHS,
)
"""Where SDKs send events, beside the native path, which is a setting."""

SETTINGS_PATHS: Final[tuple[SettingsPath, ...]] = (
    *posthog.SETTINGS_PATHS,
    *segment.SETTINGS_PATHS,
    *rudder.SETTINGS_PATHS,
    *snowplow.SETTINGS_PATHS,
    *growingio.SETTINGS_PATHS,
    *sensors.SETTINGS_PATHS,
)
"""What SDKs ask before they send anything."""

_Path = TypeVar("_Path", bound=Templated)


class Paths(Generic[_Path]):
    """Finds what a request's path is: paths by themselves, and those with names in them in a row."""

    def __init__(self, paths: Sequence[_Path]) -> None:
        self._fixed = {one.template: one for one in paths if one.fixed}
        self._others = [one for one in paths if not one.fixed]

    def at(self, path: str) -> _Path | None:
        """Return what a path is, None for one that is none of these."""
        found = self._fixed.get(path)
        return found if found is not None else next((one for one in self._others if one.matches(path)), None)
