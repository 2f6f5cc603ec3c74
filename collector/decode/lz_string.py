"""Unpacks lz-string, the compression that SDKs in pages bring along because old browsers have none.

The packed text is one stream of bits, each number in it with its lowest bit first. A number is a place in the
dictionary, or says that a new character follows (0: of 8 bits, 1: of 16) or that the text ends (2). Each number but the
first adds an entry to the dictionary, the text before it with its own first character, and numbers get a bit longer
whenever the dictionary has outgrown them.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

from collector.errors import TooLargeBodyError, UnreadableBodyError

_NEW_16_BITS: Final = 1
_END: Final = 2
_REVERSED: Final = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_AT_ONCE: Final = 64
"""Bytes taken up at a time: all bits as one number would be moved as a whole for each number taken from it."""
_REFILLED_BELOW: Final = 256
"""Bits; no number has as many, with the character that may follow it."""


def unpack_uri_component(text: bytes, max_bytes: int) -> bytes:
    """Return what `compressToEncodedURIComponent` packed (alphabet `A-Za-z0-9+-$`), as UTF-8; raises as `unpack`."""
    plain = text.replace(b" ", b"+").replace(b"-", b"/").rstrip(b"$=")  # 6 bits a character, as base64 has them
    try:
        packed = base64.b64decode(plain + b"A" * (-len(plain) % 4), validate=True)  # bits after the end say nothing
    except binascii.Error as error:
        raise _broken() from error
    return unpack(packed, max_bytes)


def unpack(packed: bytes, max_bytes: int) -> bytes:
    """Return what `compressToUint8Array` packed, as UTF-8; halves of surrogate pairs as U+FFFD.

    Raises:
        UnreadableBodyError: if it is no complete lz-string stream.
        TooLargeBodyError: if it unpacks to more than `max_bytes`.
    """
    text = "".join(_entries(packed, max_bytes))
    try:
        out = text.encode()
    except UnicodeEncodeError:  # it counts in UTF-16
        out = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()
    if len(out) > max_bytes:
        raise _too_large(max_bytes)
    return out


def _entries(packed: bytes, max_chars: int) -> list[str]:  # noqa: C901, PLR0912 - one loop: calls would double it
    stream = packed.translate(_REVERSED)  # now the first bit is the lowest one
    bits = have = at = chars = 0
    width, room = 2, 1
    entry = ""
    dictionary, out = ["", "", ""], list[str]()
    while True:
        if have < _REFILLED_BELOW and at < len(stream):
            chunk = stream[at : at + _AT_ONCE]
            bits |= int.from_bytes(chunk, "little") << have
            have += len(chunk) * 8
            at += _AT_ONCE
        # So many numbers can be taken before anything else has to be looked at; each may bring a character along.
        numbers, mask, first = max(1, min(have // (width + 16), room // 2)), (1 << width) - 1, len(out)
        for _ in range(numbers):
            number = bits & mask
            bits >>= width
            before = entry
            if number > _END:
                if number < len(dictionary):
                    entry = dictionary[number]
                elif before and number == len(dictionary):
                    entry = before + before[0]
                else:
                    raise _broken()
            elif number == _END:
                if have < width:
                    raise _broken()
                return out
            else:
                size = 16 if number == _NEW_16_BITS else 8
                entry = chr(bits & ((1 << size) - 1))
                bits >>= size
                have -= size
                dictionary.append(entry)
                room -= 1
            out.append(entry)
            if before:
                dictionary.append(before + entry[0])
                room -= 1
        have -= numbers * width
        if have < 0:
            raise _broken()
        chars += sum(map(len, out[first:]))
        if chars > max_chars:
            raise _too_large(max_chars)
        if room <= 0:
            room += 1 << width
            width += 1


def _broken() -> UnreadableBodyError:
    return UnreadableBodyError("the body is no complete lz-string stream")


def _too_large(max_bytes: int) -> TooLargeBodyError:
    return TooLargeBodyError(f"the body unpacks to more than {max_bytes} bytes: send less at once")
