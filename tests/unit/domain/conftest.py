"""A fresh person for every test."""

from __future__ import annotations

import pytest

from tests.unit.domain.folding import Folding


@pytest.fixture
def folding() -> Folding:
    return Folding()
