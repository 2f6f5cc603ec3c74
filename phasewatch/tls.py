"""TLS of the collector's port: a certificate that is renewed while the server runs."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from prometheus_client import Gauge

from collector.guards.files import BrokenFileError, WatchedFile
from phasewatch.errors import UsageError
from phasewatch.settings import Settings

__all__ = ["served_certificate"]

_TLS_1_2: Final = ssl.TLSVersion.TLSv1_2
"""The oldest that is not forbidden (RFC 8996)."""


def served_certificate(settings: Settings, shown: Gauge, files: list[WatchedFile]) -> ssl.SSLContext | None:
    """Return what the collector answers HTTPS with, None where it answers plain HTTP.

    Args:
        settings: of the deployment.
        shown: tells by name which file is broken.
        files: are watched; the certificate's are added.

    Raises:
        UsageError: if they cannot be read or do not belong together.
    """
    certificate, key = settings.collector.tls_certificate, settings.collector.tls_key
    if certificate is None or key is None:
        return None
    try:
        served = _Certificate(certificate, key, shown)
    except BrokenFileError as error:
        raise UsageError(str(error)) from error
    files.extend(served.files)
    return served.context


class _Certificate:
    """A certificate with its key, and the context that connections take it from."""

    def __init__(self, certificate: Path, key: Path, shown: Gauge) -> None:
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.minimum_version = _TLS_1_2
        self._certificate, self._key = certificate, key
        self.files = [
            WatchedFile("certificate", certificate, self._take, shown),
            WatchedFile("certificate_key", key, self._take, shown),
        ]

    def _take(self, _: str) -> Callable[[], None]:
        """Try the pair in a context of its own: while it is renewed, one half does not fit the other."""
        try:
            self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        except (OSError, ValueError) as error:  # an SSLError is an OSError
            msg = f"certificate and key cannot be used together: {error}"
            raise BrokenFileError(msg) from error
        return partial(self._load, self.context)

    def _load(self, context: ssl.SSLContext) -> None:
        context.load_cert_chain(self._certificate, self._key, password=_no_password)


def _no_password() -> str:
    """Stand in for the question at the terminal, which would hold everything up."""
    msg = "the key has a password: a server needs one without"
    raise ValueError(msg)
