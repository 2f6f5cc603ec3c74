"""However an event is written, as it stands in the log it fits into one record of topic `events`."""

from __future__ import annotations

import pytest

from collector.decode.decoded import RequestFacts
from collector.decode.native import decode_native
from collector.settings import Limits
from collector.sinks.kafka_topics import MAX_BATCH_BYTES
from collector.wire.block import encode_event

LARGEST = Limits(event_bytes=192 * 1024)
HEAD = b'{"type":"page","id":"i","anonymous_id":"a","properties":{"a":['


@pytest.mark.parametrize(
    "item",
    [b"1e15", b"9E15", b"1e9", b"0.1", b'"//a@b"', b'"http://a?password=1"', b'"\\u0001"', b'"/138001380001"'],
)
def test_what_grows_by_being_written_in_one_form(item: bytes) -> None:
    room = LARGEST.event_bytes - len(HEAD) - 3
    raw = HEAD + b",".join([item] * (room // (len(item) + 1))) + b"]}}"
    found = decode_native([raw], RequestFacts("web", trusted=False, received_at=1_700_000_000_000), limits=LARGEST)
    assert not found.rejections
    ((_, event),) = found.events
    grown = len(encode_event(event)) / len(raw)
    assert grown < 4
    assert len(encode_event(event)) < MAX_BATCH_BYTES - 1000


def test_settings_that_would_make_larger_ones_are_refused() -> None:
    with pytest.raises(ValueError, match="event_bytes"):
        Limits(event_bytes=192 * 1024 + 1)
