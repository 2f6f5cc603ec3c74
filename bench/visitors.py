"""People of a simulated fund shop: their devices, visits and money, as native events.

Beside what a native event has, each carries `trusted` (from the ledger's key or a public one) and `arrives`: the UTC
millisecond at which the collector receives it, never before its `ts`. What is late, queued offline or out of order
differs between the two.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any, Final

Event = dict[str, Any]

SECOND: Final = 1_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
SHANGHAI: Final = 8 * HOUR
"""Offset of the shop's local time; it has no summer time."""

PRODUCTS: Final = {
    "bond": ("bd-101", "bd-102", "bd-103", "bd-104"),
    "index": ("ix-201", "ix-202", "ix-203"),
    "mixed": ("mx-301", "mx-302", "mx-303"),
    "money-market": ("mm-401", "mm-402"),
    "stock": ("st-501", "st-502", "st-503", "st-504"),
}
CATEGORIES: Final = tuple(PRODUCTS)
READING: Final = ("/news", "/news/markets", "/learn/risk", "/learn/yield", "/community", "/account", "/help")
CHANNELS: Final = ("baidu", "wechat", "douyin", "appstore", "newsletter", "referral", "direct")

HOUR_WEIGHTS: Final = (2, 1, 0, 0, 0, 0, 1, 3, 6, 9, 10, 9, 8, 8, 9, 9, 7, 5, 5, 6, 8, 9, 7, 4)
"""How busy the shop's local hours are: trading hours and the evening."""
WEEKDAY_WEIGHTS: Final = (10, 10, 9, 9, 9, 5, 4)
"""Monday to Sunday."""
HOURS: Final = tuple(range(24))


@dataclass(slots=True, frozen=True)
class Plan:
    """What a visit consists of; each part adds its default weight to the score (contract, default definitions)."""

    lists: int = 1
    products: int = 1
    invests: int = 0
    submits: int = 0


LIGHT: Final = Plan()  # 0.9
MEDIUM: Final = Plan(lists=2, products=3)  # 2.6
ALMOST: Final = Plan(lists=1, products=2, invests=2)  # 4.7: keeps a decision, does not begin one
STRONG: Final = Plan(lists=2, products=4, invests=2)  # 6.4
ORDER: Final = Plan(lists=2, products=4, invests=2, submits=1)  # 8.9


@dataclass(slots=True)
class Device:
    """A browser or an app installation: numbered events or not, session ids or not, sent at once or in batches."""

    anonymous_id: str
    channel: str
    numbered: bool
    sessions: bool
    flush_ms: int
    seq: int = 0
    seen: bool = False


@dataclass(slots=True, frozen=True)
class Order:
    """One order of a product; amounts are decimal strings."""

    order_id: str
    product_id: str
    category: str
    amount: str


