"""Which write key a request carries, and whether its caller may use it."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import unquote_to_bytes

from collector.errors import NotAllowedError, WrongKeyError
from collector.forwarding import is_forwarded
from collector.settings import WriteKey

KEY_PARAMETERS: Final = (b"key", b"writeKey", b"token")
"""Where a key may stand in a URL: ours, which wins, Segment's and RudderStack's, Sensors'."""


def sent_key(headers: Mapping[bytes, bytes], query: bytes) -> bytes | None:
    """Return the key in a request's head, None where there is none.

    `Authorization: Bearer KEY`, or `Basic` with the key as the user's name (Segment, RudderStack), else the query.
    """
    scheme, _, credentials = headers.get(b"authorization", b"").partition(b" ")
    credentials = credentials.strip()
    if credentials and scheme.lower() == b"bearer":
        return credentials
    if credentials and scheme.lower() == b"basic":
        return _user_of(credentials)
    return _in_query(query) if query else None


def _user_of(credentials: bytes) -> bytes | None:
    try:
        return base64.b64decode(credentials, validate=True).partition(b":")[0] or None
    except binascii.Error:
        return None


def _in_query(query: bytes) -> bytes | None:
    found = None
    for pair in query.split(b"&"):
        name, _, value = pair.partition(b"=")
        if name == b"data":
            break  # a pixel's event follows, which may have the page's own parameters in it as they are (GrowingIO)
        if value and name in KEY_PARAMETERS and (found is None or name == KEY_PARAMETERS[0]):
            found = value
    return unquote_to_bytes(found.replace(b"+", b" ")) if found is not None else None


class Keys:
    """The write keys in force, and their origins."""

    def __init__(self, keys: Sequence[WriteKey]) -> None:
        self.replace(keys)

    def replace(self, keys: Sequence[WriteKey]) -> None:
        """Know these from now on; requests that were admitted before keep theirs."""
        self._keys = [(key.key.get_secret_value().encode(), key) for key in keys]
        public = [key for key in keys if not key.trusted]
        self._any_origin = any(not key.origins for key in public)
        self._origins = frozenset(origin for key in public for origin in key.origins)

    def find(self, sent: bytes | None) -> WriteKey:
        """Return the write key that was sent, in a time that does not tell how near a wrong one was.

        Raises:
            WrongKeyError: if none was sent or it is not known.
        """
        if sent is None:
            msg = "no write key: send Authorization: Bearer KEY, or ?key=KEY"
            raise WrongKeyError(msg)
        found = None
        for secret, key in self._keys:
            if hmac.compare_digest(secret, sent):
                found = key
        if found is None:
            msg = "the write key is not known here: compare it with `keys` in the collector's settings"
            raise WrongKeyError(msg)
        return found

    def may_read(self, origin: str) -> bool:
        """Return whether pages of this origin may read answers: some public key accepts them."""
        return self._any_origin or origin in self._origins


BROWSER_ONLY: Final = (b"sec-fetch-site", b"sec-fetch-dest", b"referer")
"""What browsers add where they send no Origin, as with a pixel, and programs do not. Sec-Fetch-Mode is none of these:
Node's own fetch sends it, and with it the Node SDKs (recorded)."""


def _page_of(headers: Mapping[bytes, bytes]) -> str | None:
    """Return the origin of the page that a request without Origin came from, None where nothing tells."""
    scheme, _, rest = headers.get(b"referer", b"").partition(b"://")
    host = rest.partition(b"/")[0]
    return f"{scheme.decode('latin-1')}://{host.decode('latin-1')}" if host else None


def check_caller(key: WriteKey, headers: Mapping[bytes, bytes], origin: str | None) -> None:
    """Refuse a caller that the key is not meant for.

    Raises:
        NotAllowedError: a trusted key from a browser, an origin not in the key's list, a demo key through a proxy.
    """
    if key.trusted and (origin is not None or any(name in headers for name in BROWSER_ONLY)):
        sign = f"Origin: {origin}" if origin is not None else "Referer or Sec-Fetch headers"
        msg = f"key {key.name} is trusted and came from a browser ({sign}); use a public key in pages"
        raise NotAllowedError(msg)
    if key.origins and origin is None:
        origin = _page_of(headers)
    if origin is not None and key.origins and origin not in key.origins:
        msg = f"origin {origin} is not among the origins of key {key.name}"
        raise NotAllowedError(msg)
    if key.demo and is_forwarded(headers):
        msg = f"key {key.name} is for this machine only and came through a proxy; configure keys of your own"
        raise NotAllowedError(msg)


def check_dialect(key: WriteKey, dialect: str) -> None:
    """Refuse an SDK that the key is not meant for.

    Raises:
        NotAllowedError: if the key lists dialects, and not this one.
    """
    if key.dialects and dialect not in key.dialects:
        msg = f"key {key.name} is for {', '.join(key.dialects)}; this came as {dialect}"
        raise NotAllowedError(msg)
