"""Unpacks bodies, counting while it unpacks, so that a bomb never grows beyond the limit."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Final

import brotli
import zstandard

from collector.errors import TooLargeBodyError, UnknownEncodingError, UnreadableBodyError

GZIP_MAGIC: Final = b"\x1f\x8b\x08"
"""With the only method there is (RFC 1952, section 2.3.1); an encrypted body may start with the first two by chance."""
MAX_CODINGS: Final = 2
"""Content-Encoding may name several; nobody needs more than two."""
_MAX_MEMBERS: Final = 16
_GZIP_WINDOW: Final = 31
_ZSTD_WINDOW_BYTES: Final = 8 * 1024 * 1024
"""What RFC 8878 section 3.1.1.1.2 asks every decoder to support; a larger one is memory at a stranger's word."""


def unpack(body: bytes, content_encoding: bytes, max_bytes: int) -> bytes:
    """Return the body without its Content-Encoding; gzip is recognised without one as well (SDKs forget it).

    Raises:
        UnknownEncodingError: for an encoding other than gzip, deflate, br and zstd.
        TooLargeBodyError: if it unpacks to more than `max_bytes`.
        UnreadableBodyError: if it is broken.
    """
    codings = [name for one in content_encoding.lower().split(b",") if (name := one.strip()) not in {b"", b"identity"}]
    unpackers = [_CODECS.get(name) for name in codings]
    if None in unpackers or len(unpackers) > MAX_CODINGS:
        msg = f"Content-Encoding {content_encoding.decode('latin-1')[:64]!r}: send gzip, deflate, br, zstd or none"
        raise UnknownEncodingError(msg)
    for unpacker in reversed(unpackers):
        if unpacker is not None:
            body = unpacker(body, max_bytes)
    return _gunzip(body, max_bytes) if body.startswith(GZIP_MAGIC) else body


def _too_large(max_bytes: int) -> TooLargeBodyError:
    return TooLargeBodyError(f"the body unpacks to more than {max_bytes} bytes: send less at once")


def _broken(name: str) -> UnreadableBodyError:
    return UnreadableBodyError(f"the body is no complete {name} stream")


def _gunzip(body: bytes, max_bytes: int) -> bytes:
    return _inflate(body, max_bytes, _GZIP_WINDOW, "gzip")


def _undeflate(body: bytes, max_bytes: int) -> bytes:
    """Unpack zlib's format (RFC 9110 section 8.4.1.2), or bare deflate, which some clients send under that name."""
    wrapped = len(body) > 1 and body[0] & 0x0F == zlib.DEFLATED and int.from_bytes(body[:2], "big") % 31 == 0
    return _inflate(body, max_bytes, zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS, "deflate")


def _inflate(body: bytes, max_bytes: int, window: int, name: str) -> bytes:
    out = b""
    for _ in range(_MAX_MEMBERS):  # a gzip file may be several, one after another
        stream = zlib.decompressobj(window)
        try:
            out += stream.decompress(body, max_bytes + 1 - len(out))
        except zlib.error as error:
            raise _broken(name) from error
        if len(out) > max_bytes:
            raise _too_large(max_bytes)
        if not stream.eof:
            raise _broken(name)
        body = stream.unused_data
        if not body.startswith(GZIP_MAGIC):
            return out
    raise _broken(name)


def _unbrotli(body: bytes, max_bytes: int) -> bytes:
    stream = brotli.Decompressor()
    try:
        out = stream.process(body, output_buffer_limit=max_bytes + 1)
        while len(out) <= max_bytes and not stream.is_finished():
            more = stream.process(b"", output_buffer_limit=max_bytes + 1 - len(out))
            if not more:
                break
            out += more
    except brotli.error as error:
        raise _broken(name="br") from error
    if len(out) > max_bytes:
        raise _too_large(max_bytes)
    if not stream.is_finished():
        raise _broken(name="br")
    return bytes(out)


def _unzstd(body: bytes, max_bytes: int) -> bytes:
    try:
        with zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES).stream_reader(
            body, read_across_frames=True
        ) as reader:
            out = reader.read(max_bytes + 1)
    except zstandard.ZstdError as error:
        raise _broken(name="zstd") from error
    if len(out) > max_bytes:
        raise _too_large(max_bytes)
    return out


_CODECS: Final[dict[bytes, Callable[[bytes, int], bytes]]] = {
    b"gzip": _gunzip,
    b"x-gzip": _gunzip,
    b"deflate": _undeflate,
    b"br": _unbrotli,
    b"zstd": _unzstd,
}
