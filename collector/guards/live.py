"""What of the settings stands in files of its own, because it changes while the collector runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from prometheus_client import Gauge

from collector.guards.files import WatchedFile
from collector.guards.key_file import read_keys
from collector.guards.suppression import Suppressed, read_list
from collector.settings import CollectorSettings, WriteKey


def live_files(
    settings: CollectorSettings,
    shown: Gauge,
    on_keys: Callable[[tuple[WriteKey, ...]], None],
    on_suppressed: Callable[[Suppressed], None],
) -> list[WatchedFile]:
    """Return the files that the settings name, each taken over once.

    Args:
        settings: of the collector.
        shown: tells by name which file is broken.
        on_keys: gets all keys, those of the settings too.
        on_suppressed: gets who is not recorded.

    Raises:
        BrokenFileError: if one of them cannot be read.
    """

    def take_keys(text: str) -> Callable[[], None]:
        return partial(on_keys, (*settings.keys, *read_keys(text, settings.keys)))

    def take_suppressed(text: str) -> Callable[[], None]:
        return partial(on_suppressed, Suppressed(read_list(text)))

    files = (("keys", settings.keys_file, take_keys), ("suppressed", settings.suppressed_file, take_suppressed))
    return [WatchedFile(name, path, take, shown) for name, path, take in files if path is not None]
