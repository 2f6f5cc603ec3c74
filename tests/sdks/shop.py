"""A fund shop of four pages, each with one SDK's snippet in its head, and the SDKs' own files beside them."""

from __future__ import annotations

import mimetypes
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from string import Template
from typing import Final
from urllib.parse import urlsplit

PAGES: Final = Path(__file__).parent / "pages"
_FILES: Final = {
    "/products": ("list", "All products"),
    "/products/bond/credit-180": ("product", "Credit Bond 180"),
    "/products/bond/steady-90": ("product", "Steady Bond 90"),
    "/orders/new": ("order", "New order"),
    "/orders/placed": ("placed", "Order placed"),
}


class _Server(ThreadingHTTPServer):
    """Does not wait for the connections that a browser keeps open."""

    block_on_close = False

    def __init__(self, head: str, values: Mapping[str, str], modules: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.head = Template((PAGES / "heads" / f"{head}.html").read_text("utf-8")).substitute(values)
        self.modules = modules

    def page(self, path: str) -> bytes | None:
        """Return a page's HTML, None where there is none."""
        if path not in _FILES:
            return None
        name, title = _FILES[path]
        content = Template((PAGES / f"{name}.html").read_text("utf-8")).substitute(title=title)
        layout = Template((PAGES / "layout.html").read_text("utf-8"))
        return layout.substitute(title=title, head=self.head, content=content).encode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path.startswith("/sdk/"):
            self._file(self.server.modules / path.removeprefix("/sdk/"))
        elif path == "/tracking.js":
            self._file(PAGES / "tracking.js")
        else:
            page = self.server.page(path)
            self._reply(404 if page is None else 200, page or b"none", "text/html; charset=utf-8")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def _file(self, file: Path) -> None:
        if file.is_file():
            self._reply(200, file.read_bytes(), mimetypes.guess_type(file.name)[0] or "application/octet-stream")
        else:
            self._reply(404, b"none", "text/plain")

    def _reply(self, status: int, body: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serving(head: str, values: Mapping[str, str], modules: Path) -> Iterator[str]:
    """Serve the shop on loopback; yield its address.

    Args:
        head: name of the snippet in `pages/heads`.
        values: what stands for its `$names`.
        modules: the folder that holds the SDKs' packages.
    """
    server = _Server(head, values, modules)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://localhost:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
