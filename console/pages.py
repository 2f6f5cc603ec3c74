"""The live page: its files, read once and served from memory."""

from __future__ import annotations

from html import escape
from importlib.resources import files
from pathlib import PurePath
from typing import Final

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from console.door import VISIT

_TYPES: Final = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_HEADERS: Final = {"Cache-Control": "no-cache"}
"""Asked for anew each time: the files change with the product, and are small."""


_LEAVE: Final = "<!--leave-->"
_LEAVE_FORM: Final = """<form id="leave" method="post" action="/logout">
      <input type="hidden" name="form" value="{token}"><button title="Logged in as {user}">Log out</button>
    </form>"""


def serve_pages(app: FastAPI) -> None:
    """Serve the page at `/`, and scripts, styles and icon below `/page/`."""
    found = {
        file.name: (file.read_bytes(), _TYPES[PurePath(file.name).suffix])
        for file in files("console").joinpath("page").iterdir()
        if PurePath(file.name).suffix in _TYPES
    }
    start = found["index.html"][0].decode()

    async def page(name: str) -> Response:
        if name not in found or name.endswith(".html"):
            raise HTTPException(404)
        content, kind = found[name]
        return Response(content, media_type=kind, headers=_HEADERS)

    async def index(request: Request) -> Response:
        session = getattr(request.state, VISIT).session
        form = "" if session is None else _LEAVE_FORM.format(token=session.form_token, user=escape(session.user))
        # With a session's token in it the page is nobody else's, nor is it the same after the next login.
        headers = _HEADERS if session is None else {"Cache-Control": "no-store"}
        return Response(start.replace(_LEAVE, form), media_type="text/html", headers=headers)

    app.add_api_route("/", index, include_in_schema=False)
    app.add_api_route("/page/{name}", page, include_in_schema=False)
