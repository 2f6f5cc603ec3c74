"""What deploy/Dockerfile makes, without a container engine: its steps are run in a scratch folder.

Paths of the image become paths under that folder. Each stage is built in the same place, because a virtual environment
knows where it is, and is moved aside when the next begins.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import string
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from deploy.local.services import ROOT
from tests.services import skip_or_fail

DOCKERFILE = ROOT / "deploy/Dockerfile"
BASE = "python:3.11-slim"
BASE_PATH = "/usr/local/bin:/usr/bin:/bin"
"""Where the base image has its programs; Python and pip are in the first."""
STEP_SECONDS = 600


@dataclass
class Stage:
    """One FROM and what follows it."""

    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)
    """Each instruction with its argument, lines joined."""

    def last(self, instruction: str) -> str:
        """Return the argument that holds in the end."""
        return [argument for name, argument in self.steps if name == instruction][-1]

    def environment(self) -> dict[str, str]:
        """Return what ENV sets, on top of the base image's PATH."""
        found = {"PATH": BASE_PATH}
        for name, argument in self.steps:
            if name == "ENV":
                words = (string.Template(word).substitute(found) for word in shlex.split(argument))
                found |= dict(word.split("=", 1) for word in words)
        return found

    def copies(self) -> Iterator[tuple[dict[str, str], list[str], str]]:
        """Yield the options, sources and destination of each COPY."""
        for name, argument in self.steps:
            if name == "COPY":
                yield _copy(argument)


def _copy(argument: str) -> tuple[dict[str, str], list[str], str]:
    words = argument.split()
    options = dict(word[2:].split("=", 1) for word in words if word.startswith("--"))
    *sources, to = (word for word in words if not word.startswith("--"))
    return options, sources, to


