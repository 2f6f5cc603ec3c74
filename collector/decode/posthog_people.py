"""Who a PostHog event is about: it has one `distinct_id`, of a user or of a browser, and says elsewhere which."""

from __future__ import annotations

import re
from typing import Any, Final

from collector.decode.decoded import Reason, RejectedEventError
from collector.decode.events import Id
from collector.decode.fields import take_id
from collector.decode.times import quoted

ALIASES: Final = ("$create_alias", "$merge_dangerously")
LINKING: Final = ("$identify", *ALIASES)
"""Events that say that two ids are one person."""

_COOKIELESS: Final = "$posthog_cookieless"
"""The distinct id of everybody who allows no cookies."""
_MADE_UP = re.compile(r"[0-9a-fA-F]{6,16}(?:-[0-9a-fA-F]{1,16}){4}")
"""A UUID, and what posthog-js once called one: PostHog's SDKs name nobody else so."""


def take_people(name: str, fields: dict[str, Any], properties: dict[str, Any]) -> tuple[Id, Id]:
    """Take user id and anonymous id out of an event.

    Args:
        name: of the event.
        fields: of the event; what is used up is removed, here and in `properties`.
        properties: of the event.

    Raises:
        RejectedEventError: `malformed` for an id that is neither text nor whole number, `junk_identity` for the one
            that PostHog gives to everybody without cookies.
    """
    distinct_id = _take_distinct_id(fields, properties)
    if distinct_id == _COOKIELESS:
        problem = f"is {quoted(distinct_id)}, which stands for everybody without cookies"
        raise RejectedEventError(Reason.JUNK_IDENTITY, ".distinct_id", problem)
    known = name == "$identify" or _is_user(name, fields, properties)
    device_id = properties.get("$device_id")
    if not isinstance(device_id, str) or device_id in {"", _COOKIELESS}:
        device_id = None
    if name in ALIASES:
        ids = _linked(distinct_id, take_id(properties, "alias"), properties, known=known)
    elif name == "$identify":
        before = take_id(properties, "$anon_distinct_id")
        ids = distinct_id, device_id if before in {None, _COOKIELESS} else before
    elif known:
        ids = distinct_id, device_id
    else:
        ids = None, device_id if distinct_id is None else distinct_id
    user_id, anonymous_id = ids
    if user_id is not None and user_id == anonymous_id:
        anonymous_id = None
    for given in ("$device_id", "$user_id", "distinct_id"):
        if properties.get(given) in (user_id, anonymous_id):
            properties.pop(given, None)
    return user_id, anonymous_id


def _take_distinct_id(fields: dict[str, Any], properties: dict[str, Any]) -> Id:
    distinct_id = take_id(fields, "distinct_id")
    return take_id(properties, "distinct_id") if distinct_id is None else distinct_id


def _is_user(name: str, fields: dict[str, Any], properties: dict[str, Any]) -> bool:
    """Return whether an event's distinct id names a user.

    Browsers and apps say so; on a server it does, unless the event is to make no person, or is about a group.
    """
    said = properties.get("$is_identified")
    if isinstance(said, bool):
        return said
    if properties.get("$lib") == "web":  # from before `$is_identified`
        return bool(properties.get("$user_id"))
    options = fields.get("options")
    personless = properties.get("$process_person_profile") is False or (
        isinstance(options, dict) and options.get("process_person_profile") is False
    )
    return not personless and name != "$groupidentify"


def _linked(distinct_id: Id, alias: Id, properties: dict[str, Any], *, known: bool) -> tuple[Id, Id]:
    """Return the two ids of an alias, the user's first; which is which, PostHog's SDKs do not agree on."""
    if alias is None:
        return distinct_id, None
    if "$is_identified" in properties or properties.get("$lib") == "web":
        swapped = not known
    else:
        made_up = [_MADE_UP.fullmatch(str(one)) is not None for one in (distinct_id, alias)]
        swapped = properties.get("$lib") == "posthog-python" if made_up[0] == made_up[1] else made_up[0]
    return (alias, distinct_id) if swapped else (distinct_id, alias)
