"""Rates of keys and addresses: what passes, what waits, for how long, and that nothing grows."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from collector.answer import refusal
from collector.dialects.table import EVENT_PATHS
from collector.errors import AddressRateError, TooManyRequestsError
from collector.guards.rates import Rates
from collector.http import make_app
from collector.metrics import CollectorMetrics
from collector.settings import AddressLimits, CollectorSettings, WriteKey
from collector.sinks.sqlite import SqliteSink
from tests.asgi_client import Client

PUBLIC = "198.51.100.7"


class Time:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def rates(time: Time, *, processes: int = 1, **limits: Any) -> tuple[Rates, CollectorMetrics]:
    metrics = CollectorMetrics(CollectorRegistry())
    return Rates(AddressLimits(**limits), processes, metrics.addresses, time), metrics


def passed(rates: Rates, address: str | None, most: int = 1000) -> int:
    for count in range(most):
        try:
            rates.count_request(address)
        except AddressRateError:
            return count
    return most


@pytest.mark.parametrize(("processes", "burst"), [(1, 50), (2, 25)])
def test_a_burst_passes_and_then_the_rate(processes: int, burst: int) -> None:
    time = Time()
    found, _ = rates(time, processes=processes, requests_per_second=10, burst_seconds=5)
    assert passed(found, PUBLIC) == burst
    time.now += 1
    assert passed(found, PUBLIC) == 10 // processes
    assert passed(found, "198.51.100.8") == burst
    time.now += 3600
    assert passed(found, PUBLIC) in {burst, burst + 1}, "a burst, but for the rounding of floats"


def test_what_is_refused_costs_nothing_and_says_how_long() -> None:
    time = Time()
    found, _ = rates(time, requests_per_second=0.5, burst_seconds=10)
    assert passed(found, PUBLIC) == 5
    waits = []
    for _ in range(100):
        with pytest.raises(AddressRateError) as refused:
            found.count_request(PUBLIC)
        waits.append(refused.value.retry_after_seconds)
    assert set(waits) == {1}
    time.now += 2.001
    found.count_request(PUBLIC)


def test_events_are_charged_afterwards_and_the_debt_is_paid_by_time() -> None:
    time = Time()
    found, _ = rates(time, requests_per_second=None, events_per_second=100, burst_seconds=10)
    key = WriteKey(name="web", key=SecretStr("pk"))
    found.count_request(PUBLIC)
    found.count_events(key, PUBLIC, 5000, seconds=0)
    with pytest.raises(AddressRateError) as refused:
        found.count_request(PUBLIC)
    assert refused.value.retry_after_seconds == 30, "40 s, but the SDKs wait no longer"
    time.now += 40.1
    found.count_request(PUBLIC)


def test_an_address_pays_for_the_time_that_its_events_take() -> None:
    time = Time()
    found, _ = rates(time, requests_per_second=None, events_per_second=100, burst_seconds=10)
    key = WriteKey(name="web", key=SecretStr("pk"), events_per_second=1)
    found.count_events(key, PUBLIC, 1, seconds=0.0005)
    found.count_request(PUBLIC)
    found.check_key(key)
    found.count_events(key, PUBLIC, 1, seconds=0.2)  # as 2,000 events
    found.check_key(key)
    with pytest.raises(AddressRateError):
        found.count_request(PUBLIC)


def test_one_network_of_a_subscriber_is_one_address() -> None:
    found, _ = rates(Time(), requests_per_second=10, burst_seconds=1)
    assert passed(found, "2001:db8:1:2::1") == 10
    assert passed(found, "2001:db8:1:2:ffff::9") == 0
    assert passed(found, "2001:db8:1:3::1") == 10


@pytest.mark.parametrize("address", ["127.0.0.1", "10.1.2.3", "::1", "fd00::1", None])
def test_this_machine_and_private_networks_have_no_limit(address: str | None) -> None:
    found, _ = rates(Time(), requests_per_second=1, burst_seconds=1)
    assert passed(found, address) == 1000


def test_addresses_are_forgotten_beyond_the_bound() -> None:
    time = Time()
    found, metrics = rates(time, requests_per_second=10, burst_seconds=1, remembered=100)
    for number in range(10_000):
        found.count_request(f"198.51.{number // 256}.{number % 256}")
    assert metrics.registry.get_sample_value("phasewatch_collector_addresses_remembered") == 100
    busy = "203.0.113.1"
    assert passed(found, busy) == 10
    for number in range(10_000):
        found.count_request(f"198.51.{number // 256}.{number % 256}")
        assert passed(found, busy) == 0, "one that comes again and again is remembered"


def test_a_key_has_a_rate_of_its_own() -> None:
    time = Time()
    found, _ = rates(time, processes=2)
    key = WriteKey(name="web", key=SecretStr("pk"), events_per_second=100, burst_seconds=1)
    other = WriteKey(name="other", key=SecretStr("pk2"), events_per_second=100)
    found.check_key(key)
    found.count_events(key, None, 100, seconds=0)
    with pytest.raises(TooManyRequestsError) as refused:
        found.check_key(key)
    assert refused.value.retry_after_seconds == 1
    found.check_key(other)
    time.now += 1.01
    found.check_key(key)
    found.count_events(key, None, 1000, seconds=0)
    found.forget_others(["other"])
    found.check_key(key)


SURVIVED = {path.name: 503 if path.name == "posthog" else 429 for path in EVENT_PATHS}


@pytest.mark.parametrize("error", [TooManyRequestsError, AddressRateError])
def test_each_sdk_gets_the_answer_it_survives(error: Callable[[str, int], TooManyRequestsError]) -> None:
    """posthog-js drops on 429 (wire formats, section 0.2 and the failure matrix); what others repeat, they repeat."""
    for path in EVENT_PATHS:
        answer = refusal(error("too many", 7), path.instead)
        assert answer.status == SURVIVED[path.name], path
        assert (b"retry-after", b"7") in answer.headers


@pytest.fixture
async def limited(tmp_path: Path) -> AsyncIterator[Client]:
    keys = (
        WriteKey(name="web", key=SecretStr("pk")),
        WriteKey(name="slow", key=SecretStr("pk-slow"), events_per_second=0.001, burst_seconds=1),
    )
    limits = AddressLimits(requests_per_second=0.001, burst_seconds=2500, exempt=())
    settings = CollectorSettings(keys=keys, linger_ms=0, addresses=limits, proxies=(ip_network("0.0.0.0/0"),))
    registry, path = CollectorRegistry(), tmp_path / "log.db"
    sink = SqliteSink.open(path, partitions=4, log_id="test", clock=lambda: 1)
    app = make_app(settings, sink, lambda: 1, registry=registry)
    yield Client(app, path, registry)
    await app.close()
    await sink.close()


EVENT = {"id": "1", "type": "page", "anonymous_id": "a-1"}


async def test_a_keys_rate_by_header_and_by_body(limited: Client) -> None:
    by_header = {"authorization": "Bearer pk-slow"}
    assert (await limited.post([EVENT], headers=by_header)).status == 200
    refused = await limited.post([EVENT], headers=by_header)
    assert (refused.status, refused.json["code"]) == (429, "too_many_requests")
    posthog = json.dumps({"api_key": "pk-slow", "batch": []}).encode()
    in_body = await limited.send("POST", "/batch/", posthog, headers={})
    assert (in_body.status, in_body.json["code"]) == (503, "too_many_requests")
    assert int(in_body.headers["retry-after"]) == 30
    assert (await limited.post([{**EVENT, "id": "2"}])).status == 200
    assert limited.metric("requests_refused_total", route="events", code="too_many_requests") == 1
    assert limited.metric("requests_refused_total", route="posthog", code="too_many_requests") == 1
