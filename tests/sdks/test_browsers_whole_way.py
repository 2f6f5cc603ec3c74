"""The same visit with each browser SDK makes the decision that it makes with autocapture.js, for the same reasons."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from playwright.sync_api import Browser

from tests.integration.embedded_process import phasewatch
from tests.sdks import installed
from tests.sdks.browser_sdks import NATIVE, POSTHOG, RUDDER, SEGMENT, SENSORS, SNOWPLOW, BrowserSdk
from tests.sdks.browser_visits import Visit, Visits, visiting
from tests.sdks.collector_front import wait_for
from tests.sdks.scene import Scene

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]

SHIPPED: Final = (Path(__file__).parents[2] / "processors" / "definitions" / "fund-shop.toml").read_text("utf-8")
TRACKED: Final = {
    "product clicked": 'type = "click"\nhref_path = ["/products/{category}/{product_id}"]',
    "invest clicked": 'type = "click"\ntext = ["Invest", "立即投资"]',
    "order submitted": 'type = "submit"\npath = ["/orders/new"]',
}
"""What a behaviour is matched by where the SDK captures it; else by the event that the shop tracks."""


def definitions(*tracked: str) -> str:
    """Return the shipped definitions, with these behaviours matched by what the shop tracks."""
    document = SHIPPED
    for name in tracked:
        assert TRACKED[name] in document
        document = document.replace(TRACKED[name], f'type = "custom"\nevent = ["{name}"]')
    return document


DEPLOYMENTS: Final[tuple[tuple[str, tuple[BrowserSdk, ...]], ...]] = (
    (definitions(), (NATIVE, POSTHOG, SNOWPLOW)),
    (definitions("order submitted"), (SENSORS,)),
    (definitions(*TRACKED), (SEGMENT, RUDDER)),
)
SDKS: Final = [sdk for _, sdks in DEPLOYMENTS for sdk in sdks]


def shop_around(visits: Visits) -> None:
    visits.each(lambda visit: visit.open("/products"))
    visits.each(lambda visit: visit.follow("Credit Bond 180", "/products/bond/credit-180"))
    visits.each(lambda visit: visit.follow("Products", "/products"))
    visits.each(lambda visit: visit.follow("Steady Bond 90", "/products/bond/steady-90"))
    visits.each(lambda visit: visit.follow("Invest", "/orders/new"))
    visits.each(Visit.order)


@pytest.fixture(scope="module")
def visitors(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Visitor]]:
    """A visitor of each SDK's shop, whose visit is over."""
    installed.require()
    with ExitStack() as stack:
        scenes: dict[str, Scene] = {}
        visits: list[Visit] = []
        for document, sdks in DEPLOYMENTS:
            folder = tmp_path_factory.mktemp("deployment")
            scene = Scene(folder, {sdk.name: sdk.dialect for sdk in sdks})
            stack.callback(scene.close)
            (folder / "shop.toml").write_text(document, "utf-8")
            done = phasewatch("definitions", "publish", "shop.toml", "--data-dir", scene.collector.data, cwd=folder)
            assert done.returncode == 0, done.stderr
            scenes |= dict.fromkeys((sdk.name for sdk in sdks), scene)
            visits += stack.enter_context(visiting(chromium, sdks, scene.fronts)).all
        shop_around(Visits(visits))
        yield {name: Visitor(scene, name) for name, scene in scenes.items()}


class Visitor:
    """What a deployment says of the one person that came with an SDK."""

    def __init__(self, scene: Scene, sdk: str) -> None:
        self._scene, self._sdk = scene, sdk

    def decided(self) -> dict[str, Any]:
        """Wait until everything of the visit has counted and return what the query API says."""
        wait_for(lambda: self._person().get("decision_score") == 5.8, self._person)
        return self._person()

    def _person(self) -> dict[str, Any]:
        ids = {event.anonymous_id for event in self._scene.events(self._sdk)}
        if not ids:
            return {}
        [visitor] = ids
        answer = httpx.get(f"{self._scene.collector.console}/api/persons/a:{visitor}", trust_env=False)
        found: dict[str, Any] = answer.json()
        return found


@pytest.mark.parametrize("name", [sdk.name for sdk in SDKS])
def test_a_visit_makes_a_decision_with_the_same_evidence(visitors: dict[str, Visitor], name: str) -> None:
    person = visitors[name].decided()
    assert (person["stage"], person["intent"]) == ("decision", "strong")
    assert [(one["behaviour"], one["count"], one["weight"]) for one in person["evidence"]] == [
        ("order_submitted", 1, 2.5),
        ("invest_clicked", 1, 1.5),
        ("product_viewed", 2, 0.5),
        ("product_clicked", 2, 0.3),
        ("list_viewed", 2, 0.1),
    ]
    assert person["evidence"] == visitors[NATIVE.name].decided()["evidence"]
