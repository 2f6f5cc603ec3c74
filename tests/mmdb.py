"""Writes small files in MaxMind's format, version 2.0, as its specification has it: for tests alone."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network, ip_network
from typing import Any

_SEPARATOR = bytes(16)
_METADATA = b"\xab\xcd\xefMaxMind.com"
_V4_BITS = 96
"""Addresses of IPv4 stand at ::/96 of the tree."""


def mmdb(networks: Mapping[str, Any]) -> bytes:
    """Return the file that says this of these networks, which must not overlap."""
    nodes: list[list[int | None]] = [[None, None]]
    leaves: dict[tuple[int, int], int] = {}
    data = b""
    for name, value in networks.items():
        network = ip_network(name)
        bits = f"{int(network.network_address):0128b}"[: network.prefixlen]
        if isinstance(network, IPv4Network):
            bits = "0" * _V4_BITS + f"{int(network.network_address):032b}"[: network.prefixlen]
        leaves[_walk(nodes, bits[:-1]), int(bits[-1])] = len(data)
        data += _encoded(value)
    tree = b""
    for at, pair in enumerate(nodes):
        for bit, child in enumerate(pair):
            offset = leaves.get((at, bit))
            target = child if child is not None else len(nodes)
            tree += (target if offset is None else len(nodes) + len(_SEPARATOR) + offset).to_bytes(3, "big")
    about = {
        "node_count": len(nodes), "record_size": _short(24), "ip_version": _short(6), "database_type": "Test",
        "languages": ["en"], "binary_format_major_version": _short(2), "binary_format_minor_version": _short(0),
        "build_epoch": _head(9, 1) + b"\x01", "description": {"en": "of tests"},
    }  # fmt: skip
    return tree + _SEPARATOR + data + _METADATA + _encoded(about)


def _walk(nodes: list[list[int | None]], bits: str) -> int:
    at = 0
    for bit in map(int, bits):
        child = nodes[at][bit]
        if child is None:
            child = nodes[at][bit] = len(nodes)
            nodes.append([None, None])
        at = child
    return at


def _encoded(value: Any) -> bytes:
    if isinstance(value, dict):
        return _head(7, len(value)) + b"".join(_encoded(part) for pair in value.items() for part in pair)
    if isinstance(value, list):
        return _head(11, len(value)) + b"".join(map(_encoded, value))
    if isinstance(value, str):
        return _head(2, len(value.encode())) + value.encode()
    if isinstance(value, bytes):
        return value  # encoded already
    return _head(6, 4) + int(value).to_bytes(4, "big")


def _short(value: int) -> bytes:
    return _head(5, 2) + value.to_bytes(2, "big")


def _head(kind: int, size: int) -> bytes:
    assert size < 285
    long = b"" if size < 29 else bytes([size - 29])
    size = min(size, 29)
    return (bytes([kind << 5 | size]) if kind < 8 else bytes([size, kind - 7])) + long
