"""What RudderStack's SDKs want of HTTP, on paths of which most are Segment's too."""

from __future__ import annotations

from typing import Final

from collector.decode.dialect import Dialect, Post
from collector.decode.rudder import RUDDER, is_rudder
from collector.decode.segment import SEGMENT
from collector.decode.segment_shape import TYPES
from collector.dialects.path import EventPath, always
from collector.dialects.segment import SUCCESS
from collector.dialects.settings_path import SettingsPath

_SOURCE: Final = (
    b'{"source":{"id":"phasewatch","workspaceId":"phasewatch","enabled":true,'
    b'"config":{"statsCollection":{"errors":{"enabled":false},"metrics":{"enabled":false}}},"destinations":[]}}'
)
"""Enabled, or the browser SDK sends nothing; no destinations, so that it loads no scripts of theirs."""


def _whose(post: Post) -> Dialect:
    return RUDDER if is_rudder(post) else SEGMENT


EVENT_PATHS: Final = (
    *(EventPath("segment_or_rudder", f"/v1/{name}", ("POST",), _whose, SUCCESS) for name in (*TYPES, "batch")),
    EventPath("rudder_beacon", "/beacon/v1/batch", ("POST",), always(RUDDER), SUCCESS),
)

SETTINGS_PATHS: Final = tuple(
    SettingsPath("rudder_settings", path, ("GET",), lambda _: _SOURCE) for path in ("/sourceConfig", "/sourceConfig/")
)
