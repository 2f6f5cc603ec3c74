"""Rules about the files themselves, which no linter holds for us."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ["collector", "processors", "console", "phasewatch"]

DRIVERS = {
    "sqlite3": ("collector/sinks/sqlite.py", "collector/sinks/spool_file.py", "processors/adapters/sqlite/"),
    "aiokafka": (
        "collector/sinks/kafka",
        "collector/wire/kafka_access.py",
        "processors/adapters/kafka/",
        "processors/adapters/faust/",
    ),
    "faust": ("processors/adapters/faust/",),
    "redis": ("processors/adapters/redis/",),
}
"""Where each driver may be imported (architecture, section 3): in its adapter and nowhere else."""

INDEX_HOSTS = [".".join(parts) for parts in [("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org")]]
HOME = re.compile(r"(?<![\w.~}])/(?:work|root|home/[a-z]+|Users/[A-Za-z]+)/")


def committed() -> list[Path]:
    """Return what a commit of this tree would hold."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=False
    )
    if listed.returncode != 0:
        pytest.skip("this tree is no git checkout")
    paths = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file()]


def texts() -> Iterator[tuple[str, str]]:
    for path in committed():
        try:
            yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


def sources() -> list[Path]:
    return [path for name in SOURCES for path in sorted((ROOT / name).rglob("*.py"))]


def imports(path: Path) -> Iterator[str]:
    """Yield the modules that run when `path` does; what stands under TYPE_CHECKING is for the type checker alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    unused = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in unused:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield node.module or ""


def test_no_file_names_a_package_index() -> None:
    """An index is the installing machine's affair: a pinned host breaks installs behind a mirror."""
    assert [(name, host) for name, text in texts() for host in INDEX_HOSTS if host in text] == []


def test_no_file_names_a_directory_of_somebodys_machine() -> None:
    found = [(name, match.group()) for name, text in texts() for match in HOME.finditer(text)]
    assert found == []


def test_a_driver_is_imported_in_its_adapters_only() -> None:
    wrong = [
        (str(path.relative_to(ROOT)), module)
        for path in sources()
        for module in imports(path)
        for driver, places in DRIVERS.items()
        if module.split(".")[0] == driver and not str(path.relative_to(ROOT)).startswith(places)
    ]
    assert wrong == []


def test_the_domain_imports_the_standard_library_and_the_wire_alone() -> None:
    wrong = [
        (path.name, module)
        for path in sorted((ROOT / "processors/domain").glob("*.py"))
        for module in imports(path)
        if module.split(".")[0] not in sys.stdlib_module_names
        and not module.startswith(("collector.wire", "processors.domain"))
    ]
    assert wrong == []


def test_processors_know_of_the_collector_its_wire_alone() -> None:
    """The import rules in pyproject.toml can only list what is forbidden; a module added later is caught here."""
    wrong = [
        (str(path.relative_to(ROOT)), module)
        for path in sorted((ROOT / "processors").rglob("*.py"))
        for module in imports(path)
        if module.split(".")[0] == "collector" and not module.startswith("collector.wire")
    ]
    assert wrong == []


def test_decisions_are_numbered_without_a_gap() -> None:
    files = sorted((ROOT / "docs/adr").glob("*.md"))
    assert [path.name[:5] for path in files] == [f"{number:04}-" for number in range(1, len(files) + 1)]
    for number, path in enumerate(files, 1):
        assert path.read_text(encoding="utf-8").startswith(f"# {number}. "), path


def test_the_script_of_continuous_integration_runs_the_tests() -> None:
    script = ROOT / ".ci/run"
    assert script.stat().st_mode & 0o111
    assert script.read_text(encoding="utf-8").splitlines()[-1] == "exec make test"


def test_make_check_holds_the_import_rules() -> None:
    assert "lint-imports" in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_requirements_are_pinned() -> None:
    lines = [
        (path.name, line)
        for path in ROOT.glob("requirements*.txt")
        for line in path.read_text(encoding="utf-8").splitlines()
        if line and not line.lstrip().startswith(("#", "--hash="))
    ]
    assert lines
    assert [line for line in lines if "==" not in line[1]] == []


GUARDED = """
import asyncio, logging, socket, threading

import pytest
import structlog


def test_an_error_is_logged(): structlog.get_logger().error("bad", n=1)
def test_an_error_of_a_library_is_logged(): logging.getLogger("aiokafka").error("bad")
def test_a_socket_is_left_open(): socket.socket()
def test_a_thread_is_left(): threading.Thread(target=threading.Event().wait, args=(0.3,)).start()
async def test_a_task_is_left(): test_a_task_is_left.task = asyncio.create_task(asyncio.sleep(60))


def test_fine_an_error_is_expected(logged_errors):
    structlog.get_logger().error("bad", n=1)
    assert logged_errors == [f"{__name__}: bad"]


async def test_fine_what_was_started_is_ended():
    task = asyncio.create_task(asyncio.to_thread(int))
    await asyncio.sleep(0)
    task.cancel()


def test_a_program_is_missing(require_program, monkeypatch):
    monkeypatch.setenv("REQUIRE_SERVICES", "1")
    require_program("no-such-program")


def test_fine_a_program_is_there(require_program): assert require_program("sh").name == "sh"


def test_fine_or_skipped(require_program, monkeypatch):
    monkeypatch.delenv("REQUIRE_SERVICES", raising=False)
    require_program("no-such-program")
"""


def test_the_guards_of_the_suite_catch_what_they_are_for(tmp_path: Path) -> None:
    guards = (ROOT / "tests/conftest.py").read_text(encoding="utf-8")
    (tmp_path / "conftest.py").write_text(guards.replace("DEADLINE_SECONDS = 5.0", "DEADLINE_SECONDS = 0.05"))
    (tmp_path / "test_guarded.py").write_text(GUARDED)
    options = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(tmp_path), "-rA", "--tb=no"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "-p", "no:cacheprovider", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    bad = set(re.findall(r"^(?:FAILED|ERROR) \S*::(\w+)", done.stdout, re.MULTILINE))
    assert bad == set(re.findall(r"def (test_an?_\w+)", GUARDED)), done.stdout + done.stderr
    assert "1 skipped" in done.stdout
