"""What aiokafka gives for a record of topic `events`, as the engine reads it."""

from __future__ import annotations

from aiokafka.structs import ConsumerRecord

from collector.wire.record import NewerSchemaError, Record, UnreadableRecordError, read_headers
from processors.engine.ports import Unreadable


def record_of(found: ConsumerRecord[bytes, bytes]) -> Record | Unreadable:
    """Return the record; `append_time` is Kafka's LogAppendTime in UTC ms (architecture, section 4)."""
    value = found.value or b""
    try:
        draft = read_headers(list(found.headers), value)
    except UnreadableRecordError as error:
        newer = isinstance(error, NewerSchemaError)
        return Unreadable(found.partition, found.offset, str(error), value, newer=newer, append_time=found.timestamp)
    return Record(found.partition, found.offset, found.timestamp, draft)
