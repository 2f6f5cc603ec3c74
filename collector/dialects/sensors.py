"""What Sensors Data's SDKs want of HTTP: a pixel, and no refusal of what they would repeat for ever."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import msgspec

from collector.answer import JSON, Answer, Results
from collector.decode.sensors import SENSORS
from collector.dialects.path import EventPath, always, pixel
from collector.dialects.settings_path import SettingsPath

INSTEAD: Final[Mapping[int, HTTPStatus]] = {
    HTTPStatus.BAD_REQUEST: HTTPStatus.OK,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: HTTPStatus.OK,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: HTTPStatus.OK,
}
"""What can never be read must not come again: the batches of the web and Python SDKs are repeated for ever whatever the
status, with all that waits behind them, and the Python SDK's thread ends at the first that is no 2xx.

A wrong key keeps its 401, and an origin its 403: that is a mistake in somebody's settings, which a 200 would hide, and
once it is mended what has been kept arrives."""


def _debugged(found: Results) -> Answer:
    """Return what the SDKs' debug modes take as sent, an empty object; with rejected events 400 and the reasons."""
    if found.rejected:
        return Answer(HTTPStatus.BAD_REQUEST, msgspec.json.encode(found), [JSON])
    return Answer(HTTPStatus.OK, b"{}", [JSON])


EVENT_PATHS: Final = (
    EventPath("sensors", "/sa", ("GET", "POST"), always(SENSORS), pixel, INSTEAD),
    EventPath("sensors_pixel", "/sa.gif", ("GET", "POST"), always(SENSORS), pixel, INSTEAD),
    EventPath("sensors_debug", "/debug", ("GET", "POST"), always(SENSORS), _debugged),
)

SETTINGS_PATHS: Final[tuple[SettingsPath, ...]] = ()
"""The web and server SDKs ask for nothing before they send."""
