"""The Grafana dashboards, one a role, as the files that Grafana reads; `make docs` writes them."""
# ruff: noqa: INP001 - beside what it configures, no package

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DashboardLinkType

from deploy.grafana.business import business_rows
from deploy.grafana.detection import detection_rows
from deploy.grafana.ingest import ingest_rows
from deploy.grafana.panels import Row

DASHBOARDS: Final = Path(__file__).with_name("dashboards")

ROLES: Final[dict[str, tuple[str, Callable[[], Sequence[Row]]]]] = {
    "ingest": ("Phasewatch: ingest", ingest_rows),
    "detection": ("Phasewatch: detection", detection_rows),
    "business": ("Phasewatch: business", business_rows),
}
"""Title and rows of each dashboard, by the name of its file."""


def document(role: str) -> str:
    """Return a dashboard as Grafana reads it."""
    title, rows = ROLES[role]
    board = (
        dashboard.Dashboard(title)
        .uid(f"phasewatch-{role}")
        .tags(["phasewatch"])
        .timezone("browser")
        .time("now-6h", "now")
        .refresh("30s")
        .link(dashboard.DashboardLink("Phasewatch").type(DashboardLinkType.DASHBOARDS).tags(["phasewatch"]))
    )
    ids = count(1)
    for question, panels in rows():
        board = board.with_row(dashboard.Row(question).id(next(ids)))
        for panel in panels:
            board = board.with_panel(panel.id(next(ids)))
    return json.dumps(board.build(), cls=JSONEncoder, indent=2) + "\n"


def write(directory: Path = DASHBOARDS) -> None:
    """Write every dashboard below `directory`."""
    for role in ROLES:
        (directory / f"{role}.json").write_text(document(role), encoding="utf-8")


if __name__ == "__main__":
    write()
