"""An address as it may be kept: whole, without its last part, or not at all."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from collector.settings import AddressPolicy

_KNOWN: Final = 8192
"""Addresses remembered, in memory only; 2 MB."""
_V4_MASK: Final = (1 << 32) - (1 << 8)
_V6_MASK: Final = (1 << 128) - (1 << 80)


@lru_cache(maxsize=_KNOWN)
def truncated(address: str) -> str | None:
    """Return an address with all but its network set to 0; None for what is no address.

    Of IPv4 the first 24 bits stay, of IPv6 48, which is what one site or customer gets (RFC 6177, section 2).
    """
    found = _read(address)
    if isinstance(found, IPv4Address):
        return str(IPv4Address(int(found) & _V4_MASK))
    return None if found is None else str(IPv6Address(int(found) & _V6_MASK))


@lru_cache(maxsize=_KNOWN)
def whole(address: str) -> str | None:
    """Return an address in its one spelling; None for what is no address."""
    found = _read(address)
    return None if found is None else str(found)


def as_kept(address: str, keeping: AddressPolicy) -> str | None:
    """Return what is kept of an address, None for nothing, and for what is no address."""
    if keeping == "dropped":
        return None
    return truncated(address) if keeping == "truncated" else whole(address)


def _read(address: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(address.strip().partition("%")[0])
    except ValueError:
        return None
    return found.ipv4_mapped or found if isinstance(found, IPv6Address) else found
