"""What is the same of elements in every dialect, so that one definition fits what any SDK sends."""

from __future__ import annotations

from typing import Any, Final

from collector.decode.ordinary import MAX_SEQ

CHOICES: Final = frozenset({"select", "option", "textarea"})
"""Elements whose text is what somebody chose or wrote: it is not kept."""

SELECTOR_CLASSES: Final = 3
"""How many classes a step of a selector names, as in autocapture.js."""


def take_index(fields: dict[str, Any], name: str) -> int | None:
    """Take an element's place among its like; what is no place stays where it is."""
    index = fields.get(name)
    if type(index) is not int or not 0 <= index < MAX_SEQ:
        return None
    del fields[name]
    return index
