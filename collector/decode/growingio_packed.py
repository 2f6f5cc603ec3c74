"""What GrowingIO's SDKs wrap their events in: lz-string, snappy, a XOR, and pixels with JSON in the query."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from collector.decode import growingio_snappy, lz_string
from collector.decode.dialect import Post
from collector.decode.packed import form_values
from collector.decode.records import is_json
from collector.errors import UnreadableBodyError
from collector.settings import Limits

_DATA: Final = re.compile(rb"(?:^|&)data=")
_SNAPPY: Final = b"2"
_XOR: Final = b"1"
_LZ_BYTES: Final = 256 * 1024
"""A page sends one event at a time; unpacking more than four of the largest would take longer than 5000 plain ones."""
_SNAPPY_BYTES: Final = 1024 * 1024
"""A thousand events, packed, of a library that sends some hundred at once; its elements are unpacked one by one."""


def unpacked(post: Post, parameters: dict[bytes, bytes], limits: Limits) -> bytes:
    """Return the JSON or protobuf of a request.

    Args:
        post: the request, its body without Content-Encoding.
        parameters: of its query, as `parameters_of` gives them.
        limits: sizes, as in the settings.

    Raises:
        UnreadableBodyError: if it is packed otherwise than said.
        TooLargeBodyError: if it unpacks to too much.
    """
    compress, max_bytes = parameters.get(b"compress"), min(_LZ_BYTES, limits.decompressed_bytes)
    data = _DATA.search(post.query) if not post.body else None
    if data is not None:  # up to the end: `&` and `=` of the page's own query are in it as they are
        packed = post.query[data.end() :]
        if compress == b"11":
            return lz_string.unpack_uri_component(unquote_to_bytes(packed), max_bytes)
        return _unquoted(packed)
    if b"x-compress-codec" in post.headers or b"x-crypt-codec" in post.headers:
        return _without_codecs(post, parameters, limits)
    if compress != b"1" or is_json(post.body):
        return post.body
    return lz_string.unpack(post.body, max_bytes)


def _unquoted(packed: bytes) -> bytes:
    plain = packed.replace(b"%22", b'"')  # nearly all there is, and ten times as fast
    return unquote_to_bytes(plain) if b"%" in plain else plain


def parameters_of(query: bytes) -> dict[bytes, bytes]:
    """Return the parameters of a query, but for `data` and what may be within it."""
    data = _DATA.search(query)
    return form_values(query if data is None else query[: data.start()])


def _without_codecs(post: Post, parameters: dict[bytes, bytes], limits: Limits) -> bytes:
    """Return the body of a Python program: packed first, then XORed with the lowest byte of the time it was sent."""
    body = post.body
    if post.headers.get(b"x-crypt-codec") == _XOR:
        stm = parameters.get(b"stm", b"")
        if not stm.isdigit() or len(stm) > len("1795289319960") + 3:
            msg = "X-Crypt-Codec needs the time of sending as ?stm, in milliseconds"
            raise UnreadableBodyError(msg)
        key = int(stm) & 0xFF
        body = body.translate(bytes(byte ^ key for byte in range(256)))
    if post.headers.get(b"x-compress-codec") != _SNAPPY:
        return body
    return growingio_snappy.unpack(body, min(_SNAPPY_BYTES, limits.decompressed_bytes))
