"""The image: its steps work, and what they make runs as nobody in particular on a file system that it cannot write."""

from __future__ import annotations

import os
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.services import ROOT
from phasewatch.collector_process import ADMIN_PORT as COLLECTOR_ADMIN_PORT
from phasewatch.console_process import ADMIN_PORT as CONSOLE_ADMIN_PORT
from phasewatch.settings import Settings
from phasewatch.worker_process import ADMIN_PORT as WORKER_ADMIN_PORT
from tests.integration.image import Image, command, is_sent_to_the_build, stages

OWN_KEYS = {"PHASEWATCH_COLLECTOR__KEYS": '[{"name": "web", "key": "a-key-of-the-test"}]'}
ON_LOOPBACK = {
    "PHASEWATCH_COLLECTOR__HOST": "127.0.0.1",
    "PHASEWATCH_COLLECTOR__PORT": "0",
    "PHASEWATCH_CONSOLE__HOST": "127.0.0.1",
    "PHASEWATCH_CONSOLE__PORT": "0",
    "PHASEWATCH_ADMIN__HOST": "127.0.0.1",
    "PHASEWATCH_ADMIN__PORT": "0",
}
MAX_BYTES = 200 * 1024 * 1024
"""Of what the image adds to its base; more than that is a tool that was left in."""


def test_it_is_built_from_what_the_wheel_holds_and_no_more() -> None:
    sources = {source for options, found, _ in stages()[0].copies() if "from" not in options for source in found}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    packages = set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    assert packages <= sources
    assert all((ROOT / source).exists() for source in sources)
    sent = {path.name for path in ROOT.iterdir() if is_sent_to_the_build(path.name)}
    assert sent == sources, "the build gets what is copied, hence no .env and no data"
    assert is_sent_to_the_build("collector/wire/block.py")
    assert not is_sent_to_the_build("collector/wire/__pycache__/block.cpython-311.pyc")
    assert not is_sent_to_the_build(".env")


def test_it_names_the_ports_that_are_served_and_is_not_root() -> None:
    runtime, settings = stages()[-1], Settings()
    served = {settings.collector.port, settings.console.port}
    served |= {COLLECTOR_ADMIN_PORT, WORKER_ADMIN_PORT, CONSOLE_ADMIN_PORT, 8630}
    assert {int(port) for port in runtime.last("EXPOSE").split()} == served
    assert runtime.last("USER") == "10001:10001"
    assert not [argument for name, argument in runtime.steps if name == "RUN"]


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    # Not below pytest's own folder, which no other user may enter.
    scratch = Path(tempfile.mkdtemp(prefix="phasewatch-image-"))
    scratch.chmod(0o755)
    built = Image(scratch)
    try:
        built.build()
        yield built
    finally:
        built.close()


def run(image: Image, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a container of the image would."""
    return subprocess.run(
        [*image.as_user(), *words],
        cwd=image.directory,
        env=image.environment() | settings,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.services
@pytest.mark.timeout(900)
def test_what_it_holds_runs_on_a_read_only_file_system(image: Image) -> None:
    before = image.files()
    helped = run(image, "phasewatch", "--help")
    assert helped.returncode == 0, helped.stderr
    assert "collector" in helped.stdout

    refused = run(image, *command(), "--seconds", "2")
    assert refused.returncode == 2
    assert "demo key" in refused.stderr

    up = run(image, *command(), "--seconds", "2", **OWN_KEYS, **ON_LOOPBACK)
    assert up.returncode == 0, up.stderr
    assert '"level": "error"' not in up.stderr
    data = image.root / "data"
    assert {path.stat().st_uid for path in data.rglob("*")} == {image.user if os.getuid() == 0 else os.getuid()}
    assert list(data.rglob("*")), "it keeps its log in /data"
    assert image.files() == before, "nothing was written elsewhere"

    denied = run(image, "touch", str(image.directory / "anything"), str(image.root / "opt/phasewatch/anything"))
    assert denied.stderr.count("Permission denied") == 2

    tools = run(image, "python", "-c", "import pip")
    assert "No module named 'pip'" in tools.stderr
    added = sum(path.lstat().st_size for path in image.root.rglob("*") if path.is_file() and not path.is_symlink())
    print(f"\nthe image adds {added / 1e6:.0f} MB to its base")  # noqa: T201 - a figure
    assert added < MAX_BYTES
