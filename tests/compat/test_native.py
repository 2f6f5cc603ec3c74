"""Recorded native requests, decoded at a fixed clock, against the events they must become."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from collector.decode.decoded import RequestFacts
from collector.decode.native import decode_request
from collector.settings import Limits
from collector.wire.block import encode_event

SAMPLES = sorted((Path(__file__).parent / "native").glob("*.json"))


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.stem)
def test_a_recorded_request_becomes_these_events(sample: Path) -> None:
    recorded: dict[str, Any] = json.loads(sample.read_text("utf-8"))
    request = RequestFacts(recorded["source"], trusted=recorded["trusted"], received_at=recorded["received_at"])
    decoded = decode_request(json.dumps(recorded["body"]).encode(), request, Limits())
    assert [json.loads(encode_event(event)) for _, event in decoded.events] == recorded["events"]
    errors = [{"index": one.index, "reason": one.reason, "detail": one.detail} for one in decoded.rejections]
    assert errors == recorded["errors"]
