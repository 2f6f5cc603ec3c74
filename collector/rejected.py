"""What is kept of a rejected event in topic `rejected`: why, and enough to find who sends it."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from collector.context.said import ADDRESS_NAMES
from collector.decode.decoded import Rejection, RequestFacts
from collector.masking.kinds import MASK
from collector.masking.rules import Masking

MAX_PAYLOAD_CHARS: Final = 2048
MAX_TEXT_CHARS: Final = 256
MAX_DEPTH: Final = 8
MAX_ITEMS: Final = 64
"""A rejected event is evidence, not data: what is longer, deeper or wider is left out."""
_BEFORE_MASKING: Final = 4 * MAX_TEXT_CHARS
"""Texts are cut to what is kept once they are masked: the cut could halve a number."""
MAY_BE_TYPED: Final = frozenset(
    {"value", "attr__value", "$el_text", "$elements_chain", "$element_content", "textValue"}
)
"""Where SDKs write what may be the value of a field; an accepted event is read more closely, and keeps labels."""
MAX_AGENT_CHARS: Final = 256
MAX_PARSED_BYTES: Final = 256 * 1024


def rejected_record(rejection: Rejection, request: RequestFacts, user_agent: bytes) -> bytes:
    """Return the JSON value for topic `rejected`, everything in it masked and bounded."""
    agent = user_agent[:MAX_AGENT_CHARS].decode("latin-1")
    return msgspec.json.encode(
        {
            "reason": rejection.reason,
            "detail": _masked_text(rejection.detail, request.masking),
            "index": rejection.index,
            "id": None if rejection.id is None else _masked_text(rejection.id, request.masking),
            "payload": _payload(rejection.raw, request.masking),
            "payload_bytes": len(rejection.raw),
            "source": request.source,
            "trusted": request.trusted,
            "user_agent": _masked_text(agent, request.masking),
            "received_at": request.received_at,
        }
    )


def _payload(raw: bytes, masking: Masking) -> str | None:
    """Return the event's JSON, masked, cut after MAX_PAYLOAD_CHARS; None for what is no JSON or far too large."""
    if len(raw) > MAX_PARSED_BYTES:
        return None
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    whole = {"": _cut(value, _BEFORE_MASKING)}
    masking.properties(whole, [])
    return msgspec.json.encode(_cut(_by_value(whole[""], masking), MAX_TEXT_CHARS)).decode()[:MAX_PAYLOAD_CHARS]


def _by_value(value: Any, masking: Masking) -> Any:  # noqa: ANN401 - JSON of unknown shape
    """Mask what looks like something that is, whatever its name: evidence needs no order's number."""
    if isinstance(value, str):
        return masking.value(value)[0]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return MASK if masking.text(str(value))[1] else value
    if isinstance(value, dict):
        return {name: _by_value(one, masking) for name, one in value.items()}
    if isinstance(value, list):
        return [_by_value(one, masking) for one in value]
    return value


def _cut(value: Any, chars: int, depth: int = 0) -> Any:  # noqa: ANN401 - JSON of unknown shape
    if isinstance(value, str):
        return value[:chars]
    if isinstance(value, (dict, list)) and depth >= MAX_DEPTH:
        return "..."
    if isinstance(value, dict):
        return {
            name[:chars]: MASK if name in ADDRESS_NAMES else _cut(one, chars, depth + 1)
            for name, one in list(value.items())[:MAX_ITEMS]
            if name not in MAY_BE_TYPED
        }
    if isinstance(value, list):
        return [_cut(one, chars, depth + 1) for one in value[:MAX_ITEMS]]
    return value


def _masked_text(text: str, masking: Masking) -> str:
    return masking.value(text[:_BEFORE_MASKING])[0][:MAX_TEXT_CHARS]
