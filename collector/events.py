"""The route that takes events, whatever carries it: ASGI, or the protocol class that does without (`protocol`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from time import perf_counter, thread_time
from typing import NamedTuple

from collector.answer import Answer, Results
from collector.apart import APART_BYTES, Apart
from collector.body import Bodies, Body
from collector.collect import EventCollector
from collector.compression import unpack
from collector.context.around import Surroundings, policy_of
from collector.debug import DebugLog, SeenRequest
from collector.decode.decoded import Decoded, RequestFacts
from collector.decode.dialect import Dialect, Envelope, Post
from collector.dialects.path import EventPath
from collector.errors import RequestError, TooLargeBodyError
from collector.guards.rates import Rates
from collector.guards.suppression import Suppressed
from collector.head import Head
from collector.keys import Keys, check_caller, check_dialect, sent_key
from collector.metrics import CollectorMetrics
from collector.settings import CollectorSettings, Limits, WriteKey
from collector.sinks.port import Sink


class Upload(NamedTuple):
    """A request that may be read on, and its body, of which nothing needs to be here yet.

    `key` is None where it can only stand in the body; whether the caller may use it is checked once it is known.
    """

    events_path: EventPath
    head: Head
    key: WriteKey | None
    body: Body


class _Asked(NamedTuple):
    """A request, how its results are said, and what the debug log remembers of it."""

    upload: Upload
    answer: Callable[[Results], Answer]
    seen: SeenRequest | None


class EventsRoute:
    """Admits requests by their heads and answers them by their bodies."""

    def __init__(
        self,
        settings: CollectorSettings,
        sink: Sink,
        clock: Callable[[], int],
        metrics: CollectorMetrics,
        keys: Keys,
        *,
        rates: Rates,
        debug: DebugLog | None,
    ) -> None:
        self.debug = debug
        self._limits = settings.limits
        self._metrics = metrics
        self._keys = keys
        self._rates = rates
        self.suppressed = Suppressed()
        self._clock = clock
        self._surroundings = Surroundings(policy_of(settings))
        self._collector = EventCollector(settings, sink, metrics)
        self.bodies = Bodies(settings.limits, metrics)
        self._apart = Apart(2 * settings.limits.decompressed_bytes)

    def admit(self, events_path: EventPath, head: Head) -> Upload:
        """Return what is needed to answer once the body is here.

        Raises:
            WrongKeyError, NotAllowedError, TooManyRequestsError, TooLargeBodyError: if the head is enough to refuse it.
        """
        try:
            self._rates.count_request(head.address)
            sent = sent_key(head.headers, head.query)
            key = None
            if sent is not None or events_path.key_required:
                key = self._keys.find(sent)
                check_caller(key, head.headers, head.origin)
                self._rates.check_key(key)
            return Upload(events_path, head, key, self.bodies.open(head.headers))
        except RequestError as error:
            if self.debug is not None:
                self.debug.begin(head).was_refused(error, events_path.instead)
            raise

    def take(self, upload: Upload) -> Awaitable[Answer]:
        """Take over a request whose body is complete; return its results, to be awaited until all is durable.

        Raises:
            RequestError: if the request is refused as a whole.
            SinkUnavailableError: when awaited, if not everything could be made durable.
        """
        if self.debug is None:
            return self._collect(upload, upload.events_path.answer)
        return self._watched(upload, self.debug.begin(upload.head))

    def _collect(
        self, upload: Upload, answer: Callable[[Results], Answer], seen: SeenRequest | None = None
    ) -> Awaitable[Answer]:
        head = upload.head
        post = Post(head.path, head.query, head.headers, self._unpacked(upload))
        self._rates.count_bytes(head.address, len(post.body))
        dialect = upload.events_path.dialect(post)
        if seen is not None:
            seen.dialect = dialect.name
        asked = _Asked(upload, answer, seen)
        if len(post.body) > APART_BYTES:
            return self._open_apart(asked, dialect, post)
        envelope = dialect.open(post, self._limits)
        if len(envelope.records) > 1 and sum(map(len, envelope.records)) > APART_BYTES:
            return self._decode_apart(asked, dialect, envelope)
        key, request = self._admitted(upload, dialect, envelope)
        return self._hand_on(asked, key, request, *_timed(perf_counter, dialect, envelope, request, self._limits))

    async def _open_apart(self, asked: _Asked, dialect: Dialect, post: Post) -> Answer:
        envelope = await self._apart.run(len(post.body), dialect.open, post, self._limits)
        return await self._decode_apart(asked, dialect, envelope)

    async def _decode_apart(self, asked: _Asked, dialect: Dialect, envelope: Envelope) -> Answer:
        key, request = self._admitted(asked.upload, dialect, envelope)
        size = sum(map(len, envelope.records))
        read = await self._apart.run(size, _timed, thread_time, dialect, envelope, request, self._limits)
        return await self._hand_on(asked, key, request, *read)

    def _admitted(self, upload: Upload, dialect: Dialect, envelope: Envelope) -> tuple[WriteKey, RequestFacts]:
        head, key = upload.head, upload.key
        if key is None:
            key = self._keys.find(envelope.key)
            check_caller(key, head.headers, head.origin)
            self._rates.check_key(key)
        check_dialect(key, dialect.name)
        around = self._surroundings.of(head, trusted=key.trusted)
        return key, RequestFacts(key.name, key.trusted, self._clock(), key.masking.rules, around)

    def _hand_on(
        self, asked: _Asked, key: WriteKey, request: RequestFacts, decoded: Decoded, seconds: float
    ) -> Awaitable[Answer]:
        head = asked.upload.head
        self._rates.count_events(key, head.address, len(decoded.events) + len(decoded.rejections), seconds)
        if self.suppressed.any:
            self.suppressed.keep_out(decoded, head.address)
        if self.debug is not None and asked.seen is not None:
            self.debug.understood(asked.seen, key.name, decoded)
        return self._collector.collect(decoded, request, head.headers.get(b"user-agent", b""), asked.answer)

    async def _watched(self, upload: Upload, seen: SeenRequest) -> Answer:
        """Return the answer, and let the debug log know how it came to it."""

        def answer(results: Results) -> Answer:
            found = upload.events_path.answer(results)
            seen.answered(found.status, results)
            return found

        seen.body_bytes = upload.body.size
        try:
            return await self._collect(upload, answer, seen)
        except Exception as error:
            seen.was_refused(error, upload.events_path.instead)
            raise

    def _unpacked(self, upload: Upload) -> bytes:
        body = upload.body.take()
        self._metrics.body_bytes.observe(len(body))
        most = self._limits.decompressed_bytes
        try:
            return unpack(body, upload.head.headers.get(b"content-encoding", b""), most)
        except TooLargeBodyError:
            self._rates.count_bytes(upload.head.address, most)
            raise

    def remember(self, durable: Iterable[tuple[str, str]]) -> None:
        """Take over the (person key, id) pairs that an earlier process has made durable."""
        self._collector.remember(durable)

    async def close(self) -> None:
        """Make durable what was accepted; the sink stays open."""
        self._apart.close()
        await self._collector.close()


def _timed(
    clock: Callable[[], float], dialect: Dialect, envelope: Envelope, request: RequestFacts, limits: Limits
) -> tuple[Decoded, float]:
    """Return what a request holds, and the seconds that took by a clock."""
    started = clock()
    decoded = dialect.decode(envelope, request, limits)
    return decoded, clock() - started
