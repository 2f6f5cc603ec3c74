"""Real services for tests: one Kafka and one Redis that all share, and a way to have some of a test's own.

Tests that use them are marked `services`, which `make check` leaves out. What the shared ones hold is everybody's: a
test takes topics and keys of its own. A developer who runs tests again and again may lend running ones, which are then
neither started nor ended here: `make services`, then TEST_KAFKA=127.0.0.1:9092 and
TEST_REDIS=127.0.0.1:6379.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Protocol, TypeVar

import pytest

from deploy.local.process import Service
from deploy.local.services import KafkaBroker, KafkaCluster, RedisServer

Ownable = TypeVar("Ownable", bound=Service | KafkaCluster)


class StartService(Protocol):
    """Starts a service of the test's own and returns it."""

    def __call__(self, service: Ownable) -> Ownable: ...


def skip_or_fail(reason: str) -> None:
    """Skip the test for `reason`; with REQUIRE_SERVICES=1 fail it."""
    if os.environ.get("REQUIRE_SERVICES") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def running(service: Ownable) -> Iterator[Ownable]:
    """Start a service and end it at the end, however it is then; skip the test where the programs are missing."""
    if lacking := service.missing():
        skip_or_fail(lacking)
    try:
        service.start()
        yield service
    finally:
        service.close()


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Kafka of one broker that all tests share."""
    if lent := os.environ.get("TEST_KAFKA"):
        yield lent
        return
    with running(KafkaBroker(tmp_path_factory.mktemp("kafka"))) as broker:
        yield broker.address


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis that all tests share; one that was lent cannot be stopped, killed or paused."""
    data = tmp_path_factory.mktemp("redis")
    if lent := os.environ.get("TEST_REDIS"):
        yield RedisServer(data, port=int(lent.rsplit(":", 1)[1]))
        return
    with running(RedisServer(data)) as server:
        yield server


@pytest.fixture
def start_service() -> Iterator[StartService]:
    """Return a function that starts a service which the test may kill; it ends with the test, however it is then."""
    with ExitStack() as stack:

        def start(service: Ownable) -> Ownable:
            return stack.enter_context(running(service))

        yield start
