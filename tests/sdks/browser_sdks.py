"""The SDKs for pages, each in one version and one way of sending."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final

from tests.sdks import installed


@dataclass(frozen=True)
class BrowserSdk:
    """One SDK in one version and one way of sending.

    `name` is its write key, `package` its folder in node_modules, `head` its snippet in `pages/heads`, and `values`
    stand for the `$names` in it.
    """

    name: str
    dialect: str
    package: str
    head: str
    values: Mapping[str, str] = field(default_factory=dict)
    lacks: AbstractSet[str] = frozenset()
    """What it does not tell: buttons, durations, forms, links, logins, sessions, titles."""
    keeps: bool = True
    """Whether it sends again what was not taken; of a pixel or beacon it does not know."""

    @property
    def version(self) -> str:
        return installed.version(self.package)


_CAPTURED: Final = frozenset({"buttons", "durations", "forms", "links"})
"""What SDKs without autocapture lack."""


def _snowplow(name: str, package: str, mode: str) -> BrowserSdk:
    older = package.endswith("-3-24-6")
    values = {
        "mode": mode,
        "links": "snowplow-link-click-3-24-6" if older else "@snowplow/browser-plugin-link-click-tracking",
        "forms": "snowplow-form-3-24-6" if older else "@snowplow/browser-plugin-form-tracking",
    }
    lacks = {"buttons", "logins"} if older else {"logins"}
    return BrowserSdk(name, "snowplow", package, "snowplow-3" if older else "snowplow", values, lacks)


def _posthog(name: str, package: str, file: str = "module.js", lacks: AbstractSet[str] = frozenset()) -> BrowserSdk:
    return BrowserSdk(name, "posthog", package, "posthog", {"file": file}, lacks)


def _segment(name: str, mode: str) -> BrowserSdk:
    return BrowserSdk(name, "segment", "@segment/analytics-next", "segment", {"mode": mode}, {"sessions", *_CAPTURED})


def _rudder(name: str, mode: str, *, keeps: bool = True) -> BrowserSdk:
    return BrowserSdk(name, "rudder", "@rudderstack/analytics-js", "rudder", {"mode": mode}, _CAPTURED, keeps)


def _sensors(way: str, mode: str, *, keeps: bool = False) -> BrowserSdk:
    lacks = {"forms", "sessions"}
    return BrowserSdk(f"sensors-{way}", "sensors", "sa-sdk-javascript", "sensors", {"mode": mode}, lacks, keeps)


NATIVE: Final = BrowserSdk("native", "native", "", "native")
POSTHOG: Final = _posthog("posthog", "posthog-js")
SEGMENT: Final = _segment("segment", "standard")
SNOWPLOW: Final = _snowplow("snowplow-post", "@snowplow/browser-tracker", "post")
RUDDER: Final = _rudder("rudder-xhr", "false")
SENSORS: Final = _sensors("beacon", "send_type: 'beacon'")

CURRENT: Final = (
    POSTHOG,
    SEGMENT,
    _segment("segment-batching", "batching"),
    SNOWPLOW,
    _snowplow("snowplow-get", "@snowplow/browser-tracker", "get"),
    RUDDER,
    _rudder("rudder-beacon", "true", keeps=False),
    _sensors("image", "send_type: 'image'"),
    _sensors("ajax", "send_type: 'ajax'"),
    SENSORS,
    _sensors("batch", "send_type: 'ajax', batch_send: true", keeps=True),
)
OLDER: Final = (
    _posthog("posthog-1.255.0", "posthog-js-1-255-0"),
    _posthog("posthog-1.166.0", "posthog-js-1-166-0"),
    _posthog("posthog-1.57.2", "posthog-js-1-57-2", "es.js", {"durations", "titles"}),
    _snowplow("snowplow-4.6.8", "snowplow-browser-tracker-4-6-8", "post"),
    _snowplow("snowplow-3.24.6", "snowplow-browser-tracker-3-24-6", "post"),
)
"""Tried in the long runs."""
