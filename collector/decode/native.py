"""The native dialect: `POST /v1/events`, and the lines of an import."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from collector.decode.decoded import Decoded, Reason, RejectedEventError, Rejection, RequestFacts
from collector.decode.dialect import Dialect, Envelope, Post
from collector.decode.events import EventMaker, NativeEvent, a_new_id
from collector.decode.lenient_json import parse_leniently
from collector.decode.ordinary import decode_ordinary
from collector.decode.records import trimmed
from collector.decode.times import read_time
from collector.errors import TooLargeBodyError
from collector.settings import Limits


class _Envelope(msgspec.Struct, gc=False):
    events: list[msgspec.Raw]
    sent_at: Any = None


FIELDS: Final = frozenset(NativeEvent.__struct_fields__)
_as_envelope = msgspec.json.Decoder(_Envelope)
_as_list = msgspec.json.Decoder(list[msgspec.Raw])
_as_event = msgspec.json.Decoder(NativeEvent)
_as_object = msgspec.json.Decoder(dict[str, Any])


def decode_request(body: bytes, request: RequestFacts, limits: Limits) -> Decoded:
    """Return what a native request's body, already unpacked, holds.

    Raises:
        UnreadableBodyError: if it is neither `{"events": [...]}` nor an array.
        TooLargeBodyError: if it holds too many events.
    """
    body = trimmed(body)
    ordinary = decode_ordinary(body, request, limits)
    if ordinary is not None:
        return ordinary
    return decode_exactly(body, request, limits)


def decode_exactly(body: bytes, request: RequestFacts, limits: Limits) -> Decoded:
    """Return what any request's body holds, event by event; raises as `decode_request`."""
    raws, sent_at = read_envelope(body)
    if len(raws) > limits.events:
        msg = f"{len(raws)} events in one request; {limits.events} is the limit: send them in several"
        raise TooLargeBodyError(msg)
    return decode_native(raws, request, sent_at=sent_at, limits=limits)


def read_envelope(body: bytes) -> tuple[Sequence[msgspec.Raw], object]:
    """Return the events of a body, each still JSON, and its `sent_at` as sent.

    Raises:
        UnreadableBodyError: if it is neither `{"events": [...]}` nor an array.
    """
    return parse_leniently(body, _parse, '{"events": [...]} or an array of events')


def _parse(body: bytes) -> tuple[Sequence[msgspec.Raw], object]:
    if body.startswith(b"["):
        return _as_list.decode(body), None
    envelope = _as_envelope.decode(body)
    return envelope.events, envelope.sent_at


def decode_native(
    raws: Sequence[msgspec.Raw | bytes],
    request: RequestFacts,
    *,
    sent_at: object = None,
    limits: Limits | None = None,
    new_id: Callable[[], str] = a_new_id,
) -> Decoded:
    """Return the events of a request, or of an import, and an error for each that is not fit for the log.

    Args:
        raws: one JSON object each, in order.
        request: who sent them, and when they were received (UTC milliseconds).
        sent_at: when the client says it sent them, as sent: RFC 3339 or epoch milliseconds.
        limits: sizes, as in the settings.
        new_id: makes the id of an event that has neither `id` nor `ts`, which nothing protects from repeats (R7).
    """
    try:
        sent = read_time(sent_at, "sent_at")
    except RejectedEventError as error:
        return Decoded(
            rejections=[Rejection(i, None, error.reason, str(error), bytes(raw)) for i, raw in enumerate(raws)]
        )
    maker = EventMaker(request, limits or Limits(), lambda raw: (_read(raw), sent), new_id)
    for index, raw in enumerate(raws):
        maker.take(index, bytes(raw))
    return maker.out


def _read(raw: bytes) -> NativeEvent:
    """Return the event; fields without a meaning here are kept under `properties`."""
    try:
        if not raw.isascii():
            raw.decode()  # msgspec does not look at the names of fields that it leaves out
        return _as_event.decode(raw)
    except msgspec.ValidationError:
        pass  # most often an unknown field: look closer
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RejectedEventError(Reason.MALFORMED, "", f"is no JSON: {error}") from error
    try:
        given = _as_object.decode(raw)
        unknown = {name: given.pop(name) for name in list(given) if name not in FIELDS}
        native = msgspec.convert(given, NativeEvent)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _located(str(error)) from error
    native.properties = {**unknown, **(native.properties or {})}
    return native


def _located(message: str) -> RejectedEventError:
    what, _, place = message.partition(" - at `$")
    return RejectedEventError(Reason.MALFORMED, place.removesuffix("`"), f"is not as documented: {what}")


def _open(post: Post, _limits: Limits) -> Envelope:
    """Return the body as it is: an ordinary one is decoded in one go."""
    return Envelope((post.body,))


def _decode(envelope: Envelope, request: RequestFacts, limits: Limits) -> Decoded:
    return decode_request(envelope.records[0], request, limits)


NATIVE: Final = Dialect("native", _open, _decode)
