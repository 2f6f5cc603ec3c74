"""One pure decoder per dialect: bytes and request facts in, events and errors out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from collector.decode.decoded import Decoded, RequestFacts
from collector.decode.native import decode_request
from collector.settings import Limits

Decoder = Callable[[bytes, RequestFacts, Limits], Decoded]
"""From an unpacked body; raises RequestError for a body that is refused as a whole."""

DECODERS: Final[dict[str, Decoder]] = {"native": decode_request}
"""By path family."""
