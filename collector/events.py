"""The route that takes events, whatever carries it: ASGI, or the protocol class that does without (`protocol`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass

from collector.answer import Answer
from collector.body import Bodies, Body
from collector.collect import EventCollector
from collector.compression import unpack
from collector.keys import Keys, check_caller, sent_key
from collector.metrics import CollectorMetrics
from collector.settings import CollectorSettings, WriteKey
from collector.sinks.port import Sink


@dataclass(slots=True, frozen=True)
class Upload:
    """A request whose caller may write, and its body, of which nothing needs to be here yet."""

    key: WriteKey
    body: Body
    encoding: bytes
    user_agent: bytes


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

    def admit(self, headers: Mapping[bytes, bytes], query: bytes, origin: str | None) -> Upload:
        """Return what is needed to answer once the body is here.

        Args:
            headers: by lower-case name.
            query: of the URL, without the question mark.
            origin: the page that sends it, as `read_origin` gives it.

        Raises:
            WrongKeyError, NotAllowedError, TooLargeBodyError: if the head is enough to refuse it.
        """
        key = self._keys.find(sent_key(headers, query))
        check_caller(key, headers, origin)
        body = self.bodies.open(headers)
        return Upload(key, body, headers.get(b"content-encoding", b""), headers.get(b"user-agent", b""))

    def take(self, upload: Upload) -> Awaitable[Answer]:
        """Take over a request whose body is complete; return its results, to be awaited until all is durable.

        Raises:
            RequestError: if the request is refused as a whole.
            SinkUnavailableError: when awaited, if not everything could be made durable.
        """
        return self._collector.collect("native", self._unpacked(upload), upload.key, upload.user_agent)

    def _unpacked(self, upload: Upload) -> bytes:
        body = upload.body.take()
        self._metrics.body_bytes.observe(len(body))
        return unpack(body, upload.encoding, self._limits.decompressed_bytes)

    def remember(self, durable: Iterable[tuple[str, str]]) -> None:
        """Take over the (person key, id) pairs that an earlier process has made durable."""
        self._collector.remember(durable)

    async def close(self) -> None:
        """Make durable what was accepted; the sink stays open."""
        await self._collector.close()
