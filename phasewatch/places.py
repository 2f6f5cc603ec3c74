"""The file of places, looked at before anything is started."""

from __future__ import annotations

from collector.context.place import PlaceFileError, open_places
from phasewatch.errors import UsageError
from phasewatch.settings import Settings

__all__ = ["require_places"]


def require_places(settings: Settings) -> None:
    """Raise UsageError, naming the setting, where a file of places is set and cannot be read.

    Only here: a process that is started again later goes on without places, since events matter more.
    """
    file = settings.collector.place_database
    if file is None:
        return
    try:
        open_places(file).close()
    except PlaceFileError as error:
        msg = (
            f"collector.place_database: {error}. Give the path of an .mmdb file (GeoLite2-City.mmdb or one of its "
            "kind), or leave the setting out"
        )
        raise UsageError(msg) from error
