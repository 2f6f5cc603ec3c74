"""One pure decoder per dialect: bytes and request facts in, events and errors out."""

from __future__ import annotations

from typing import Final

from collector.decode.dialect import Dialect
from collector.decode.native import NATIVE

DIALECTS: Final[dict[str, Dialect]] = {one.name: one for one in (NATIVE,)}
"""All of them, by the names that write keys use."""
