"""Mutations that know JSON: what they make has the shape of what an SDK sends, but for what was done to it."""

from __future__ import annotations

import base64
import binascii
import json
import random
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from tests.fuzz.nasty import NASTY
from tests.fuzz.planted import Planted, plant_in_text, plant_in_url

_MAX_SLOTS: Final = 3000
_MAX_REPEATED: Final = 12
_HOLE: Final = re.compile(r'"@@([0-9]+)@@"')
_URL_NAMES: Final = frozenset({
    "url", "referrer", "href", "$current_url", "$referrer", "refr", "hyperlink", "referralPage", "$url", "targetUrl",
    "$element_target_url", "path",
})  # fmt: skip

_TEXT_NAMES: Final = frozenset({
    "title", "text", "$el_text", "textValue", "$title", "$element_content", "label", "elementContent", "page", "bank",
    "name", "fund_name", "os_name", "plan", "$lib_detail", "button", "keyword",
})  # fmt: skip
TEXTS_ARE_MASKED: Final = True

Slot = tuple[Any, Any]
"""A container and the place of a value in it."""


class JsonMutation:
    """One document under mutation; what is no JSON stands in holes until the end."""

    def __init__(self, rng: random.Random, document: Any, others: Sequence[bytes]) -> None:
        self.rng = rng
        self.root = [document]
        self.others = others
        self.holes: list[str] = []
        self.planted: list[Planted] = []

    def slots(self) -> list[Slot]:
        """Return where values stand, the root's own first."""
        found: list[Slot] = [(self.root, 0)]
        for container, place in found:
            value = container[place]
            if isinstance(value, dict):
                found += [(value, name) for name in value]
            elif isinstance(value, list):
                found += [(value, at) for at in range(len(value))]
            if len(found) > _MAX_SLOTS:
                break
        return found

    def hole(self, text: str) -> str:
        """Return what stands for a text that is to be in the JSON as it is."""
        self.holes.append(text)
        return f"@@{len(self.holes) - 1}@@"

    def text(self) -> bytes:
        """Return the JSON, as of now."""
        found = json.dumps(self.root[0], ensure_ascii=self.rng.random() < 0.5, separators=(",", ":"))
        found = _HOLE.sub(
            lambda match: self.holes[int(match[1])] if int(match[1]) < len(self.holes) else match[0], found
        )
        return found.encode("utf-8", "surrogatepass" if self.rng.random() < 0.1 else "replace")


def mutate_json(rng: random.Random, plain: bytes, others: Sequence[bytes]) -> tuple[bytes, list[Planted]] | None:
    """Return a document with one to four things done to it, and what was planted; None for what is no JSON."""
    try:
        document = json.loads(plain)
    except (ValueError, RecursionError):
        return None
    mutation = JsonMutation(rng, document, others)
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        slot = rng.choice(mutation.slots())
        rng.choices(_OPERATIONS, _WEIGHTS)[0](mutation, slot)
    if rng.random() < 0.15:
        _plant(mutation)
    return mutation.text(), mutation.planted


def _replace(mutation: JsonMutation, slot: Slot) -> None:
    container, place = slot
    container[place] = mutation.hole(mutation.rng.choice(NASTY))


def _drop(mutation: JsonMutation, slot: Slot) -> None:
    container, place = slot
    if container is not mutation.root:
        del container[place]


def _repeat(mutation: JsonMutation, slot: Slot) -> None:
    container, place = slot
    if isinstance(container, list) and container is not mutation.root:
        container[place:place] = [container[place]] * mutation.rng.randrange(1, _MAX_REPEATED)


def _rename(mutation: JsonMutation, slot: Slot) -> None:
    container, place = slot
    if isinstance(container, dict):
        container[mutation.rng.choice(_NAMES)] = container.pop(place)


def _add(mutation: JsonMutation, slot: Slot) -> None:
    value = slot[0][slot[1]]
    if isinstance(value, dict):
        value[mutation.rng.choice(_NAMES)] = mutation.hole(mutation.rng.choice(NASTY))
    elif isinstance(value, list):
        value.append(mutation.hole(mutation.rng.choice(NASTY)))


def _swap(mutation: JsonMutation, slot: Slot) -> None:
    container, place = slot
    other, there = mutation.rng.choice(mutation.slots())
    if container is not mutation.root and other is not mutation.root:
        container[place] = _copy(other[there])


def _graft(mutation: JsonMutation, slot: Slot) -> None:
    """Put a part of another sample here."""
    try:
        other = JsonMutation(mutation.rng, json.loads(mutation.rng.choice(mutation.others)), ())
    except (ValueError, RecursionError):
        return
    container, place = mutation.rng.choice(other.slots())
    slot[0][slot[1]] = container[place]


