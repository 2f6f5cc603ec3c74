"""The demo's fund shop: a few pages that people click through, with autocapture.js in them and no tracking code."""

from __future__ import annotations

from phasewatch.shop.app import make_shop_app

__all__ = ["make_shop_app"]
