"""Passwords and tokens: only what they hash to is kept."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import unicodedata
from typing import Final

LOG_N: Final = 15
R: Final = 8
P: Final = 3
"""scrypt's cost (RFC 7914): 32 MiB and about 0.3 s of one core a try, one of the equivalent choices of OWASP's Password
Storage Cheat Sheet."""
MOST_CHARACTERS: Final = 1024
"""Of a password; longer ones are wrong without being hashed."""
LEAST_CHARACTERS: Final = 12
"""Of a new password: nothing else keeps somebody who has the hashes from trying short ones."""
_SALT_BYTES: Final = 16
_HASH_BYTES: Final = 32
_TOKEN_BYTES: Final = 32

PATTERN: Final = re.compile(r"scrypt:(1[4-9]|20):(8|16):([1-9]|1[0-6]):([A-Za-z0-9_-]{22}):([A-Za-z0-9_-]{43})")
"""scrypt, log2 of N, r, p, salt and hash. No `$` as elsewhere, which shells and compose files take for a variable."""


def hash_password(password: str) -> str:
    """Return what to keep of a password: its salted scrypt hash with the cost it was made at."""
    salt = secrets.token_bytes(_SALT_BYTES)
    return f"scrypt:{LOG_N}:{R}:{P}:{_text(salt)}:{_text(_scrypt(password, salt, LOG_N, R, P))}"


def is_password(password: str, hashed: str) -> bool:
    """Return whether a password is the one that `hashed` (of `PATTERN`) was made of; takes as long if it is not."""
    found = PATTERN.fullmatch(hashed)
    if found is None or len(password) > MOST_CHARACTERS:
        return False
    log_n, r, p = (int(found[number]) for number in (1, 2, 3))
    return hmac.compare_digest(_scrypt(password, _bytes(found[4]), log_n, r, p), _bytes(found[5]))


def new_token() -> str:
    """Return 256 random bits as text for URLs and headers."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


def hash_token(token: str) -> str:
    """Return a token's SHA-256 in hexadecimal; it was random, so that no slow hash is needed against guessing."""
    return hashlib.sha256(token.encode()).hexdigest()


def _scrypt(password: str, salt: bytes, log_n: int, r: int, p: int) -> bytes:
    typed = unicodedata.normalize("NFC", password).encode(
        "utf-8", "surrogatepass"
    )  # keyboards differ in how they compose
    n = 1 << log_n
    memory = 128 * r * (n + p + 2)  # RFC 7914, section 2; OpenSSL refuses above its own 32 MiB unless told
    return hashlib.scrypt(typed, salt=salt, n=n, r=r, p=p, maxmem=memory, dklen=_HASH_BYTES)


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
