"""Visitors who post to a collector that is killed under them, and what each acknowledged event has to count for."""

from __future__ import annotations

import http.client
import itertools
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

Batch = list[dict[str, Any]]
MOST_TRIES = 2000
PAUSE_SECONDS = 0.02
"""A visitor's longest pause between two batches."""
BEHAVIOURS: dict[str, dict[str, Any]] = {
    "list_viewed": {"type": "page", "page": {"path": "/products"}},
    "product_viewed": {"type": "page", "page": {"path": "/products/bond/steady-90"}},
    "product_clicked": {"type": "click", "element": {"tag": "a", "href": "/products/index/green"}},
    "invest_clicked": {"type": "click", "element": {"tag": "button", "text": "Invest"}},
    "order_submitted": {"type": "submit", "page": {"path": "/orders/new"}},
    "": {"type": "dwell", "page": {"path": "/products/bond/steady-90"}, "properties": {"ms": 9000}},
}
MONEY = ("purchase", "redeem", "redeem_cancelled", "purchase_cancelled")


class Tally:
    """What all posters were told: acknowledged ids, and each person's behaviours."""

    def __init__(self) -> None:
        self.acknowledged: set[str] = set()
        self.counts: dict[str, Counter[str]] = {}
        self.requests = self.failures = self.duplicates = 0
        self.news = threading.Condition()

    def answered(self, batch: Batch, answer: dict[str, Any]) -> None:
        """Take over a 200."""
        assert answer["accepted"] + answer["duplicate"] == len(batch), answer
        with self.news:
            self.acknowledged |= {event["id"] for event in batch}
            self.duplicates += answer["duplicate"]
            self.requests += 1
            self.news.notify_all()

    def failed(self) -> None:
        """Note a request without an answer."""
        with self.news:
            self.failures += 1

    def await_answers(self, count: int, seconds: float) -> None:
        """Return at the very answer that makes `count` more, or after `seconds`."""
        with self.news:
            wanted = self.requests + count
            self.news.wait_for(lambda: self.requests >= wanted, seconds)


class Poster(threading.Thread):
    """One visitor after the other; a batch is sent until it is acknowledged, always with the same ids."""

    def __init__(
        self,
        number: int,
        seed: int,
        port: int,
        tally: Tally,
        closing: threading.Event,
        *,
        pause_seconds: float = PAUSE_SECONDS,
    ) -> None:
        super().__init__(name=f"poster-{number}", daemon=True)
        self._number = number
        self._rng = random.Random(f"{seed}/{number}")
        self._port = port
        self._tally = tally
        self._closing = closing
        self._pause_seconds = pause_seconds
        self._connection: http.client.HTTPConnection | None = None

    def run(self) -> None:
        """Post until told to close."""
        for visit in itertools.count():
            self._visitor(visit)
            if self._closing.is_set():
                break
        self._hang_up()

    def _visitor(self, visit: int) -> None:
        counts: Counter[str] = Counter()
        owner = ""
        for trusted, batch in self._batches(visit):
            if self._closing.is_set():
                break
            self._deliver(batch, trusted=trusted)
            if self._rng.random() < 0.1:  # what a beacon carried is sent once more
                self._deliver(batch, trusted=trusted)
            counts.update(event["properties"]["meant"] for event in batch)
            first = batch[-1]
            owner = f"u:{first['user_id']}" if "user_id" in first else f"a:{first['anonymous_id']}"
            self._closing.wait(self._rng.uniform(0, self._pause_seconds))
        del counts[""]
        if owner:
            with self._tally.news:
                self._tally.counts.setdefault(owner, Counter()).update(counts)

    def _batches(self, visit: int) -> Iterator[tuple[bool, Batch]]:
        """Yield (trusted, events): alone, perhaps identified, perhaps with an order; two posters share each user."""
        rng, anonymous = self._rng, {"anonymous_id": f"device-{self._number}-{visit}"}
        numbers = itertools.count(1) if rng.random() < 0.5 else None
        user = {"user_id": f"user-{self._number // 2}-{visit}"}
        for _ in range(rng.randrange(1, 4)):
            yield False, self._interactions(anonymous, numbers)
        if rng.random() < 0.3:
            return
        identify = self._event({"type": "identify"}, "", anonymous | user, numbers)
        yield False, [*self._interactions(anonymous, numbers), identify, *self._interactions(anonymous | user, numbers)]
        for kind in MONEY[: rng.choice((0, 1, 2, 2, 3, 4))]:
            yield rng.random() < 0.8, [self._fact(kind, visit, user)]
            yield False, self._interactions(anonymous | user, numbers)

    def _interactions(self, who: dict[str, str], numbers: Iterator[int] | None) -> Batch:
        meant = self._rng.choices(list(BEHAVIOURS), k=self._rng.randrange(1, 16))
        return [self._event(BEHAVIOURS[name], name, who, numbers) for name in meant]

    def _event(
        self, event: dict[str, Any], meant: str, who: dict[str, str], numbers: Iterator[int] | None
    ) -> dict[str, Any]:
        properties = event.get("properties", {}) | {"meant": meant}
        numbered = {} if numbers is None else {"seq": next(numbers)}
        identity = {"id": f"{self._rng.getrandbits(128):032x}", "ts": time.time_ns() // 1_000_000}
        return event | identity | who | numbered | {"properties": properties}

    def _fact(self, kind: str, visit: int, user: dict[str, str]) -> dict[str, Any]:
        about = {"order_id": f"o-{self._number}-{visit}", "amount": "1000.00", "currency": "CNY", "category": "bond"}
        return self._event({"type": kind, "properties": about}, "", user, None)

    def _deliver(self, batch: Batch, *, trusted: bool) -> None:
        for _ in range(MOST_TRIES):
            answer = self._post(batch, "demo-secret" if trusted else "demo")
            if answer is not None:
                self._tally.answered(batch, answer)
                return
            self._tally.failed()
            self._hang_up()
            time.sleep(0.04)  # a client that was refused tries again a little later
        msg = "the collector did not come back"
        raise AssertionError(msg)

    def _post(self, batch: Batch, key: str) -> dict[str, Any] | None:
        """Return the answer to one try, None where there was none."""
        body = json.dumps({"sent_at": time.time_ns() // 1_000_000, "events": batch})
        connection = self._connection or http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        self._connection = connection
        try:
            connection.request("POST", "/v1/events", body, {"Authorization": f"Bearer {key}"})
            response = connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException):
            return None
        assert response.status in {200, 503}, (response.status, text)
        answer: dict[str, Any] = json.loads(text)
        return answer if response.status == 200 else None

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
