"""Mutations that know nothing: of bytes, of protobuf's fields, of a query, of headers."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

from tests.fuzz.nasty import STRANGE_BYTES
from tests.fuzz.packing import CODINGS, PACK
from tests.fuzz.request import Sent

_LONG: Final = 20_000


def mutate_bytes(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Return bytes with one to five things done to them."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3, 5))):
        _once(rng, found, others)
    return bytes(found)


def _once(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    at, size = rng.randrange(len(data) + 1), rng.choice((1, 1, 2, 4, 16, 100))
    match rng.randrange(8):
        case 0 if data:
            data[min(at, len(data) - 1)] ^= 1 << rng.randrange(8)
        case 1:
            del data[at:]
        case 2:
            del data[at : at + size]
        case 3:
            data[at:at] = rng.choice(STRANGE_BYTES)
        case 4:
            data[at : at + size] = rng.randbytes(size)
        case 5:
            data[at:at] = data[at : at + size] * rng.choice((1, 2, 50))
        case 6:
            other = rng.choice(others)
            begin = rng.randrange(len(other) + 1)
            data[at:] = other[begin:]
        case _:
            other = rng.choice(others)
            begin = rng.randrange(len(other) + 1)
            data[at : at + size] = other[begin : begin + rng.choice((8, 64, 500))]


def mutate_protobuf(rng: random.Random, message: bytes) -> bytes:
    """Return a message with a field added, or one whose tag or length is another."""
    field = rng.randrange(1, 60) << 3 | rng.randrange(8)
    value = rng.choice(
        (
            b"\x00",
            b"\x01",
            b"\xff" * 9 + b"\x01",
            b"\xff" * 10,
            b"\x05hello",
            b"\x80",
            b"\x0a\x08\x0a\x01k\x12\x03v\xff\xfe",
        )
    )
    added = bytes([field & 0x7F | 0x80, field >> 7]) + value
    at = rng.randrange(len(message) + 1)
    inner = message[:at] + added + message[at:]
    return inner if rng.random() < 0.5 else b"\x0a" + _varint(len(inner)) + inner


def _varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


_KINDS: Final = (
    b"application/json", b"text/plain", b"application/x-www-form-urlencoded", b"application/protobuf", b"", b"\xff",
)  # fmt: skip
_ENCODINGS: Final = (
    b"gzip", b"br", b"zstd", b"deflate", b"x-gzip", b"identity", b"compress", b"gzip, gzip", b"a,b,c", b"\x80",
)  # fmt: skip
_KEYS: Final = (
    b"Bearer pk", b"Bearer sk", b"Bearer", b"Basic cGs6", b"Basic !!", b"Basic \xff", b"Digest x",
    b"Bearer " + b"x" * 5000,
)  # fmt: skip

_ODD_HEADERS: Final = (
    (b"content-type", _KINDS),
    (b"content-encoding", _ENCODINGS),
    (b"content-length", (b"0", b"-1", b"5", b"99999999999999999999", b"abc", b"\xb2", b"+5", b"1e3")),
    (b"authorization", _KEYS),
    (b"origin", (b"https://demo.example", b"null", b"http://\x00", b"x" * 300, b"")),
    (b"posthog-request-timestamp", (b"2026-11-22T08:15:04Z", b"\xff", b"1e999", b"9" * 400)),
    (b"posthog-sdk-info", (b"posthog-node/5.70.0", b"\xff/\xfe", b"/", b"a" * 9000)),
    (b"sentat", (b"2026-11-22T08:15:04Z", b"x", b"\xff")), (b"anonymousid", (b"x", b"")),
    (b"x-compress-codec", (b"2", b"1", b"")), (b"x-crypt-codec", (b"1", b"2")),
    (b"dry-run", (b"true", b"TRUE", b"\xff")),
    (b"user-agent", (b"", b"\xff" * 50, b"Googlebot/2.1", b"x" * 9000, b"curl/8")),
    (b"x-forwarded-for", (b"1.2.3.4", b"::1, x", b"unknown", b"\xff", b"1.2.3.4, " * 500)),
    (b"cf-ipcountry", (b"CN", b"T1", b"\xff", b"x" * 500)), (b"expect", (b"100-continue", b"x")), (b"dnt", (b"1",)),
    (b"sec-gpc", (b"1",)),
)  # fmt: skip

_ODD_PARAMETERS: Final = (
    b"key=pk", b"key=sk", b"key=", b"token=x", b"writeKey=pk", b"_=1795289920000", b"_=x", b"stm=1795289920000",
    b"stm=9" * 9, b"compress=1", b"compress=11", b"compress=0", b"compression=gzip-js", b"data=", b"data=e30",
    b"data_list=W10", b"gzip=1", b"%00=%ff", b"=", b"&&&", b"e=pv", b"url=%ff", b"aid=pk", b"dtm=x", b"a" * 9000,
    b"?", b"%", b"data=%7B%7D", b"project=default", b"verbose=1",
)  # fmt: skip


def mutate_head(rng: random.Random, request: Sent, others: Sequence[Sent]) -> Sent:
    """Return a request with another header, parameter, path or method."""
    match rng.randrange(6):
        case 0 | 1:
            name, values = rng.choice(_ODD_HEADERS)
            return request.with_header(name, rng.choice(values))
        case 2:
            return request.with_header(rng.choice(request.headers)[0], None) if request.headers else request
        case 3:
            query = rng.choice(_ODD_PARAMETERS)
            return request._replace(
                query=query + b"&" + request.query if rng.random() < 0.5 else request.query + b"&" + query
            )
        case 4:
            return request._replace(query=mutate_bytes(rng, request.query, [one.query for one in others[:20]]))
        case _:
            other = rng.choice(others)
            method = rng.choice((request.method, other.method, "PUT", "HEAD", "OPTIONS", "GET", "POST"))
            path = rng.choice(
                (other.path, other.path, request.path + "/", "/" + request.path, "/x", "/healthz", "/autocapture.js")
            )
            return request._replace(path=path, method=method)


def recode(rng: random.Random, request: Sent) -> Sent:
    """Return a request whose body is packed otherwise, and says so, mostly truly."""
    names = rng.choices(CODINGS, k=rng.choice((1, 1, 1, 2, 3)))
    body = request.body
    for name in names:
        body = PACK[name](body)
    told = rng.choice((names, names, names, [*reversed(names)], [rng.choice(CODINGS)], []))
    if rng.random() < 0.25:
        body = mutate_bytes(rng, body, (request.body,))
    return request._replace(body=body).with_header(b"content-encoding", ", ".join(told).encode() or None)
