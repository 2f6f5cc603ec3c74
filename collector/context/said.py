"""What an event's own properties say of the person's side, under the names that SDKs give it.

SDKs on servers forward it, since their requests come from a server; SDKs in apps have no other user agent worth much.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from collector.context.address import as_kept
from collector.context.channel import MAX_CHARS as MAX_CHANNEL_CHARS
from collector.context.channel import Arrival
from collector.context.device import UNKNOWN, Agent, agent_of
from collector.masking.rules import EVERYTHING
from collector.settings import AddressPolicy

_AGENTS: Final = ("$raw_user_agent", "$user_agent", "$userAgent", "userAgent", "user_agent", "ua")
_ADDRESSES: Final = ("$ip", "ip", "$$ip")
_SOURCES: Final = ("utm_source", "$utm_source", "$latest_utm_source", "mkt_source")
_MEDIUMS: Final = ("utm_medium", "$utm_medium", "$latest_utm_medium", "mkt_medium")
_CAMPAIGNS: Final = ("utm_campaign", "$utm_campaign", "$latest_utm_campaign", "mkt_campaign")
_FLAT: Final = (_SOURCES, _MEDIUMS, _CAMPAIGNS)
_NESTED: Final = (("source",), ("medium",), ("name",))
"""In `context.campaign`."""
_DEVICES: Final = ("$device_type", "p")
_SYSTEMS: Final = ("$os", "platform")
_AROUND: Final = ("context", "$context")
"""Segment's and RudderStack's; the second where the caller has a property of that name."""

_ALL: Final = (*_AGENTS, *_ADDRESSES, *_SOURCES, *_MEDIUMS, *_CAMPAIGNS, *_DEVICES, *_SYSTEMS, *_AROUND)
NAMES: Final = frozenset(_ALL)
"""Properties without any of these say nothing of it."""

ADDRESS_NAMES: Final = frozenset(_ADDRESSES)

_CLASSES: Final = {
    "desktop": "desktop", "mobile": "mobile", "tablet": "tablet", "tv": "tv", "smarttv": "tv", "phone": "mobile",
    "ios": "app", "android": "app", "pc": "desktop", "mob": "app", "app": "app",
}  # fmt: skip
"""PostHog's `$device_type`, `context.device.type` of Segment's SDKs, Snowplow's `p`."""
_NAMED: Final = {
    "ios": "iOS", "ipados": "iOS", "android": "Android", "harmonyos": "HarmonyOS", "windows": "Windows",
    "mac os x": "macOS", "macos": "macOS", "linux": "Linux", "chrome os": "ChromeOS",
}  # fmt: skip
"""Systems as SDKs call them."""
_LIKE_AN_ADDRESS: Final = re.compile(r"\d+\.\d+|:.*:")
_UNKNOWN: Final = frozenset({"取值异常", "未取到值"})
"""Sensors' words for nothing."""


class Said(NamedTuple):
    """What one event says itself; None and UNKNOWN for what it does not."""

    agent: Agent = UNKNOWN
    device: str | None = None
    os: str | None = None
    address: str | None = None
    channel: Arrival | None = None


def said_by(properties: Mapping[str, Any]) -> Said | None:
    """Return what an event's properties say; None if they cannot say anything."""
    if properties.keys().isdisjoint(NAMES):
        return None
    around: Any = next((found for name in _AROUND if isinstance(found := properties.get(name), dict)), {})
    device, system = around.get("device"), around.get("os")
    user_agent = _text(properties, _AGENTS) or _text(around, _AGENTS)
    kind = _text(properties, _DEVICES) or _text(device, ("type",))
    named = _text(properties, _SYSTEMS) or _text(system, ("name",))
    return Said(
        UNKNOWN if user_agent is None else agent_of(user_agent),
        None if kind is None else _CLASSES.get(kind.lower()),
        None if named is None else _NAMED.get(named.lower()),
        _text(properties, _ADDRESSES) or _text(around, _ADDRESSES),
        _channel(properties, _FLAT) or _channel(around.get("campaign"), _NESTED),
    )


def _channel(bag: object, names: tuple[tuple[str, ...], ...]) -> Arrival | None:
    source, medium, campaign = (_masked(_text(bag, of)) for of in names)
    return None if source is None else Arrival(source, medium, campaign)


def _text(bag: object, names: tuple[str, ...]) -> str | None:
    if not isinstance(bag, dict):
        return None
    for name in names:
        value = bag.get(name)
        if isinstance(value, str) and value and value not in _UNKNOWN:
            return value
    return None


def _masked(text: str | None) -> str | None:
    return None if text is None else EVERYTHING.text(text.strip()[:MAX_CHANNEL_CHARS])[0] or None


def hide_addresses(properties: dict[str, Any], keeping: AddressPolicy) -> None:
    """Let the addresses among an event's properties be as they may be kept; what else has their names stays."""
    if keeping == "kept":
        return
    for bag in (properties, *(properties.get(name) for name in _AROUND)):
        if isinstance(bag, dict):
            _hide_addresses(bag, keeping)


def _hide_addresses(bag: dict[str, Any], keeping: AddressPolicy) -> None:
    for name in _ADDRESSES:
        value = bag.get(name)
        if not isinstance(value, str) or not _LIKE_AN_ADDRESS.search(value):
            continue
        shown = as_kept(value, keeping)
        if shown is None:
            del bag[name]  # also several in one text, or one with a port
        else:
            bag[name] = shown
