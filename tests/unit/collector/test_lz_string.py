"""lz-string, against packed texts of the JavaScript library, and against whoever packs a bomb."""

from __future__ import annotations

import base64
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.decode.lz_string import unpack, unpack_uri_component
from collector.errors import RequestError, TooLargeBodyError, UnreadableBodyError
from tests.lz_string import Packer

KIB = 1024


def test_bytes_that_the_javascript_library_packed() -> None:
    assert unpack(base64.b64decode("BIUwNmD2A0AEDqkBOYAmBCIA"), KIB) == b"Hello, World!"


def test_a_text_in_a_query() -> None:
    assert unpack_uri_component(b"BIUwNmD2A0AEDqkBOYAmBCIA", KIB) == b"Hello, World!"


@pytest.mark.parametrize("text", ["", "a", "aaaaaaaaaa", '[{"title":"基金 😀 é"}]', "abcabcabd" * 99, "\x00\x01"])
def test_what_was_packed_comes_back(text: str) -> None:
    assert unpack(Packer().pack(text), 8 * KIB) == text.encode()


def test_half_a_surrogate_pair_is_replaced() -> None:
    assert unpack(Packer().pack("a\ud83d"), KIB).decode() == "a\ufffd"


def test_a_bomb_stays_small() -> None:
    packed = Packer().pack("a" * (4 * KIB * KIB))
    assert len(packed) < 8 * KIB
    tracemalloc.start()
    try:
        with pytest.raises(TooLargeBodyError):
            unpack(packed, 256 * KIB)
        assert tracemalloc.get_traced_memory()[1] < 4 * KIB * KIB
    finally:
        tracemalloc.stop()


def test_the_limit_is_of_utf_8_bytes() -> None:
    packed = Packer().pack("基" * 400)
    assert len(unpack(packed, 1200)) == 1200
    with pytest.raises(TooLargeBodyError):
        unpack(packed, 1199)


@pytest.mark.parametrize("packed", [b"", b"\xff\xff", b"\x36", b"\x80"])
def test_what_is_not_complete_is_refused(packed: bytes) -> None:
    with pytest.raises(UnreadableBodyError):
        unpack(packed, KIB)


def test_every_beginning_of_a_text_is_refused() -> None:
    packed = Packer().pack('{"eventType":"PAGE"}')
    for size in range(len(packed) - 2):
        with pytest.raises(UnreadableBodyError):
            unpack(packed[:size], KIB)


@given(st.text(max_size=300))
def test_any_text_comes_back(text: str) -> None:
    assert unpack(Packer().pack(text), 2 * KIB) == text.encode()


@given(st.binary(max_size=200))
def test_any_bytes_are_unpacked_or_refused(packed: bytes) -> None:
    for one in (unpack, unpack_uri_component):
        try:
            assert len(one(packed, KIB)) <= KIB
        except RequestError:
            continue
