"""The write keys of a deployment, as commands need them that hand one out or write themselves."""

from __future__ import annotations

from collector.guards.files import BrokenFileError
from collector.guards.key_file import read_keys
from collector.settings import CollectorSettings, WriteKey
from phasewatch.errors import UsageError

__all__ = ["write_keys"]


def write_keys(settings: CollectorSettings) -> tuple[WriteKey, ...]:
    """Return the keys of the settings and, after them, those of `keys_file` as it is now.

    Raises:
        UsageError: if the file cannot be read or used.
    """
    path = settings.keys_file
    if path is None:
        return settings.keys
    try:
        return (*settings.keys, *read_keys(path.read_text(encoding="utf-8"), settings.keys))
    except OSError as error:
        msg = f"{path} (collector.keys_file) cannot be read: {error.strerror}."
    except UnicodeDecodeError as error:
        msg = f"{path} (collector.keys_file) is not UTF-8 (byte {error.start})."
    except BrokenFileError as error:
        msg = f"{path} (collector.keys_file): {error}."
    raise UsageError(msg)
