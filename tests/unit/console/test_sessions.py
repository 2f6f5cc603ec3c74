"""Passwords, throttle, sessions and their settings."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from console import sessions
from console.passwords import PATTERN, hash_password, hash_token, is_password, new_token
from console.sessions import Sessions
from console.settings import ConsoleSettings
from console.throttle import Throttle
from tests.unit.console.door import TOKENS, USERS, Clock, cheap_hash


def test_a_password_is_known_by_its_hash_alone() -> None:
    hashed = hash_password("correct horse battery")
    assert PATTERN.fullmatch(hashed)
    assert hash_password("correct horse battery") != hashed, "salted"
    assert is_password("correct horse battery", hashed)
    assert not is_password("correct horse batter", hashed)
    assert not is_password("", hashed)
    assert "$" not in hashed, "a compose file or a shell would take it for a variable"


def test_the_same_password_typed_on_another_keyboard() -> None:
    composed, decomposed = "schl\u00fcssel-lang-genug", "schlu\u0308ssel-lang-genug"
    assert is_password(decomposed, cheap_hash(composed))


@pytest.mark.parametrize("hashed", ["", "secret", "scrypt:14:8:1:x:y", "scrypt:30:8:1:" + "a" * 22 + ":" + "a" * 43])
def test_what_is_no_hash_is_nobodys(hashed: str) -> None:
    assert not is_password("secret", hashed)


def test_a_very_long_password_is_not_hashed() -> None:
    assert not is_password("x" * 2000, cheap_hash("x" * 2000))


@settings(max_examples=20)
@given(st.text(max_size=100))
def test_any_text_can_be_typed(text: str) -> None:
    assert not is_password(text, cheap_hash("another one altogether"))


def test_tokens_are_long_and_never_alike() -> None:
    found = {new_token() for _ in range(1000)}
    assert len(found) == 1000
    assert min(map(len, found)) == 43


def test_tries_come_back_with_time() -> None:
    clock = Clock()
    throttle = Throttle(clock, burst=3, refill_seconds=10, most_keys=5)
    for _ in range(3):
        assert throttle.wait_seconds("a") == 0
        throttle.take("a")
    assert throttle.wait_seconds("a") == 10
    assert throttle.wait_seconds("b") == 0
    clock.now += 4
    assert throttle.wait_seconds("a") == 6
    clock.now += 6
    assert throttle.wait_seconds("a") == 0
    throttle.take("a")
    assert throttle.wait_seconds("a") == 10
    throttle.give_back("a")
    assert throttle.wait_seconds("a") == 0
    clock.now += 1e6
    for _ in range(3):
        assert throttle.wait_seconds("a") == 0, "never more than the burst"
        throttle.take("a")
    assert throttle.wait_seconds("a") == 10


def test_a_throttle_remembers_so_many_keys_and_no_more() -> None:
    throttle = Throttle(Clock(), burst=1, refill_seconds=10, most_keys=5)
    for number in range(100):
        throttle.take(str(number))
    assert [number for number in range(100) if throttle.wait_seconds(str(number))] == [95, 96, 97, 98, 99]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def kept(clock: Clock, registry: CollectorRegistry) -> Sessions:
    return Sessions(clock, idle_seconds=60, most_seconds=300, registry=registry)


def test_a_session_lives_while_it_is_used_up_to_its_longest(clock: Clock, kept: Sessions) -> None:
    token = kept.open("anna")
    first = kept.find(token)
    for seconds in (59, 59, 59, 59, 59, 4):
        clock.now += seconds
        found = kept.find(token)
        assert found is not None
        assert found is first
        assert (found.user, found.ended.is_set()) == ("anna", False)
    clock.now += 1
    assert kept.find(token) is None
    assert first is not None
    assert first.ended.is_set()


def test_an_idle_session_is_over(clock: Clock, kept: Sessions) -> None:
    token = kept.open("anna")
    clock.now += 60
    assert kept.find(token) is None


def test_only_the_token_itself_opens_it(kept: Sessions) -> None:
    token = kept.open("anna")
    for other in ("", token[:-1], token + "A", hash_token(token), new_token()):
        assert kept.find(other) is None
    kept.end(token)
    kept.end(token)
    assert kept.find(token) is None


def test_there_are_never_more_than_so_many(
    clock: Clock, kept: Sessions, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "MOST_SESSIONS", 3)
    tokens = [kept.open(f"u{number}") for number in range(3)]
    assert kept.find(tokens[0]) is not None, "now the second was longest without a request"
    tokens.append(kept.open("u3"))
    assert [kept.find(token) is not None for token in tokens] == [True, False, True, True]
    assert registry.get_sample_value("phasewatch_console_sessions") == 3
    clock.now += 1000
    kept.open("late")
    assert registry.get_sample_value("phasewatch_console_sessions") == 1, "those that are over are not kept"


async def test_whoever_waits_for_its_end_is_told(clock: Clock, kept: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "LOOK_SECONDS", 0.01)
    for end in ("logout", "time"):
        token = kept.open("anna")
        session = kept.find(token)
        assert session is not None
        waiting = asyncio.create_task(kept.wait_over(session))
        await asyncio.sleep(0.03)
        assert not waiting.done()
        if end == "logout":
            kept.end(token)
        else:
            clock.now += 60
        async with asyncio.timeout(15):
            await waiting


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        ({"users": [{"name": "a", "password_hash": "my-password"}]}, "console-password"),
        ({"users": [USERS[0], USERS[0]]}, "same name"),
        ({"users": USERS, "api_tokens": [TOKENS[0], TOKENS[0]]}, "same name"),
        ({"users": USERS, "api_tokens": [{"name": "a", "token_hash": "my-token"}]}, "console-token"),
        ({"api_tokens": TOKENS}, "without users everybody"),
        ({"proxies": ["10.0.0.0/8"]}, "without users everybody"),
        ({"tls_certificate": "c.pem"}, "belong together"),
        ({"hosts": ["https://stats.example"]}, "hosts"),
        ({"hosts": ["stats.example:443"]}, "hosts"),
        ({"proxies": ["stats.example"], "users": USERS}, "proxies"),
        ({"session_idle_minutes": 0}, "session_idle_minutes"),
    ],
)
def test_settings_that_make_no_sense_are_refused(given_: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ConsoleSettings.model_validate(given_)


def test_no_hash_is_shown() -> None:
    found = ConsoleSettings.model_validate({"users": USERS, "api_tokens": TOKENS})
    assert USERS[0]["password_hash"] not in repr(found)
    assert TOKENS[0]["token_hash"] not in repr(found)
