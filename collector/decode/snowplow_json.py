"""JSON within the texts of a Snowplow event: what it says itself, and the contexts beside it, plain or in base64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec

from collector.decode.decoded import Reason, RejectedEventError
from collector.decode.lenient_json import nests_deeper, parse_leniently
from collector.decode.packed import from_base64
from collector.errors import RequestError, UnreadableBodyError

MAX_DEPTH: Final = 32
"""As many as an event may nest by default: the event's own limit does not see into its texts."""

T = TypeVar("T")


class SelfDescribing(msgspec.Struct, gc=False):
    """What an event of kind `ue` says: the address of its schema, and what that schema describes."""

    schema: str
    data: Any = None


class _Unstructured(msgspec.Struct, gc=False):
    data: SelfDescribing


class _Contexts(msgspec.Struct, gc=False):
    data: list[Any]


_as_unstructured = msgspec.json.Decoder(_Unstructured)
_as_contexts = msgspec.json.Decoder(_Contexts)


def take_event(fields: dict[str, Any]) -> SelfDescribing:
    """Take what a `ue` event says out of its fields.

    Raises:
        RejectedEventError: `malformed` where it cannot be read, `too_deep`.
    """
    try:
        found = _take(fields, "ue_pr", "ue_px", _as_unstructured.decode)
    except RequestError as error:
        raise RejectedEventError(Reason.MALFORMED, ".ue_pr", f"cannot be read: {error}") from error
    if found is None:
        raise RejectedEventError(Reason.MALFORMED, ".ue_pr", "is missing; an event of kind ue needs it, or ue_px")
    return found.data


def take_contexts(fields: dict[str, Any]) -> list[Any]:
    """Take an event's contexts out of its fields; what cannot be read stays there.

    Raises:
        RejectedEventError: `too_deep`.
    """
    try:
        found = _take(fields, "co", "cx", _as_contexts.decode)
    except RequestError:
        return []
    return [] if found is None else found.data


def _take(fields: dict[str, Any], plain: str, packed: str, parse: Callable[[bytes], T]) -> T | None:
    """Return what the JSON of one of two fields says, and take the field; None where there is neither."""
    for name in (plain, packed):
        text = fields.get(name)
        if not text:
            continue
        if not isinstance(text, str):
            msg = f"{name} is no text"
            raise UnreadableBodyError(msg)
        document = text.encode()
        if name == packed:
            document = from_base64(document, len(document))  # what is no longer packed is shorter; no gzip
        if nests_deeper(document, MAX_DEPTH):
            raise RejectedEventError(Reason.TOO_DEEP, f".{name}", f"nests deeper than {MAX_DEPTH} objects and arrays")
        found = parse_leniently(document, parse, f"self-describing JSON in {name}")
        fields.pop(plain, None)
        fields.pop(packed, None)  # of two the second says the same
        return found
    return None
