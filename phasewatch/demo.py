"""The demo: everything embedded, a small fund shop, and visitors who lived 30 days before you came."""

from __future__ import annotations

import asyncio
import json
import tempfile
import urllib.error
import urllib.request
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, Final

import structlog
import uvloop
from rich.console import Console
from rich.text import Text

from bench.live import LiveVisitors
from phasewatch.backend import open_backend
from phasewatch.commands.importing import import_with_progress
from phasewatch.data_dir import log_file, now_ms, worker_lock
from phasewatch.demo_processes import Processes
from phasewatch.embedded import Addresses, Deployment, Embedded, serve
from phasewatch.errors import UsageError
from phasewatch.settings import Settings
from phasewatch.shop.app import make_shop_app
from phasewatch.write_keys import write_keys
from processors.wire import StageChange, decode_change

__all__ = ["run_demo"]

SEED: Final = 7
HISTORY_DAYS: Final = 30
SHOP_PORT: Final = 8602
_POLL_SECONDS: Final = 0.1
_POST_TIMEOUT_SECONDS: Final = 10
_COLOURS: Final = {
    "decision": "bold yellow",
    "holding": "bold green",
    "post_redemption": "bold magenta",
    "dormant": "dim",
    "prospect": "cyan",
}

_logger = structlog.get_logger(__name__)


def run_demo(settings: Settings, *, seconds: float | None, people: int) -> int:
    """Run until stopped, or for a number of seconds, and return the exit code."""
    console = Console()
    visitors = LiveVisitors(SEED, people, now_ms())
    if settings.kafka.brokers:
        with Processes(settings, console) as processes:
            if processes.log_is_new():
                _live_the_past(settings, visitors, console)
            _go_on(settings, visitors, console, processes, seconds)
        return 0
    if not log_file(settings).exists():
        _live_the_past(settings, visitors, console)
    else:
        console.print(f"going on with the data in {settings.store.data_dir} (remove it to start anew)")
    with worker_lock(settings) as mine:
        if not mine:
            msg = f"another phasewatch is running on {settings.store.data_dir}; stop it, or use another --data-dir"
            raise UsageError(msg)
        _go_on(settings, visitors, console, Embedded(settings), seconds)
    return 0


def _go_on(
    settings: Settings, visitors: LiveVisitors, console: Console, deployment: Deployment, seconds: float | None
) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_Demo(settings, visitors, console, deployment).run(seconds))


def _live_the_past(settings: Settings, visitors: LiveVisitors, console: Console) -> None:
    past = list(visitors.history(HISTORY_DAYS))
    console.print(f"{visitors.people} people live {HISTORY_DAYS} days first: {len(past):,} interactions")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "history.ndjson"
        with file.open("w", encoding="utf-8") as out:
            for event in past:
                out.write(json.dumps(event, ensure_ascii=False) + "\n")
        import_with_progress(settings, file, more_follows=False)


class _Demo:
    """What runs beside the deployment: the shop, the visitors, and the terminal's view of changes."""

    def __init__(self, settings: Settings, visitors: LiveVisitors, console: Console, deployment: Deployment) -> None:
        self._settings = settings
        self._deployment = deployment
        self._visitors = visitors
        self._console = console
        self._keys = {key.trusted: key.key.get_secret_value() for key in write_keys(settings.collector)}
        if len(self._keys) < 2:  # noqa: PLR2004 - of each kind one
            msg = "the demo needs two write keys, a public one for the shop's pages and a trusted one for its server"
            raise UsageError(msg)
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    async def run(self, seconds: float | None) -> None:
        """Run until stopped."""
        deployment = self._deployment

        async def started() -> Sequence[Coroutine[Any, Any, None]]:
            shop = make_shop_app(
                collector_url=deployment.addresses.collector,
                autocapture_url=deployment.addresses.collector + self._settings.collector.autocapture_path,
                public_key=self._keys[False],
                trusted_key=self._keys[True],
                clock=now_ms,
            )
            try:
                address = await deployment.serve(shop, self._settings.collector.host, SHOP_PORT)
            except UsageError:  # taken: any other will do
                address = await deployment.serve(shop, self._settings.collector.host, 0)
            self._welcome(deployment.addresses, address)
            return self._show_changes(), self._let_visitors_act(deployment.addresses.collector)

        await serve(deployment, seconds=seconds, started=started)

    def _welcome(self, at: Addresses, shop: str) -> None:
        self._console.print()
        for name, address, what in (
            ("Fund shop", shop, "click through it: you are a visitor, too"),
            ("Live page", at.console, "people per stage, changes as they happen, one person's evidence"),
            ("Metrics", f"{at.admin}/metrics", "for Prometheus; readiness at /readyz"),
            ("Collector", at.collector, "where autocapture.js sends to"),
        ):
            self._console.print(Text.assemble((f"  {name:<10}", "bold"), f"{address:<32}", (what, "dim")))
        self._console.print("\nWho enters which phase, and why (Ctrl-C ends):\n")

    async def _show_changes(self) -> None:
        async with open_backend(self._settings) as backend:
            cursor = await backend.changes.cursor_at(now_ms())
            while True:
                for place, value in await backend.changes.changes(cursor, 200):
                    self._console.print(describe(decode_change(value)), soft_wrap=True)
                    cursor = place
                await asyncio.sleep(_POLL_SECONDS)

    async def _let_visitors_act(self, collector: str) -> None:
        while True:
            for event in self._visitors.due(now_ms()):
                key = self._keys[bool(event.pop("trusted"))]
                try:
                    await asyncio.to_thread(
                        self._post, f"{collector}{self._settings.collector.events_path}", key, event
                    )
                except (urllib.error.URLError, TimeoutError) as error:
                    _logger.warning("visitor_not_heard", reason=str(error))
            await asyncio.sleep(_POLL_SECONDS)

    def _post(self, url: str, key: str, event: dict[str, Any]) -> None:
        body = json.dumps({"sent_at": now_ms(), "events": [event]}).encode()
        request = urllib.request.Request(url, data=body, headers={"Authorization": f"Bearer {key}"})  # noqa: S310 - our own address
        with self._opener.open(request, timeout=_POST_TIMEOUT_SECONDS) as answer:
            answer.read()


def describe(change: StageChange) -> Text:
    """Return one line for a terminal: when, who, from where to where, and why."""
    to = change.to or ("merged" if change.merged_into else "forgotten")
    why = ", ".join(f"{one.behaviour} x{one.count}" for one in change.evidence[:3])
    if change.merged_into:
        why = f"is {change.merged_into}"
    elif change.retracts:
        why = f"order {change.cause.order_id}, taken back" if change.cause.order_id else f"takes back {change.retracts}"
    elif change.cause.order_id:
        why = f"order {change.cause.order_id}, {'confirmed' if change.confirmed else 'provisional'}"
    return Text.assemble(
        (f"{change.at[11:19]}  ", "dim"),
        f"{change.person[:12]:<13}",
        f"{change.from_:>15} → ",
        (f"{to:<16}", _COLOURS.get(to, "")),
        f"{change.score:>5g}  ",
        (why, "dim"),
    )
