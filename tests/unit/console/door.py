"""Users and settings for tests of the console's door."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from typing import Any

import httpx

from console.passwords import hash_token
from console.settings import ConsoleSettings

NAME, PASSWORD = "anna", "a long password of hers"
TOKEN = "a-token-of-a-program"
TOKENS = [{"name": "report", "token_hash": hash_token(TOKEN)}]


def cheap_hash(password: str) -> str:
    """Return a password's hash at the least cost that is taken: 40 ms."""
    hashed = hashlib.scrypt(password.encode(), salt=b"s" * 16, n=1 << 14, r=8, p=1, maxmem=64 * 1024 * 1024, dklen=32)
    salt, found = (base64.urlsafe_b64encode(raw).rstrip(b"=").decode() for raw in (b"s" * 16, hashed))
    return f"scrypt:14:8:1:{salt}:{found}"


USERS = [{"name": NAME, "password_hash": cheap_hash(PASSWORD)}, {"name": "bert", "password_hash": cheap_hash("B" * 20)}]


def with_users(**more: Any) -> ConsoleSettings:
    """Return settings with two users."""
    return ConsoleSettings.model_validate({"users": USERS} | more)


@dataclass
class Clock:
    """Seconds that pass when they are told to."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


async def form_token(client: httpx.AsyncClient) -> str:
    """Return what the login form has to bring back."""
    found = re.search(r'name="form" value="([^"]+)"', (await client.get("/login")).text)
    assert found is not None
    return found[1]


async def log_in(
    client: httpx.AsyncClient, name: str = NAME, password: str = PASSWORD, **headers: str
) -> httpx.Response:
    """Send the form as a browser does."""
    sent = {"form": await form_token(client), "name": name, "password": password}
    return await client.post("/login", data=sent, headers={key.replace("_", "-"): one for key, one in headers.items()})
