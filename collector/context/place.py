"""Where somebody is, as `CN/Shanghai` or `CN`: from a CDN's headers, or from a file in MaxMind's format."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from time import monotonic
from typing import Any, Final

import maxminddb
import structlog

from collector.context.address import truncated

MAX_CHARS: Final = 64
RECHECK_SECONDS: Final = 30.0
"""How long a new file may go unnoticed; MaxMind publishes twice a week."""
_VALUE_BYTES: Final = 256
_KNOWN: Final = 8192
"""Networks remembered; 2 MB."""
_NOWHERE: Final = frozenset({"", "XX", "ZZ", "T1", "-", "?", "N/A"})
"""What CDNs say of an address that they do not know, and of Tor's."""
_EDGESCAPE: Final = re.compile(r"(country_code|city)=([^,]*)")

_State = tuple[int, int, int] | None
"""Time, size and inode of a file; None where there is none."""

_log = structlog.get_logger(__name__)


class PlaceFileError(ValueError):
    """The file of places is missing, or is no such file."""


class HeaderPlaces:
    """Reads a place from headers that a CDN adds: country first, then, where there is a header for it, the city.

    `X-Akamai-Edgescape` holds both in one. What the client sent under these names, the CDN has to take away.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(name.lower().encode() for name in names)

    def values(self, headers: Mapping[bytes, bytes]) -> tuple[bytes, ...]:
        """Return the values of the headers, empty for a missing one."""
        return tuple([headers.get(name, b"")[:_VALUE_BYTES] for name in self._names])

    def place_of(self, values: Sequence[bytes]) -> str | None:
        """Return the place that the headers' values name."""
        texts = [value.decode("utf-8", "replace").strip() for value in values]
        if texts and "country_code=" in texts[0]:
            found = dict(_EDGESCAPE.findall(texts[0]))
            texts = [found.get("country_code", ""), found.get("city", "").title()]
        return _named(texts)


def _named(parts: Sequence[str]) -> str | None:
    """Return country and city as one text; no city without its country, as many share their names."""
    if not parts or parts[0].upper() in _NOWHERE:
        return None
    known = [parts[0].upper(), *(part for part in parts[1:] if part.upper() not in _NOWHERE)]
    text = "/".join(known)[:MAX_CHARS]
    return text if text.isprintable() else None


class PlaceDatabase:
    """A file in MaxMind's format: GeoLite2 or GeoIP2, Country or City, and others of that shape.

    One that cannot be read is logged, once, and what was read before stays: events matter more than places.

    Args:
        path: of the file.
        clock: returns seconds that only grow.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = monotonic) -> None:
        self._path = path
        self._clock = clock
        self._looked = 0.0
        self._state: _State = None
        self._reader: maxminddb.Reader | None = None
        self._place_of_network = lru_cache(maxsize=_KNOWN)(self._look_up)
        self._read()

    def place_of(self, address: str) -> str | None:
        """Return where an address is; None where the file does not know, and for what is no address."""
        network = truncated(address)
        return None if network is None else self._place_of_network(network)

    def has_changed(self) -> bool:
        """Look at the file from time to time; return whether what is known is now from another one."""
        if self._clock() - self._looked < RECHECK_SECONDS:
            return False
        return self._read()

    def _read(self) -> bool:
        self._looked = self._clock()
        state = _state_of(self._path)
        if state == self._state and self._reader is not None:
            return False
        try:
            reader = open_places(self._path)
        except PlaceFileError as error:
            if state != self._state or self._reader is None:
                _log.warning("place_file_unreadable", problem=str(error), kept=self._reader is not None)
            self._state = state
            return False
        self._state, self._reader = state, reader
        self._place_of_network.cache_clear()
        return True

    def _look_up(self, network: str) -> str | None:
        if self._reader is None:
            return None
        try:
            found: Any = self._reader.get(network)
        except (maxminddb.InvalidDatabaseError, ValueError):  # damaged within, or of IPv4 only
            return None
        return _named([_country(found), _city(found)]) if isinstance(found, dict) else None


def open_places(path: Path) -> maxminddb.Reader:
    """Return a reader of the file in memory: a mapped one that is written over in place ends the process by SIGBUS.

    Raises:
        PlaceFileError: if it cannot be read.
    """
    try:
        return maxminddb.open_database(path, maxminddb.MODE_MEMORY)
    except (OSError, maxminddb.InvalidDatabaseError) as error:
        msg = f"{path} cannot be read: {error}"
        raise PlaceFileError(msg) from error


def _state_of(path: Path) -> _State:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _country(found: dict[str, Any]) -> str:
    country = found.get("country")
    code = country.get("iso_code") if isinstance(country, dict) else found.get("country_code") or country
    return code if isinstance(code, str) else ""


def _city(found: dict[str, Any]) -> str:
    city = found.get("city")
    names = city.get("names") if isinstance(city, dict) else None
    name = names.get("en") if isinstance(names, dict) else city
    return name if isinstance(name, str) else ""
