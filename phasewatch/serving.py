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
IDLE_SECONDS: Final = 5
"""How long a connection is kept between requests, unless a port has a setting for it."""
HANDSHAKE_SECONDS: Final = 10.0
"""Of TLS: two round trips take less than one even by satellite. Until then a connection counts for nobody."""
_STOP_SECONDS: Final = 5
"""How long a stopping server waits for answers under way."""


class _Server(uvicorn.Server):
    """A server among several in one process, which leaves signals to that process."""

    def __init__(self, config: uvicorn.Config, tls: ssl.SSLContext | None) -> None:
        super().__init__(config)
        self._tls = tls

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen; not left to uvicorn where there is TLS, since it gives a client a minute for the handshake."""
        if self._tls is None:
            await super().startup(sockets)
            return
        await super().startup([])
        for one in sockets or ():
            server = await asyncio.get_running_loop().create_server(
                self._connection,
                sock=one,
                ssl=self._tls,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
                backlog=self.config.backlog,
            )
            self.servers.append(server)

    def _connection(self) -> asyncio.Protocol:
        made: Callable[..., asyncio.Protocol] = self.config.http_protocol_class
        return made(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

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
        idle_seconds: int = IDLE_SECONDS,
    ) -> str:
        """Serve one more application and return its address.

        Args:
            app: an ASGI application.
            host: address to listen on.
            port: 0 takes any free one.
            http: the protocol class where it needs its own.
            tls: answers HTTPS; None: plain HTTP.
            idle_seconds: how long a connection is kept between requests.

        Raises:
            UsageError: if nothing can listen there.
        """
        return await self.serve_on(app, listen(host, port), http=http, tls=tls, idle_seconds=idle_seconds)

    async def serve_on(
        self,
        app: Callable[..., Any],
        listener: socket.socket,
        *,
        http: type[asyncio.Protocol] | None = None,
        tls: ssl.SSLContext | None = None,
        idle_seconds: int = IDLE_SECONDS,
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
            timeout_keep_alive=idle_seconds,
        )
        server = _Server(config, tls)
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


def server_tls(certificate: Path, key: Path) -> ssl.SSLContext:
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
