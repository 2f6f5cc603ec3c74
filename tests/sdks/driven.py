"""A program with an SDK in it, driven phase by phase, and what it said."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.sdks import installed

PROGRAMS = Path(__file__).parent / "programs"
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Program:
    """One SDK in one version and one way of using it.

    `file` is the program, `package` what it uses: a folder in node_modules, or a name on PyPI; `variant` is passed on
    to programs for Python. `events` are those of one phase.
    """

    name: str
    dialect: str
    file: str
    package: str
    variant: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    older: str | None = None
    """The version on PyPI, where it is not the one that the others use."""
    events: int = 4
    ends_at_a_fault: bool = False
    """Whether it sends nothing any more after the first."""

    @property
    def runtime(self) -> str:
        return "Node" if self.file.endswith(".mjs") else "Python"

    @property
    def version(self) -> str:
        if self.runtime == "Node":
            return installed.version(self.package)
        return self.older or installed.python_version(self.package)

    def command(self, url: str) -> list[str]:
        """Return how it is started, in the repository's root, to send to a URL."""
        if self.runtime == "Node":
            run = [installed.node(), PROGRAMS / self.file, url, self.name, installed.NODE_MODULES, self.package]
        else:
            module = f"tests.sdks.programs.{self.file.removesuffix('.py')}"
            run = [installed.PYTHON, "-m", module, url, self.name, self.variant]
        return [str(word) for word in run]


class Driven:
    """A running program.

    Args:
        url: where its SDK sends.
        output: a file for what it writes on its standard error.
    """

    def __init__(self, program: Program, url: str, output: Path) -> None:
        self.program = program
        self.types: dict[str, str] = {}
        """Which type each event that it sent should have in the log."""
        self.delivered: list[str] = []
        self.lost: list[str] = []
        self._output = output
        path = {"PYTHONPATH": str(installed.OLDER)} if program.older is not None else {}
        # Anything through a proxy would go to the proxy's collector, not to this machine's.
        environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        with output.open("wb") as errors:
            self._process = subprocess.Popen(
                program.command(url),
                cwd=ROOT,
                env=environment | {"PYTHONDONTWRITEBYTECODE": "1"} | path | dict(program.environment),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def begin(self, phase: str) -> None:
        """Let it send the events of a phase."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{phase}\n")
        self._process.stdin.flush()

    def finish(self) -> None:
        """Read what it says until it is done with the phase."""
        for line in self._lines():
            if "done" in line:
                return
            if "sent" in line:
                self.types[line["sent"]] = line["type"]
            elif "delivered" in line:
                self.delivered.append(line["delivered"])
            else:
                self.lost.append(line["lost"])
        msg = f"{self.program.name} ended in the middle of a phase: {self._output.read_text('utf-8')}"
        raise AssertionError(msg)

    def _lines(self) -> Iterator[dict[str, Any]]:
        assert self._process.stdout is not None
        for text in self._process.stdout:
            if text.startswith("{"):
                yield json.loads(text)

    def close(self) -> None:
        """End it."""
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()
        self._process.kill()
        self._process.wait(30)
