"""Both OpenAPI documents are true: generated requests are answered as they say (schemathesis)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema

from collector.dialects.table import EVENT_PATHS, SETTINGS_PATHS
from collector.openapi import document
from collector.settings import CollectorSettings
from console import openapi as console_openapi
from console.app import make_console_app
from tests.fuzz.request import Sent
from tests.fuzz.samples import PUBLIC
from tests.fuzz.target import Target
from tests.unit.console.shop import Shop

EXAMPLES: Final = 2
LONG_EXAMPLES: Final = 150
SEED: Final = 1
NATIVE: Final = CollectorSettings().events_path
STREAM: Final = "/api/changes/stream"
"""Has no end; tests/unit/console/test_stream.py reads it."""

JUDGED_ONE_BY_ONE: Final = {"include-path": NATIVE, "checks": {"negative_data_rejection": {"enabled": False}}}
"""An event that is not as documented is answered with 200 and its reason."""
OF_SDKS: Final = {"exclude-path": NATIVE, "checks": {"positive_data_acceptance": {"enabled": False}}}
"""Their bodies are described by who makes them, not in the document."""
SCRIPTS: Final = (
    "/autocapture.js", "/autocapture.d.ts", "/autocapture-{version}.js", "/autocapture-{version}.js.map",
)  # fmt: skip
NO_STREAM: Final = {"include-path": STREAM, "enabled": False}
CURSORS: Final = {"include-path": "/api/changes", "checks": {"positive_data_acceptance": {"enabled": False}}}
"""What looks like a cursor need not be one that was given out."""
KNOWN: Final = "u:42"


def without_lifespan(app: Any) -> Callable[[Any, Any, Any], Awaitable[None]]:
    """Return an application that outlives the client, of which each request has its own."""

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return
        for name in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{name}.complete"})

    return serve


def problems(app: Any, text: str, examples: int, **settings: Any) -> Iterator[str]:
    """Yield what is not as a document says about an application in this process, schemathesis' warnings among it."""
    generation = {"max-examples": examples, "database": "none", "deterministic": True}
    config = SchemathesisConfig.from_dict(
        {
            "seed": SEED,
            "base-url": "http://localhost",
            "generation": generation,
            "phases": {"stateful": {"enabled": False}},
            **settings,
        }
    )
    schema = schemathesis.openapi.from_dict(json.loads(text), config=config)
    schema.app = without_lifespan(app)
    requests = 0
    for event in from_schema(schema).execute():
        match event:
            case events.ScenarioFinished():
                requests += len(event.recorder.interactions)
                yield from _failures(event)
            case events.NonFatalError():
                yield f"{event.label}: {event.value!r}"
            case events.FatalError():
                yield f"{event.exception!r}"
            case events.SchemaAnalysisWarnings():
                yield from map(str, event.warnings)
    if requests < len(schema):
        yield f"{requests} requests for {len(schema)} operations"


def _failures(event: events.ScenarioFinished) -> Iterator[str]:
    if event.skip_reason is not None and event.skip_warning is not None:
        yield f"{event.recorder.label}: {event.skip_reason}"
    for number, checks in event.recorder.checks.items():
        for check in checks:
            if check.failure_info is not None:
                sent, failure = event.recorder.interactions[number].request, check.failure_info.failure
                yield (
                    f"{event.recorder.label}: {check.name}: {failure.title}: {failure.message}\n"
                    f"{sent.method} {sent.uri} {sent.headers} {sent.body!r}"
                )


def of_collector(examples: int) -> list[str]:
    """Return what is untrue about the collector."""
    auth = {"openapi": {"bearer": {"bearer": PUBLIC}}}
    return [*problems(Target().app, document(), examples, auth=auth, operations=[JUDGED_ONE_BY_ONE, OF_SDKS])]


def of_console(folder: Path, examples: int) -> list[str]:
    """Return what is untrue about the console over a shop with one person in it, asked about anybody and about her."""
    shop = Shop(folder)
    asyncio.run(_fill(shop))
    app = make_console_app(query=shop.query, changes=shop.log, clock=shop.clock)
    operations = [NO_STREAM, CURSORS]
    text = console_openapi.document()
    try:
        anybody = [*problems(app, text, examples, operations=operations)]
        return [*anybody, *problems(app, text, examples, operations=operations, parameters={"path.id": KNOWN})]
    finally:
        shop.close()


async def _fill(shop: Shop) -> None:
    await shop.open()
    await shop.decide(KNOWN)


def test_the_collector() -> None:
    assert of_collector(EXAMPLES) == []


def test_the_console(tmp_path: Path) -> None:
    assert of_console(tmp_path, EXAMPLES) == []


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_collector_at_length() -> None:
    assert of_collector(LONG_EXAMPLES) == []


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_console_at_length(tmp_path: Path) -> None:
    assert of_console(tmp_path, LONG_EXAMPLES) == []


def test_the_document_has_the_routes_of_the_tables_and_no_others() -> None:
    settings = CollectorSettings()
    documented = {
        (path, method.upper())
        for path, item in json.loads(document())["paths"].items()
        for method in item
        if method != "parameters"
    }
    of_tables = {(one.template, method) for one in EVENT_PATHS for method in one.methods}
    of_tables |= {(one.template, method) for one in SETTINGS_PATHS for method in one.methods}
    ours = {(path, method) for path in (*SCRIPTS, "/healthz") for method in ("GET", "HEAD")}
    assert documented == of_tables | ours | {(settings.events_path, "POST")}


async def test_a_path_that_is_not_documented_is_unknown() -> None:
    target = Target()
    for path in ("/", "/v1", "/openapi.json", "/docs", "/metrics", "/debug/", "/v1/events/"):
        assert (await target.send(Sent("GET", path))).status == 404, path
    await target.app.close()
