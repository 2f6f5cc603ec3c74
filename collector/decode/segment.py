"""Segment's dialect: the whole shape, as its own SDKs write it."""

from __future__ import annotations

from typing import Final

from collector.decode.dialect import dialect
from collector.decode.segment_shape import open_request, read_record

SEGMENT: Final = dialect("segment", open_request, read_record)
