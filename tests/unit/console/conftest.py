"""The console over a shop, asked without a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from console.app import make_console_app
from tests.unit.console.shop import Shop


@pytest.fixture
def root() -> Path:
    """The checkout."""
    return Path(__file__).parents[3]


@pytest.fixture
async def bare_shop(tmp_path: Path) -> AsyncIterator[Shop]:
    """A shop in whose log nothing stands."""
    shop = Shop(tmp_path)
    yield shop
    shop.close()


@pytest.fixture
async def shop(bare_shop: Shop) -> Shop:
    """A shop with the definitions in force."""
    await bare_shop.open()
    return bare_shop


@pytest.fixture
async def bare_client(bare_shop: Shop) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the console of `bare_shop`."""
    app = make_console_app(query=bare_shop.query, changes=bare_shop.log, clock=bare_shop.clock)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield client


@pytest.fixture
async def client(shop: Shop, bare_client: httpx.AsyncClient) -> httpx.AsyncClient:  # noqa: ARG001 - opens the shop
    """A client of the console of `shop`."""
    return bare_client
