"""Ids for events to which their SDK gives no more than a number."""

from __future__ import annotations

from xxhash import xxh3_64_hexdigest


def numbered_id(number: object, ts: object, *told: object) -> str | None:
    """Return an id of a number, a time, and what else tells an event from others with both; None without either.

    Args:
        number: as the SDK counts or draws it; it comes again.
        ts: when it happened, in milliseconds.
        told: whatever is the same each time the event is sent.
    """
    if type(number) is not int or type(ts) is not int:
        return None
    rest = "\0".join(map(str, told)).encode("utf-8", "replace")
    return f"{number}-{ts}-{xxh3_64_hexdigest(rest)}"
