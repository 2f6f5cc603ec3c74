"""RudderStack's dialect: Segment's shape, and what tells it from Segment where both use one path."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from collector.decode.dialect import Post, dialect
from collector.decode.lenient_json import parse_leniently
from collector.decode.segment_shape import open_request, read_record
from collector.errors import UnreadableBodyError

RUDDER: Final = dialect("rudder", open_request, read_record)

_CHANNELS: Final = frozenset({"web", "server"})
"""RudderStack's; of Segment's SDKs only those of phones name one, `mobile`."""

_HINTS: Final = (b'"channel"', b'"originalTimestamp"', b"udder")
"""Without one of these in a body it is not worth a closer look."""


class _Library(msgspec.Struct, gc=False):
    name: Any = None


class _Context(msgspec.Struct, gc=False):
    library: _Library | None = None


class _Marks(msgspec.Struct, rename="camel"):
    """What tells whose an event is, or a batch of them."""

    channel: Any = None
    original_timestamp: Any = None
    context: _Context | None = None
    batch: list[_Marks] | None = None


_as_marks = msgspec.json.Decoder(_Marks)


def is_rudder(post: Post) -> bool:
    """Return whether a request is surely RudderStack's: a header or a field that no SDK of Segment sends says so."""
    if b"anonymousid" in post.headers:
        return True
    body = post.body
    if not any(hint in body for hint in _HINTS):
        return False
    try:
        marks = parse_leniently(body, _as_marks.decode, "events")
    except UnreadableBodyError:
        return False
    return _is_of_rudder(marks.batch[0] if marks.batch else marks)


def _is_of_rudder(marks: _Marks) -> bool:
    library = marks.context.library.name if marks.context is not None and marks.context.library is not None else None
    return (
        marks.original_timestamp is not None
        or (isinstance(marks.channel, str) and marks.channel in _CHANNELS)
        or (isinstance(library, str) and "rudder" in library.casefold())
    )
