"""People, devices and addresses that are not to be recorded, whoever sends their events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_network
from typing import Any, Final, NamedTuple

import msgspec

from collector.decode.decoded import Decoded, Reason, Rejection
from collector.guards.files import BrokenFileError
from collector.guards.proxies import Networks
from collector.settings import Network

KINDS: Final = ("user", "device", "address")
MAX_ID_CHARS: Final = 1024


class Entry(NamedTuple):
    """One line of the list: a kind, and the user id, the anonymous id, the address or network."""

    kind: str
    value: str


def read_entry(kind: str, value: str) -> Entry:
    """Return an entry as it stands in the list; addresses as they are always written.

    Raises:
        ValueError: if it is none, with a text that says why.
    """
    if kind not in KINDS:
        msg = f"{kind!r} is none of {', '.join(KINDS)}"
        raise ValueError(msg)
    if not value or len(value) > MAX_ID_CHARS or not value.isprintable() or value != value.strip():
        msg = f"a {kind} has 1 to {MAX_ID_CHARS} printable characters, and no space around them"
        raise ValueError(msg)
    return Entry(kind, str(ip_network(value)) if kind == "address" else value)


def read_list(text: str) -> Iterator[Entry]:
    """Yield the entries of a list: `user 42`, `device abc`, `address 203.0.113.0/24`, `# a comment`, an empty line.

    Raises:
        BrokenFileError: naming the line that is none of these, but not what stands there.
    """
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()  # noqa: PLW2901 - the line as it is meant
        if line and not line.startswith("#"):
            kind, _, value = line.partition(" ")
            try:
                yield read_entry(kind, value.strip())
            except ValueError as error:
                msg = f"line {number} has to be `user ID`, `device ID`, or `address` and an IP address or network"
                raise BrokenFileError(msg) from error


class Suppressed:
    """Who is not to be recorded."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        found: dict[str, set[str]] = {kind: set() for kind in KINDS}
        for kind, value in entries:
            found[kind].add(value)
        # Together: an id that was a user's stands where a device's does in an alias, or in an event of nobody known.
        self._people = frozenset(found["user"] | found["device"])
        networks: list[Network] = [ip_network(value) for value in found["address"]]
        self._networks = Networks(networks)
        self.people = bool(self._people)
        self.any = self.people or bool(networks)

    def keep_out(self, decoded: Decoded, address: str | None) -> None:
        """Turn what is of them into rejections that hold nothing of it.

        Events are theirs by the address, the user id or the anonymous id; what could not be read is theirs as well if
        one of these ids stands in it anywhere.
        """
        everything = address in self._networks
        if not everything and not self.people:
            return
        theirs: list[Rejection] = []
        others = []
        for index, event in decoded.events:
            if everything or event.user_id in self._people or event.anonymous_id in self._people:
                theirs.append(_without_content(index, event.id))
            else:
                others.append((index, event))
        rejected = [
            _without_content(one.index, None) if everything or self._stands_in(one.raw) else one
            for one in decoded.rejections
        ]
        if theirs:
            decoded.events = others
            rejected = sorted((*rejected, *theirs), key=lambda one: one.index)
        decoded.rejections = rejected

    def _stands_in(self, raw: bytes) -> bool:
        try:
            value = msgspec.json.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return False  # of what is no JSON nothing is kept (`collector.rejected`)
        return any(text in self._people for text in _texts(value))


def _without_content(index: int, event_id: str | None) -> Rejection:
    return Rejection(index, event_id, Reason.SUPPRESSED, f"events[{index}] is of somebody who is not recorded", b"")


def _texts(value: Any) -> Iterator[str]:  # noqa: ANN401 - JSON of unknown shape
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, int | float):
            yield str(one)
        elif isinstance(one, dict):
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
