"""A place in topic `stage-changes` as a text: the next offset of every partition, and which topic they belong to.

Base64 for URLs of: 4 bytes of a checksum of the topic's id, then each partition's next offset as a varint (7 bits a
byte, the lowest first). For 32 partitions that hold some millions of changes each: 180 characters.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Sequence
from typing import Final

from processors.engine.query import BadCursorError

_TAG_BYTES: Final = 4


class CursorCodec:
    """Writes and reads the cursors of one topic."""

    def __init__(self, topic_id: str, partitions: int) -> None:
        self._tag = zlib.crc32(topic_id.encode()).to_bytes(_TAG_BYTES, "big")
        self._partitions = partitions

    def encode(self, offsets: Sequence[int]) -> str:
        """Return the cursor before these offsets, one for each partition."""
        return base64.urlsafe_b64encode(self._tag + b"".join(map(_varint, offsets))).decode().rstrip("=")

    def decode(self, cursor: str) -> list[int]:
        """Return the next offset of each partition.

        Raises:
            BadCursorError: if it is malformed, or was made for another topic.
        """
        try:
            found = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True)
        except (ValueError, binascii.Error):
            msg = f"{cursor[:100]} is no cursor"
            raise BadCursorError(msg) from None
        offsets, value, shift = [], 0, 0
        for byte in found[_TAG_BYTES:]:
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:  # noqa: PLR2004 - the bit that says that another byte follows
                offsets.append(value)
                value, shift = 0, 0
        if shift or found[:_TAG_BYTES] != self._tag or len(offsets) != self._partitions:
            msg = f"{cursor[:100]} is no cursor of this log: it is another log's, or damaged"
            raise BadCursorError(msg)
        return offsets


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - what fits into seven bits
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
