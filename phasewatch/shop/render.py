"""The shop's pages as HTML: small templates; everything that is put into them is escaped here."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from importlib.resources import files
from string import Template
from typing import Final
from urllib.parse import quote

from phasewatch.shop.catalogue import CATEGORIES, Product
from phasewatch.shop.orders import Order

PAGES: Final = files("phasewatch.shop").joinpath("pages")
_layout: Final = Template(PAGES.joinpath("layout.html").read_text("utf-8"))


class Frame:
    """What surrounds every page: the head with autocapture.js, the menu, the foot."""

    def __init__(self, *, autocapture_url: str, public_key: str) -> None:
        self._script = {"autocapture_url": escape(autocapture_url), "public_key": escape(public_key)}

    def page(self, title: str, content: str, *, user: str = "", forget: bool = False) -> str:
        """Return a whole page around `content`, which is HTML already; `forget` makes the browser forget its user."""
        account = f'<a href="/logout">Log out {escape(user)}</a>' if user else '<a href="/login">Log in</a>'
        return _layout.substitute(
            self._script,
            title=escape(title),
            content=content,
            user=escape(user),
            forget="1" if forget else "",
            account=account,
        )


def home() -> str:
    """Return the front page."""
    links = "".join(
        f'<a class="card" href="/products/{name}"><b>{escape(label)}</b></a>' for name, label in CATEGORIES.items()
    )
    return (
        '<section class="hero"><h1>Savings that know their season</h1>'
        "<p>Fifteen funds, five kinds, no small print.</p></section>"
        f'<div class="cards">{links}</div><p><a class="button" href="/products">See all products</a></p>'
    )


def product_list(title: str, products: Iterable[Product]) -> str:
    """Return a list of products with a filter by risk."""
    cards = "".join(
        f'<a class="card" data-risk="{product.risk}" href="/products/{product.category}/{product.id}">'
        f'<b>{escape(product.name)}</b><br><span class="yield">{product.expected_yield} %</span>'
        f'<br><span class="soft">risk {product.risk} of 5 · {escape(product.term)}</span></a>'
        for product in products
    )
    return (
        f'<h1>{escape(title)}</h1><div class="filters"><button class="plain" data-risk="">All risks</button>'
        '<button class="plain" data-risk="2">Risk up to 2</button>'
        f'<button class="plain" data-risk="3">Risk up to 3</button></div><div class="cards">{cards}</div>'
    )


def product(item: Product) -> str:
    """Return one product's page with its facts and the button to invest."""
    order = escape(f"/orders/new?category={quote(item.category)}&product={quote(item.id)}")
    return (
        f'<p class="soft"><a href="/products/{item.category}">{CATEGORIES[item.category]}</a></p>'
        f'<section class="panel"><h1>{escape(item.name)}</h1><p>{escape(item.about)}</p><dl class="facts">'
        f"<div><dt>Expected yield a year</dt><dd>{item.expected_yield} %</dd></div>"
        f"<div><dt>Risk</dt><dd>{item.risk} of 5</dd></div><div><dt>Term</dt><dd>{escape(item.term)}</dd></div>"
        f'<div><dt>From</dt><dd>¥ {item.minimum}</dd></div></dl><button data-order="{order}">Invest</button></section>'
    )


def order_form(item: Product, order_id: str, amount: str = "", *, notice: str = "") -> str:
    """Return the form for an order; `notice` says what went wrong with the last try, `amount` what was typed."""
    typed = escape(amount or str(item.minimum))
    return (
        f'{warning(notice)}<section class="panel"><h1>Invest in {escape(item.name)}</h1>'
        '<form method="post" action="/orders/new">'
        f'<input type="hidden" name="order_id" value="{escape(order_id)}">{_product_fields(item)}'
        f'<label>Amount in ¥ <input name="amount" inputmode="decimal" value="{typed}" required></label> '
        '<button type="submit">Place order</button></form></section>'
    )


def _product_fields(item: Product) -> str:
    return (
        f'<input type="hidden" name="category" value="{item.category}">'
        f'<input type="hidden" name="product" value="{item.id}">'
    )


def order_placed(order: Order) -> str:
    """Return the page after an order."""
    return (
        f'<section class="panel"><h1>Order placed</h1><p>¥ {escape(order.amount)} in {escape(order.product.name)}.</p>'
        '<p><a class="button" href="/account/holdings">See holdings</a></p></section>'
    )


def holdings(orders: Iterable[Order], *, notice: str = "") -> str:
    """Return a user's orders with what can be done with each."""
    rows = "".join(
        f"<tr><td>{escape(order.product.name)}</td><td>¥ {escape(order.amount)}</td><td>{order.state}</td>"
        f"<td>{_actions(order)}</td></tr>"
        for order in orders
    )
    table = f"<table><tr><th>Product</th><th>Amount</th><th>State</th><th></th></tr>{rows}</table>"
    empty = '<p class="soft">Nothing yet. <a href="/products">See the products</a>.</p>'
    return f'{warning(notice)}<section class="panel"><h1>Holdings</h1>{table if rows else empty}</section>'


def _actions(order: Order) -> str:
    if order.state != "held":
        return ""
    return "".join(
        f'<form method="post" action="/account/holdings"><input type="hidden" name="order_id" value="{order.id}">'
        f'<button class="plain" name="action" value="{action}">{label}</button></form> '
        for action, label in (("redeem", "Redeem"), ("cancel", "Cancel"))
    )


def login(item: Product | None) -> str:
    """Return the login form: any name will do; `item` is what somebody was about to order."""
    wanted = "" if item is None else _product_fields(item)
    return (
        '<section class="panel"><h1>Log in</h1><p class="soft">Any name will do, there is no password.</p>'
        f'<form method="post" action="/login">{wanted}<label>Name <input name="user" maxlength="64" required></label> '
        '<button type="submit">Log in</button></form></section>'
    )


def warning(notice: str) -> str:
    """Return a notice as HTML, or nothing."""
    return f'<p class="notice">{escape(notice)}</p>' if notice else ""


def message(title: str, text: str) -> str:
    """Return a page that only says something."""
    return f'<section class="panel"><h1>{escape(title)}</h1><p>{escape(text)}</p><p><a href="/">Home</a></p></section>'
