"""Whose address a request has: the peer's, or what a proxy of ours says of it, which anybody else could say too."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

from collector.settings import Network

FORWARDED: Final = "forwarded"
"""The one header with a form of its own (RFC 7239); all others list addresses with commas between."""
_MOST_CHARS: Final = 64
"""An IPv6 address with zone, brackets, port and quotes is no longer."""
_MOST_PROXIES: Final = 16
"""In a row; nobody has as many, and a list that goes on is made up."""
_REMEMBERED: Final = 4096
"""Addresses that were read lately; one costs 2 µs to read."""


def read_address(text: str) -> str | None:
    """Return an address as it is always written, None for what is none.

    A port and brackets are dropped. IPv4 in IPv6 (::ffff:192.0.2.1), as a socket for both gives it, becomes IPv4.
    """
    return _read(text) if len(text) <= _MOST_CHARS else None


@lru_cache(_REMEMBERED)
def _read(text: str) -> str | None:
    host = text.strip().strip('"')
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        found = ip_address(host.partition("%")[0])  # a zone tells interfaces of one machine apart, not clients
    except ValueError:
        return None
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(found)


class Networks:
    """A list of networks that knows the addresses in it; what it was asked lately it remembers."""

    def __init__(self, networks: Iterable[Network]) -> None:
        self._networks = tuple(networks)
        self._contains = lru_cache(_REMEMBERED)(self._look)

    def __bool__(self) -> bool:
        return bool(self._networks)

    def __contains__(self, address: str | None) -> bool:
        return bool(self._networks) and address is not None and self._contains(address)

    def _look(self, address: str) -> bool:
        try:
            found: IPv4Address | IPv6Address = ip_address(address)
        except ValueError:
            return False
        return any(found in network for network in self._networks)


class Proxies:
    """The proxies in front of the collector, and how they say who has asked.

    Args:
        networks: where they stand; empty: there are none, and no forwarding header counts.
        header: in which they name the client, in lower case.
    """

    def __init__(self, networks: Sequence[Network], header: str) -> None:
        self.networks = Networks(networks)
        self._header = header.encode()
        self._forwarded = header == FORWARDED

    def client(self, peer: str | None, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
        """Return the address of the client that a request came from, the peer's unless that is a proxy of ours.

        Each proxy adds the address it was asked from at the end. So the list is read from there, as long as those
        named are proxies of ours; what stands before may be made up (RFC 7239, section 8.1).

        Args:
            peer: the connection's other end, as `read_address` gives it.
            headers: of the request, repeated ones too, in their order.
        """
        if peer not in self.networks:
            return peer
        found = peer
        rest = b",".join([value for name, value in headers if name == self._header]).decode("latin-1")
        for _ in range(_MOST_PROXIES):
            if not rest:
                break
            rest, _, said = rest.rpartition(",")
            address = read_address(_for(said) if self._forwarded else said)
            if address is None:  # "unknown", a name: nearer than the proxy that says so nobody is known
                break
            found = address
            if address not in self.networks:
                break
        return found


def _for(element: str) -> str:
    """Return whom one element of Forwarded was for; empty where it does not say."""
    for pair in element.split(";"):
        name, _, value = pair.partition("=")
        if name.strip().lower() == "for":
            return value
    return ""


def group_of(address: str) -> str:
    """Return what shares limits with an address: itself, or the /64 of an IPv6 address, which one subscriber has whole.

    RIPE-690 recommends a /56 or /48 for each site and a /64 at least; a smaller part would be free to change.
    """
    if ":" not in address:
        return address
    return str(ip_network((IPv6Address(address), 64), strict=False).network_address)
