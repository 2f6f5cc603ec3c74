"""A request as it is sent, kept so that it can be sent again."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

Headers = Sequence[tuple[bytes, bytes]]


class Sent(NamedTuple):
    """A request; header names in lower case, in their order."""

    method: str
    path: str
    query: bytes = b""
    headers: Headers = ()
    body: bytes = b""

    def header(self, name: bytes) -> bytes:
        """Return the last header of a name, empty where there is none."""
        return next((value for given, value in reversed(self.headers) if given == name), b"")

    def with_header(self, name: bytes, value: bytes | None) -> Sent:
        """Return the request with another header of a name, or without it."""
        kept = [one for one in self.headers if one[0] != name]
        return self._replace(headers=kept if value is None else [*kept, (name, value)])

    def save(self, file: Path, **more: object) -> None:
        """Write it down, with whatever else shall stand beside it."""
        told = {
            **more,
            "method": self.method,
            "path": self.path,
            "query": self.query.decode("latin-1"),
            "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in self.headers],
            "base64": base64.b64encode(self.body).decode(),
        }
        file.write_text(json.dumps(told, indent=1), encoding="utf-8")


def load(file: Path) -> Sent:
    """Return a request that `save` wrote."""
    told = json.loads(file.read_text("utf-8"))
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in told["headers"]]
    body = base64.b64decode(told["base64"])
    return Sent(told["method"], told["path"], told["query"].encode("latin-1"), headers, body)
