"""Secrets and personal numbers with valid checksums, to be looked for in what was accepted."""

from __future__ import annotations

import random
from typing import NamedTuple

_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


class Planted(NamedTuple):
    """A value that must not pass, and the text in which it was sent."""

    value: str
    text: str


def plant_in_text(rng: random.Random) -> Planted:
    """Return a personal number or address in a sentence."""
    value = rng.choice((id_number, card, phone, email))(rng)
    sentences = (
        "{}",
        "Call {} now",
        "\u8054\u7cfb {}",
        "to: {}, please",
        "a ({}) b",
        "x {}\ny",
        "\u5361\u53f7\uff1a{}\u3002",
    )
    return Planted(value, rng.choice(sentences).format(value))


def plant_in_url(rng: random.Random) -> Planted:
    """Return a value of any kind, in a place of a URL where such values stand."""
    kind = rng.choice((id_number, card, phone, email, secret))
    value = kind(rng)
    if kind is secret:
        name = rng.choice(("token", "access_token", "password", "sid", "code", "smsCode", "X-Api-Key", "jwt"))
        return Planted(value, f"https://shop.example/a?b=1&{name}={value}&c=2")
    places = (
        "/a/{}",
        "/a/{}/b?c=d",
        "?q={}",
        "/a?x=1&who={}",
        "/a#/b?c={}",
        "/a?u=https%3A%2F%2Fb.example%2F%3Fm%3D{}",
    )
    written = value.replace("@", rng.choice(("@", "%40"))) if kind is email else value
    return Planted(value, "https://shop.example" + rng.choice(places).format(written))


def id_number(rng: random.Random) -> str:
    """Return a Chinese ID number (GB 11643-1999)."""
    area = rng.choice(("110101", "310104", "440305", "330106"))
    born = f"{rng.randrange(1950, 2008)}{rng.randrange(1, 13):02}{rng.randrange(1, 29):02}"
    digits = f"{area}{born}{rng.randrange(1000):03}"
    total = sum(int(digit) * weight for digit, weight in zip(digits, _WEIGHTS, strict=True))
    return digits + "10X98765432"[total % 11]


def card(rng: random.Random) -> str:
    """Return a bank card's number, its last digit by Luhn's rule (ISO/IEC 7812-1, annex B)."""
    prefix, size = rng.choice((("622202", 19), ("621700", 19), ("4", 16), ("51", 16), ("37", 15)))
    digits = prefix + "".join(rng.choice("0123456789") for _ in range(size - len(prefix) - 1))
    total = 0
    for place, digit in enumerate(reversed(digits)):
        doubled = int(digit) * (2 if place % 2 == 0 else 1)
        total += doubled - 9 if doubled > 9 else doubled
    return digits + str(-total % 10)


def phone(rng: random.Random) -> str:
    """Return a mobile number of mainland China."""
    return rng.choice(("138", "150", "177", "186", "199")) + f"{rng.randrange(10**8):08}"


def email(rng: random.Random) -> str:
    """Return an e-mail address."""
    return f"li.wei{rng.randrange(10**6)}@mail{rng.randrange(99)}.example.com"


def secret(rng: random.Random) -> str:
    """Return what a token looks like; only the name of its parameter tells that it is one."""
    return "".join(rng.choice("abcdefghjkmnpqrstuvwxyzABCDEFGH23456789") for _ in range(24))
