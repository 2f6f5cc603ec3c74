"""What is kept of a rejected event in topic `rejected`: why, and enough to find who sends it."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from collector.decode.decoded import Rejection, RequestFacts
from collector.masking import MASK, is_secret_name, mask_pairs_in, mask_text, mask_url

MAX_PAYLOAD_CHARS: Final = 2048
MAX_TEXT_CHARS: Final = 256
MAX_DEPTH: Final = 8
MAX_ITEMS: Final = 64
"""A rejected event is evidence, not data: what is longer, deeper or wider is left out."""
MAX_AGENT_CHARS: Final = 256
MAX_PARSED_BYTES: Final = 256 * 1024


def rejected_record(rejection: Rejection, request: RequestFacts, user_agent: bytes) -> bytes:
    """Return the JSON value for topic `rejected`, everything in it masked and bounded."""
    agent = user_agent.decode("latin-1")[:MAX_AGENT_CHARS]
    return msgspec.json.encode(
        {
            "reason": rejection.reason,
            "detail": _masked_text(rejection.detail),
            "index": rejection.index,
            "id": None if rejection.id is None else _masked_text(rejection.id),
            "payload": _payload(rejection.raw),
            "payload_bytes": len(rejection.raw),
            "source": request.source,
            "trusted": request.trusted,
            "user_agent": _masked_text(agent),
            "received_at": request.received_at,
        }
    )


def _payload(raw: bytes) -> str | None:
    """Return the event's JSON, masked, cut after MAX_PAYLOAD_CHARS; None for what is no JSON or far too large."""
    if len(raw) > MAX_PARSED_BYTES:
        return None
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return msgspec.json.encode(_masked(value, 0)).decode()[:MAX_PAYLOAD_CHARS]


def _masked(value: Any, depth: int) -> Any:  # noqa: ANN401 - JSON of unknown shape
    if isinstance(value, str):
        return _masked_text(value)
    if isinstance(value, int) and not isinstance(value, bool):
        masked, kinds = mask_text(str(value)[:MAX_TEXT_CHARS])
        return masked if kinds else value
    if isinstance(value, (dict, list)) and depth >= MAX_DEPTH:
        return "..."
    if isinstance(value, dict):
        return {
            _masked_text(name): MASK if is_secret_name(name[:MAX_TEXT_CHARS]) else _masked(one, depth + 1)
            for name, one in list(value.items())[:MAX_ITEMS]
        }
    if isinstance(value, list):
        return [_masked(one, depth + 1) for one in value[:MAX_ITEMS]]
    return value


def _masked_text(text: str) -> str:
    cut = text[: 4 * MAX_TEXT_CHARS]  # masked before the last cut, which could halve a number
    masked, _ = mask_url(cut) if cut.startswith("/") or "://" in cut else mask_pairs_in(cut)
    return mask_text(masked)[0][:MAX_TEXT_CHARS]
