"""Visitors who go on until each of their events was acknowledged, by whichever collector answers."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from tests.integration.load import BEHAVIOURS, Batch, Poster, Tally

SHARED = "shared-"
"""Begin of the users who share one device: whose its events are is for the oracle to say."""
LATE_MS = 90_000
JOIN_SECONDS = 240


class Client(Poster):
    """A poster with sessions, events out of order and shared devices; a refusal takes it to the next collector."""

    def __init__(
        self,
        number: int,
        seed: int,
        ports: Sequence[int],
        tally: Tally,
        closing: threading.Event,
        *,
        pause_seconds: float,
    ) -> None:
        super().__init__(number, seed, ports[number % len(ports)], tally, closing, pause_seconds=pause_seconds)
        self._ports = itertools.cycle(ports)
        self.failure: BaseException | None = None

    def run(self) -> None:
        """Post until told to close; what goes wrong is kept for the verdict."""
        try:
            super().run()
        except (AssertionError, ValueError, KeyError) as error:
            self.failure = error

    def _hang_up(self) -> None:
        super()._hang_up()
        self._port = next(self._ports)

    def _batches(self, visit: int) -> Iterator[tuple[bool, Batch]]:
        if self._rng.random() < 0.1:
            return self._shared_device(visit)
        return super()._batches(visit)

    def _shared_device(self, visit: int) -> Iterator[tuple[bool, Batch]]:
        """Yield what two users do at one device, one after the other, and somebody unknown between."""
        device = {"anonymous_id": f"{SHARED}{self._number}-{visit}"}
        numbers = itertools.count(1)
        for name in ("first", "second"):
            user = {"user_id": f"{SHARED}{name}-{self._number}-{visit}"}
            yield False, self._unowned(device, numbers)
            yield False, [self._event({"type": "identify"}, "", device | user, numbers)]
            yield False, self._unowned(device | user, numbers)

    def _unowned(self, who: dict[str, str], numbers: Iterator[int]) -> Batch:
        names = self._rng.choices(list(BEHAVIOURS), k=self._rng.randrange(1, 8))
        return [self._event(BEHAVIOURS[name], "", who, numbers) for name in names]

    def _interactions(self, who: dict[str, str], numbers: Iterator[int] | None) -> Batch:
        events = super()._interactions(who, numbers)
        session: dict[str, Any] = {}
        if self._rng.random() < 0.6:
            session = {"session_id": f"{who['anonymous_id']}-{self._rng.randrange(2)}"}
        for event in events:
            event["ts"] -= self._rng.randrange(LATE_MS)
            event.update(session)
        if self._rng.random() < 0.3:
            self._rng.shuffle(events)
        return events


class Hand(Client):
    """A client that does what it is told, in the thread of who tells it."""

    def __init__(self, ports: Sequence[int], tally: Tally) -> None:
        super().__init__(0, 0, ports, tally, threading.Event(), pause_seconds=0)

    def do(self, users: Sequence[str], names: Sequence[str], kind: str = "") -> None:
        """Let users do these things in one request, and one thing with money; return when it is acknowledged."""
        batch: Batch = []
        for user in users:
            who = {"user_id": user, "anonymous_id": f"device-of-{user}"}
            batch += [self._event(BEHAVIOURS[name], name, who, None) for name in names]
            batch += [self._fact(kind, 0, {"user_id": user})] if kind else []
        self._deliver(batch, trusted=bool(kind))
        with self._tally.news:
            for user in users:
                self._tally.counts.setdefault(f"u:{user}", Counter()).update(names)


class Crowd:
    """All clients, and what they were told."""

    def __init__(self, count: int, seed: int, ports: Sequence[int], *, pause_seconds: float) -> None:
        self.tally = Tally()
        self._closing = threading.Event()
        self.clients = [
            Client(number, seed, ports, self.tally, self._closing, pause_seconds=pause_seconds)
            for number in range(count)
        ]

    def start(self) -> None:
        """Begin to post."""
        for client in self.clients:
            client.start()

    def finish(self) -> list[str]:
        """Let each client get its last answer; return what went wrong with any of them."""
        self._closing.set()
        for client in self.clients:
            client.join(JOIN_SECONDS)
        late = [client.name for client in self.clients if client.is_alive()]
        found = [f"{name} still waits for an answer after {JOIN_SECONDS} s" for name in late]
        return found + [f"{one.name} failed: {one.failure!r}" for one in self.clients if one.failure is not None]
