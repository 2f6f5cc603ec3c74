"""What names the SDKs: pinned, and without a word about where they come from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def test_the_lock_file_names_no_registry() -> None:
    """Npm writes the host that it was told to use into it, unless .npmrc says otherwise."""
    lock = json.loads((HERE / "package-lock.json").read_text("utf-8"))
    assert [name for name, package in lock["packages"].items() if "resolved" in package] == []
    named = json.loads((HERE / "package.json").read_text("utf-8"))["dependencies"]
    assert lock["packages"][""]["dependencies"] == named


@pytest.mark.parametrize("file", ["python-requirements.txt", "python-older-requirements.txt"])
def test_each_python_package_is_pinned(file: str) -> None:
    lines = (HERE / file).read_text("utf-8").splitlines()
    assert [line for line in lines if not line.startswith("#") and "==" not in line] == []
