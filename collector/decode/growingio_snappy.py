"""Unpacks a raw block of snappy, as GrowingIO's Python SDK sends it.

Written out here because no dependency of ours unpacks it: the format has a length and four kinds of elements
(google/snappy, format_description.txt).
"""

from __future__ import annotations

from typing import Final

from collector.errors import TooLargeBodyError, UnreadableBodyError

_LITERAL: Final = 0
_SHORT_COPY: Final = 1
"""A copy whose offset has 11 bits, 8 of them in the next byte."""
_OFFSET_BYTES: Final = {2: 2, 3: 4}
"""How many bytes the offset has, for each other kind of copy."""
_LONG_LITERAL: Final = 60
"""A literal from here on has its length in the next 1 to 4 bytes."""
_MAX_LENGTH_BYTES: Final = 5


def unpack(block: bytes, max_bytes: int) -> bytes:
    """Return what a raw block of snappy holds; its length is known, and checked, before anything is unpacked.

    Raises:
        UnreadableBodyError: if it is no complete block.
        TooLargeBodyError: if it unpacks to more than `max_bytes`.
    """
    length, at = _length(block)
    if length > max_bytes:
        msg = f"the body unpacks to {length} bytes, more than {max_bytes}: send less at once"
        raise TooLargeBodyError(msg)
    out = bytearray()
    end = len(block)
    while at < end and len(out) <= length:
        tag = block[at]
        kind, size = tag & 3, tag >> 2
        at += 1
        if kind == _LITERAL:
            if size >= _LONG_LITERAL:
                more = size - _LONG_LITERAL + 1
                size = int.from_bytes(block[at : at + more], "little")
                at += more
            at += size + 1
            out += block[at - size - 1 : at]
        elif kind == _SHORT_COPY:
            offset = (tag >> 5) << 8 | int.from_bytes(block[at : at + 1], "little")
            at += 1
            _copy(out, offset, (size & 7) + 4)
        else:
            more = _OFFSET_BYTES[kind]
            offset = int.from_bytes(block[at : at + more], "little")
            at += more
            _copy(out, offset, size + 1)
    if len(out) != length or at != end:
        raise _broken()
    return bytes(out)


def _length(block: bytes) -> tuple[int, int]:
    """Return the length at the head of a block, 7 bits a byte, and where the elements begin."""
    length = 0
    for at, byte in enumerate(block[:_MAX_LENGTH_BYTES]):
        length |= (byte & 0x7F) << 7 * at
        if byte < 0x80:  # noqa: PLR2004 - the highest bit says that more follow
            return length, at + 1
    raise _broken()


def _copy(out: bytearray, offset: int, size: int) -> None:
    """Add `size` bytes from `offset` bytes before the end, which may run over what is added."""
    start = len(out) - offset
    if offset == 0 or start < 0:
        raise _broken()
    if offset >= size:
        out += out[start : start + size]
    else:
        out += (out[start:] * (size // offset + 1))[:size]


def _broken() -> UnreadableBodyError:
    return UnreadableBodyError("the body is no complete block of snappy")