def stages() -> list[Stage]:
    """Return the Dockerfile's stages; fails at an instruction that it does not use today."""
    lines = [line for line in DOCKERFILE.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    found: list[Stage] = []
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        instruction, _, argument = line.partition(" ")
        if instruction == "FROM":
            base, _, name = argument.partition(" AS ")
            assert base == BASE
            found.append(Stage(name))
        else:
            assert instruction in {"WORKDIR", "COPY", "RUN", "ENV", "USER", "EXPOSE", "CMD"}, line
            found[-1].steps.append((instruction, argument))
    return found


def command() -> list[str]:
    """Return what the image runs when nothing is said."""
    words: list[str] = json.loads(stages()[-1].last("CMD"))
    return words


def is_sent_to_the_build(name: str) -> bool:
    """Say whether .dockerignore lets a file into the build; the last line that matches it decides."""
    sent = True
    for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines():
        pattern = line.removeprefix("!")
        parts = [*Path(name).parents, Path(name)]
        if (
            line
            and not line.startswith("#")
            and any(_matches(str(part), pattern) for part in parts if str(part) != ".")
        ):
            sent = line.startswith("!")
    return sent


def _matches(path: str, pattern: str) -> bool:
    if pattern.startswith("**/"):
        return Path(path).name == pattern.removeprefix("**/")
    return path.count("/") == pattern.count("/") and fnmatch(path, pattern)


class Image:
    """The image as a folder.

    Args:
        scratch: an empty folder that any user may enter.
    """

    def __init__(self, scratch: Path) -> None:
        self.root = scratch / "root"
        self.tmp = scratch / "tmp"
        self._base = scratch / "python"
        self._stages = stages()
        self.user = int(self._stages[-1].last("USER").partition(":")[0])
        """Whom processes of the image run as, if whoever runs the test may decide that."""

    def inside(self, text: str) -> str:
        """Return a text of the Dockerfile with the paths that it makes, the base's programs and /tmp where they are."""
        places = {"/usr/local/bin": self._base / "bin", "/tmp": self.tmp}
        made = r"/usr/local/bin|/tmp|/opt/phasewatch|/build|/data|/etc/phasewatch"
        return re.sub(
            rf"(?<![\w./])({made})\b", lambda found: str(places.get(found[1], f"{self.root}{found[1]}")), text
        )

    def build(self) -> None:
        """Run all steps; fails with what the failing one has said."""
        self.tmp.mkdir()
        self._make_base()
        for stage in self._stages:
            if self.root.exists():
                self.root.rename(self.root.with_name(self._stages[0].name))
            self.root.mkdir()
            self._build(stage)
        if os.getuid() == 0:  # all is root's but what COPY gives away
            os.chown(self.tmp, self.user, self.user)
        else:
            self._chmod(lambda mode: mode & ~0o222)

    def close(self) -> None:
        """Remove everything."""
        if os.getuid() != 0:
            self._chmod(lambda mode: mode | 0o200)
        shutil.rmtree(self.root.parent)

    def _chmod(self, change: Callable[[int], int]) -> None:
        for path in (self.root, *self.root.rglob("*")):
            if not path.is_symlink() and not path.is_relative_to(self.root / "data"):
                path.chmod(change(path.stat().st_mode))

    def _make_base(self) -> None:
        """Put a Python with pip where the base image has its own."""
        candidates = (Path(sys.base_prefix) / "bin/python3.11", Path("/usr/bin/python3.11"))
        python = next((str(path) for path in candidates if self._runs(path)), None)
        if python is None:
            skip_or_fail(
                f"no Python 3.11 that user {self.user} could run: not {' and not '.join(map(str, candidates))}"
            )
        _run([str(python), "-m", "venv", "--without-pip", str(self._base)], self.tmp, dict(os.environ))
        pip = [sys.executable, "-m", "pip", "--quiet", "--python", str(self._base / "bin/python"), "install", "pip"]
        _run(pip, self.tmp, dict(os.environ))

    def _runs(self, python: Path) -> bool:
        """Say whether the image's user could run this Python: other users' folders may be closed."""
        prefix = [*self.as_user(), "test", "-x", str(python)]
        return subprocess.run(prefix, check=False).returncode == 0

    def as_user(self) -> list[str]:
        """Return what to put before a command for it to run as the image's user; nothing if one is not root."""
        if os.getuid() != 0:
            return []
        return ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups", "--inh-caps=-all"]

    def _build(self, stage: Stage) -> None:
        directory = self.root
        # The build machine's own settings, such as where pip finds its packages, but no Python environment of its own.
        outside = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
        environment = outside | {name: self.inside(value) for name, value in stage.environment().items()}
        for instruction, argument in stage.steps:
            if instruction == "WORKDIR":
                directory = Path(self.inside(argument))
                directory.mkdir(parents=True, exist_ok=True)
            elif instruction == "COPY":
                self._copy(argument, directory)
            elif instruction == "RUN":
                _run(["/bin/sh", "-c", self.inside(argument)], directory, environment)

    def _copy(self, argument: str, directory: Path) -> None:
        options, sources, to = _copy(argument)
        for source in sources:
            if stage := options.get("from"):
                origin = self.root.with_name(stage) / source.lstrip("/")
            else:
                assert is_sent_to_the_build(source), f".dockerignore keeps {source} out"
                origin = ROOT / source
            target = directory / self.inside(to)
            if origin.is_dir():
                shutil.copytree(origin, target, symlinks=True, dirs_exist_ok=True, ignore=_ignored)
            else:
                shutil.copy2(origin, target / origin.name if to.endswith("/") else target)
            if os.getuid() == 0:
                owner = int(options.get("chown", "0:0").partition(":")[0])
                for path in (target, *target.rglob("*")):
                    os.chown(path, owner, owner, follow_symlinks=False)

    def environment(self) -> dict[str, str]:
        """Return what a process of the image sees."""
        found = {name: self.inside(value) for name, value in self._stages[-1].environment().items()}
        return found | {"HOME": "/", "TMPDIR": str(self.tmp)}

    @property
    def directory(self) -> Path:
        """Where processes of the image start."""
        return Path(self.inside(self._stages[-1].last("WORKDIR")))

    def files(self) -> dict[str, tuple[int, int, int]]:
        """Return mode, size and time of all that is in the image, but of what is in /data."""
        found = {}
        for path in self.root.rglob("*"):
            if not path.is_relative_to(self.root / "data"):
                facts = path.lstat()
                found[str(path)] = (facts.st_mode, facts.st_size, facts.st_mtime_ns)
        return found


def _ignored(directory: str, names: list[str]) -> set[str]:
    """Return what .dockerignore leaves out of a folder of the tree."""
    if not Path(directory).is_relative_to(ROOT):
        return set()
    within = Path(directory).relative_to(ROOT)
    return {name for name in names if not is_sent_to_the_build(str(within / name))}


def _run(words: list[str], directory: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        words,
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=STEP_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}"
