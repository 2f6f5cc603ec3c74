"""HTTP servers among other work in one process: uvicorn, with signals and lifetime left to that process."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import uvicorn

from phasewatch.errors import FaultError, UsageError

_POLL_SECONDS: Final = 0.02
_STOP_SECONDS: Final = 5
"""How long a stopping server waits for answers under way."""


class _Server(uvicorn.Server):
    """A server among several in one process, which leaves signals to that process."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Servers:
    """The servers of one process; used from one event loop."""

    def __init__(self) -> None:
        self._servers: list[tuple[_Server, asyncio.Task[None]]] = []

    async def serve(
        self,
        app: Callable[..., Any],
        host: str,
        port: int,
        *,
        http: type[asyncio.Protocol] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> str:
        """Serve one more application and return its address; `http` is the protocol class where it needs its own.

        Raises:
            UsageError: if nothing can listen there.
        """
        return await self.serve_on(app, listen(host, port), http=http, tls=tls)

    async def serve_on(
        self,
        app: Callable[..., Any],
        listener: socket.socket,
        *,
        http: type[asyncio.Protocol] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> str:
        """Serve one more application on a socket that listens already; otherwise as `serve`."""
        config = uvicorn.Config(
            app,
            http=http or "auto",
            log_config=None,
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            date_header=False,
            server_header=False,
            timeout_graceful_shutdown=_STOP_SECONDS,
            ssl_context_factory=None if tls is None else lambda *_: tls,
        )
        server = _Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        self._servers.append((server, task))
        while not server.started:
            if task.done():
                await task
                msg = f"the server at {_address(listener, tls)} has ended before it began"
                raise FaultError(msg)
            await asyncio.sleep(_POLL_SECONDS)
        return _address(listener, tls)

    async def stop(self) -> None:
        """Take no new requests, finish those under way, and stop."""
        for server, _ in self._servers:
            server.should_exit = True
        await asyncio.gather(*(task for _, task in self._servers), return_exceptions=True)


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; not left to the server, which would end the process where it can't.

    Raises:
        UsageError: if nothing can listen there.
    """
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        msg = f"nothing can listen on {host}:{port} ({error.strerror}); stop what does, or choose another port"
        raise UsageError(msg) from error


def tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return what a server needs to speak TLS 1.2 and above.

    Args:
        certificate: PEM file of the certificate and those above it.
        key: PEM file of its key.

    Raises:
        UsageError: if a file can't be read or the two do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key, password="")
    except OSError as error:  # ssl.SSLError is one
        msg = f"TLS needs a certificate and its key as PEM files, without a password: {certificate}, {key} ({error})"
        raise UsageError(msg) from error
    return context


def _address(listener: socket.socket, tls: ssl.SSLContext | None) -> str:
    host, port = listener.getsockname()[:2]
    return f"http{'' if tls is None else 's'}://{f'[{host}]' if ':' in host else host}:{port}"
