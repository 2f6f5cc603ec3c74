"""Orders and the facts about them: what is open, closed, confirmed and taken back at an hour of stream time (R4).

ADR 0001, items 10 to 20, says how R4 is read. Times are UTC milliseconds; `hour` is hour(τ) since the epoch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from processors.domain.rules import DAY_MS, HOUR_MS, Rules, ceil_hour

NEVER: Final = 1 << 62
"""An hour that does not come."""

MAX_ORDERS: Final = 512
"""Orders in one person's state (ADR 0001, item 19): anyone may send facts with a public key."""


class Change(NamedTuple):
    """The first change a fact caused: its version within the life, and the stage whose topic carried it, if one did."""

    version: int
    stage: str


class Version(NamedTuple):
    """One thing said about a fact; of several the latest stands, see `_precedence`."""

    occurred_at: int
    cancels: bool
    event_id: str
    matures_at: int | None = None
    remaining: str | None = None
    product_id: str | None = None
    category: str | None = None
    amount: str | None = None
    currency: str | None = None


class Statement(NamedTuple):
    """Which fact a money event speaks of (`kind` purchase or redeem), and what it says."""

    order_id: str
    kind: str
    redemption_id: str | None
    version: Version


@dataclass(slots=True)
class Fact:
    """What is known about a purchase, or about one redemption, of an order."""

    first: int
    """Record time of its first record, of any key."""
    trusted: Version | None = None
    public: Version | None = None
    first_public: int | None = None
    stood: bool = False
    """Whether it stood at the previous evaluation."""
    change: Change | None = None

    def learn(self, version: Version, *, trusted: bool, time: int) -> None:
        """Take in one more version, received at record time `time`."""
        if trusted:
            self.trusted = version if self.trusted is None else max(self.trusted, version, key=_precedence)
            return
        if self.first_public is None:
            self.first_public = time
        self.public = version if self.public is None else max(self.public, version, key=_precedence)

    def standing(self, hour: int, rules: Rules, *, exempt: bool = False) -> Version | None:
        """Return the version that stands at `hour`, if one does; `exempt` from the 3 days of a public one."""
        version = self.trusted or self.public
        if version is None or version.cancels:
            return None
        if self.trusted is None and not exempt and hour >= self.lapses(rules):
            return None
        return version

    def lapses(self, rules: Rules) -> int:
        """Return the hour at which the public version is taken back."""
        return NEVER if self.first_public is None else ceil_hour(self.first_public + rules.provisional_days * DAY_MS)


def _precedence(version: Version) -> tuple[int, bool, str]:
    return version.occurred_at, version.cancels, version.event_id


@dataclass(slots=True)
class Order:
    """A position: its purchase, its redemptions by `redemption_id`, and its maturity's closing."""

    purchase: Fact | None = None
    redeems: dict[str | None, Fact] = field(default_factory=dict)
    matured: bool = False
    """Whether a maturity closing was there at the previous evaluation."""
    maturity_change: Change | None = None

    def facts(self) -> Iterator[Fact]:
        """Yield every fact of the order."""
        if self.purchase is not None:
            yield self.purchase
        yield from self.redeems.values()


class Closing(NamedTuple):
    """A position's end: when, whether confirmed, and whether it is the maturity's."""

    instant: int
    confirmed: bool
    matured: bool = False


@dataclass(slots=True)
class Position:
    """An order at an hour: its standing purchase (if any), closings, and the next hour at which that may differ."""

    purchase: Version | None
    confirmed: bool
    closings: list[Closing]
    until: int


@dataclass(slots=True)
class Money:
    """All of a person's positions at an hour, valid until hour `until` unless a fact arrives."""

    funds: str = "none"
    cut: int | None = None
    """Latest instant of a standing purchase or closing (R3)."""
    open_confirmed: bool = False
    closings_confirmed: bool = True
    activity: int = 0
    """Latest `matures_at` of a maturity closing that stands (R5, last activity)."""
    purchased: bool = False
    ever_confirmed: bool = False
    until: int = NEVER
    kept_until: int = NEVER
    """The hour at which the ledger drops or summarises something: at once, so that no cut of commits shows in it."""
    positions: dict[str, Position] = field(default_factory=dict)


