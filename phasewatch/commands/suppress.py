"""`phasewatch suppress`: changes the list of who is not recorded, while collectors read it."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
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
    beside = path.with_name(f"{path.name}.lock")
    with suppress(FileExistsError), beside.open("x") as lock:
        _give_to_owner(lock.fileno(), path)
    with beside.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _give_to_owner(file: int, path: Path) -> None:
    """Let a file that root has made belong to the list's owner, or its folder's, who else could not use it.

    It has to be new: one that was there may be a link to a file that is not the owner's.
    """
    if os.geteuid() == 0:
        owner = (path if path.exists() else path.parent).stat()
        os.fchown(file, owner.st_uid, owner.st_gid)


def _replace(path: Path, text: str) -> None:
    """Write the list so that whoever reads it sees the old one or the new one as a whole."""
    beside = path.with_name(f"{path.name}.new")
    mode = path.stat().st_mode & 0o777 if path.exists() else _MODE
    beside.unlink(missing_ok=True)  # of a command that was killed
    with beside.open("x", encoding="utf-8") as file:
        _give_to_owner(file.fileno(), path)
        os.fchmod(file.fileno(), mode)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
