"""Persons' states as Redis holds them: compressed against a dictionary of what all of them have in common."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

import zstandard

PACK_FROM: Final = 256
"""Bytes from which compressing pays: below, links and newcomers save less than the frame costs."""

_PLAIN, _PACKED = b"\x00", b"\x01"
"""First byte of a value: how the rest is kept. Another dictionary is another byte; this one is never changed."""

_DICTIONARY: Final = zstandard.ZstdCompressionDict((files("processors.adapters.redis") / "people.zdict").read_bytes())
_packer = zstandard.ZstdCompressor(level=1, dict_data=_DICTIONARY, write_dict_id=False)
"""Level 1: a state of 1 KB becomes 0.56 KB in 5 µs and comes back in 3; level 3 takes 9 µs for 15 bytes less."""
_unpacker = zstandard.ZstdDecompressor(dict_data=_DICTIONARY)


def pack(value: bytes) -> bytes:
    """Return a value as Redis is to hold it."""
    return _PLAIN + value if len(value) < PACK_FROM else _PACKED + _packer.compress(value)


def unpack(held: bytes) -> bytes:
    """Return the value that `pack` was given."""
    return held[1:] if held[:1] == _PLAIN else _unpacker.decompress(held[1:])
