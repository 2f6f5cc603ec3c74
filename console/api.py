"""The query API (contract, "Query API"): what is known about persons, stages, changes and definitions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, TypeVar

from fastapi import APIRouter, Header, Path, Response
from fastapi import Query as Parameter

from console.answers import Definitions, Error, LinkedAnonymousId, Person, Stages, Timeline
from console.changes import END, Feed
from console.errors import BadParameterError, UnknownPersonError
from console.stream import EventStream
from processors.engine.changes import rfc3339
from processors.engine.ports import Clock
from processors.engine.query import BadCursorError, ChangeReader, Query

CHANGES_WITHOUT_CURSOR_DAYS: Final = 7
"""How far back changes are shown to a reader who brings no cursor (contract)."""
_DAY_MS: Final = 86_400_000
_CURSOR: Final = "^[A-Za-z0-9_-]{1,4096}$"
_CURSOR_MEANING: Final = "A cursor as this API gave it out."

PersonId = Annotated[
    str, Path(min_length=1, max_length=512, description="`u:` + user id, `a:` + anonymous id, or either id alone.")
]
After = Annotated[str | None, Parameter(pattern=_CURSOR, description=_CURSOR_MEANING)]
Limit = Annotated[int, Parameter(ge=1, le=1000, description="At most so many changes.")]
Newest = Annotated[bool, Parameter(description="The newest `limit` changes of those, instead of the oldest.")]
LastEventId = Annotated[
    str | None, Header(alias="Last-Event-ID", pattern=_CURSOR, description=_CURSOR_MEANING + " Wins over `after`.")
]

CHANGES_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "title": "Changes",
    "required": ["changes", "next"],
    "properties": {
        "changes": {"type": "array", "items": {"$ref": "#/components/schemas/StageChange"}},
        "next": {"type": "string", "description": "The cursor after the last of them: pass it as `after`."},
    },
}
STREAM_EXAMPLE: Final = 'id: 1240\nevent: change\ndata: {"schema":1,"id":"5-1234.0/7", ...}\n\n'

DOOR: Final[dict[int | str, dict[str, Any]]] = {
    401: {"model": Error, "description": "Nobody is logged in, and no token of a program was sent."},
    403: {"model": Error, "description": "It came through an unknown proxy, without TLS, or from another site's page."},
    421: {"model": Error, "description": "It asks for a host name that is not in console.hosts."},
}
"""What is answered before a route is asked (console/door.py)."""

Answer = TypeVar("Answer")


class Api:
    """The routes' functions."""

    def __init__(self, query: Query, changes: ChangeReader, clock: Clock, feed: Feed) -> None:
        self._query, self._changes, self._clock, self._feed = query, changes, clock, feed

    async def person(self, id: PersonId) -> Person | LinkedAnonymousId:  # noqa: A002 - the contract's name
        """Return everything known about one person; for an anonymous id that was linked, whose it is."""
        found = await _first_of(self._query.person, id)
        return Person.model_validate(found) if "stage" in found else LinkedAnonymousId.model_validate(found)

    async def timeline(self, id: PersonId) -> Timeline:  # noqa: A002 - the contract's name
        """Return a person's latest changes and what she did hour by hour."""
        return Timeline.model_validate(await _first_of(self._query.timeline, id))

    async def stages(self) -> Stages:
        """Return how many persons are in each stage."""
        counts: Any = await self._query.stages()
        return Stages(stages=counts, as_of=rfc3339(self._clock()))

    async def definitions(self) -> Definitions:
        """Return the definitions in force."""
        return Definitions.model_validate(await self._query.definitions())

    async def changes(self, after: After = None, limit: Limit = 100, newest: Newest = False) -> Response:  # noqa: FBT002 - a query parameter has no position
        """Return stage changes after a cursor, oldest first; without a cursor those of the last 7 days."""
        start = await self._cursor("after", after)
        if start is None:
            start = await self._changes.cursor_at(self._clock() - CHANGES_WITHOUT_CURSOR_DAYS * _DAY_MS)
        page = await (self._changes.newest if newest else self._changes.changes)(start, limit)
        following = page[-1][0] if page else start
        # The messages as they were published: the same id always has the same bytes.
        body = b'{"changes":[%b],"next":"%b"}' % (b",".join(message for _, message in page), following.encode())
        return Response(body, media_type="application/json")

    async def stream(self, after: After = None, last_event_id: LastEventId = None) -> Response:
        """Stream stage changes as they happen: after `Last-Event-ID`, else after `after`, else from now on.

        Every event has the cursor as its id, `change` as its name and the message as its data. A comment comes every
        15 s in which nothing happened. A reader that takes nothing for 30 s is disconnected; it resumes by its last id.
        """
        start = await self._cursor("Last-Event-ID", last_event_id)
        if start is None:
            start = await self._cursor("after", after)
        return EventStream(self._feed.open(await self._changes.cursor_at(END) if start is None else start))

    async def _cursor(self, name: str, text: str | None) -> str | None:
        if text is not None:
            try:
                await self._changes.check(text)
            except BadCursorError as error:
                msg = f"{name}: {error}: begin again without a cursor"
                raise BadParameterError(msg) from error
        return text


async def _first_of(ask: Callable[[str], Awaitable[Answer | None]], person: str) -> Answer:
    """Return what is known under the key `person`, or under the id `person` of a user, else of nobody known yet."""
    keys = [person] if person.startswith(("u:", "a:")) else [f"u:{person}", f"a:{person}"]
    for key in keys:
        found = await ask(key)
        if found is not None:
            return found
    msg = f"looked for {' and '.join(keys)}: never seen, forgotten, erased, or not folded yet"
    raise UnknownPersonError(msg)


def make_router(api: Api) -> APIRouter:
    """Return the API's routes."""
    router = APIRouter(
        prefix="/api", responses={"default": {"model": Error, "description": "What went wrong."}, **DOOR}
    )
    changes: Any = {200: {"content": {"application/json": {"schema": CHANGES_SCHEMA}}}}
    stream: Any = {200: {"content": {"text/event-stream": {"schema": {"type": "string"}, "example": STREAM_EXAMPLE}}}}
    # Ids may hold slashes; hence the longer path first.
    router.add_api_route("/persons/{id:path}/timeline", api.timeline)
    router.add_api_route("/persons/{id:path}", api.person)
    router.add_api_route("/stages", api.stages)
    router.add_api_route("/changes", api.changes, responses=changes, response_class=Response)
    router.add_api_route("/changes/stream", api.stream, responses=stream, response_class=Response)
    router.add_api_route("/definitions", api.definitions)
    return router
