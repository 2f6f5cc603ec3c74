"""The public port: a bare ASGI application, because a framework costs as much as all the work (measured)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from time import perf_counter
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram

from collector.answer import JSON, Answer, refusal, results
from collector.asgi import Receive, Scope, Send, run_lifespan, send_answer
from collector.body import ClientGoneError
from collector.cors import ANYONE, cors_headers, read_origin
from collector.debug import DebugLog
from collector.decode.native import NATIVE
from collector.dialects.path import EventPath, always
from collector.dialects.settings_path import SettingsPath
from collector.dialects.table import EVENT_PATHS, SETTINGS_PATHS, Paths
from collector.errors import UnknownPathError, WrongMethodError, code_of, status_of
from collector.events import EventsRoute
from collector.guards.connections import SWEEP_SECONDS, Connections
from collector.guards.files import watch
from collector.guards.live import live_files
from collector.guards.proxies import Networks, Proxies, read_address
from collector.guards.rates import Rates
from collector.guards.suppression import Suppressed
from collector.head import Head
from collector.keys import Keys
from collector.metrics import CollectorMetrics
from collector.script import Script
from collector.settings import CollectorSettings, WriteKey
from collector.sinks.port import Sink

_log = structlog.get_logger(__name__)

ALIVE: Final = b'{"status":"ok"}'


@dataclass(slots=True)
class Request:
    """What a route may look at."""

    head: Head
    receive: Receive


@dataclass(slots=True, frozen=True)
class Route:
    """One path: its name in the metrics, its methods and what answers."""

    name: str
    methods: tuple[str, ...]
    answer: Callable[[Request], Awaitable[Answer]]
    instead: Mapping[int, HTTPStatus] | None = None
    counted: bool = True
    """Whether a request counts for its address here; events count where they are admitted."""


class CollectorApp:
    """The public port as an ASGI application; used from one event loop, closed by the server's stop or `close`."""

    def __init__(
        self,
        settings: CollectorSettings,
        sink: Sink,
        clock: Callable[[], int],
        metrics: CollectorMetrics,
        *,
        debug: DebugLog | None = None,
        processes: int = 1,
    ) -> None:
        self._settings = settings
        self._debug = debug
        self.metrics = metrics
        self._keys = Keys(settings.keys)
        self.proxies: Final = Proxies(settings.proxies, settings.client_address_header)
        self._rates = Rates(settings.addresses, processes, metrics.addresses)
        self.connections: Final = Connections(
            settings.connections,
            Networks((*settings.addresses.exempt, *settings.proxies)),
            settings.limits.body_seconds + settings.connections.idle_seconds + SWEEP_SECONDS,
            metrics,
        )
        self._counted: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self.events = EventsRoute(settings, sink, clock, metrics, self._keys, rates=self._rates, debug=debug)
        self.files: Final = live_files(settings, metrics.file_broken, self._take_keys, self._take_suppressed)
        self._script = Script(settings)
        native = EventPath("events", settings.events_path, ("POST",), always(NATIVE), results, key_required=True)
        self.events_at: Final = Paths((native, *EVENT_PATHS)).at
        self._settings_at: Final = Paths(SETTINGS_PATHS).at
        script = Route("autocapture", ("GET", "HEAD"), self._autocapture)
        self._routes = dict.fromkeys(self._script, script)
        self._routes["/healthz"] = Route("healthz", ("GET", "HEAD"), self._healthz, counted=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection's scope, as the ASGI specification (version 3) says."""
        if scope["type"] == "lifespan":
            watching = asyncio.create_task(watch(self.files))
            try:
                await run_lifespan(receive, send, self.close)
            finally:
                watching.cancel()
                await asyncio.wait([watching])
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        else:
            await self._serve(scope, receive, send)

    def _take_keys(self, keys: tuple[WriteKey, ...]) -> None:
        self._keys.replace(keys)
        self._rates.forget_others(key.name for key in keys)

    def _take_suppressed(self, found: Suppressed) -> None:
        self.events.suppressed = found

    def note(self) -> str | None:
        """Return what an operator should know though events are accepted; None where there is nothing."""
        problems = [f"{one.problem}; what it said before holds" for one in self.files if one.problem is not None]
        return "; ".join(problems) or None

    async def told(self) -> str | None:
        """Return the note, as the admin port asks for it."""
        return self.note()

    def remember(self, durable: Iterable[tuple[str, str]]) -> None:
        """Take over the (person key, id) pairs that an earlier process has made durable."""
        self.events.remember(durable)

    async def close(self) -> None:
        """Make durable what was accepted; the sink stays open."""
        await self.events.close()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = perf_counter()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        origin = read_origin(headers.get(b"origin"))
        client = scope.get("client")
        peer = read_address(client[0]) if client else None
        address, proxied = self.proxies.client(peer, scope["headers"]), peer in self.proxies.networks
        head = Head(scope["method"], scope["path"], scope["query_string"], headers, origin, address, proxied)
        request = Request(head, receive)
        route = self._route(request.head.path)
        try:
            answer = await self._answer(route, request)
        except ClientGoneError:
            return
        preflight = headers.get(b"access-control-request-headers", b"") if head.method == "OPTIONS" else None
        self.finish(answer, route.name if route is not None else "other", started, origin, preflight)
        await send_answer(send, answer)

    def finish(
        self, answer: Answer, route: str, started: float, origin: str | None = None, preflight: bytes | None = None
    ) -> None:
        """Give an answer the headers that let pages read it, and count it.

        Args:
            answer: about to be sent.
            route: its name in the metrics.
            started: when the request's head was here, by `perf_counter`.
            origin: the page that asks, as `read_origin` gives it.
            preflight: the headers it asks for; None if it is none.
        """
        if ANYONE not in answer.headers:
            allowed = origin is not None and self._keys.may_read(origin)
            answer.headers += cors_headers(origin, allowed=allowed, preflight=preflight)
        status = int(answer.status)
        counted = self._counted.get((route, status))
        if counted is None:  # kept, because to find them costs more than to add
            requests, seconds = self.metrics.requests, self.metrics.request_seconds
            counted = self._counted[route, status] = requests.labels(route, str(status)), seconds.labels(route)
        counted[0].inc()
        counted[1].observe(perf_counter() - started)

    def refuse(self, error: Exception, route: str, instead: Mapping[int, HTTPStatus] | None = None) -> Answer:
        """Return the refusal that an error stands for; what the table does not know is logged and counted.

        `route` is its name in the metrics; `instead` are statuses that its SDKs survive, as an EventPath has them.
        """
        if status_of(error) is None:
            self.metrics.faults.inc()
            _log.error("request_failed", route=route, exc_info=error)
        self.metrics.refused.labels(route, code_of(error)).inc()
        return refusal(error, instead)

    def _route(self, path: str) -> Route | None:
        found = self._routes.get(path)
        if found is not None:
            return found
        if (events := self.events_at(path)) is not None:
            return Route(events.name, events.methods, partial(self._events, events), events.instead, counted=False)
        if (settings := self._settings_at(path)) is not None:
            return Route(settings.name, settings.methods, partial(self._sdk_settings, settings))
        return None

    async def _answer(self, route: Route | None, request: Request) -> Answer:
        """Return the route's answer, or the refusal that an error stands for."""
        try:
            if route is None or route.counted:
                self._rates.count_request(request.head.address)
            if request.head.method == "OPTIONS":
                return Answer(HTTPStatus.NO_CONTENT)
            if route is None:
                msg = f"events go to {self._settings.events_path}"
                raise UnknownPathError(msg)  # noqa: TRY301 - the table makes the answer, as of every other error
            if request.head.method not in route.methods:
                return _wrong_method(route)
            return await route.answer(request)
        except ClientGoneError:
            raise
        except Exception as error:  # noqa: BLE001 - in the table, or logged; the server would only drop it
            if route is None:
                if self._debug is not None:
                    self._debug.begin(request.head).was_refused(error)
                return self.refuse(error, "other")
            return self.refuse(error, route.name, route.instead)

    async def _events(self, events_path: EventPath, request: Request) -> Answer:
        upload = self.events.admit(events_path, request.head)
        await upload.body.receive(request.receive)
        return await self.events.take(upload)

    async def _sdk_settings(self, settings_path: SettingsPath, request: Request) -> Answer:
        answer = settings_path.answer(request.head.path)
        if self._debug is not None:
            self._debug.begin(request.head).answered(answer.status)
        return answer

    async def _autocapture(self, request: Request) -> Answer:
        return self._script.answer(request.head.path, request.head.headers)

    async def _healthz(self, _: Request) -> Answer:
        return Answer(HTTPStatus.OK, ALIVE, [JSON, (b"cache-control", b"no-store")])


def _wrong_method(route: Route) -> Answer:
    allowed = ", ".join((*route.methods, "OPTIONS"))
    answer = refusal(WrongMethodError(f"allowed: {allowed}"))
    answer.headers.append((b"allow", allowed.encode()))
    return answer


def make_app(
    settings: CollectorSettings,
    sink: Sink,
    clock: Callable[[], int],
    *,
    registry: CollectorRegistry | None = None,
    debug: DebugLog | None = None,
    processes: int = 1,
) -> CollectorApp:
    """Return the public port's application.

    Args:
        settings: of the collector.
        sink: where events become durable; whoever opened it closes it, after the application.
        clock: returns UTC milliseconds.
        registry: where the metrics are registered; a new one if None.
        debug: remembers what comes in and what was understood of it; nothing is remembered if None.
        processes: how many share the port: each has its part of the rates.
    """
    metrics = CollectorMetrics(registry if registry is not None else CollectorRegistry())
    return CollectorApp(settings, sink, clock, metrics, debug=debug, processes=processes)
