"""How often somebody may try: a bucket of tries for each key, which fills again with time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable


class Throttle:
    """Counts tries by key.

    Args:
        seconds: returns a time that only goes on.
        burst: tries that are free at first.
        refill_seconds: after how long one more is.
        most_keys: how many keys are remembered; the one that was longest without a try is forgotten for a new one.
    """

    def __init__(self, seconds: Callable[[], float], *, burst: int, refill_seconds: float, most_keys: int) -> None:
        self._seconds, self._burst, self._refill_seconds, self._most_keys = seconds, burst, refill_seconds, most_keys
        self._full_at: OrderedDict[str, float] = OrderedDict()
        """When a key's bucket would be full again; a key that is not here has a full one."""

    def wait_seconds(self, key: str) -> float:
        """Return how long this key has to wait for its next try; 0: it need not."""
        missing = self._full_at.get(key, 0) - self._seconds()
        return max(0.0, missing - (self._burst - 1) * self._refill_seconds)

    def take(self, key: str) -> None:
        """Count a try; before its outcome is known, so that many at once are no way around."""
        now = self._seconds()
        self._full_at[key] = max(self._full_at.get(key, 0), now) + self._refill_seconds
        self._full_at.move_to_end(key)
        while len(self._full_at) > self._most_keys:
            self._full_at.popitem(last=False)

    def give_back(self, key: str) -> None:
        """Count a try as if it had not been: it was right."""
        if key in self._full_at:
            self._full_at[key] -= self._refill_seconds
