"""Whose address counts: forwarding headers of proxies that are configured, and of nobody else."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from collector.guards.proxies import Networks, Proxies, group_of, read_address

OURS = tuple(ip_network(one) for one in ("10.0.0.0/8", "fd00::/8", "203.0.113.7/32"))


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("192.0.2.1", "192.0.2.1"),
        (" 192.0.2.1:443 ", "192.0.2.1"),
        ('"[2001:DB8::1]:443"', "2001:db8::1"),
        ("2001:db8:0:0::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("unknown", None),
        ("_hidden", None),
        ("", None),
        ("192.0.2.01", None),
        ("1" * 100_000, None),
    ],
)
def test_addresses_are_read_as_proxies_write_them(said: str, read: str | None) -> None:
    assert read_address(said) == read


@pytest.mark.parametrize(
    ("peer", "lines", "client"),
    [
        ("192.0.2.9", ["198.51.100.1"], "192.0.2.9"),  # no proxy of ours: it may say what it likes
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["1.1.1.1, 198.51.100.1"], "198.51.100.1"),  # what stands before, the client made up
        ("10.0.0.1", ["1.1.1.1, 198.51.100.1, 203.0.113.7, 10.2.3.4"], "198.51.100.1"),
        ("10.0.0.1", ["1.1.1.1", "198.51.100.1", "10.2.3.4"], "198.51.100.1"),  # a line for each proxy
        ("10.0.0.1", ["198.51.100.1, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1, unknown, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),  # all are ours: the first of them has asked
        ("fd00::1", ["2001:db8::5"], "2001:db8::5"),
        (None, ["198.51.100.1"], None),
        ("10.0.0.1", ["198.51.100.1, " + "10.0.0.2, " * 1000 + "10.0.0.3"], "10.0.0.2"),
    ],
)
def test_the_list_is_read_from_its_end(peer: str | None, lines: list[str], client: str | None) -> None:
    headers = [(b"host", b"x"), *((b"x-forwarded-for", line.encode()) for line in lines)]
    assert Proxies(OURS, "x-forwarded-for").client(peer, headers) == client


@pytest.mark.parametrize(
    ("line", "client"),
    [
        ('for=1.1.1.1, For="[2001:db8::5]:4711";proto=https;by=203.0.113.43', "2001:db8::5"),
        ("proto=https;for=198.51.100.1", "198.51.100.1"),
        ("proto=https", "10.0.0.1"),
        ("for=_secret", "10.0.0.1"),
    ],
)
def test_forwarded(line: str, client: str) -> None:
    assert Proxies(OURS, "forwarded").client("10.0.0.1", [(b"forwarded", line.encode())]) == client


def test_only_the_header_that_is_configured_counts() -> None:
    headers = [(b"x-forwarded-for", b"1.1.1.1"), (b"cf-connecting-ip", b"198.51.100.1"), (b"forwarded", b"for=2.2.2.2")]
    assert Proxies(OURS, "cf-connecting-ip").client("10.0.0.1", headers) == "198.51.100.1"


def test_networks() -> None:
    ours = Networks(OURS)
    assert "10.1.2.3" in ours
    assert "fd12::1" in ours
    assert "11.1.2.3" not in ours
    assert None not in ours
    assert not Networks(())


def test_addresses_of_one_subscriber_are_one() -> None:
    assert group_of("192.0.2.1") == "192.0.2.1"
    assert group_of("2001:db8:1:2:3:4:5:6") == group_of("2001:db8:1:2:ffff::1") == "2001:db8:1:2::"
    assert group_of("2001:db8:1:3::1") != group_of("2001:db8:1:2::1")
