"""What the collector masks, by the table that autocapture.js is held against as well (tests/e2e)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from collector.masking.rules import EVERYTHING

CASES: dict[str, list[dict[str, Any]]] = json.loads(Path("tests/masking_cases.json").read_text("utf-8"))


@pytest.mark.parametrize("case", CASES["texts"], ids=[case["what"] for case in CASES["texts"]])
def test_texts(case: dict[str, Any]) -> None:
    assert EVERYTHING.text(case["text"])[0] == case["masked"]


@pytest.mark.parametrize("case", CASES["urls"], ids=[case["what"] for case in CASES["urls"]])
def test_urls(case: dict[str, Any]) -> None:
    assert EVERYTHING.url(case["text"])[0] == case["masked"]
