"""The live page: its files, read once and served from memory."""

from __future__ import annotations

from importlib.resources import files
from pathlib import PurePath
from typing import Final

from fastapi import FastAPI, Response
from starlette.exceptions import HTTPException

_TYPES: Final = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_HEADERS: Final = {"Cache-Control": "no-cache"}
"""Asked for anew each time: the files change with the product, and are small."""


def serve_pages(app: FastAPI) -> None:
    """Serve the page at `/`, and its scripts, style and icon below `/page/`."""
    found = {
        file.name: (file.read_bytes(), _TYPES[PurePath(file.name).suffix])
        for file in files("console").joinpath("page").iterdir()
        if PurePath(file.name).suffix in _TYPES
    }

    async def page(name: str = "index.html") -> Response:
        if name not in found:
            raise HTTPException(404)
        content, kind = found[name]
        return Response(content, media_type=kind, headers=_HEADERS)

    async def index() -> Response:
        return await page()

    app.add_api_route("/", index, include_in_schema=False)
    app.add_api_route("/page/{name}", page, include_in_schema=False)
