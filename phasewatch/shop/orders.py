"""The shop's order book, in memory and bounded, and how it tells the collector what is true about money."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from phasewatch.shop.catalogue import Product

ORDERS_KEPT: Final = 10_000
"""A demo's bound: the oldest order is forgotten beyond it."""
TIMEOUT_SECONDS: Final = 5.0

State = Literal["held", "redeemed", "cancelled"]
Fact = Literal["purchase", "redeem", "purchase_cancelled"]


@dataclass(slots=True)
class Order:
    """One order of one user; `amount` in CNY as a decimal string, `placed_at` in UTC milliseconds."""

    id: str
    user: str
    product: Product
    amount: str
    placed_at: int
    state: State = "held"


class NotRecordedError(Exception):
    """The collector did not confirm a money fact: nothing was changed, the same may be tried again."""


class OrderBook:
    """The latest orders of everybody."""

    def __init__(self) -> None:
        self._orders: OrderedDict[str, Order] = OrderedDict()

    def add(self, order: Order) -> None:
        """Keep an order, and forget the oldest beyond the bound."""
        self._orders[order.id] = order
        while len(self._orders) > ORDERS_KEPT:
            self._orders.popitem(last=False)

    def get(self, order_id: str) -> Order | None:
        """Return the order with that id, or None."""
        return self._orders.get(order_id)

    def of(self, user: str) -> list[Order]:
        """Return a user's orders, the newest first."""
        return [order for order in reversed(self._orders.values()) if order.user == user]


class Ledger:
    """Posts money facts with the trusted key; a repeated fact has the same id, so trying again is harmless."""

    def __init__(self, collector_url: str, trusted_key: str, clock: Callable[[], int]) -> None:
        self._url = collector_url.rstrip("/") + "/v1/events"
        self._key = trusted_key
        self._clock = clock
        # The collector is a neighbour: a proxy of the environment is not meant for it.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    async def state(self, fact: Fact, order: Order) -> None:
        """State a fact about an order.

        Raises:
            NotRecordedError: if the collector is away, refuses, or does not answer in time.
        """
        now = self._clock()
        event = {
            "id": f"{order.id}-{fact}",
            "type": fact,
            "ts": now,
            "user_id": order.user,
            "properties": {
                "order_id": order.id,
                "product_id": order.product.id,
                "category": order.product.category,
                "amount": order.amount,
                "currency": "CNY",
            },
        }
        await asyncio.to_thread(self._post, json.dumps({"sent_at": now, "events": [event]}).encode())

    def _post(self, body: bytes) -> None:
        request = urllib.request.Request(  # noqa: S310 - the address is the operator's own setting
            self._url,
            data=body,
            headers={"Content-Type": "application/json", "Authorization": f"Bearer {self._key}"},
        )
        try:
            with self._opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
                result = json.loads(answer.read(65_536))
        except urllib.error.HTTPError as error:
            with error:
                msg = f"the collector at {self._url} answered {error.code}"
            raise NotRecordedError(msg) from error
        except (OSError, ValueError) as error:
            msg = f"the collector at {self._url} does not answer: {error}"
            raise NotRecordedError(msg) from error
        if result.get("rejected"):
            msg = f"the collector refused it: {result.get('errors')}"
            raise NotRecordedError(msg)
