"""What stands around a request's events: from its head and from the settings to the context of each event."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, NamedTuple

from collector.context.address import as_kept
from collector.context.bots import AUTOMATION
from collector.context.channel import NO_ARRIVAL, Arrival, is_within
from collector.context.device import BOT, ON_A_SERVER, SERVER, UNKNOWN, Agent, agent_of
from collector.context.place import HeaderPlaces, PlaceDatabase
from collector.context.said import address_said, agent_said, arrival_said, hide_addresses, says_nothing
from collector.head import Head
from collector.settings import AddressPolicy, BotPolicy, CollectorSettings
from collector.wire.event import Context

_AGENT_BYTES: Final = 512
"""Of a user agent; in an app's, the longest, what says anything stands in the first 300."""
_KNOWN: Final = 8192
"""Callers remembered by their user agent, address and place; 10 MB at the most."""


class Policy(NamedTuple):
    """What the settings say of it."""

    bots: BotPolicy = "flag"
    addresses: AddressPolicy = "truncated"
    own_hosts: tuple[str, ...] = ()
    headers: HeaderPlaces | None = None
    database: PlaceDatabase | None = None

    def place_of(self, address: str | None) -> str | None:
        """Return where an address is, as the file says."""
        return self.database.place_of(address) if self.database is not None and address is not None else None


_DEFAULTS: Final = Policy()


def policy_of(settings: CollectorSettings) -> Policy:
    """Return what the settings say of it."""
    headers, file = settings.place_headers, settings.place_database
    return Policy(
        settings.bots,
        settings.event_addresses,
        settings.own_hosts,
        HeaderPlaces(headers) if headers else None,
        PlaceDatabase(file) if file is not None else None,
    )


class Around:
    """What is known of all of a request's events; made once for each caller, since most of it is the same each time.

    Args:
        policy: what the settings say.
        agent: the request's.
        address: as it is kept.
        place: where that is.
        trusted: whether events may say whose address they are about.
        anonymous: whether the caller asks that neither address nor place is kept (Snowplow's `SP-Anonymous`).
    """

    __slots__ = (
        "_address", "_agent", "_anonymous", "_is_settled", "_latest", "_place", "_policy", "_shown", "_trusted",
        "bare", "drops_bots", "is_bot",
    )  # fmt: skip

    def __init__(
        self,
        policy: Policy = _DEFAULTS,
        agent: Agent = UNKNOWN,
        address: str | None = None,
        place: str | None = None,
        *,
        trusted: bool = False,
        anonymous: bool = False,
    ) -> None:
        self._policy, self._agent, self._address, self._place = policy, agent, address, place
        self._trusted, self._anonymous = trusted, anonymous
        self._shown = self._as_shown(agent)
        self._is_settled = agent.is_person or agent.bot is not None
        self.bare = _context(NO_ARRIVAL, self._shown, place, address)
        """The context of events that say nothing and have no page from which it could be told where a visit began."""
        self._latest: tuple[Arrival, Context | None] = NO_ARRIVAL, self.bare
        self.is_bot = self._shown.bot is not None
        """Whether all events are a bot's, whatever they say themselves."""
        self.drops_bots = policy.bots == "drop"

    def context(self, arrival: Arrival) -> Context | None:
        """Return the context of an event that says nothing itself; None where nothing is known.

        Args:
            arrival: what its page's addresses tell.
        """
        if arrival is NO_ARRIVAL:
            return self.bare
        if arrival is not self._latest[0]:  # all events of a page have the same one
            shown = _context(self._foreign(arrival), self._shown, self._place, self._address)
            self._latest = arrival, shown
            return shown  # a large body's thread may have put another there
        return self._latest[1]

    def context_of(self, arrival: Arrival, properties: dict[str, Any] | None) -> Context | None:
        """Return the context of an event, and let the addresses in its properties be as they may be kept."""
        if not properties or says_nothing(properties):
            return self.context(arrival)
        if arrival.channel is None or arrival.host is not None:
            arrival = arrival_said(properties) or arrival
        said, agent = address_said(properties), self._agent
        hide_addresses(properties, "dropped" if self._anonymous else self._policy.addresses)
        own = said is not None and self._trusted and not self._anonymous
        if not self._is_settled:
            named = agent_said(properties)
            if named.device not in {None, SERVER}:
                agent = named
        if agent is self._agent and not own:
            return self.context(arrival)
        address, place = self._address, self._place
        if own and said is not None:
            address, place = as_kept(said, self._policy.addresses), self._policy.place_of(said)
        return _context(self._foreign(arrival), self._as_shown(agent), place, address)

    def _foreign(self, arrival: Arrival) -> Arrival:
        """Return an arrival, without a source that is a host of one's own."""
        if arrival.host is None or not is_within(arrival.host, self._policy.own_hosts):
            return arrival
        return Arrival(None, None, arrival.campaign)

    def _as_shown(self, agent: Agent) -> Agent:
        if agent.bot is None or self._policy.bots == "keep":
            return agent._replace(bot=None)
        return Agent(BOT, bot=agent.bot)


def _context(arrival: Arrival, agent: Agent, place: str | None, address: str | None) -> Context | None:
    channel, medium, campaign, _ = arrival
    device, browser, system, bot = agent
    if not (device or channel or place or address or medium or campaign):
        return None
    return Context(device, channel, place, medium, campaign, browser, system, bot, address)


NOTHING_AROUND: Final = Around()
"""Of events that came in no request: an import's."""


_Told = tuple[bytes, bool, str | None, tuple[bytes, ...] | None, bool, bool]
"""User agent, whether its client hints say headless, address, places, trusted, anonymous."""


class Surroundings:
    """Tells what is around each request."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._caller = lru_cache(maxsize=_KNOWN)(self._look)

    def of(self, head: Head, *, trusted: bool) -> Around:
        """Return what is around a request's events."""
        policy, headers = self._policy, head.headers
        if policy.database is not None and policy.database.has_changed():
            self._caller.cache_clear()
        return self._caller(
            (
                headers.get(b"user-agent", b"")[:_AGENT_BYTES],
                b"Headless" in headers.get(b"sec-ch-ua", b""),
                head.address,
                policy.headers.values(headers) if policy.headers is not None and head.proxied else None,
                trusted,
                b"sp-anonymous" in headers,
            )
        )

    def _look(self, told: _Told) -> Around:
        user_agent, headless, address, place, trusted, anonymous = told
        policy = self._policy
        agent = ON_A_SERVER if trusted else _agent(user_agent, headless=headless)
        if agent.device == SERVER or anonymous:  # a server's address is nobody's
            return Around(policy, agent, trusted=trusted, anonymous=anonymous)
        shown = None if address is None else as_kept(address, policy.addresses)
        where = policy.headers.place_of(place) if policy.headers is not None and place is not None else None
        return Around(policy, agent, shown, where or policy.place_of(address))


def _agent(user_agent: bytes, *, headless: bool) -> Agent:
    agent = agent_of(user_agent.decode("latin-1"))
    return agent._replace(bot=AUTOMATION) if headless and agent.bot is None else agent
