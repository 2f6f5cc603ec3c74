"""Who is let near the door: names, proxies, TLS and other sites' pages."""

from __future__ import annotations

from typing import Any

import pytest

from collector.forwarding import FORWARDING_HEADERS
from console.callers import Caller, Callers
from console.errors import CrossSiteError, ThroughProxyError, UnknownHostError, WithoutTlsError
from console.settings import ConsoleSettings
from tests.unit.console.door import with_users

LOCAL, AWAY, PROXY = "127.0.0.1", "203.0.113.9", "10.0.0.7"


def scope(peer: str = LOCAL, method: str = "GET", version: str = "1.1", **headers: str) -> dict[str, Any]:
    found = {"host": "localhost:8601"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return {
        "method": method,
        "client": (peer, 50_000),
        "http_version": version,
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in found.items()],
    }


def check(settings: ConsoleSettings, **request: str) -> Caller:
    return Callers(settings).check(scope(**request))


OPEN = ConsoleSettings(hosts=("stats.example",))
BEHIND = with_users(hosts=["stats.example"], proxies=["10.0.0.0/8"])
OWN_TLS = with_users(hosts=["stats.example"], tls_certificate="c.pem", tls_key="k.pem")
PLAIN = with_users(allow_plain_http=True)


@pytest.mark.parametrize(
    "host", ["localhost", "LocalHost:8601", "127.0.0.1:8601", "127.0.0.2", "[::1]", "[::1]:8601", "Stats.Example:443"]
)
def test_its_own_names_are_answered(host: str) -> None:
    assert check(OPEN, host=host) == Caller(LOCAL, is_secure=False)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "evil.example:8601",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "stats.example.",
        "192.0.2.1",
        "[::2]",
        "localhost@evil.example",
        "evil.example#localhost",
        ":8601",
    ],
)
@pytest.mark.parametrize("settings", [OPEN, BEHIND, OWN_TLS, PLAIN])
def test_another_name_is_refused(settings: ConsoleSettings, host: str) -> None:
    """A page elsewhere can make its own name mean 127.0.0.1, and then reads what answers there (DNS rebinding)."""
    with pytest.raises(UnknownHostError, match=r"console\.hosts"):
        check(settings, host=host)


def test_two_names_or_none_are_refused() -> None:
    two, none = scope(), scope()
    two["headers"].append((b"host", b"localhost"))
    none["headers"] = []
    for one in (two, none):
        with pytest.raises(UnknownHostError):
            Callers(OPEN).check(one)


@pytest.mark.parametrize("settings", [OPEN, BEHIND, OWN_TLS, PLAIN])
@pytest.mark.parametrize("name", [*(name.decode() for name in FORWARDING_HEADERS), "x-forwarded-anything"])
def test_a_proxy_that_is_not_in_the_settings_is_refused(settings: ConsoleSettings, name: str) -> None:
    for peer in (LOCAL, AWAY):
        with pytest.raises(ThroughProxyError, match=r"console\.proxies"):
            check(settings, peer=peer, **{name: "192.0.2.1"})


def test_nginx_as_it_comes_is_noticed_by_its_http_1_0() -> None:
    with pytest.raises(ThroughProxyError):
        check(OPEN, version="1.0")


def test_a_proxy_that_changes_the_name_is_noticed_by_its_pages() -> None:
    headers = {"sec_fetch_site": "same-origin", "referer": "https://stats.example/"}
    with pytest.raises(ThroughProxyError, match="let the proxy pass Host on"):
        check(OPEN, host="127.0.0.1:8601", **headers)
    assert check(OPEN, **{**headers, "referer": "http://localhost:8601/"})


def test_over_a_network_it_needs_tls() -> None:
    for settings in (BEHIND, OPEN):
        with pytest.raises(WithoutTlsError):
            check(settings, peer=AWAY)
    assert check(PLAIN, peer=AWAY) == Caller(AWAY, is_secure=False)
    assert check(OWN_TLS, peer=AWAY) == Caller(AWAY, is_secure=True)
    assert check(BEHIND) == Caller(LOCAL, is_secure=False), "this machine may look directly"
    with pytest.raises(WithoutTlsError):
        check(BEHIND, peer=PROXY, x_forwarded_for=AWAY, x_forwarded_proto="http")


@pytest.mark.parametrize(
    ("forwarded_for", "counted_as"),
    [
        (AWAY, AWAY),
        (f"1.2.3.4, {AWAY}", AWAY),  # what the client itself wrote is not believed
        (f"{AWAY}, 10.0.0.8", AWAY),  # two proxies of ours
        ("10.0.0.8", PROXY),
        ("nonsense", PROXY),
        (f"{AWAY}, nonsense", PROXY),
        ("", PROXY),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        (f"::ffff:{AWAY}", AWAY),
        (f"1.2.3.4, {AWAY}:5566", AWAY),
        ("[2001:db8:1:2::1]:443", "2001:db8:1:2::/64"),
        (f"{AWAY}:5566, 10.0.0.8:443", AWAY),
    ],
)
def test_tries_are_counted_under_the_address_that_the_proxy_saw(forwarded_for: str, counted_as: str) -> None:
    found = check(BEHIND, peer=PROXY, host="stats.example", x_forwarded_for=forwarded_for, x_forwarded_proto="https")
    assert found == Caller(counted_as, is_secure=True)


def test_a_proxy_that_says_nothing_is_a_tls_proxy_as_the_settings_say() -> None:
    assert check(BEHIND, peer=PROXY) == Caller(PROXY, is_secure=True)


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:9999"},
        {"origin": "https://localhost:8601"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site", "origin": "http://localhost:8601"},
        {"sec_fetch_site": "none"},
    ],
)
def test_a_form_of_another_site_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(CrossSiteError):
        check(PLAIN, method="POST", **headers)


def test_its_own_forms_and_programs_without_a_browser_are_taken() -> None:
    assert check(PLAIN, method="POST")
    assert check(PLAIN, method="POST", origin="http://localhost:8601", sec_fetch_site="same-origin")
    assert check(OWN_TLS, method="POST", peer=AWAY, host="stats.example", origin="https://stats.example")
    with pytest.raises(CrossSiteError):
        check(OWN_TLS, method="POST", peer=AWAY, host="stats.example", origin="http://stats.example")


def test_other_sites_may_link_here_and_do_nothing_else() -> None:
    link = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}
    assert check(OPEN, **link)
    for other in (
        {"sec_fetch_mode": "no-cors", "sec_fetch_dest": "script"},
        {"sec_fetch_mode": "navigate", "sec_fetch_dest": "iframe"},
        {"sec_fetch_mode": "cors", "sec_fetch_dest": "empty"},
    ):
        with pytest.raises(CrossSiteError):
            check(OPEN, **(link | other))
