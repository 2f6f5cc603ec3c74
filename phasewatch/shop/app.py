"""The fund shop as an ASGI application: pages, a login without a password, orders posted as trusted facts."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from typing import Final
from urllib.parse import parse_qs, quote, unquote, urlencode

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from phasewatch.shop import render
from phasewatch.shop.catalogue import CATEGORIES, Product, find, in_category
from phasewatch.shop.orders import Fact, Ledger, NotRecordedError, Order, OrderBook, State

USER_COOKIE: Final = "shop_user"
FORM_BYTES: Final = 4096
_ORDER_ID: Final = re.compile(r"[0-9a-f]{16}")
_AMOUNT: Final = re.compile(r"(?!0+(\.0*)?$)[0-9]{1,9}(\.[0-9]{1,2})?")
_ACTIONS: Final[dict[str, tuple[Fact, State]]] = {
    "redeem": ("redeem", "redeemed"),
    "cancel": ("purchase_cancelled", "cancelled"),
}


def make_shop_app(
    *, collector_url: str, autocapture_url: str, public_key: str, trusted_key: str, clock: Callable[[], int]
) -> ASGIApp:
    """Return the shop.

    Args:
        collector_url: where the shop's server posts money facts, without a path.
        autocapture_url: the script's address as the visitor's browser sees it.
        public_key: write key in the pages.
        trusted_key: write key of the shop's server; no page contains it.
        clock: returns UTC milliseconds.
    """
    shop = _Shop(
        render.Frame(autocapture_url=autocapture_url, public_key=public_key),
        Ledger(collector_url, trusted_key, clock),
        clock,
    )
    return Starlette(
        routes=[
            Route("/", shop.home),
            Route("/products", shop.products),
            Route("/products/{category}", shop.category),
            Route("/products/{category}/{product_id}", shop.product),
            Route("/orders/new", shop.new_order),
            Route("/orders/new", shop.place_order, methods=["POST"]),
            Route("/account/holdings", shop.holdings),
            Route("/account/holdings", shop.change_order, methods=["POST"]),
            Route("/login", shop.login),
            Route("/login", shop.log_in, methods=["POST"]),
            Route("/logout", shop.log_out),
            Route("/shop.css", shop.style),
            Route("/shop.js", shop.script),
        ],
        exception_handlers={404: shop.not_found},
    )


class _Shop:
    """The shop's routes."""

    def __init__(self, frame: render.Frame, ledger: Ledger, clock: Callable[[], int]) -> None:
        self._frame = frame
        self._ledger = ledger
        self._clock = clock
        self._book = OrderBook()

    def _page(self, request: Request, title: str, content: str, status: int = 200) -> Response:
        return HTMLResponse(self._frame.page(title, content, user=_user(request)), status)

    async def home(self, request: Request) -> Response:
        return self._page(request, "Home", render.home())

    async def products(self, request: Request) -> Response:
        return self._page(request, "Products", render.product_list("All products", in_category(None)))

    async def category(self, request: Request) -> Response:
        category = request.path_params["category"]
        if category not in CATEGORIES:
            return await self.not_found(request)
        label = CATEGORIES[category]
        return self._page(request, label, render.product_list(label, in_category(category)))

    async def product(self, request: Request) -> Response:
        item = find(request.path_params["category"], request.path_params["product_id"])
        if item is None:
            return await self.not_found(request)
        return self._page(request, item.name, render.product(item))

    async def new_order(self, request: Request) -> Response:
        query = request.query_params
        item = find(query.get("category", ""), query.get("product", ""))
        if item is None:
            return RedirectResponse("/products", 303)
        return self._page(request, "New order", render.order_form(item, secrets.token_hex(8)))

    async def place_order(self, request: Request) -> Response:
        form = await _form(request)
        user = _user(request)
        order_id = form.get("order_id", "")
        item = find(form.get("category", ""), form.get("product", ""))
        if item is None or not _ORDER_ID.fullmatch(order_id):
            return RedirectResponse("/products", 303)
        if not user:
            return RedirectResponse(f"/login?{_choice(item)}", 303)
        amount = form.get("amount", "").strip()
        if not _AMOUNT.fullmatch(amount):
            notice = "The amount must be a number above 0, such as 1000 or 1000.50."
            return self._page(request, "New order", render.order_form(item, order_id, amount, notice=notice), 400)
        known = self._book.get(order_id)
        if known is not None:
            return (
                self._page(request, "Order placed", render.order_placed(known)) if known.user == user else _conflict()
            )
        order = Order(order_id, user, item, amount, self._clock())
        try:
            await self._ledger.state("purchase", order)
        except NotRecordedError as error:
            notice = f"The order was not placed: {error}. Nothing was bought; try again in a moment."
            return self._page(request, "New order", render.order_form(item, order_id, amount, notice=notice), 503)
        self._book.add(order)
        return self._page(request, "Order placed", render.order_placed(order))

    async def holdings(self, request: Request) -> Response:
        user = _user(request)
        if not user:
            return RedirectResponse("/login", 303)
        return self._page(request, "Holdings", render.holdings(self._book.of(user)))

    async def change_order(self, request: Request) -> Response:
        form = await _form(request)
        user = _user(request)
        order = self._book.get(form.get("order_id", ""))
        action = _ACTIONS.get(form.get("action", ""))
        if order is None or action is None or order.user != user or order.state != "held":
            return RedirectResponse("/account/holdings", 303)
        fact, state = action
        try:
            await self._ledger.state(fact, order)
        except NotRecordedError as error:
            notice = f"The order was not changed: {error}. Try again in a moment."
            return self._page(request, "Holdings", render.holdings(self._book.of(user), notice=notice), 503)
        order.state = state
        return RedirectResponse("/account/holdings", 303)

    async def login(self, request: Request) -> Response:
        query = request.query_params
        return self._page(request, "Log in", render.login(find(query.get("category", ""), query.get("product", ""))))

    async def log_in(self, request: Request) -> Response:
        form = await _form(request)
        user = form.get("user", "").strip()[:64]
        if not user:
            return RedirectResponse("/login", 303)
        item = find(form.get("category", ""), form.get("product", ""))
        response = RedirectResponse("/account/holdings" if item is None else f"/orders/new?{_choice(item)}", 303)
        response.set_cookie(USER_COOKIE, quote(user, safe=""), httponly=True, samesite="lax")
        return response

    async def log_out(self, _request: Request) -> Response:
        text = "You are nobody in particular again."
        response = HTMLResponse(self._frame.page("Logged out", render.message("Logged out", text), forget=True))
        response.delete_cookie(USER_COOKIE)
        return response

    async def style(self, _request: Request) -> Response:
        return Response(render.PAGES.joinpath("shop.css").read_bytes(), media_type="text/css")

    async def script(self, _request: Request) -> Response:
        return Response(render.PAGES.joinpath("shop.js").read_bytes(), media_type="text/javascript")

    async def not_found(self, request: Request, _error: Exception | None = None) -> Response:
        return self._page(request, "Not found", render.message("Not found", "There is no such page."), 404)


def _choice(item: Product) -> str:
    return urlencode({"category": item.category, "product": item.id})


def _conflict() -> Response:
    return RedirectResponse("/products", 303)


def _user(request: Request) -> str:
    return unquote(request.cookies.get(USER_COOKIE, ""))


async def _form(request: Request) -> dict[str, str]:
    """Return the fields of a small urlencoded form, the last value of each; a larger body counts as empty."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > FORM_BYTES:
            return {}
    return {name: values[-1] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}