def _say_twice(mutation: JsonMutation, slot: Slot) -> None:
    container, place = slot
    if isinstance(container, dict):
        own = json.dumps(container[place])
        container[place] = mutation.hole(f"{mutation.rng.choice(NASTY)},{json.dumps(place)}:{own}")


def _wrap(mutation: JsonMutation, slot: Slot) -> None:
    container, place = slot
    for _ in range(mutation.rng.choice((1, 2, 10, 28, 35, 90))):
        container[place] = [container[place]] if mutation.rng.random() < 0.5 else {"a": container[place]}


def _bend(mutation: JsonMutation, slot: Slot) -> None:
    """Change a value of the same type."""
    rng, (container, place) = mutation.rng, slot
    value = container[place]
    if isinstance(value, str):
        inner = _within(mutation, value)
        if inner is not None:
            container[place] = inner
            return
        at = rng.randrange(len(value) + 1)
        more = rng.choice(
            ("\x00", "\n", "\u2028", "\ud83d", "'", "/", "?", "@", "=", "&", "%", ";", ":", "*", "x" * 9000, value)
        )
        container[place] = value[:at] + more + value[at + rng.randrange(3) :]
    elif isinstance(value, bool):
        container[place] = not value
    elif isinstance(value, int):
        container[place] = rng.choice(
            (value + 1, -value, value * 1000, value / 3, str(value), value << rng.randrange(80))
        )


def _within(mutation: JsonMutation, value: str) -> str | None:
    """Mutate the JSON that a text is, plain or in base64 (Snowplow)."""
    packed = False
    plain = value.encode("utf-8", "replace")
    if not value.startswith(("{", "[")):
        if not value.startswith("ey"):
            return None
        try:
            plain, packed = base64.urlsafe_b64decode(plain + b"=" * (-len(plain) % 4)), True
        except (binascii.Error, ValueError):
            return None
    found = mutate_json(mutation.rng, plain, mutation.others)
    if found is None:
        return None
    inner, planted = found
    mutation.planted += planted
    return (base64.urlsafe_b64encode(inner) if packed else inner).decode("utf-8", "replace")


def _plant(mutation: JsonMutation) -> None:
    """Let a URL of the document, or a text, have something in it that must not pass."""
    names, make = _URL_NAMES, plant_in_url
    if TEXTS_ARE_MASKED and mutation.rng.random() < 0.5:
        names, make = _TEXT_NAMES, plant_in_text
    places = [(container, place) for container, place in mutation.slots() if place in names and container[place]]
    texts = [slot for slot in places if isinstance(slot[0][slot[1]], str) and not slot[0][slot[1]].startswith("@@")]
    if texts:
        container, place = mutation.rng.choice(texts)
        found = make(mutation.rng)
        container[place] = found.text
        mutation.planted.append(found)


def _copy(value: Any) -> Any:
    return json.loads(json.dumps(value))


_OPERATIONS: Final[tuple[Callable[[JsonMutation, Slot], None], ...]] = (
    _replace, _drop, _repeat, _rename, _add, _swap, _graft, _say_twice, _wrap, _bend,
)  # fmt: skip
_WEIGHTS: Final = (30, 8, 6, 8, 10, 6, 8, 5, 4, 20)

_NAMES: Final = (
    "id", "type", "ts", "anonymous_id", "user_id", "session_id", "seq", "name", "page", "element", "properties",
    "events", "sent_at", "url", "path", "title", "referrer", "tag", "text", "selector", "href", "index", "order_id",
    "amount", "remaining", "matures_at", "redemption_id", "ms", "batch", "api_key", "token", "uuid", "event",
    "distinct_id", "timestamp", "offset", "$elements_chain", "$elements", "$el_text", "$event_type", "$current_url",
    "$heatmap_data", "$set", "alias", "$device_id", "$is_identified", "options", "$anon_distinct_id", "$session_id",
    "writeKey", "messageId", "anonymousId", "userId", "context", "traits", "integrations", "originalTimestamp",
    "sentAt", "channel", "previousId", "schema", "data", "e", "eid", "aid", "ue_pr", "ue_px", "co", "cx", "duid",
    "uid", "dtm", "stm", "ttm", "eventType", "deviceId", "gioId", "attributes", "eventSequenceId", "domain", "query",
    "protocolType", "xpath", "xcontent", "hyperlink", "textValue", "identities", "_track_id", "_flush_time", "time",
    "login_id", "$is_login_id", "original_id", "lib", "$element_selector", "$element_position", "event_duration", "",
    "a\nb", "\u2028", "x" * 300, "\ud800",
)  # fmt: skip
