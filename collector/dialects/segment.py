"""What Segment's SDKs want of HTTP; `/v1/batch` and the paths named in full stand in `rudder`, which shares them."""

from __future__ import annotations

from typing import Final

from collector.decode.segment import SEGMENT
from collector.dialects.path import EventPath, always, json_answer
from collector.dialects.settings_path import SettingsPath

SUCCESS: Final = json_answer(b'{"success":true}')

_SETTINGS: Final = b'{"integrations":{"Segment.io":{}}}'
"""Without `Segment.io` in it the browser SDK sends nothing, and says nothing about it."""

EVENT_PATHS: Final = tuple(
    EventPath("segment", f"/v1/{letter}", ("POST",), always(SEGMENT), SUCCESS) for letter in "tipgsab"
)
"""Of the browser SDK: an event each, `b` for a batch."""

SETTINGS_PATHS: Final = (
    SettingsPath("segment_settings", "/v1/projects/{key}/settings", ("GET",), lambda _: _SETTINGS),
)
