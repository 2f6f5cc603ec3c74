"""What the shop sells: three funds in each category of the shipped definitions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(slots=True, frozen=True)
class Product:
    """One fund: `expected_yield` in percent a year, `risk` from 1 (low) to 5, `term` in words, `minimum` in CNY."""

    id: str
    category: str
    name: str
    expected_yield: str
    risk: int
    term: str
    minimum: int
    about: str


CATEGORIES: Final = {
    "bond": "Bond funds",
    "stock": "Stock funds",
    "money-market": "Money-market funds",
    "index": "Index funds",
    "mixed": "Mixed funds",
}

PRODUCTS: Final = tuple(
    Product(*facts)
    for facts in (
        ("steady-90", "bond", "Steady Bond 90", "3.10", 2, "90 days", 1000, "Government and policy-bank bonds."),
        ("credit-180", "bond", "Credit Bond 180", "3.85", 2, "180 days", 1000, "Investment-grade companies."),
        ("long-365", "bond", "Long Bond 365", "4.20", 3, "365 days", 5000, "Longer bonds for a year's patience."),
        ("growth", "stock", "Growth Leaders", "9.40", 5, "open", 500, "Forty companies that grow fast."),
        ("dividend", "stock", "Quiet Dividend", "6.70", 4, "open", 500, "Firms that pay every year."),
        ("health", "stock", "Health Ahead", "8.10", 5, "open", 500, "Medicine and devices."),
        ("daily", "money-market", "Daily Cash", "1.90", 1, "any day", 1, "Out again within a day."),
        ("weekly", "money-market", "Weekly Cash", "2.15", 1, "7 days", 100, "A little more for a week."),
        ("treasury", "money-market", "Treasury Cash", "1.75", 1, "any day", 1, "Treasury bills only."),
        ("csi-300", "index", "CSI 300 Index", "6.20", 4, "open", 100, "The 300 largest, nothing else."),
        ("global-100", "index", "Global 100 Index", "6.90", 4, "open", 100, "A hundred firms of the world."),
        ("green", "index", "Green Index", "7.30", 4, "open", 100, "Wind, sun and batteries."),
        ("balance-50", "mixed", "Balance 50", "5.10", 3, "open", 500, "Half bonds, half stocks."),
        ("calm-20", "mixed", "Calm 20", "4.00", 2, "180 days", 500, "One fifth stocks."),
        ("target-2045", "mixed", "Target 2045", "5.80", 3, "until 2045", 500, "Calmer as the year comes near."),
    )
)

_by_place: Final = {(product.category, product.id): product for product in PRODUCTS}


def find(category: str, product_id: str) -> Product | None:
    """Return the product of that category with that id, or None."""
    return _by_place.get((category, product_id))


def in_category(category: str | None) -> list[Product]:
    """Return the products of one category, or all of them."""
    return [product for product in PRODUCTS if category in {None, product.category}]
