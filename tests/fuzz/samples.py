"""What the mutations start from: every recorded request of every SDK, and native ones, with their wrapping known."""

from __future__ import annotations

import base64
import binascii
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from collector.settings import WriteKey
from tests.fuzz.packing import PACK, UNPACK, xor
from tests.fuzz.request import Sent

COMPAT: Final = Path(__file__).parents[1] / "compat"
GZIP: Final = b"\x1f\x8b"
PUBLIC, TRUSTED = "pk", "sk"
_DATA = re.compile(rb"(?:^|&)(data|data_list)=")


@dataclass(frozen=True)
class Sample:
    """A request and what is in it.

    `plain` is what it says, without any wrapping; `packed` names the wrappings from the innermost to the outermost;
    `before` and `after` stand around it, in the body or, where `in_query`, in the query. `stm` is the time with whose
    lowest byte GrowingIO's programs encrypt, None where nothing is encrypted.
    """

    dialect: str
    request: Sent
    plain: bytes
    packed: tuple[str, ...] = ()
    outer: tuple[str, ...] = ()
    before: bytes = b""
    after: bytes = b""
    in_query: bool = False
    stm: int | None = None

    def saying(self, plain: bytes) -> Sent:
        """Return the request with something else in the same wrapping."""
        for name in self.packed:
            plain = PACK[name](plain)
        if self.stm is not None:
            plain = xor(plain, self.stm & 0xFF)
        whole = self.before + plain + self.after
        for name in self.outer:
            whole = PACK[name](whole)
        return self.request._replace(query=whole) if self.in_query else self.request._replace(body=whole)


def samples() -> list[Sample]:
    """Return all of them, in an order that is always the same."""
    return [*_native(), *(_sample(dialect, one) for dialect, one in _recorded())]


def write_keys() -> tuple[WriteKey, ...]:
    """Return the keys that the samples carry, and a trusted one."""
    files = sorted((COMPAT / "recorded").glob("*.json"))
    sent = sorted({json.loads(file.read_text("utf-8"))["key"] for file in files} | {PUBLIC})
    public = [WriteKey(name=f"web{number}", key=SecretStr(key)) for number, key in enumerate(sent)]
    return (*public, WriteKey(name="ledger", key=SecretStr(TRUSTED), trusted=True))


def _native() -> Iterator[Sample]:
    for file in sorted((COMPAT / "native").glob("*.json")):
        recorded = json.loads(file.read_text("utf-8"))
        for key in (PUBLIC, TRUSTED):
            body = json.dumps(recorded["body"]).encode()
            head = [(b"authorization", b"Bearer " + key.encode()), (b"content-type", b"application/json")]
            yield Sample("native", Sent("POST", "/v1/events", b"", head, body), body)


def _recorded() -> Iterator[tuple[str, Sent]]:
    for file in sorted((COMPAT / "recorded").glob("*.json")):
        for one in json.loads(file.read_text("utf-8"))["requests"]:
            told: dict[str, Any] = one["request"]
            body = told["text"].encode() if "text" in told else base64.b64decode(told.get("base64", ""))
            headers = [(name.lower().encode(), value.encode()) for name, value in told["headers"].items()]
            query = told.get("query", "").encode()
            yield file.stem.partition("-")[0], Sent(told["method"], told["path"], query, headers, body)


def _sample(dialect: str, request: Sent) -> Sample:
    if not request.body:
        return _with_data(dialect, request, request.query, (), in_query=True)
    coding = request.header(b"content-encoding").decode()
    body, outer = request.body, tuple[str, ...]()
    if coding in UNPACK:
        body, outer = UNPACK[coding](body), (coding,)
    elif body.startswith(GZIP):
        body, outer = UNPACK["gzip"](body), ("gzip",)
    if dialect == "growingio":
        return _of_growingio(request, body)
    return _with_data(dialect, request, body, outer, in_query=False)


def _with_data(dialect: str, request: Sent, whole: bytes, outer: Sequence[str], *, in_query: bool) -> Sample:
    found = None if whole.startswith((b"{", b"[")) else _DATA.search(whole)
    if found is None:
        return Sample(dialect, request, whole, outer=tuple(outer), in_query=in_query)
    end = whole.find(b"&", found.end())
    if dialect == "growingio" or end < 0:  # a page's own parameters are in it as they are
        end = len(whole)
    plain, packed = _unwrapped(whole[found.end() : end], lz=dialect == "growingio" and b"compress=11" in whole)
    return Sample(dialect, request, plain, packed, tuple(outer), whole[: found.end()], whole[end:], in_query)


def _unwrapped(packed: bytes, *, lz: bool) -> tuple[bytes, tuple[str, ...]]:
    plain = UNPACK["quoted"](packed)
    if lz:
        return UNPACK["lz_in_uri"](plain), ("lz_in_uri",)
    if plain.startswith((b"{", b"[")):
        return plain, ("quoted",)
    try:
        plain = UNPACK["base64"](plain)
        if plain.startswith(GZIP):
            return UNPACK["gzip"](plain), ("gzip", "base64", "quoted")
    except (binascii.Error, zlib.error):
        return packed, ()
    return plain, ("base64", "quoted")


def _of_growingio(request: Sent, body: bytes) -> Sample:
    stm = re.search(rb"stm=([0-9]+)", request.query)
    key = int(stm[1]) if stm and request.header(b"x-crypt-codec") == b"1" else None
    body = body if key is None else xor(body, key & 0xFF)
    if request.header(b"x-compress-codec") == b"2":
        return Sample("growingio", request, UNPACK["snappy"](body), ("snappy",), stm=key)
    if b"compress=1" in request.query and not body.startswith((b"{", b"[")):
        return Sample("growingio", request, UNPACK["lz"](body), ("lz",), stm=key)
    return Sample("growingio", request, body, stm=key)
