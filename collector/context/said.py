"""What an event's own properties say of the person's side, under the names that SDKs give it.

SDKs on servers forward it, since their requests come from a server; SDKs in apps have no other user agent worth much.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from collector.context.address import as_kept
from collector.context.channel import MAX_CHARS as MAX_CHANNEL_CHARS
from collector.context.channel import Arrival
from collector.context.device import APP, UNKNOWN, Agent, agent_of
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
_PHONES: Final = frozenset({"iOS", "Android", "HarmonyOS"})
"""Programs of no other system run on a phone; a server's SDK names its own system."""
_MAX_CHARS: Final = 1024
"""Of a text that is looked at; what is remembered of them stays small."""
_NO_BAG: Final[dict[str, Any]] = {}
_LIKE_AN_ADDRESS: Final = re.compile(r"\d+\.\d+|:.*:")
_UNKNOWN: Final = frozenset({"取值异常", "未取到值"})
"""Sensors' words for nothing."""


def says_nothing(properties: Mapping[str, Any]) -> bool:
    """Return whether no property has a name that could say anything of it."""
    return properties.keys().isdisjoint(NAMES)


def agent_said(properties: Mapping[str, Any]) -> Agent:
    """Return the agent that an event names: by a user agent, else by device and system as its SDK calls them."""
    around = _around(properties)
    user_agent = _text(properties, _AGENTS) or _text(around, _AGENTS)
    agent = UNKNOWN if user_agent is None else agent_of(user_agent)
    if agent.is_person or agent.bot is not None:
        return agent
    kind = _text(properties, _DEVICES) or _text(around.get("device"), ("type",))
    named = _text(properties, _SYSTEMS) or _text(around.get("os"), ("name",))
    system = None if named is None else _NAMED.get(named.lower())
    device = None if kind is None else _CLASSES.get(kind.lower())
    if device is None and system in _PHONES:
        device = APP
    if device is None:
        return agent
    return agent._replace(device=device, os=system or agent.os)


def address_said(properties: Mapping[str, Any]) -> str | None:
    """Return the address that an event names."""
    return _text(properties, _ADDRESSES) or _text(_around(properties), _ADDRESSES)


def arrival_said(properties: Mapping[str, Any]) -> Arrival | None:
    """Return the campaign that an event names, masked; None where it names none."""
    return _channel(properties, _FLAT) or _channel(_around(properties).get("campaign"), _NESTED)


def _around(properties: Mapping[str, Any]) -> dict[str, Any]:
    for name in reversed(_AROUND):  # where there are both, the SDK's is the second
        found = properties.get(name)
        if type(found) is dict:
            return found
    return _NO_BAG


def _channel(bag: object, names: tuple[tuple[str, ...], ...]) -> Arrival | None:
    source = _text(bag, names[0])
    return None if source is None else _arrival(source, _text(bag, names[1]), _text(bag, names[2]))


@lru_cache(maxsize=2048)
def _arrival(source: str, medium: str | None, campaign: str | None) -> Arrival:
    return Arrival(_masked(source), _masked(medium), _masked(campaign))


def _text(bag: object, names: tuple[str, ...]) -> str | None:
    if type(bag) is not dict or not bag:
        return None
    for name in names:
        if name in bag:
            value = bag[name]
            if type(value) is str and value and value not in _UNKNOWN:
                return value[:_MAX_CHARS]
    return None


def _masked(text: str | None) -> str | None:
    return None if text is None else EVERYTHING.text(text.strip()[:MAX_CHANNEL_CHARS])[0] or None


def hide_addresses(properties: dict[str, Any], keeping: AddressPolicy) -> None:
    """Let the addresses among an event's properties be as they may be kept; what is none in their names stays.

    Lists and objects of these names are left out: no SDK sends such, and addresses may be in them.
    """
    if keeping == "kept":
        return
    for bag in (properties, *(properties.get(name) for name in _AROUND)):
        if isinstance(bag, dict):
            _hide_addresses(bag, keeping)


def _hide_addresses(bag: dict[str, Any], keeping: AddressPolicy) -> None:
    for name in _ADDRESSES:
        value = bag.get(name)
        if isinstance(value, dict | list):
            del bag[name]
        if not isinstance(value, str) or not _LIKE_AN_ADDRESS.search(value):
            continue
        shown = as_kept(value, keeping)
        if shown is None:
            del bag[name]  # also several in one text, or one with a port
        else:
            bag[name] = shown
