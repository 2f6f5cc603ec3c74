"""What SDKs wrap JSON in: forms, base64 with either alphabet, gzip inside of it."""

from __future__ import annotations

import base64
import binascii
from urllib.parse import unquote_to_bytes

from collector.compression import unpack
from collector.errors import UnreadableBodyError


def form_values(form: bytes) -> dict[bytes, bytes]:
    """Return the values of a query or form by name, percent-decoded, `+` as space, of repeated names the first."""
    found: dict[bytes, bytes] = {}
    for pair in form.replace(b"+", b" ").split(b"&"):
        name, _, value = pair.partition(b"=")
        if b"%" in name:
            name = unquote_to_bytes(name)
        if name and name not in found:
            found[name] = unquote_to_bytes(value) if b"%" in value else value
    return found


def from_base64(text: bytes, max_bytes: int) -> bytes:
    """Return what base64 stands for, unpacked where it is gzip.

    Both alphabets are read, padding may be missing, and a space stands for the `+` that a form made of it.

    Raises:
        UnreadableBodyError: if it is no base64.
        TooLargeBodyError: if it unpacks to more than `max_bytes`.
    """
    plain = text.strip().replace(b" ", b"+").replace(b"-", b"+").replace(b"_", b"/").rstrip(b"=")
    try:
        found = base64.b64decode(plain + b"=" * (-len(plain) % 4), validate=True)
    except binascii.Error as error:
        msg = f"expected base64: {error}"
        raise UnreadableBodyError(msg) from error
    return unpack(found, b"", max_bytes)
