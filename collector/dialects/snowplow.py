"""Where Snowplow's trackers send events, and what they want to hear."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from collector.answer import Answer, Results
from collector.decode.snowplow import SNOWPLOW
from collector.dialects.path import NO_STORE, EventPath, always, pixel
from collector.dialects.settings_path import SettingsPath

TEXT: Final = (b"content-type", b"text/plain; charset=utf-8")
OK: Final = b"ok"

INSTEAD: Final[Mapping[int, HTTPStatus]] = {
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: HTTPStatus.BAD_REQUEST,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: HTTPStatus.BAD_REQUEST,
}
"""Trackers drop 400, 401, 403, 410 and 422 alone; anything else stays at the head of their queue for ever."""


def _ok(_: Results) -> Answer:
    return Answer(HTTPStatus.OK, OK, [TEXT, NO_STORE])


_SNOWPLOW: Final = always(SNOWPLOW)

EVENT_PATHS: Final = (
    EventPath("snowplow", "/com.snowplowanalytics.snowplow/tp2", ("POST",), _SNOWPLOW, _ok, INSTEAD),
    EventPath("snowplow_own_path", "/{vendor}/tp2", ("POST",), _SNOWPLOW, _ok, INSTEAD),
    EventPath("snowplow_pixel", "/i", ("GET",), _SNOWPLOW, pixel, INSTEAD),
)
"""The second is for those whose `postPath` ad blockers shall not know; what stands before `tp2` is theirs to choose."""

SETTINGS_PATHS: Final = (SettingsPath("snowplow_health", "/health", ("GET",), lambda _: OK, (TEXT,)),)
"""What probes of a Snowplow collector ask."""
