"""From decoded events to durable ones and each one's result."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import prometheus_client

from collector.answer import Answer, EventError, Results
from collector.decode.decoded import Decoded
from collector.ingest import Ingest
from collector.metrics import CollectorMetrics
from collector.recent import RecentIds
from collector.settings import CollectorSettings
from collector.sinks.port import Sink, SinkUnavailableError
from collector.wire.event import Event, known_as, person_key

_Counters = tuple[prometheus_client.Counter, prometheus_client.Counter, prometheus_client.Counter]
"""A source's received, accepted and repeated events; kept, because to find them costs more than to add."""


_Identities = set[tuple[str, str]]
"""Events by person key and id."""


class _Sorted(NamedTuple):
    """What is to be written of a request, the places of what is not, and the writes of others that these wait for."""

    events: list[Event]
    ids: _Identities
    duplicates: list[int]
    others: set[asyncio.Future[None]]


class _Taken(NamedTuple):
    """What is counted of a request once it and the writes of others that it waits for are durable."""

    source: str
    others: set[asyncio.Future[None]]
    found: Results
    masked: Mapping[str, int]
    bots: int


class EventCollector:
    """Drops repeats of what is durable, and tells what became of a request's events when the rest is."""

    def __init__(self, settings: CollectorSettings, sink: Sink, metrics: CollectorMetrics) -> None:
        self._metrics = metrics
        self._of_source: dict[str, _Counters] = {}
        self._recent = RecentIds(settings.recent_ids)
        self._under_way: dict[tuple[str, str], asyncio.Future[None]] = {}
        self._ingest = Ingest(
            sink,
            linger_ms=settings.linger_ms,
            queue_bytes=settings.queue_bytes,
            block_bytes=settings.block_bytes,
            metrics=metrics,
        )

    def collect(
        self, decoded: Decoded, source: str, rejected: Sequence[bytes], answer: Callable[[Results], Answer]
    ) -> Awaitable[Answer]:
        """Return the answer, to be awaited, to one request whose events are each durable or refused for good.

        Args:
            decoded: what the request holds, given up before the wait: the next request finds its memory in the
                processor's cache.
            source: name of the write key.
            rejected: what is kept of its rejected events.
            answer: says the results as the request's dialect wants to hear them.

        Raises:
            OverloadedError: if too much waits already.
            SinkUnavailableError: when awaited, if not everything could be made durable.
        """
        events, ids, duplicates, others = self._sorted_out(decoded)
        try:
            durable = self._ingest.put(events, [(source, record) for record in rejected])
        except BaseException:
            self._count_failed(source, len(decoded.events) + len(decoded.rejections))
            raise
        self._under_way.update(dict.fromkeys(ids, durable))
        durable.add_done_callback(partial(self._arrived, ids))
        errors = [EventError(one.index, one.id, one.reason, one.detail) for one in decoded.rejections]
        found = Results(len(events), len(duplicates), len(errors), errors, duplicates)
        return self._answer(durable, _Taken(source, others, found, decoded.masked, decoded.bots), answer)

    async def _answer(self, durable: Awaitable[None], taken: _Taken, answer: Callable[[Results], Answer]) -> Answer:
        found = taken.found
        try:
            await durable
            if taken.others:
                await _durable_too(taken.others)
        except BaseException:
            self._count_failed(taken.source, found.accepted + found.duplicate + found.rejected)
            raise
        self._count(taken.source, found, taken.masked)
        if taken.bots:
            self._metrics.bots.labels(taken.source).inc(taken.bots)
        return answer(found)

    def _arrived(self, ids: _Identities, durable: asyncio.Future[None]) -> None:
        """Let ids be remembered where they are durable now; whoever was told otherwise says them again."""
        for one in ids:
            if self._under_way.get(one) is durable:
                del self._under_way[one]
        if not durable.cancelled() and durable.exception() is None:
            self._recent.add(ids)

    def remember(self, durable: Iterable[tuple[str, str]]) -> None:
        """Take over (person key, id) pairs that an earlier process has made durable: their repeats are duplicates."""
        self._recent.add(durable)

    async def close(self) -> None:
        """Make durable what was accepted."""
        await self._ingest.close()

    def _sorted_out(self, decoded: Decoded) -> _Sorted:
        """Tell what is to be written from what is durable, is twice in here, or is on its way in another request.

        That request may still fail, and this one with it.
        """
        events = [event for _, event in decoded.events]
        ones = list(_persons_and_ids(events))
        ids = set(ones)
        if len(ids) == len(ones) and self._recent.knows_none_of(ids) and self._under_way.keys().isdisjoint(ids):
            return _Sorted(events, ids, [], set())
        fresh: dict[tuple[str, str], Event] = {}
        duplicates: list[int] = []
        others: set[asyncio.Future[None]] = set()
        for one, (index, event) in zip(ones, decoded.events, strict=True):
            other = self._under_way.get(one)
            if other is not None:
                others.add(other)
            if other is not None or one in fresh or one in self._recent:
                duplicates.append(index)
            else:
                fresh[one] = event
        return _Sorted(list(fresh.values()), set(fresh), duplicates, others)

    def _count(self, source: str, found: Results, masked: Mapping[str, int]) -> None:
        received, accepted, duplicate = self._counters(source)
        received.inc(found.accepted + found.duplicate + found.rejected)
        accepted.inc(found.accepted)
        if found.duplicate:
            duplicate.inc(found.duplicate)
        for reason, count in Counter(one.reason for one in found.errors).items():
            self._metrics.rejected.labels(source, reason).inc(count)
        for kind, count in masked.items():
            self._metrics.masked.labels(source, kind).inc(count)

    def _count_failed(self, source: str, events: int) -> None:
        """Count a request that gets no results: its events come again, and what is durable of them is dropped then."""
        self._metrics.received.labels(source).inc(events)
        self._metrics.failed.labels(source).inc(events)

    def _counters(self, source: str) -> _Counters:
        found = self._of_source.get(source)
        if found is None:
            metrics = self._metrics
            found = metrics.received.labels(source), metrics.accepted.labels(source), metrics.duplicate.labels(source)
            self._of_source[source] = found
        return found


async def _durable_too(others: set[asyncio.Future[None]]) -> None:
    """Wait for the writes of other requests.

    Raises:
        SinkUnavailableError: if one of them failed, or its request was given up.
    """
    await asyncio.wait(others)
    if any(one.cancelled() or one.exception() is not None for one in others):
        msg = "another request had some of these events on its way, and failed"
        raise SinkUnavailableError(msg)


def _persons_and_ids(events: Sequence[Event]) -> Iterator[tuple[str, str]]:
    key = ""
    before: Event | None = None
    for event in events:
        if before is None or event.user_id != before.user_id or event.anonymous_id != before.anonymous_id:
            key = person_key(event.user_id, event.anonymous_id)
            before = event
        yield key, known_as(event)
