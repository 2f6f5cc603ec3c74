"""What Segment's SDKs want of HTTP; `/v1/batch` and the paths named in full stand in `rudder`, which shares them."""

from __future__ import annotations

from typing import Final

import msgspec

from collector.decode.segment import SEGMENT
from collector.dialects.path import EventPath, always, json_answer
from collector.dialects.settings_path import SettingsPath

SUCCESS: Final = json_answer(b'{"success":true}')


def _settings(names: dict[str, str]) -> bytes:
    """Return what the browser SDK needs to send anything; the key too, since it does not send the one it has."""
    return msgspec.json.encode({"integrations": {"Segment.io": {"apiKey": names["key"]}}})


EVENT_PATHS: Final = tuple(
    EventPath("segment", f"/v1/{letter}", ("POST",), always(SEGMENT), SUCCESS) for letter in "tipgsab"
)
"""Of the browser SDK: an event each, `b` for a batch."""

SETTINGS_PATHS: Final = (SettingsPath("segment_settings", "/v1/projects/{key}/settings", ("GET",), _settings),)
