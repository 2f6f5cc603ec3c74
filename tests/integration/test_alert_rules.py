"""The alerting rules before any fault: Prometheus understands them, and each fires for its fault and nothing else."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

PROMETHEUS = Path(__file__).parents[2] / "deploy/prometheus"
CASES = sorted((PROMETHEUS / "tests").glob("*.yml"))

pytestmark = pytest.mark.services


def promtool(program: Path, *arguments: str | Path) -> None:
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_understands_its_configuration_and_the_rules(require_program: Callable[[str], Path]) -> None:
    promtool(require_program("promtool"), "check", "config", PROMETHEUS / "prometheus.yml")


@pytest.mark.parametrize("cases", CASES, ids=lambda path: path.stem)
def test_each_alert_fires_for_its_fault_alone(require_program: Callable[[str], Path], cases: Path) -> None:
    promtool(require_program("promtool"), "test", "rules", cases)
