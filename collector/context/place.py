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
_KNOWN: Final = 8192
"""Networks remembered; 2 MB."""
_NOWHERE: Final = frozenset({"", "XX", "ZZ", "T1", "-", "?", "N/A"})
"""What CDNs say of an address that they do not know, and of Tor's."""
_EDGESCAPE: Final = re.compile(r"(country_code|city)=([^,]*)")

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
        return tuple([headers.get(name, b"") for name in self._names])

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
    """A file in MaxMind's format (GeoLite2 or GeoIP2, Country or City, and others of that shape), read into memory.

    Not mapped: a mapped file that is written over in place ends the process with SIGBUS.

    Args:
        path: of the file.
        clock: returns seconds that only grow.

    Raises:
        PlaceFileError: if it cannot be read.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = monotonic) -> None:
        self._path = path
        self._clock = clock
        self._looked = clock()
        self._state = _state_of(path)
        self._reader = _open(path)
        self._place_of_network = lru_cache(maxsize=_KNOWN)(self._look_up)

    def place_of(self, address: str) -> str | None:
        """Return where an address is; None where the file does not know, and for what is no address."""
        network = truncated(address)
        return None if network is None else self._place_of_network(network)

    def has_changed(self) -> bool:
        """Look at the file from time to time; return whether what is known is now from another one.

        One that cannot be read is logged once, and the file before stays.
        """
        now = self._clock()
        if now - self._looked < RECHECK_SECONDS:
            return False
        self._looked = now
        state = _state_of(self._path)
        if state == self._state:
            return False
        self._state = state
        try:
            self._reader = _open(self._path)
        except PlaceFileError as error:
            _log.warning("place_file_unreadable", problem=str(error), kept="the one before")
            return False
        self._place_of_network.cache_clear()
        return True

    def _look_up(self, network: str) -> str | None:
        try:
            found: Any = self._reader.get(network)
        except (maxminddb.InvalidDatabaseError, ValueError):  # damaged within, or of IPv4 only
            return None
        return _named([_country(found), _city(found)]) if isinstance(found, dict) else None


def _open(path: Path) -> maxminddb.Reader:
    try:
        return maxminddb.open_database(path, maxminddb.MODE_MEMORY)
    except (OSError, maxminddb.InvalidDatabaseError) as error:
        msg = (
            f"collector.place_database, {path}, cannot be read: {error}. "
            "Give the path of an .mmdb file (GeoLite2-City.mmdb or one of its kind), or leave the setting out"
        )
        raise PlaceFileError(msg) from error


def _state_of(path: Path) -> tuple[int, int, int] | None:
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
