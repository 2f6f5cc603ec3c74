"""How much a key and an address may send: buckets that fill with time, a number each, and a bound on how many.

A bucket is the instant at which all that was taken from it is paid back (the generic cell rate algorithm, ITU-T
I.371). It may lie `burst_seconds` ahead of now; whoever is further ahead waits. What is known afterwards only, the
events of a request, is charged afterwards, however far ahead that leads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from math import ceil
from time import monotonic
from typing import Final

from prometheus_client import Gauge

from collector.errors import AddressRateError, TooManyRequestsError
from collector.guards.proxies import Networks, group_of
from collector.settings import AddressLimits, WriteKey

LONGEST_WAIT_SECONDS: Final = 30
"""What is said at most in Retry-After: PostHog's SDKs wait no longer (wire formats)."""
BYTES_AN_EVENT: Final = 4096
"""A body counts for its address as one event more for each of these: 16 MiB of zeros take 15 ms, as 1,000 events do."""
SECONDS_AN_EVENT: Final = 0.0001
"""An event takes a tenth of that or a third; 64 KiB of text made to be slow to mask take 0.1 s, as much as 1,000."""
_GROUPS: Final = 8192
"""Addresses whose group was looked up lately; an IPv6 address costs 5 µs."""


class _Addresses:
    """Two instants for each address, its requests' and its events'; beyond `most`, those not seen lately are forgotten.

    Two generations stand in for an order of use, which would cost as much as all the rest: where the young one is full
    it becomes the old one, and what is asked for moves to the young one.
    """

    def __init__(self, most: int, shown: Gauge) -> None:
        self._most = max(1, most // 2)
        self._shown = shown
        self._young: dict[str, list[float]] = {}
        self._old: dict[str, list[float]] = {}

    def of(self, group: str) -> list[float]:
        """Return the instants of an address, those of a new one where it is not known."""
        found = self._young.get(group)
        if found is not None:
            return found
        if len(self._young) >= self._most:
            self._young, self._old = {}, self._young
        found = self._young[group] = self._old.pop(group, [0.0, 0.0])
        self._shown.set(len(self._young) + len(self._old))
        return found


class Rates:
    """What keys and addresses have sent to this process; used from one event loop.

    Args:
        limits: of each address.
        processes: how many share the port: each has its part of every rate.
        shown: tells how many addresses are remembered.
        clock: returns seconds that never go back.
    """

    def __init__(
        self, limits: AddressLimits, processes: int, shown: Gauge, clock: Callable[[], float] = monotonic
    ) -> None:
        self._limits = limits
        self._processes = processes
        self._clock = clock
        self._addresses = _Addresses(limits.remembered, shown)
        self._keys: dict[str, float] = {}
        self._exempt = Networks(limits.exempt)
        self._request_seconds = _interval(limits.requests_per_second, processes)
        self._event_seconds = _interval(limits.events_per_second, processes)
        self._group = lru_cache(_GROUPS)(self._group_of)

    def _group_of(self, address: str) -> str | None:
        limited = self._request_seconds or self._event_seconds
        return group_of(address) if limited and address not in self._exempt else None

    def count_request(self, address: str | None) -> None:
        """Take a request from its address's buckets.

        Raises:
            AddressRateError: if there have been too many, or too many events; nothing was taken.
        """
        group = self._group(address) if address is not None else None
        if group is None:
            return
        now, most = self._clock(), self._limits.burst_seconds
        found = self._addresses.of(group)
        requests, events = found
        ahead = (requests if requests > events else events) - now  # noqa: FURB136 - max() costs as much as all the rest
        if ahead >= most:
            limits = self._limits
            msg = (
                f"too much comes from {group}: an address may send {limits.requests_per_second or 'any'} requests and "
                f"{limits.events_per_second or 'any'} events a second"
            )
            raise AddressRateError(msg, _wait(ahead - most))
        found[0] = (requests if requests > now else now) + self._request_seconds  # noqa: FURB136 - as above

    def check_key(self, key: WriteKey) -> None:
        """Refuse a request whose key has sent too much.

        Raises:
            TooManyRequestsError: if it has.
        """
        if key.events_per_second is not None:
            ahead = self._keys.get(key.name, 0.0) - self._clock() - key.burst_seconds
            if ahead >= 0:
                msg = f"key {key.name} may send {key.events_per_second:g} events a second"
                raise TooManyRequestsError(msg, _wait(ahead))

    def count_events(self, key: WriteKey, address: str | None, events: int, seconds: float) -> None:
        """Take a request's events, which may be more than there is: then the next requests wait.

        Args:
            key: whose they are.
            address: who sent them.
            events: how many.
            seconds: what it took to read them; for the address, each SECONDS_AN_EVENT are an event at least.
        """
        if key.events_per_second is not None:
            now = self._clock()
            taken = events * _interval(key.events_per_second, self._processes)
            self._keys[key.name] = max(self._keys.get(key.name, 0.0), now) + taken
        group = self._group(address) if address is not None and self._event_seconds else None
        if group is not None:
            found, now = self._addresses.of(group), self._clock()
            found[1] = max(found[1], now) + max(events, seconds / SECONDS_AN_EVENT) * self._event_seconds

    def count_seconds(self, address: str | None, seconds: float) -> None:
        """Take what a request has cost that was refused in the end."""
        group = self._group(address) if address is not None and self._event_seconds else None
        if group is not None:
            found, now = self._addresses.of(group), self._clock()
            found[1] = max(found[1], now) + seconds / SECONDS_AN_EVENT * self._event_seconds

    def count_bytes(self, address: str | None, size: int) -> None:
        """Take what a body costs to unpack and read, whether or not events are found in it."""
        if size >= BYTES_AN_EVENT and self._event_seconds:
            group = self._group(address) if address is not None else None
            if group is not None:
                found, now = self._addresses.of(group), self._clock()
                found[1] = max(found[1], now) + size // BYTES_AN_EVENT * self._event_seconds

    def forget_others(self, names: Iterable[str]) -> None:
        """Keep the buckets of keys with these names only."""
        kept = set(names)
        self._keys = {name: at for name, at in self._keys.items() if name in kept}


def _interval(per_second: float | None, processes: int) -> float:
    """Return how far ahead one of something leads, 0 where there is no limit."""
    return processes / per_second if per_second is not None else 0.0


def _wait(ahead: float) -> int:
    return min(max(1, ceil(ahead)), LONGEST_WAIT_SECONDS)
