"""The limit of every text in an event that is no id."""

from __future__ import annotations

import msgspec

from collector.decode.decoded import Reason, RejectedEventError
from collector.wire.event import Element, Page


def check_texts(event: msgspec.Struct, page: Page | None, element: Element | None, max_chars: int) -> None:
    """Check the texts of an event as a client sends it, of its page and of its element.

    Raises:
        RejectedEventError: `too_large`, naming the first that has more than `max_chars` characters.
    """
    for part, of in (("", event), (".page", page), (".element", element)):
        for name in of.__struct_fields__ if of is not None else ():
            value = getattr(of, name)
            if isinstance(value, str) and len(value) > max_chars:
                problem = f"has {len(value)} characters; {max_chars} is the limit"
                raise RejectedEventError(Reason.TOO_LARGE, f"{part}.{name}", problem)
