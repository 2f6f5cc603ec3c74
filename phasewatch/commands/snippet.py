"""`phasewatch snippet`: the script tag of this release's autocapture.js, with the digest that browsers check."""

from __future__ import annotations

import sys
from html import escape

from collector import sdk
from collector.settings import WriteKey
from phasewatch.errors import UsageError
from phasewatch.settings import Settings
from phasewatch.write_keys import write_keys

__all__ = ["run_snippet"]


def run_snippet(settings: Settings, address: str, name: str | None) -> int:
    """Print the tag for a shop's pages and return the exit code.

    Args:
        settings: name the script's path and the write keys, or the file of them.
        address: of the collector, as the pages' visitors reach it.
        name: of the write key; the first public one if None.

    Raises:
        UsageError: if there is no such key, or it is a trusted one, which no page may hold; if the file of keys cannot
            be read.
    """
    collector = settings.collector
    program = sdk.program(collector.autocapture_path, collector.events_path)
    key = escape(_public_key(write_keys(collector), name).key.get_secret_value())
    source = escape(address.rstrip("/") + program.path)
    sys.stdout.write(
        f'<script src="{source}" integrity="{program.integrity}" crossorigin="anonymous" data-key="{key}"></script>\n'
    )
    return 0


def _public_key(keys: tuple[WriteKey, ...], name: str | None) -> WriteKey:
    public = [key for key in keys if not key.trusted]
    for key in public:
        if name in {None, key.name}:
            return key
    wanted = "no public write key" if name is None else f"no public write key `{name}`"
    known = ", ".join(key.name for key in public) or "none"
    msg = (
        f"the settings have {wanted}, and pages need one (public ones: {known}): add it to collector.keys or to the "
        "file collector.keys_file."
    )
    raise UsageError(msg)
