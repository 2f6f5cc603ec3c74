"""`phasewatch suppress`: changes the list of who is not recorded, while collectors read it."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import typer

from collector.guards.files import BrokenFileError
from collector.guards.suppression import Entry, read_entry, read_list
from phasewatch.errors import UsageError
from phasewatch.settings import Settings

__all__ = ["change", "show"]

_MODE: Final = 0o640
"""Of a new list, which names people; an old one keeps its own."""


def change(settings: Settings, kind: str, values: Sequence[str], *, add: bool) -> None:
    """Add entries to the list or take them away; other lines stay as they are, comments too.

    Raises:
        UsageError: if no list is set, an entry is none, or the list cannot be read or written.
    """
    path = _path(settings)
    try:
        entries = [read_entry(kind, value) for value in values]
    except ValueError as error:
        msg = f"{error}; nothing was changed"
        raise UsageError(msg) from error
    try:
        with _locked(path):
            lines = _read(path).splitlines()
            there = [next(iter(read_list(line)), None) for line in lines]
            if add:
                changed = [*lines, *(" ".join(one) for one in dict.fromkeys(entries) if one not in there)]
            else:
                changed = [line for line, one in zip(lines, there, strict=True) if one not in entries]
            if changed != lines:
                _replace(path, "".join(f"{line}\n" for line in changed))
    except BrokenFileError as error:
        msg = f"{path}: {error}; nothing was changed, mend it first"
        raise UsageError(msg) from error
    except OSError as error:
        msg = f"{path} cannot be changed: {error.strerror}"
        raise UsageError(msg) from error
    done = f"{abs(len(changed) - len(lines))} of {len(entries)} {'added' if add else 'removed'}"
    typer.echo(f"{done}; collectors know it within seconds")


def show(settings: Settings, *, as_json: bool) -> None:
    """Print the list.

    Raises:
        UsageError: if no list is set, or it cannot be read.
    """
    path = _path(settings)
    try:
        entries: list[Entry] = list(read_list(_read(path)))
    except (BrokenFileError, OSError) as error:
        msg = f"{path}: {error}"
        raise UsageError(msg) from error
    if as_json:
        typer.echo(json.dumps([one._asdict() for one in entries], ensure_ascii=False))
    else:
        for one in entries:
            typer.echo(" ".join(one))


def _path(settings: Settings) -> Path:
    path = settings.collector.suppressed_file
    if path is None:
        msg = "no list is set: name one in collector.suppressed_file, the same file for every collector"
        raise UsageError(msg)
    return path


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other commands away; the lock is a file of its own, because the list itself is replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _replace(path: Path, text: str) -> None:
    """Write the list so that whoever reads it sees the old one or the new one as a whole."""
    beside = path.with_name(f"{path.name}.new")
    mode = path.stat().st_mode & 0o777 if path.exists() else _MODE
    with beside.open("w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
