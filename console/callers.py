"""Where a request comes from, and by which name it asks: what is refused before anybody is asked who they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit

from starlette.types import Scope

from collector.forwarding import is_forwarded
from collector.guards.proxies import read_address
from console.errors import CrossSiteError, ThroughProxyError, UnknownHostError, WithoutTlsError
from console.settings import ConsoleSettings

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing (RFC 9110, section 9.2.1)."""
_IPV6_PREFIX: Final = 64
"""What one subscriber has of IPv6 at least (RFC 6177): its single addresses are as many as somebody likes."""
_SHOWN: Final = 100

Address = IPv4Address | IPv6Address
Headers = Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is at the other end, as far as the network tells."""

    address: str
    """Under which tries are counted: an IPv4 address, or the network of an IPv6 one."""
    is_secure: bool
    """Whether TLS is between the browser and us."""


class Callers:
    """Looks at each request by the settings."""

    def __init__(self, settings: ConsoleSettings) -> None:
        self._settings = settings

    def check(self, scope: Scope) -> Caller:
        """Return the caller of an HTTP request.

        Raises:
            UnknownHostError: if it asks for a name that is not ours.
            ThroughProxyError: if it came through a proxy that the settings do not know, or one that changed the name.
            WithoutTlsError: if it should have come by TLS.
            CrossSiteError: if another site's page made the browser send it.
        """
        headers: Headers = dict(scope["headers"])
        self._check_host(scope)
        caller = self._caller(scope, headers)
        _check_site(scope["method"], headers, "https" if caller.is_secure else "http")
        return caller

    def _check_host(self, scope: Scope) -> None:
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            shown = ", ".join(hosts)[:_SHOWN]
            msg = f"asked for {shown!r}: it answers to localhost and to the names in console.hosts; put this one there"
            raise UnknownHostError(msg)

    def _is_ours(self, host: str) -> bool:
        name = (host if host.endswith("]") else host.rpartition(":")[0] or host).lower()
        if name == "localhost" or name in self._settings.hosts:
            return True
        address = _address(name.strip("[]"))
        return address is not None and address.is_loopback

    def _caller(self, scope: Scope, headers: Headers) -> Caller:
        peer = _address(scope["client"][0]) if scope.get("client") else None
        known = peer is not None and self._is_proxy(peer)
        # nginx speaks HTTP/1.0 to what is behind it unless told otherwise, and may add no header at all.
        through = scope.get("http_version") == "1.0" or is_forwarded(headers)
        if through and not known:
            msg = (
                f"it came through a proxy at {peer}. Let people log in (console.users) and name the proxy in "
                "console.proxies: see docs/console.md"
            )
            raise ThroughProxyError(msg)
        is_local = not through and (peer is None or peer.is_loopback)
        is_secure = self._settings.tls_certificate is not None or (known and not is_local and _says_https(headers))
        if not (is_secure or is_local or self._settings.allow_plain_http):
            msg = "the console is reached by https alone: a password would pass readably"
            raise WithoutTlsError(msg)
        return Caller(_counted_as((self._forwarded_for(headers) if known else None) or peer), is_secure)

    def _forwarded_for(self, headers: Headers) -> Address | None:
        """Return the nearest address that is no proxy of ours: what stands before it anybody can have written."""
        for text in reversed(headers.get(b"x-forwarded-for", b"").decode("latin-1").split(",")):
            address = _address(read_address(text) or "")  # some proxies write a port as well
            if address is None or not self._is_proxy(address):
                return address
        return None

    def _is_proxy(self, address: Address) -> bool:
        return any(address in network for network in self._settings.proxies)


def _check_site(method: str, headers: Headers, scheme: str) -> None:
    """Refuse what a page of another origin asks for: changes always, and reading but for following a link."""
    host = headers[b"host"].decode("latin-1").lower()
    ours = f"{scheme}://{host}"
    site = headers.get(b"sec-fetch-site", b"").decode("latin-1")
    referrer = headers.get(b"referer", b"").decode("latin-1")
    if site == "same-origin" and referrer and _host_of(referrer) != host:
        there = _host_of(referrer)[:_SHOWN]
        msg = f"the page is at {there} and the request names {host[:_SHOWN]}: let the proxy pass Host on"
        raise ThroughProxyError(msg)
    if method in SAFE_METHODS:
        follows = headers.get(b"sec-fetch-mode") == b"navigate" and headers.get(b"sec-fetch-dest") == b"document"
        if site in {"cross-site", "same-site"} and not follows:
            msg = "another site's page asked for this; links alone may lead here"
            raise CrossSiteError(msg)
        return
    origin = headers.get(b"origin")
    if site not in {"", "same-origin"} or (origin is not None and origin.decode("latin-1").lower() != ours):
        msg = f"only pages of {ours[:_SHOWN]} may send forms; a TLS proxy before it has to set X-Forwarded-For"
        raise CrossSiteError(msg)


def _says_https(headers: Headers) -> bool:
    """Return whether a proxy says that it speaks TLS; one that says nothing was called a TLS proxy in the settings."""
    return headers.get(b"x-forwarded-proto", b"https").decode("latin-1").rpartition(",")[2].strip().lower() == "https"


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).netloc.lower()
    except ValueError:
        return ""


def _address(text: str) -> Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address


def _counted_as(address: Address | None) -> str:
    if isinstance(address, IPv6Address):
        return str(ip_network((address, _IPV6_PREFIX), strict=False))
    return str(address)