@dataclass(slots=True)
class Visitor:
    """One person, who acts by adding to `events`; the same `seed` and `number` act the same on every machine.

    `midnight` is the local midnight of day 0 in UTC milliseconds; `days` of ordinary life follow.
    """

    seed: int
    number: int
    midnight: int
    days: int = 30
    events: list[Event] = field(default_factory=list)
    rng: random.Random = field(init=False)
    user: str = field(init=False)
    favourite: str = field(init=False)
    first_day: int = 0
    orders: int = 0

    def __post_init__(self) -> None:
        # A text seed goes through SHA-512, which is the same in every process; a tuple's hash would not be.
        self.rng = random.Random(f"{self.seed}/{self.number}")
        self.user = f"u{1000 + self.number}"
        self.favourite = self.rng.choice(CATEGORIES)

    def at(self, day: int) -> int:
        """Return an instant of the visitor's day `day`, at an hour as busy as it is likely (UTC milliseconds)."""
        hour = self.rng.choices(HOURS, HOUR_WEIGHTS)[0]
        return self.midnight + (self.first_day + day) * DAY + hour * HOUR + self.rng.randrange(HOUR)

    def some_id(self) -> str:
        """Return a fresh identifier shaped like a UUID."""
        text = f"{self.rng.getrandbits(128):032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def device(self, kind: str = "web") -> Device:
        """Return a new device: `web` numbers its events, `app` does not and sends batches, `mini` has no sessions."""
        return Device(
            anonymous_id=self.some_id(),
            channel=self.rng.choice(CHANNELS),
            numbered=kind == "web",
            sessions=kind == "app" or (kind == "web" and self.rng.random() < 0.6),
            flush_ms=30 * SECOND if kind == "app" else 0,
        )

    def any_device(self) -> Device:
        """Return a new device of any kind, browsers being the most usual."""
        return self.device(self.rng.choice(("web", "web", "app", "mini")))

    def act(
        self, device: Device, kind: str, at: int, *, user: str | None = None, online: int = 0, **fields: object
    ) -> Event:
        """Do one thing on a device at `at`, sent when the device is `online` again (UTC milliseconds); return it."""
        event: Event = {"id": self.some_id(), "type": kind, "ts": at, "anonymous_id": device.anonymous_id}
        if user is not None:
            event["user_id"] = user
        if device.numbered:
            event["seq"] = device.seq
            device.seq += 1
        event.update(fields)
        sent = max(at, online)
        if device.flush_ms:
            sent = (sent // device.flush_ms + 1) * device.flush_ms
        event["trusted"] = False
        event["arrives"] = sent + self.rng.randrange(30, 2_500)
        self.events.append(event)
        return event

    def visit(self, device: Device, at: int, plan: Plan = LIGHT, *, user: str | None = None, away: int = 0) -> int:
        """Visit the shop from `at` on and return the instant of leaving (UTC milliseconds).

        With `away`, the device is offline and sends everything only that many milliseconds later.
        """
        shop = _Visit(self, device, at, user, at + away if away else 0)
        shop.land()
        for _ in range(plan.lists):
            shop.open_list()
        for i in range(plan.products):
            shop.open_product()
            if i < plan.invests:
                shop.invest()
        for _ in range(plan.submits):
            shop.order()
        shop.read()
        return shop.now

    def check_returns(self, device: Device, at: int, *, user: str | None = None) -> int:
        """Look at the own holdings, as holders do now and then; return the instant of leaving."""
        shop = _Visit(self, device, at, user, 0)
        shop.look("/account/holdings", 8, 60)
        return shop.now

    def login(self, device: Device, at: int, user: str | None = None) -> int:
        """Log in with an `identify` and return the instant after it."""
        self.act(device, "identify", at, user=user or self.user)
        return at + 3 * SECOND

    def order(self) -> Order:
        """Return the next order of this visitor, usually in the favourite category."""
        self.orders += 1
        category = self.favourite if self.rng.random() < 0.7 else self.rng.choice(CATEGORIES)
        return Order(
            order_id=f"o{self.number}-{self.orders}",
            product_id=self.rng.choice(PRODUCTS[category]),
            category=category,
            amount=f"{self.rng.randrange(10, 2_000) * 100}.00",
        )

    def fact(
        self,
        kind: str,
        order: Order,
        at: int,
        *,
        device: Device | None = None,
        arrives: int | None = None,
        user: str | None = None,
        **properties: object,
    ) -> Event:
        """State a money fact that happened at `at`: from a browser when it has a device, else from the ledger."""
        about: dict[str, Any] = {"order_id": order.order_id}
        if kind == "purchase":
            about |= {"product_id": order.product_id, "category": order.category}
        if kind in {"purchase", "redeem"}:
            about |= {"amount": order.amount, "currency": "CNY"}
        about |= properties
        who = user or self.user
        if device is not None:
            event = self.act(device, kind, at, user=who, properties=about)
        else:
            event = {
                "id": f"ledger-{self.some_id()}",
                "type": kind,
                "ts": at,
                "user_id": who,
                "properties": about,
                "trusted": True,
                "arrives": at + self.rng.randrange(2 * SECOND, 2 * MINUTE),
            }
            self.events.append(event)
        if arrives is not None:
            event["arrives"] = max(at, arrives)
        return event

    def again(self, event: Event, arrives: int, **changed: object) -> None:
        """Send an event a second time, with the same id, to arrive at `arrives`."""
        self.events.append({**event, **changed, "arrives": max(arrives, event["ts"])})


@dataclass(slots=True)
class _Visit:
    """One visit in the making: pages, clicks and dwell, one after the other from `now` on."""

    visitor: Visitor
    device: Device
    now: int
    user: str | None
    online: int
    session: str | None = None
    category: str = ""
    product: str = ""

    def __post_init__(self) -> None:
        if self.device.sessions:
            self.session = self.visitor.some_id()

    def add(self, kind: str, path: str, **fields: object) -> None:
        """Add one interaction on the page at `path`."""
        url = f"https://shop.example{path}"
        page = {"url": url, "path": path}
        if not self.device.seen:
            self.device.seen = True
            page = {
                "url": f"{url}?utm_source={self.device.channel}",
                "path": path,
                "referrer": f"https://{self.device.channel}.example/",
            }
        if self.session is not None:
            fields["session_id"] = self.session
        self.visitor.act(self.device, kind, self.now, user=self.user, online=self.online, page=page, **fields)
        self.now += self.visitor.rng.randrange(800, 6_000)

    def look(self, path: str, least_s: int, most_s: int) -> None:
        """Open a page, and stay on it for so many seconds."""
        self.add("page", path)
        stay = self.visitor.rng.randrange(least_s * SECOND, most_s * SECOND)
        self.now += stay
        self.add("dwell", path, properties={"ms": stay})

    def land(self) -> None:
        """Come in by the front door, mostly."""
        if self.visitor.rng.random() < 0.6:
            self.look("/", 2, 20)

    def read(self) -> None:
        """Read a few pages that say nothing about an intention."""
        for _ in range(self.visitor.rng.randrange(2, 9)):
            self.look(self.visitor.rng.choice(READING), 3, 45)

    def open_list(self) -> None:
        """Look at a list of products, mostly of the favourite category."""
        rng = self.visitor.rng
        self.category = self.visitor.favourite if rng.random() < 0.75 else rng.choice(CATEGORIES)
        self.look("/products" if rng.random() < 0.3 else f"/products/{self.category}", 5, 40)

    def open_product(self) -> None:
        """Go from the list to a product's page."""
        rng = self.visitor.rng
        self.product = rng.choice(PRODUCTS[self.category])
        path = f"/products/{self.category}/{self.product}"
        self.add("click", f"/products/{self.category}", element={"tag": "a", "text": self.product, "href": path})
        self.look(path, 15, 180)

    def invest(self) -> None:
        """Press the button that begins an order."""
        path = f"/products/{self.category}/{self.product}"
        text = "Invest" if self.visitor.rng.random() < 0.5 else "立即投资"
        self.add("click", path, element={"tag": "button", "text": text})

    def order(self) -> None:
        """Fill in the order form and submit it."""
        self.look("/orders/new", 10, 60)
        self.add("change", "/orders/new", element={"tag": "input", "selector": "#amount"})
        self.add("submit", "/orders/new", element={"tag": "form", "selector": "#order"})
