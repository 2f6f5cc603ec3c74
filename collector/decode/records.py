"""Splits a body into its records, each of which stays JSON until its turn comes."""

from __future__ import annotations

from typing import Final

import msgspec

from collector.decode.lenient_json import parse_leniently

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"

_as_list = msgspec.json.Decoder(list[msgspec.Raw])
_as_raw = msgspec.json.Decoder(msgspec.Raw)


def trimmed(body: bytes) -> bytes:
    """Return a body without a byte order mark and white space before it."""
    return body.removeprefix(_BYTE_ORDER_MARK).lstrip()


def is_json(body: bytes) -> bool:
    """Return whether a body starts as a JSON object or array does."""
    return body.startswith((b"{", b"["))


def split_array(body: bytes) -> list[bytes]:
    """Return the elements of a JSON array; raises as msgspec's decoder, for `parse_leniently`."""
    return list(map(bytes, _as_list.decode(body)))


def read_records(body: bytes, expected: str) -> list[bytes]:
    """Return the elements of a JSON array, or the one object that stands in its place.

    Args:
        body: JSON, with what may stand before it.
        expected: said of a body that is neither.

    Raises:
        UnreadableBodyError: if it is neither.
    """
    return parse_leniently(trimmed(body), _records, expected)


def _records(body: bytes) -> list[bytes]:
    return [bytes(_as_raw.decode(body))] if body.startswith(b"{") else split_array(body)
