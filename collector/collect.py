"""From decoded events to durable ones and each one's result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import prometheus_client

from collector.answer import Answer, EventError, Results
from collector.decode.decoded import Decoded, RequestFacts
from collector.ingest import Ingest
from collector.metrics import CollectorMetrics
from collector.recent import RecentIds
from collector.rejected import rejected_record
from collector.settings import CollectorSettings
from collector.sinks.port import Sink
from collector.wire.event import Event, known_as, person_key

_Counters = tuple[prometheus_client.Counter, prometheus_client.Counter, prometheus_client.Counter]
"""A source's received, accepted and repeated events; kept, because to find them costs more than to add."""


class _Taken(NamedTuple):
    """What is remembered and counted of a request once it is durable."""

    source: str
    ids: set[tuple[str, str]]
    found: Results
    masked: Mapping[str, int]


class EventCollector:
    """Drops repeats of what is durable, and tells what became of a request's events when the rest is."""

    def __init__(self, settings: CollectorSettings, sink: Sink, metrics: CollectorMetrics) -> None:
        self._metrics = metrics
        self._of_source: dict[str, _Counters] = {}
        self._recent = RecentIds(settings.recent_ids)
        self._ingest = Ingest(
            sink,
            linger_ms=settings.linger_ms,
            queue_bytes=settings.queue_bytes,
            block_bytes=settings.block_bytes,
            metrics=metrics,
        )

    def collect(
        self, decoded: Decoded, request: RequestFacts, user_agent: bytes, answer: Callable[[Results], Answer]
    ) -> Awaitable[Answer]:
        """Return the answer, to be awaited, to one request whose events are each durable or refused for good.

        Args:
            decoded: what the request holds, given up before the wait: the next request finds its memory in the
                processor's cache.
            request: who sent it.
            user_agent: kept with rejected events.
            answer: says the results as the request's dialect wants to hear them.

        Raises:
            OverloadedError: if too much waits already.
            SinkUnavailableError: when awaited, if not everything could be made durable.
        """
        events, ids, duplicates = self._sorted_out(decoded)
        source = request.source
        rejected = [(source, rejected_record(one, request, user_agent)) for one in decoded.rejections]
        try:
            durable = self._ingest.put(events, rejected)
        except BaseException:
            self._count_failed(source, len(decoded.events) + len(rejected))
            raise
        errors = [EventError(one.index, one.id, one.reason, one.detail) for one in decoded.rejections]
        found = Results(len(events), len(duplicates), len(errors), errors, duplicates)
        return self._answer(durable, _Taken(source, ids, found, decoded.masked), answer)

    async def _answer(self, durable: Awaitable[None], taken: _Taken, answer: Callable[[Results], Answer]) -> Answer:
        found = taken.found
        try:
            await durable
        except BaseException:
            self._count_failed(taken.source, found.accepted + found.duplicate + found.rejected)
            raise
        self._recent.add(taken.ids)
        self._count(taken.source, found, taken.masked)
        return answer(found)

    def remember(self, durable: Iterable[tuple[str, str]]) -> None:
        """Take over (person key, id) pairs that an earlier process has made durable: their repeats are duplicates."""
        self._recent.add(durable)

    async def close(self) -> None:
        """Make durable what was accepted."""
        await self._ingest.close()

    def _sorted_out(self, decoded: Decoded) -> tuple[list[Event], set[tuple[str, str]], list[int]]:
        """Return what is to be written, its persons and ids, and the places of what is durable or twice in here.

        What another request has on its way is no duplicate: that request may still fail.
        """
        events = [event for _, event in decoded.events]
        ones = list(_persons_and_ids(events))
        ids = set(ones)
        if len(ids) == len(ones) and self._recent.knows_none_of(ids):
            return events, ids, []
        fresh: dict[tuple[str, str], Event] = {}
        duplicates: list[int] = []
        for one, (index, event) in zip(ones, decoded.events, strict=True):
            if one in fresh or one in self._recent:
                duplicates.append(index)
            else:
                fresh[one] = event
        return list(fresh.values()), set(fresh), duplicates

    def _count(self, source: str, found: Results, masked: Mapping[str, int]) -> None:
        received, accepted, duplicate = self._counters(source)
        received.inc(found.accepted + found.duplicate + found.rejected)
        accepted.inc(found.accepted)
        if found.duplicate:
            duplicate.inc(found.duplicate)
        for reason, count in Counter(one.reason for one in found.errors).items():
            self._metrics.rejected.labels(source, reason).inc(count)
        for kind, count in masked.items():
            self._metrics.masked.labels(kind).inc(count)

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


def _persons_and_ids(events: Sequence[Event]) -> Iterator[tuple[str, str]]:
    key = ""
    before: Event | None = None
    for event in events:
        if before is None or event.user_id != before.user_id or event.anonymous_id != before.anonymous_id:
            key = person_key(event.user_id, event.anonymous_id)
            before = event
        yield key, known_as(event)
