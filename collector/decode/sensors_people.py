"""Whose record it is: Sensors Data's SDKs say it in up to six places."""

from __future__ import annotations

from typing import Any, Final

from collector.decode.events import Id
from collector.decode.fields import take_id

_LOGIN: Final = "$identity_login_id"
_DEVICES: Final = ("$identity_anonymous_id", "$identity_cookie_id", "$identity_distinct_id")


def take_people(fields: dict[str, Any], properties: dict[str, Any], kind: str) -> tuple[Id, Id]:
    """Take user id and anonymous id out of a record; ids beside these two stay in it.

    `distinct_id` is the user's where `$is_login_id` says so or the record is a login, else the device's, unless both
    are named already.

    Args:
        fields: of the record, without its properties.
        properties: of the record.
        kind: its type.

    Raises:
        RejectedEventError: `malformed`, for an id that is neither a text nor a whole number.
    """
    given = fields.pop("identities", None)
    identities: dict[str, Any] = given if isinstance(given, dict) else {}
    distinct_id = take_id(fields, "distinct_id")
    user_id = take_id(fields, "login_id") or _usable(identities.get(_LOGIN))
    anonymous_id, original_id = take_id(fields, "anonymous_id"), take_id(fields, "original_id")
    is_login_id = properties.pop("$is_login_id", None) is True
    if user_id is None and (is_login_id or kind == "track_signup"):
        user_id = distinct_id
    device = original_id if kind == "track_signup" and original_id is not None else anonymous_id
    if device is None:
        device = next((found for name in _DEVICES if (found := _usable(identities.get(name))) is not None), None)
    if device is None and user_id is None:
        device = distinct_id
    taken = (user_id, device)
    ids = (("distinct_id", distinct_id), ("anonymous_id", anonymous_id), ("original_id", original_id))
    fields.update({name: value for name, value in ids if value is not None and value not in taken})
    others = {name: value for name, value in identities.items() if value not in taken}
    if others or (given and not identities):
        fields["identities"] = others or given
    return user_id, device


def _usable(value: object) -> Id:
    """Return an id of `identities` where it is one."""
    return value if (type(value) is str and value) or type(value) is int else None
