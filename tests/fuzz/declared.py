"""What the collector's OpenAPI document says that a request may be answered with."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any, Final

from collector.openapi import document
from tests.fuzz.request import Sent

_PREFLIGHT: Final = frozenset({204})
_UNKNOWN: Final = frozenset({404})
_WRONG_METHOD: Final = frozenset({405})


def declared_statuses(request: Sent) -> frozenset[int]:
    """Return the statuses of a request's route, or of there being none."""
    if request.method == "OPTIONS":
        return _PREFLIGHT
    item = _item(request.path)
    if item is None:
        return _UNKNOWN
    return item.get(request.method.lower(), _WRONG_METHOD)


def _item(path: str) -> dict[str, frozenset[int]] | None:
    fixed, others = _paths()
    return fixed[path] if path in fixed else next((item for pattern, item in others if pattern.fullmatch(path)), None)


@cache
def _paths() -> tuple[dict[str, Any], list[tuple[re.Pattern[str], Any]]]:
    fixed: dict[str, Any] = {}
    others: list[tuple[re.Pattern[str], Any]] = []
    for path, item in json.loads(document())["paths"].items():
        told = {
            method: frozenset(map(int, operation["responses"]))
            for method, operation in item.items()
            if method != "parameters"
        }
        if "{" in path:
            others.append((re.compile(re.sub(r"\\\{[a-z_]+\\\}", "[^/]+", re.escape(path)), re.DOTALL), told))
        else:
            fixed[path] = told
    return fixed, others