@dataclass(slots=True)
class Ledger:
    """A person's orders, and one summary of those that nothing can take back any more (R4, 400 days)."""

    orders: dict[str, Order] = field(default_factory=dict)
    summarised: int = 0
    summary_activity: int = 0
    """Latest `matures_at` of a maturity closing among them."""

    def learn(self, said: Statement, *, trusted: bool, time: int) -> bool:
        """Take in a version of a fact; return False where the bound on orders kept it out."""
        order = self.orders.get(said.order_id)
        if order is None:
            if not trusted and len(self.orders) >= MAX_ORDERS:
                return False
            order = self.orders[said.order_id] = Order()
        if said.kind == "purchase":
            if order.purchase is None:
                order.purchase = Fact(time)
            fact = order.purchase
        else:
            fact = order.redeems.setdefault(said.redemption_id, Fact(time))
        fact.learn(said.version, trusted=trusted, time=time)
        return True

    def settle(self, hour: int, rules: Rules) -> Money:
        """Drop redemptions that waited too long, summarise what is old, and return the money at `hour`."""
        money = Money(funds="redeemed" if self.summarised else "none", purchased=self.summarised > 0)
        money.activity = self.summary_activity
        money.ever_confirmed = self.summarised > 0
        for order_id, order in list(self.orders.items()):
            position = assess(order, hour, rules)
            if position.purchase is None:
                money.kept_until = min(money.kept_until, self._drop_waiting(order_id, order, hour, rules))
                money.until = min(money.until, position.until)
                continue
            if self._summarise(order_id, position, hour, rules):
                money.purchased = True
                money.activity = max(money.activity, self.summary_activity)
                continue
            _add(money, order_id, position, position.purchase)
            if position.closings and all(closing.confirmed for closing in position.closings):
                last = max(position.purchase.occurred_at, *(closing.instant for closing in position.closings))
                money.kept_until = min(money.kept_until, (last + rules.summary_after_days * DAY_MS) // HOUR_MS + 1)
        if any(not position.closings for position in money.positions.values()):
            money.funds = "held"
        elif money.purchased:
            money.funds = "redeemed"
        return money

    def _drop_waiting(self, order_id: str, order: Order, hour: int, rules: Rules) -> int:
        """Drop the redemptions that waited too long; return the hour at which the next of them has."""
        following = NEVER
        for redemption_id, fact in list(order.redeems.items()):
            ends = ceil_hour(fact.first + rules.redeem_waits_days * DAY_MS)
            if hour >= ends:
                del order.redeems[redemption_id]
            else:
                following = min(following, ends)
        if order.purchase is None and not order.redeems:
            del self.orders[order_id]
        return following

    def _summarise(self, order_id: str, position: Position, hour: int, rules: Rules) -> bool:
        oldest = hour * HOUR_MS - rules.summary_after_days * DAY_MS
        if not position.closings or position.purchase is None or position.purchase.occurred_at >= oldest:
            return False
        if any(closing.instant >= oldest or not closing.confirmed for closing in position.closings):
            return False
        del self.orders[order_id]
        self.summarised += 1
        matured = [closing.instant for closing in position.closings if closing.matured]
        self.summary_activity = max(self.summary_activity, *matured, 0)
        return True


def _add(money: Money, order_id: str, position: Position, purchase: Version) -> None:
    money.positions[order_id] = position
    money.purchased = True
    money.ever_confirmed |= position.confirmed
    money.until = min(money.until, position.until)
    money.cut = max(purchase.occurred_at, *(closing.instant for closing in position.closings), money.cut or 0)
    if not position.closings:
        money.open_confirmed |= position.confirmed
    for closing in position.closings:
        money.closings_confirmed &= closing.confirmed
        if closing.matured:
            money.activity = max(money.activity, closing.instant)


def assess(order: Order, hour: int, rules: Rules) -> Position:
    """Return the position that an order's facts make at `hour` (R4)."""
    standing = [(fact, fact.standing(hour, rules)) for fact in order.redeems.values()]
    backed = any(fact.trusted is not None and version is not None for fact, version in standing)
    purchase = order.purchase.standing(hour, rules, exempt=backed) if order.purchase is not None else None
    until = min((_next_lapse(fact, hour, rules) for fact in order.facts()), default=NEVER)
    if purchase is None or order.purchase is None:
        return Position(None, confirmed=False, closings=[], until=until)
    redeems = [
        Closing(version.occurred_at, fact.trusted is not None)
        for fact, version in standing
        if version is not None and not _leaves_some(version.remaining)
    ]
    closings = redeems
    if purchase.matures_at is not None:
        closings = _with_maturity(redeems, purchase.matures_at, hour, rules)
        ends = purchase.matures_at + rules.provisional_days * DAY_MS
        until = min([until, *(due for due in (ceil_hour(purchase.matures_at), ceil_hour(ends)) if due > hour)])
    return Position(purchase, order.purchase.trusted is not None or backed, closings, until)


def _next_lapse(fact: Fact, hour: int, rules: Rules) -> int:
    lapses = fact.lapses(rules)
    return lapses if fact.trusted is None and lapses > hour else NEVER


def _with_maturity(redeems: list[Closing], matures_at: int, hour: int, rules: Rules) -> list[Closing]:
    """Return the closings of a position that matures, from its closing redeems (ADR 0001, item 14)."""
    if hour < ceil_hour(matures_at) or any(closing.instant < matures_at for closing in redeems):
        return redeems
    ends = ceil_hour(matures_at + rules.provisional_days * DAY_MS)
    within = [closing for closing in redeems if closing.instant < ends * HOUR_MS]
    later = [closing for closing in redeems if closing.instant >= ends * HOUR_MS]
    if within:
        return [Closing(matures_at, any(closing.confirmed for closing in within), matured=True), *later]
    if hour < ends:
        return [Closing(matures_at, confirmed=False, matured=True), *later]
    return later


def _leaves_some(remaining: str | None) -> bool:
    return remaining is not None and not remaining.lstrip().startswith("-") and any(c in "123456789" for c in remaining)


@dataclass(slots=True)
class Turn:
    """What happened to a person's facts between two evaluations, for `retracts` and `order_id` (ADR 0001, 17, 20)."""

    taken_back: list[tuple[int, str, Change | None]] = field(default_factory=list)
    """(version of the fact's first change or NEVER, order id, that change), unordered."""
    appeared: dict[str, Order] = field(default_factory=dict)
    """Orders whose maturity closing came into being, by id."""

    @property
    def retracted(self) -> Change | None:
        """The earliest first change of what was taken back, None where nothing was or none had one."""
        return min(self.taken_back)[2] if self.taken_back else None

    @property
    def order_id(self) -> str | None:
        """The order that a timer's change is about: of what was taken back before what was closed."""
        return min(self.taken_back)[1] if self.taken_back else min(self.appeared, default=None)


def turn(ledger: Ledger, money: Money, hour: int, rules: Rules) -> Turn:
    """Compare every fact with the previous evaluation, remember how it stands, and return what turned."""
    result = Turn()
    for order_id, order in ledger.orders.items():
        position = money.positions.get(order_id)
        backed = position is not None and position.confirmed
        for fact in order.facts():
            stands = fact.standing(hour, rules, exempt=backed and fact is order.purchase) is not None
            if fact.stood and not stands:
                result.taken_back.append((_version_of(fact.change), order_id, fact.change))
            fact.stood = stands
        matured = position is not None and any(closing.matured for closing in position.closings)
        if order.matured and not matured and position is not None and not position.closings:
            change = order.maturity_change
            result.taken_back.append((_version_of(change), order_id, change))
        if not matured:
            order.maturity_change = None
        elif not order.matured:
            result.appeared[order_id] = order
        order.matured = matured
    return result


def _version_of(change: Change | None) -> int:
    return NEVER if change is None else change.version
