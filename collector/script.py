"""autocapture.js as it is served: the newest, versions whose path names their content, source map and types."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from http import HTTPStatus
from typing import Final

import brotli

from collector import sdk
from collector.answer import Answer
from collector.cors import ANYONE
from collector.settings import CollectorSettings

_SCRIPT: Final = b"text/javascript; charset=utf-8"
_TYPES: Final = b"text/plain; charset=utf-8"
_MAP: Final = b"application/json"
_FOREVER: Final = b"public, max-age=31536000, immutable"
"""A year, the longest that caches look at (RFC 9111, section 5.2.2.1 names no limit; RFC 2616 did)."""
_ENCODINGS: Final = ("br", "gzip")
"""What bodies are kept in, smallest first; beside them there is the plain one."""


class Script:
    """All files of the web SDK by their paths, compressed once."""

    def __init__(self, settings: CollectorSettings) -> None:
        self._newest = sdk.program(settings.autocapture_path, settings.events_path)
        short_lived = b"public, max-age=%d" % settings.autocapture_max_age_seconds
        newest = settings.autocapture_path
        self._files = {newest: _File(self._newest.code, _SCRIPT, short_lived)}
        self._files[newest.removesuffix(".js") + ".d.ts"] = _File(sdk.types(), _TYPES, short_lived)
        for one in (*sdk.released(newest, settings.events_path), self._newest):
            self._files[one.path] = _File(one.code, _SCRIPT, _FOREVER)
            if one.source_map is not None:
                self._files[one.path + ".map"] = _File(one.source_map, _MAP, _FOREVER)

    def __iter__(self) -> Iterator[str]:
        """Yield every path that is served."""
        return iter(self._files)

    def answer(self, path: str, headers: Mapping[bytes, bytes]) -> Answer:
        """Return the file of a path that is served, or 304 where the browser has this very one."""
        return self._files[path].answer(headers)


@lru_cache
def _packed(plain: bytes) -> dict[str, bytes]:
    """Return a file in the encodings; cached, since brotli's best takes a tenth of a second."""
    return {"br": brotli.compress(plain), "gzip": gzip.compress(plain, mtime=0)}


class _File:
    def __init__(self, plain: bytes, content_type: bytes, cache: bytes) -> None:
        self._bodies = {"": plain, **_packed(plain)}
        self._tags = {name: b'"%s"' % _digest(body) for name, body in self._bodies.items()}
        self._common = [(b"cache-control", cache), (b"vary", b"accept-encoding"), ANYONE]
        self._type = (b"content-type", content_type)

    def answer(self, headers: Mapping[bytes, bytes]) -> Answer:
        accepted = _accepted(headers.get(b"accept-encoding", b""))
        encoding = next((one for one in _ENCODINGS if one in accepted), "")
        tag = self._tags[encoding]
        common = [(b"etag", tag), *self._common]
        if tag in headers.get(b"if-none-match", b"") or headers.get(b"if-none-match") == b"*":
            return Answer(HTTPStatus.NOT_MODIFIED, b"", common)
        common += [
            self._type,
            (b"x-content-type-options", b"nosniff"),
            (b"cross-origin-resource-policy", b"cross-origin"),  # pages with COEP may load it
        ]
        if encoding:
            common.append((b"content-encoding", encoding.encode()))
        return Answer(HTTPStatus.OK, self._bodies[encoding], common)


def _accepted(header: bytes) -> set[str]:
    """Return the encodings that an Accept-Encoding header names and does not refuse (RFC 9110, section 12.5.3)."""
    accepted = set()
    for one in header.decode("latin-1").lower().split(","):
        name, _, weight = one.partition(";")
        if weight.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}:
            accepted.add(name.strip())
    return accepted


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest()[:32].encode()
