"""What is masked, and what stands in its place."""

from __future__ import annotations

from typing import Final

MASK: Final = "***"

SECRET: Final = "secret"  # noqa: S105 - the name of a kind, no secret
EMAIL: Final = "email"
PHONE: Final = "phone"
ID_NUMBER: Final = "id_number"
CARD: Final = "card"
KINDS: Final = (SECRET, EMAIL, PHONE, ID_NUMBER, CARD)
"""The setting's values, and the metric's label."""

Masked = tuple[str, tuple[str, ...]]
"""A text without them, and the kind of each."""
