"""What stands around a request's events: from its head and from the settings to the context of each event."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple

from collector.context.address import as_kept
from collector.context.bots import AUTOMATION
from collector.context.channel import NO_ARRIVAL, Arrival, is_within
from collector.context.device import APP, BOT, ON_A_SERVER, SERVER, UNKNOWN, Agent, agent_of
from collector.context.place import HeaderPlaces, PlaceDatabase
from collector.context.said import SILENT, Said, hide_addresses, said_by
from collector.head import Head
from collector.settings import AddressPolicy, BotPolicy, CollectorSettings
from collector.wire.event import Context

_KNOWN: Final = 8192
"""Callers remembered by their user agent, address and place; 10 MB at the most."""


_PHONES: Final = frozenset({"iOS", "Android", "HarmonyOS"})
"""Programs of no other system run on a phone; a server's SDK names its own system."""


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
    """Return what the settings say of it.

    Raises:
        PlaceFileError: if there is a file of places to read, and it cannot be.
    """
    headers, file = settings.place_headers, settings.place_database
    return Policy(
        settings.bots,
        settings.addresses,
        settings.own_hosts,
        HeaderPlaces(headers) if headers else None,
        PlaceDatabase(file) if file is not None else None,
    )


@dataclass(frozen=True, slots=True)
class Around:
    """What is known of all of a request's events.

    `trusted` lets events say whose address they are about; `anonymous` keeps no address and no place of them.
    """

    policy: Policy = _DEFAULTS
    agent: Agent = UNKNOWN
    address: str | None = None
    place: str | None = None
    trusted: bool = False
    anonymous: bool = False

    @property
    def is_refused(self) -> bool:
        """Return whether the events of this request are dropped, whatever they say themselves."""
        return self.policy.bots == "drop" and self.agent.bot is not None

    def refuses(self, context: Context | None) -> bool:
        """Return whether an event is dropped for its context."""
        return self.policy.bots == "drop" and context is not None and context.bot is not None

    def context(self, arrival: Arrival = NO_ARRIVAL, said: Said = SILENT) -> Context | None:
        """Return the context of an event; None where nothing is known.

        Args:
            arrival: what its page's addresses tell.
            said: what its properties say.
        """
        channel, medium, campaign, host = arrival
        if said.channel is not None and (channel is None or host is not None):
            channel, medium, campaign, _ = said.channel
        elif host is not None and is_within(host, self.policy.own_hosts):
            channel = medium = None
        agent, address, place = self.agent, self.address, self.place
        if said is not SILENT:
            agent = self._agent(said)
            if self.trusted and said.address is not None and not self.anonymous:
                address = as_kept(said.address, self.policy.addresses)
                place = self.policy.place_of(said.address)
        device, browser, system, bot = agent
        if bot is not None and self.policy.bots != "keep":
            device, browser, system = BOT, None, None
        else:
            bot = None
        if not (device or channel or place or address or medium or campaign):
            return None
        return Context(device, channel, place, medium, campaign, browser, system, bot, address)

    def _agent(self, said: Said) -> Agent:
        """Return the agent an event is about: the request's where that is a browser, or else what the event says."""
        agent = self.agent
        if agent.is_person or agent.bot is not None:
            return agent
        if said.agent.device not in {None, SERVER}:
            agent = said.agent
        if agent.device in {None, SERVER, APP, "other"}:
            device = said.device or (APP if said.os in _PHONES else agent.device)
            agent = agent._replace(device=device, os=said.os or agent.os if device != SERVER else None)
        return agent

    def said_by(self, properties: dict[str, Any]) -> Said:
        """Return what an event's properties say, and let the addresses in them be as they may be kept."""
        said = said_by(properties)
        if said.address is not None:
            hide_addresses(properties, "dropped" if self.anonymous else self.policy.addresses)
        return said


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
                headers.get(b"user-agent", b""),
                b"Headless" in headers.get(b"sec-ch-ua", b""),
                head.address,
                None if policy.headers is None else policy.headers.values(headers),
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
        return Around(policy, agent, shown, where or policy.place_of(address), trusted, anonymous)


def _agent(user_agent: bytes, *, headless: bool) -> Agent:
    agent = agent_of(user_agent.decode("latin-1"))
    return agent._replace(bot=AUTOMATION) if headless and agent.bot is None else agent
