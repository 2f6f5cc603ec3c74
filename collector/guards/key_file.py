"""Write keys in a file of their own, which can change while the collector runs."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from collector.guards.files import BrokenFileError
from collector.settings import WriteKey, check_keys

KNOWN: Final = frozenset({"demo", "demo-secret"})
"""What everybody knows (contract, Commands): accepted on this machine only, so not from a file, which nobody checks."""


class _KeyFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    keys: tuple[WriteKey, ...] = ()


def read_keys(text: str, others: Sequence[WriteKey]) -> tuple[WriteKey, ...]:
    """Return the keys of a file with `[[keys]]` tables, each as one of `collector.keys`.

    Args:
        text: TOML.
        others: the keys of the settings, beside which they stand.

    Raises:
        BrokenFileError: if it cannot be read or holds no key; the text has nothing of a key in it.
    """
    try:
        keys = _KeyFile.model_validate(tomllib.loads(text)).keys
        check_keys((*others, *keys))
    except tomllib.TOMLDecodeError as error:
        msg = f"it is no TOML: {error}"
        raise BrokenFileError(msg) from error
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False)[0]
        msg = f"{'.'.join(str(part) for part in found['loc'])} is wrong: {found['msg']}"
        raise BrokenFileError(msg) from None  # its own text would show the key
    except ValueError as error:
        raise BrokenFileError(str(error)) from error
    if any(key.demo or key.key.get_secret_value() in KNOWN for key in keys):
        msg = "it holds a demo key, which everybody knows: make one of your own, `openssl rand -hex 24`"
        raise BrokenFileError(msg)
    if not keys and not others:
        msg = "it holds no key: write [[keys]], name and key"
        raise BrokenFileError(msg)
    return keys
