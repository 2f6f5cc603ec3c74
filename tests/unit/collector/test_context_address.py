"""What is kept of an address, also of those that SDKs forward among an event's properties."""

from __future__ import annotations

from typing import Any

import pytest

from collector.context.address import as_kept
from collector.context.said import hide_addresses


@pytest.mark.parametrize(
    ("address", "kept", "truncated"),
    [
        ("203.0.113.77", "203.0.113.77", "203.0.113.0"),
        ("::ffff:203.0.113.77", "203.0.113.77", "203.0.113.0"),
        ("2001:DB8:1:2::77", "2001:db8:1:2::77", "2001:db8:1::"),
        ("fe80::1%eth0", "fe80::1", "fe80::"),
        (" 203.0.113.77 ", "203.0.113.77", "203.0.113.0"),
        ("::1", "::1", "::"),
        ("203.0.113", None, None),
        ("unknown", None, None),
        ("", None, None),
    ],
)
def test_what_is_kept(address: str, kept: str | None, truncated: str | None) -> None:
    assert as_kept(address, "kept") == kept
    assert as_kept(address, "truncated") == truncated
    assert as_kept(address, "dropped") is None


@pytest.mark.parametrize(
    ("given", "truncated", "dropped"),
    [
        ({"$ip": "203.0.113.77"}, {"$ip": "203.0.113.0"}, {}),
        ({"ip": "203.0.113.77", "a": 1}, {"ip": "203.0.113.0", "a": 1}, {"a": 1}),
        ({"context": {"ip": "2001:db8:1:2::77"}}, {"context": {"ip": "2001:db8:1::"}}, {"context": {}}),
        ({"context": 1, "$context": {"ip": "203.0.113.77"}}, {"context": 1, "$context": {"ip": "203.0.113.0"}}, None),
        ({"ip": "203.0.113.77:443"}, {}, {}),
        ({"ip": "203.0.113.77, 198.51.100.9"}, {}, {}),
        ({"ip": "internet protocol"}, {"ip": "internet protocol"}, {"ip": "internet protocol"}),
        ({"ip": 4}, {"ip": 4}, {"ip": 4}),
    ],
)
def test_addresses_among_properties(
    given: dict[str, Any], truncated: dict[str, Any], dropped: dict[str, Any] | None
) -> None:
    again = {name: dict(value) if isinstance(value, dict) else value for name, value in given.items()}
    hide_addresses(given, "truncated")
    assert given == truncated
    if dropped is not None:
        hide_addresses(again, "dropped")
        assert again == dropped
