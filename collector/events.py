"""The route that takes events, whatever carries it: ASGI, or the protocol class that does without (`protocol`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

from collector.answer import Answer, Results
from collector.body import Bodies, Body
from collector.collect import EventCollector
from collector.compression import unpack
from collector.context.around import Surroundings, policy_of
from collector.debug import DebugLog, SeenRequest
from collector.decode.decoded import RequestFacts
from collector.decode.dialect import Post
from collector.dialects.path import EventPath
from collector.errors import RequestError, TooLargeBodyError
from collector.guards.rates import Rates
from collector.guards.suppression import Suppressed
from collector.head import Head
from collector.keys import Keys, check_caller, check_dialect, sent_key
from collector.metrics import CollectorMetrics
from collector.settings import CollectorSettings, WriteKey
from collector.sinks.port import Sink


class Upload(NamedTuple):
    """A request that may be read on, and its body, of which nothing needs to be here yet.

    `key` is None where it can only stand in the body; whether the caller may use it is checked once it is known.
    """

    events_path: EventPath
    head: Head
    key: WriteKey | None
    body: Body


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
        envelope = dialect.open(post, self._limits)
        key = upload.key
        if key is None:
            key = self._keys.find(envelope.key)
            check_caller(key, head.headers, head.origin)
            self._rates.check_key(key)
        check_dialect(key, dialect.name)
        around = self._surroundings.of(head, trusted=key.trusted)
        request = RequestFacts(key.name, key.trusted, self._clock(), key.masking.rules, around)
        decoded = dialect.decode(envelope, request, self._limits)
        self._rates.count_events(key, head.address, len(decoded.events) + len(decoded.rejections))
        if self.suppressed.any:
            self.suppressed.keep_out(decoded, head.address)
        if self.debug is not None and seen is not None:
            self.debug.understood(seen, key.name, decoded)
        return self._collector.collect(decoded, request, head.headers.get(b"user-agent", b""), answer)

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
        await self._collector.close()
