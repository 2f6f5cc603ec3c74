"""What SDKs wrap their JSON in, both ways: so that a mutation can happen inside and still arrive."""

from __future__ import annotations

import base64
import gzip
import zlib
from collections.abc import Callable
from typing import Final
from urllib.parse import quote_from_bytes, unquote_to_bytes

import brotli
import zstandard

from collector.decode import growingio_snappy, lz_string
from tests.lz_string import Packer

_LITERAL_BYTES: Final = 60
_PLAIN_BYTES: Final = 64 * 1024 * 1024


def snappy(plain: bytes) -> bytes:
    """Return a raw block of snappy with literals only."""
    length, head = len(plain), bytearray()
    while length >= 0x80:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    for at in range(0, len(plain), _LITERAL_BYTES):
        part = plain[at : at + _LITERAL_BYTES]
        head.append(len(part) - 1 << 2)
        head += part
    return bytes(head)


def lz(plain: bytes) -> bytes:
    """Return what lz-string's `compressToUint8Array` makes of a text."""
    return Packer().pack(plain.decode("utf-8", "replace"))


def lz_in_uri(plain: bytes) -> bytes:
    """Return what lz-string's `compressToEncodedURIComponent` makes of a text."""
    return base64.b64encode(lz(plain)).replace(b"/", b"-").replace(b"=", b"$")


def _unzip(packed: bytes) -> bytes:
    return zlib.decompressobj(47).decompress(packed, _PLAIN_BYTES)


def from_base64(packed: bytes) -> bytes:
    """Return what base64 in either alphabet stands for; padding may be missing."""
    plain = packed.replace(b"-", b"+").replace(b"_", b"/").rstrip(b"=")
    return base64.b64decode(plain + b"=" * (-len(plain) % 4), validate=True)


PACK: Final[dict[str, Callable[[bytes], bytes]]] = {
    "gzip": lambda plain: gzip.compress(plain, 1, mtime=0),
    "deflate": lambda plain: zlib.compress(plain, 1),
    "br": lambda plain: brotli.compress(plain, quality=1),
    "zstd": lambda plain: zstandard.compress(plain, 1),
    "base64": base64.b64encode,
    "quoted": lambda plain: quote_from_bytes(plain).encode(),
    "lz": lz,
    "lz_in_uri": lz_in_uri,
    "snappy": snappy,
}
"""From the plain bytes to the packed ones, by name; the first four are also what `Content-Encoding` calls them."""

UNPACK: Final[dict[str, Callable[[bytes], bytes]]] = {
    "gzip": _unzip,
    "deflate": _unzip,
    "br": brotli.decompress,
    "zstd": lambda packed: zstandard.ZstdDecompressor().decompress(packed, max_output_size=_PLAIN_BYTES),
    "base64": from_base64,
    "quoted": unquote_to_bytes,
    "lz": lambda packed: lz_string.unpack(packed, _PLAIN_BYTES),
    "lz_in_uri": lambda packed: lz_string.unpack_uri_component(packed, _PLAIN_BYTES),
    "snappy": lambda packed: growingio_snappy.unpack(packed, _PLAIN_BYTES),
}
"""The way back, for samples alone: they are real, so that nothing is proved by it."""

CODINGS: Final = ("gzip", "deflate", "br", "zstd")


def xor(data: bytes, key: int) -> bytes:
    """Return bytes XORed with one byte, as GrowingIO's programs encrypt."""
    return data.translate(bytes(byte ^ key for byte in range(256)))
