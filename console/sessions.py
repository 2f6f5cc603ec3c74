"""Who is logged in: kept in this process alone, each until it is idle, old or ended."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from prometheus_client import CollectorRegistry

from console.metrics import SESSIONS
from console.passwords import hash_token, new_token

MOST_SESSIONS: Final = 1000
"""About 1 kB each; for a new one beyond it the one that was longest without a request is ended."""
LOOK_SECONDS: Final = 1.0
"""How often an open stream looks whether its session is over."""


@dataclass(slots=True, eq=False)
class Session:
    """One login."""

    user: str
    began: float
    used: float
    form_token: str = field(default_factory=new_token)
    """Has to come back in every form of the session's pages."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Sessions:
    """The sessions of one process, by the SHA-256 of the token in the cookie.

    Args:
        seconds: returns a time that only goes on.
        idle_seconds: how long one lives without a request.
        most_seconds: how long one lives at most.
        registry: where their number is shown.
    """

    def __init__(
        self, seconds: Callable[[], float], idle_seconds: float, most_seconds: float, registry: CollectorRegistry
    ) -> None:
        self._seconds, self._idle_seconds, self._most_seconds = seconds, idle_seconds, most_seconds
        self._by_hash: OrderedDict[str, Session] = OrderedDict()
        SESSIONS.gauge(registry).set_function(lambda: len(self._by_hash))

    def open(self, user: str) -> str:
        """Return the token of a new session."""
        now, token = self._seconds(), new_token()
        for key in [key for key, one in self._by_hash.items() if self._is_over(one, now)]:
            self._end(key)
        if len(self._by_hash) >= MOST_SESSIONS:
            self._end(next(iter(self._by_hash)))
        self._by_hash[hash_token(token)] = Session(user, now, now)
        return token

    def find(self, token: str) -> Session | None:
        """Return a token's session, which is in use by that; None if there is none or it is over."""
        key, now = hash_token(token), self._seconds()
        session = self._by_hash.get(key)
        if session is None:
            return None
        if self._is_over(session, now):
            self._end(key)
            return None
        session.used = now
        self._by_hash.move_to_end(key)
        return session

    def end(self, token: str) -> None:
        """End a token's session, if there is one."""
        self._end(hash_token(token))

    async def wait_over(self, session: Session) -> None:
        """Return once a session is over."""
        while not session.ended.is_set() and not self._is_over(session, self._seconds()):
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await session.ended.wait()
            except TimeoutError:
                continue

    def _is_over(self, session: Session, now: float) -> bool:
        return now - session.used >= self._idle_seconds or now - session.began >= self._most_seconds

    def _end(self, key: str) -> None:
        session = self._by_hash.pop(key, None)
        if session is not None:
            session.ended.set()
