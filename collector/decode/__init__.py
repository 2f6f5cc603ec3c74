"""One pure decoder per dialect: bytes and request facts in, events and errors out."""

from __future__ import annotations

from typing import Final

from collector.decode.dialect import Dialect
from collector.decode.growingio import GROWINGIO
from collector.decode.native import NATIVE
from collector.decode.posthog import POSTHOG
from collector.decode.rudder import RUDDER
from collector.decode.segment import SEGMENT
from collector.decode.sensors import SENSORS
from collector.decode.snowplow import SNOWPLOW

DIALECTS: Final[dict[str, Dialect]] = {
    one.name: one for one in (NATIVE, POSTHOG, SEGMENT, RUDDER, SNOWPLOW, GROWINGIO, SENSORS)
}
"""All of them, by the names that write keys use."""
