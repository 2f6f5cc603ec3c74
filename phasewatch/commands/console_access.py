"""`phasewatch console-password` and `console-token`: what the settings need to know of a user or a program."""

from __future__ import annotations

import getpass
import sys

import typer
from pydantic import ValidationError

from console.passwords import LEAST_CHARACTERS, MOST_CHARACTERS, hash_password, hash_token, new_token
from console.settings import ApiToken, ConsoleUser
from phasewatch.errors import UsageError

__all__ = ["run_console_password", "run_console_token"]


def run_console_password(name: str, *, generate: bool) -> int:
    """Print a user for the settings file, and a made-up password before it; return the exit code.

    Raises:
        UsageError: if name or password can't be one.
    """
    password = new_token() if generate else _asked()
    if not LEAST_CHARACTERS <= len(password) <= MOST_CHARACTERS:
        msg = f"a password has {LEAST_CHARACTERS} to {MOST_CHARACTERS:,} characters; `--generate` makes one up"
        raise UsageError(msg)
    hashed = hash_password(password)
    _check(ConsoleUser, name=name, password_hash=hashed)
    if generate:
        typer.echo(f"# the password, shown this once: {password}")
    typer.echo(f'[[console.users]]\nname = "{name}"\npassword_hash = "{hashed}"')
    return 0


def run_console_token(name: str) -> int:
    """Print a new token, and what the settings file needs of it; return the exit code.

    Raises:
        UsageError: if the name can't be one.
    """
    token = new_token()
    hashed = hash_token(token)
    _check(ApiToken, name=name, token_hash=hashed)
    typer.echo(f"# the token, shown this once: {token}")
    typer.echo(f'[[console.api_tokens]]\nname = "{name}"\ntoken_hash = "{hashed}"')
    return 0


def _asked() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass.getpass("Password: ")
    if getpass.getpass("Once more: ") != password:
        msg = "the two differ; begin again"
        raise UsageError(msg)
    return password


def _check(kind: type[ConsoleUser | ApiToken], **fields: str) -> None:
    try:
        kind.model_validate(fields)
    except ValidationError as error:
        problems = "; ".join(f"{one['loc'][0]}: {one['msg']}" for one in error.errors())
        msg = f"that can't stand in the settings: {problems}"
        raise UsageError(msg) from error
