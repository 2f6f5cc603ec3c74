"""What came in lately and what was understood of it, for those who point an SDK at a collector of their own."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Annotated, Final

import msgspec

from collector.answer import EventError, Results, refusal
from collector.decode.decoded import Decoded
from collector.head import Head
from collector.wire.event import Event

MOST_REQUESTS: Final = 500
MOST_EVENTS: Final = 5000
"""What is remembered; older requests are forgotten first."""
_MOST_CHARS: Final = 1024


class SeenEvent(msgspec.Struct):
    """One event as it went to the log, and its place in the request; a `duplicate` was there already."""

    index: int
    duplicate: bool
    event: Event


class SeenRequest(msgspec.Struct):
    """One request: what was asked, what was understood, and what was answered.

    `dialect` and `source` are None where it did not come to that; `status` is None while it is not answered; `refused`
    says why a whole request was refused.
    """

    number: int
    received_at: int
    method: str
    path: str
    user_agent: str
    origin: str | None
    body_bytes: int = 0
    dialect: str | None = None
    source: str | None = None
    status: int | None = None
    refused: str | None = None
    events: list[SeenEvent] = []
    rejected: list[EventError] = []

    def answered(self, status: int, results: Results | None = None) -> None:
        """Note the answer, and which events were there already."""
        self.status = int(status)
        duplicates = set(results.duplicates) if results is not None else set()
        for one in self.events:
            one.duplicate = one.index in duplicates

    def was_refused(self, error: Exception, instead: Mapping[int, HTTPStatus] | None = None) -> None:
        """Note why the whole request was refused; `instead` is what the dialect's SDKs are answered in its place."""
        self.status = int(refusal(error, instead).status)
        self.refused = str(error)


class Wanted(msgspec.Struct, forbid_unknown_fields=True):
    """Which requests are asked for; what is None does not matter.

    `event` is a type or a custom event's name, `person` a user id or an anonymous id.
    """

    dialect: str | None = None
    source: str | None = None
    path: str | None = None
    status: int | None = None
    event: str | None = None
    person: str | None = None
    rejected: bool | None = None
    after: int = 0
    limit: Annotated[int, msgspec.Meta(ge=0, le=MOST_REQUESTS)] = 100

    def matches(self, one: SeenRequest) -> bool:
        """Return whether a request is among these."""
        return (
            one.number > self.after
            and self.dialect in {None, one.dialect}
            and self.source in {None, one.source}
            and self.path in {None, one.path}
            and self.status in {None, one.status}
            and self.rejected in {None, bool(one.rejected or one.refused is not None)}
            and (self.event is None or any(self.event in {seen.event.type, seen.event.name} for seen in one.events))
            and (self.person is None or any(self.person in _ids(seen.event) for seen in one.events))
        )


def _ids(event: Event) -> Iterator[str | None]:
    yield event.user_id
    yield event.anonymous_id


class DebugLog:
    """The latest requests, newest last; used from one event loop.

    Args:
        clock: returns UTC milliseconds.
    """

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._requests: deque[SeenRequest] = deque()
        self._last = 0
        self._held = 0
        self._forgotten = 0

    def begin(self, head: Head) -> SeenRequest:
        """Return the entry of a request that has just come; it is in the log already."""
        self._last += 1
        agent = head.headers.get(b"user-agent", b"").decode("latin-1")[:_MOST_CHARS]
        path, origin = head.path[:_MOST_CHARS], head.origin
        found = SeenRequest(self._last, self._clock(), head.method, path, agent, origin)
        self._requests.append(found)
        while len(self._requests) > MOST_REQUESTS:
            self._forget()
        return found

    def understood(self, seen: SeenRequest, source: str, decoded: Decoded) -> None:
        """Note who sent it, its events and its rejections, of which there are no more than MOST_EVENTS."""
        seen.source = source
        events = [SeenEvent(index, duplicate=False, event=event) for index, event in decoded.events]
        rejected = [EventError(one.index, one.id, one.reason, one.detail) for one in decoded.rejections]
        if seen.number <= self._forgotten:
            return
        seen.events, seen.rejected = events[:MOST_EVENTS], rejected[:MOST_EVENTS]
        self._held += len(seen.events) + len(seen.rejected)
        while self._held > MOST_EVENTS and len(self._requests) > 1:
            self._forget()

    def _forget(self) -> None:
        gone = self._requests.popleft()
        self._forgotten = gone.number
        self._held -= len(gone.events) + len(gone.rejected)

    def reset(self) -> None:
        """Forget all requests; numbers go on."""
        while self._requests:
            self._forget()

    def find(self, wanted: Wanted) -> list[SeenRequest]:
        """Return the requests that match, the newest first; `wanted.limit` is the reader's."""
        return [one for one in reversed(self._requests) if wanted.matches(one)]

    def counts(self, requests: Iterable[SeenRequest]) -> dict[str, int]:
        """Return how many requests these are, how many were refused, and what their events were."""
        found = {"requests": 0, "refused": 0, "accepted": 0, "duplicate": 0, "rejected": 0}
        for one in requests:
            found["requests"] += 1
            found["refused"] += one.refused is not None
            found["rejected"] += len(one.rejected)
            if one.refused is None:
                duplicates = sum(seen.duplicate for seen in one.events)
                found["accepted"] += len(one.events) - duplicates
                found["duplicate"] += duplicates
        return found
