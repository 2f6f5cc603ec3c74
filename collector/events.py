"""The route that takes events, whatever carries it: ASGI, or the protocol class that does without (`protocol`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from time import perf_counter, thread_time
from typing import NamedTuple

from collector.answer import Answer, Results
from collector.apart import APART_BYTES, Apart, Stopwatch
from collector.body import Bodies, Body
from collector.collect import EventCollector
from collector.compression import unpack
from collector.context.around import Surroundings, policy_of
from collector.debug import DebugLog, SeenRequest
from collector.decode.decoded import Decoded, Reason, RequestFacts
from collector.decode.dialect import Dialect, Envelope, Post
from collector.dialects.path import EventPath
from collector.errors import RequestError, TooLargeBodyError
from collector.guards.rates import Rates
from collector.guards.suppression import Suppressed
from collector.head import Head
from collector.keys import Keys, check_caller, check_dialect, sent_key
from collector.metrics import CollectorMetrics
from collector.rejected import rejected_record
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
    """A request, how its results are said, what the debug log remembers of it, and what it has taken."""

    upload: Upload
    answer: Callable[[Results], Answer]
    seen: SeenRequest | None
    spent: Stopwatch


class _Read(NamedTuple):
    """What a request holds, and what is kept of its rejected events."""

    decoded: Decoded
    rejected: list[bytes]


_Opened = tuple[Dialect, Envelope]


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
        asked = _Asked(upload, answer, seen, Stopwatch(perf_counter))
        try:
            return self._begin(asked)
        except RequestError:
            self._rates.count_seconds(upload.head.address, asked.spent.seconds)
            raise

    def _begin(self, asked: _Asked) -> Awaitable[Answer]:
        upload, time = asked.upload, asked.spent.time
        head, route, limits = upload.head, upload.events_path, self._limits
        post = Post(head.path, head.query, head.headers, time(self._unpacked, upload))
        self._rates.count_bytes(head.address, len(post.body))
        if len(post.body) > APART_BYTES:
            return self._collect_apart(asked, post)
        dialect, envelope = time(_open, route, post, limits)
        if len(envelope.records) > 1 and sum(map(len, envelope.records)) > APART_BYTES:
            return self._collect_apart(asked, (dialect, envelope))
        key, request = self._admitted(asked, dialect, envelope)
        return self._hand_on(asked, key, time(self._read, head, dialect, envelope, request))

    async def _collect_apart(self, asked: _Asked, given: Post | _Opened) -> Answer:
        """Do as `_begin`, what may take long in the thread beside the event loop."""
        upload, spent = asked.upload, Stopwatch(thread_time)
        head, route = upload.head, upload.events_path
        try:
            if isinstance(given, Post):
                post = given
                given = await self._apart.run(len(post.body), lambda: spent.time(_open, route, post, self._limits))
            dialect, envelope = given
            key, request = self._admitted(asked, dialect, envelope)
            size = sum(map(len, envelope.records))
            read = await self._apart.run(size, lambda: spent.time(self._read, head, dialect, envelope, request))
        except RequestError:
            self._rates.count_seconds(head.address, asked.spent.seconds + spent.seconds)
            raise
        asked.spent.seconds += spent.seconds
        return await self._hand_on(asked, key, read)

    def _admitted(self, asked: _Asked, dialect: Dialect, envelope: Envelope) -> tuple[WriteKey, RequestFacts]:
        head, key = asked.upload.head, asked.upload.key
        if asked.seen is not None:
            asked.seen.dialect = dialect.name
        if key is None:
            key = self._keys.find(envelope.key)
            check_caller(key, head.headers, head.origin)
            self._rates.check_key(key)
        check_dialect(key, dialect.name)
        around = self._surroundings.of(head, trusted=key.trusted)
        return key, RequestFacts(key.name, key.trusted, self._clock(), key.masking.rules, around)

    def _read(self, head: Head, dialect: Dialect, envelope: Envelope, request: RequestFacts) -> _Read:
        """Return what a request holds; touches nothing that changes, as it may run beside the event loop."""
        decoded = dialect.decode(envelope, request, self._limits)
        if self.suppressed.any:
            self.suppressed.keep_out(decoded, head.address)
        agent = head.headers.get(b"user-agent", b"")
        rejected = [
            rejected_record(one, request, agent)
            for one in decoded.rejections
            if one.reason is not Reason.SUPPRESSED  # nothing is kept of who is not to be recorded
        ]
        return _Read(decoded, rejected)

    def _hand_on(self, asked: _Asked, key: WriteKey, read: _Read) -> Awaitable[Answer]:
        decoded, address = read.decoded, asked.upload.head.address
        events = len(decoded.events) + len(decoded.rejections)
        self._rates.count_events(key, address, events, asked.spent.seconds)
        if self.debug is not None and asked.seen is not None:
            self.debug.understood(asked.seen, key.name, decoded)
        return self._collector.collect(decoded, key.name, read.rejected, asked.answer)

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


def _open(route: EventPath, post: Post, limits: Limits) -> _Opened:
    dialect = route.dialect(post)
    return dialect, dialect.open(post, limits)
