"""Where settings come from: file, environment, command line; and how they are shown, with secrets masked."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import reduce
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import EnvSettingsSource, SettingsError

from phasewatch.errors import UsageError
from phasewatch.logs import MASK, SECRET_NAMES
from phasewatch.settings import ENV_PREFIX, SECTION_DELIMITER, Settings

__all__ = ["DEFAULT_FILE", "Row", "describe", "load", "read_file"]

DEFAULT_FILE: Final = Path("phasewatch.toml")

_LOGIN: Final = re.compile(r"//.*@", re.DOTALL)
"""User and password in a URL, where somebody has written them against our advice; they may hold any character."""
_QUERY: Final = re.compile(r"(//[^?]*\?).+", re.DOTALL)
"""Parameters of a URL: drivers take a password there as well."""

Given = dict[str, dict[str, Any]]
"""Values by section and key, as one source gives them; a key may hold a table again."""


@dataclass(slots=True, frozen=True)
class Row:
    """One setting as it is shown: `collector.port`, its value (secrets masked), where it comes from, what it means."""

    name: str
    value: object
    origin: str
    meaning: str


def load(file: Path | None = None, overrides: Given | None = None) -> tuple[Settings, dict[str, str]]:
    """Return the settings and the origin of every value that is no default (`section.key` to where it comes from).

    Args:
        file: a TOML file that has to exist; without one, `phasewatch.toml` of the working directory if it is there.
        overrides: values of the command line by section and key; they win over everything else.

    Raises:
        UsageError: naming each wrong or unknown key, its value and what is allowed.
    """
    path = file if file is not None else DEFAULT_FILE
    sources = [
        (f"file {path}", read_file(path) if file is not None or path.exists() else {}),
        ("environment", _read_environment()),
        ("command line", overrides or {}),
    ]
    merged: Given = {}
    origins: dict[str, str] = {}
    for origin, given in sources:
        _merge(merged, given)
        origins |= dict.fromkeys(_names(given), origin)
    try:
        return Settings.model_validate(merged), origins
    except ValidationError as error:
        raise UsageError("\n".join(_explain(found, origins) for found in error.errors())) from error


def _merge(into: dict[str, Any], given: Mapping[str, Any]) -> None:
    for name, value in given.items():
        if isinstance(value, Mapping):
            _merge(into.setdefault(name, {}), value)
        else:
            into[name] = value


def _names(given: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for name, value in given.items():
        if isinstance(value, Mapping):
            yield from _names(value, f"{above}{name}.")
        else:
            yield f"{above}{name}"


def read_file(path: Path) -> Given:
    """Return what stands in a settings file.

    Raises:
        UsageError: if it can't be read, is no TOML, or has a key outside of a section.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        msg = f"The settings file {path} cannot be read: {error.strerror}."
        raise UsageError(msg) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        msg = f"The settings file {path} is no TOML: {error}."
        raise UsageError(msg) from error
    for name, values in document.items():
        if not isinstance(values, dict):
            msg = f"{name} in {path} stands outside any section; put it under one of {_section_names()}."
            raise UsageError(msg)
    return document


def _read_environment() -> Given:
    for variable in os.environ:
        section, delimiter, key = variable.removeprefix(ENV_PREFIX).lower().partition(SECTION_DELIMITER)
        if variable.startswith(ENV_PREFIX) and not (delimiter and key and section in Settings.model_fields):
            msg = (
                f"The environment variable {variable} names no setting: it has to be "
                f"{ENV_PREFIX}<SECTION>{SECTION_DELIMITER}<KEY> with one of the sections {_section_names()}."
            )
            raise UsageError(msg)
    try:
        return dict(EnvSettingsSource(Settings)())
    except SettingsError as error:
        msg = f"The environment cannot be read: {error}; lists and tables are written as JSON there."
        raise UsageError(msg) from error


def _explain(error: ErrorDetails, origins: Mapping[str, str]) -> str:
    parts = [str(part) for part in error["loc"]]
    place = ".".join(parts)
    origin = next((origin for name, origin in origins.items() if _related(name, place)), "default")
    if error["type"] == "extra_forbidden":
        return f"{place} ({origin}) is no setting.{_near(parts)}"
    meaning = error["msg"].removeprefix("Value error, ").replace("valid tuple", "list")
    if error["type"] == "value_error":  # one of our own rules about several settings: its text names them
        return f"{place}: {meaning}." if place else meaning
    # A write key, a hash, or what may have been meant as one.
    hidden = not {"keys", "users", "api_tokens"}.isdisjoint(parts) and error["input"]
    shown = MASK if hidden else _without_login(as_text(masked(parts[-1], error["input"])))
    return f"{place} = {shown} ({origin}) is wrong: {meaning}."


def _without_login(text: str) -> str:
    return _QUERY.sub(rf"\1{MASK}", _LOGIN.sub(f"//{MASK}@", text))


def _related(name: str, place: str) -> bool:
    return name == place or name.startswith(f"{place}.") or place.startswith(f"{name}.")


def _near(parts: list[str]) -> str:
    above = "".join(f"{part}." for part in parts[:-1])
    beside = list(
        dict.fromkeys(name.removeprefix(above).split(".")[0] for name, _ in declared() if name.startswith(above))
    )
    near = get_close_matches(parts[-1], beside, n=1)
    return (f" Is it {near[0]}?" if near else "") + (f" There are {', '.join(beside)}." if beside else "")


def _section_names() -> str:
    return ", ".join(Settings.model_fields)


def declared(model: type[BaseModel] = Settings, above: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield (`section.key`, its declaration) of every setting; a section's own keys come before its tables'."""
    tables = []
    for key, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            tables.append((inner, f"{above}{key}."))
        else:
            yield f"{above}{key}", field
    for inner, name in tables:
        yield from declared(inner, name)


def describe(settings: Settings, origins: Mapping[str, str]) -> list[Row]:
    """Return one row for every setting; `origins` as `load` gave them."""
    return [
        Row(
            name=name,
            value=masked(name.rpartition(".")[2], reduce(getattr, name.split("."), settings)),
            origin=origins.get(name, "default"),
            meaning=sentence(field.description or ""),
        )
        for name, field in declared()
    ]


def sentence(text: str) -> str:
    """Return a description as a sentence: a capital first, a full stop last."""
    return f"{text[:1].upper()}{text[1:].removesuffix('.')}."


def as_text(value: object) -> str:
    """Return a masked value as it is shown: text as it is, lists and tables as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def masked(key: str, value: object) -> object:
    """Return a setting's value as JSON can hold it, secrets masked at any depth."""
    if isinstance(value, SecretStr) or (key in SECRET_NAMES and value):
        return MASK
    if isinstance(value, BaseModel):
        return {name: masked(name, getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, Mapping):
        return {str(name): masked(str(name), inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [masked("", item) for item in value]
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)
