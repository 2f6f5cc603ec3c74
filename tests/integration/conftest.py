"""What several of these tests share."""

from __future__ import annotations

from tests.secured import secured  # noqa: F401 - a fixture
