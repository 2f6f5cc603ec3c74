"""The route that takes events, whatever carries it: ASGI, or the protocol class that does without (`protocol`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass

from collector.answer import Answer
from collector.body import Bodies, Body
from collector.collect import EventCollector
from collector.compression import unpack
from collector.decode.dialect import Post
from collector.dialects.path import EventPath
from collector.keys import Keys, check_caller, check_dialect, sent_key
from collector.metrics import CollectorMetrics
from collector.settings import CollectorSettings, WriteKey
from collector.sinks.port import Sink


@dataclass(slots=True, frozen=True)
class Upload:
    """A request that may be read on, and its body, of which nothing needs to be here yet.

    `key` is None where it can only stand in the body; then `headers` and `origin` are checked once it is known.
    """

    events_path: EventPath
    path: str
    query: bytes
    headers: Mapping[bytes, bytes]
    origin: str | None
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
    ) -> None:
        self._limits = settings.limits
        self._metrics = metrics
        self._keys = keys
        self._collector = EventCollector(settings, sink, clock, metrics)
        self.bodies = Bodies(settings.limits, metrics)

    def admit(
        self, events_path: EventPath, path: str, query: bytes, headers: Mapping[bytes, bytes], origin: str | None
    ) -> Upload:
        """Return what is needed to answer once the body is here.

        Args:
            events_path: what the request's path is.
            path: of the URL.
            query: of the URL, without the question mark.
            headers: by lower-case name.
            origin: the page that sends it, as `read_origin` gives it.

        Raises:
            WrongKeyError, NotAllowedError, TooLargeBodyError: if the head is enough to refuse it.
        """
        sent = sent_key(headers, query)
        key = None
        if sent is not None or events_path.key_required:
            key = self._keys.find(sent)
            check_caller(key, headers, origin)
        return Upload(events_path, path, query, headers, origin, key, self.bodies.open(headers))

    def take(self, upload: Upload) -> Awaitable[Answer]:
        """Take over a request whose body is complete; return its results, to be awaited until all is durable.

        Raises:
            RequestError: if the request is refused as a whole.
            SinkUnavailableError: when awaited, if not everything could be made durable.
        """
        post = Post(upload.path, upload.query, upload.headers, self._unpacked(upload))
        dialect = upload.events_path.dialect(post)
        envelope = dialect.open(post, self._limits)
        key = upload.key
        if key is None:
            key = self._keys.find(envelope.key)
            check_caller(key, upload.headers, upload.origin)
        check_dialect(key, dialect.name)
        agent = upload.headers.get(b"user-agent", b"")
        return self._collector.collect(dialect, envelope, key, agent, upload.events_path.answer)

    def _unpacked(self, upload: Upload) -> bytes:
        body = upload.body.take()
        self._metrics.body_bytes.observe(len(body))
        return unpack(body, upload.headers.get(b"content-encoding", b""), self._limits.decompressed_bytes)

    def remember(self, durable: Iterable[tuple[str, str]]) -> None:
        """Take over the (person key, id) pairs that an earlier process has made durable."""
        self._collector.remember(durable)

    async def close(self) -> None:
        """Make durable what was accepted; the sink stays open."""
        await self._collector.close()
