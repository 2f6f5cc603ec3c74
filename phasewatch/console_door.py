"""Whether the console may be opened where the settings say, and opening it there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog

from phasewatch.errors import UsageError
from phasewatch.serving import Servers, server_tls
from phasewatch.settings import Console, is_loopback

__all__ = ["door_fault", "require_door", "serve_console"]

_logger = structlog.get_logger(__name__)


def door_fault(console: Console) -> str | None:
    """Return what a console at this address lacks; None: nothing."""
    if is_loopback(console.host):
        return None
    where = f"console.host is {console.host}, where others reach it, and it shows what people do"
    if not console.users:
        return (
            f"{where}: it needs console.users, who log in. `phasewatch console-password NAME` makes one; or listen on "
            "127.0.0.1, and see docs/console.md"
        )
    if not console.is_encrypted and not console.allow_plain_http:
        return (
            f"{where}: passwords would pass readably. Set console.tls_certificate and console.tls_key, or "
            "console.proxies where a TLS proxy is before it; console.allow_plain_http if its port is published on "
            "loopback alone. See docs/console.md"
        )
    return None


def require_door(console: Console) -> None:
    """Refuse to open the console to others without what that needs.

    Raises:
        UsageError: naming what it lacks.
    """
    if fault := door_fault(console):
        raise UsageError(fault)


async def serve_console(servers: Servers, app: Callable[..., Any], console: Console) -> str:
    """Serve the console's application and return its address.

    Raises:
        UsageError: if nothing can listen there, or the certificate can't be used.
    """
    tls = None
    if console.tls_certificate is not None and console.tls_key is not None:
        tls = server_tls(console.tls_certificate, console.tls_key)
    if console.allow_plain_http and not console.is_encrypted and not is_loopback(console.host):
        _logger.warning("console_without_tls", host=console.host, meaning="whoever listens on the way reads passwords")
    return await servers.serve(app, console.host, console.port, tls=tls)
