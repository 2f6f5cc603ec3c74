"""From an unpacked body to durable events and each one's result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from collector.answer import Answer, EventError, Results, results
from collector.decode import DECODERS
from collector.decode.decoded import Decoded, RequestFacts
from collector.ingest import Ingest
from collector.metrics import CollectorMetrics
from collector.recent import RecentIds
from collector.rejected import rejected_record
from collector.settings import CollectorSettings, WriteKey
from collector.sinks.port import Sink
from collector.wire.event import Event, known_as, person_key


class EventCollector:
    """Decodes requests, drops repeats of what is durable, and answers when the rest is."""

    def __init__(
        self, settings: CollectorSettings, sink: Sink, clock: Callable[[], int], metrics: CollectorMetrics
    ) -> None:
        self._limits = settings.limits
        self._clock = clock
        self._metrics = metrics
        self._recent = RecentIds(settings.recent_ids)
        self._ingest = Ingest(
            sink,
            linger_ms=settings.linger_ms,
            queue_bytes=settings.queue_bytes,
            block_bytes=settings.block_bytes,
            metrics=metrics,
        )

    async def collect(self, family: str, body: bytes, key: WriteKey, user_agent: bytes) -> Answer:
        """Return the results of one request's events, each durable or refused for good.

        Args:
            family: the path family, a key of DECODERS.
            body: unpacked.
            key: who sent it.
            user_agent: kept with rejected events.

        Raises:
            RequestError: if the request is refused as a whole.
            SinkUnavailableError: if not everything could be made durable.
        """
        request = RequestFacts(key.name, key.trusted, self._clock())
        decoded = DECODERS[family](body, request, self._limits)
        fresh, duplicates = self._sorted_out(decoded)
        rejected = [(key.name, rejected_record(one, request, user_agent)) for one in decoded.rejections]
        await self._ingest.put(list(fresh.values()), rejected)
        self._recent.add(fresh)
        self._count(decoded, key.name, len(fresh), len(duplicates))
        errors = [EventError(one.index, one.id, one.reason, one.detail) for one in decoded.rejections]
        return results(Results(len(fresh), len(duplicates), len(errors), errors, duplicates))

    def remember(self, durable: Iterable[tuple[str, str]]) -> None:
        """Take over (person key, id) pairs that an earlier process has made durable: their repeats are duplicates."""
        self._recent.add(durable)

    async def close(self) -> None:
        """Make durable what was accepted."""
        await self._ingest.close()

    def _sorted_out(self, decoded: Decoded) -> tuple[dict[tuple[str, str], Event], list[int]]:
        """Return what is to be written, by person and id, and the places of what is durable or twice in here.

        What another request has on its way is no duplicate: that request may still fail.
        """
        fresh: dict[tuple[str, str], Event] = {}
        duplicates: list[int] = []
        for index, event in decoded.events:
            one = (person_key(event.user_id, event.anonymous_id), known_as(event))
            if one in fresh or one in self._recent:
                duplicates.append(index)
            else:
                fresh[one] = event
        return fresh, duplicates

    def _count(self, decoded: Decoded, source: str, accepted: int, duplicate: int) -> None:
        metrics = self._metrics
        metrics.received.labels(source).inc(len(decoded.events) + len(decoded.rejections))
        metrics.accepted.labels(source).inc(accepted)
        metrics.duplicate.labels(source).inc(duplicate)
        for reason, count in Counter(one.reason for one in decoded.rejections).items():
            metrics.rejected.labels(source, reason.value).inc(count)
        for kind, count in decoded.masked.items():
            metrics.masked.labels(kind).inc(count)
