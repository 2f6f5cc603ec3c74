"""A naive oracle: R1 to R8 as docs/adr/0001 reads them (numbers in brackets), by brute force over the log's records."""

import json
import re
import tomllib
from collections import Counter, defaultdict, deque
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace as Plain
from typing import Any
from zoneinfo import ZoneInfo

from collector.wire.block import decode_events
from collector.wire.event import MONEY_TYPES, Event
from collector.wire.record import HOUR_MS, Kind, Record
from tests.oracle_matching import match_path, matches

DAY_MS, NEVER, EPOCH = 24 * HOUR_MS, 2**60, datetime(1970, 1, 1, tzinfo=UTC)
UNITS = {"days": DAY_MS, "hours": HOUR_MS, "minutes": 60_000, "above": 1000, "at": 1000}  # by how a rule's name ends
SHOP = tomllib.loads((Path(__file__).parents[1] / "processors/definitions/fund-shop.toml").read_text("utf-8"))


def ceil(instant: int) -> int:
    return -(-instant // HOUR_MS) * HOUR_MS


def money_of(facts: dict[Any, list[Any]], now: int, grace: int) -> Any:
    """What the facts {(order, "purchase" | "redeem", redemption id): versions} say at the whole hour `now` (R4)."""
    latest = {f: max([v for v in vs if v.trusted] or vs, key=lambda v: v.rank) for f, vs in facts.items()}  # [10]
    best = {f: v for f, v in latest.items() if not v.rank[1]}
    stands = {f for f, v in best.items() if v.trusted or now < facts[f][0].recorded + grace}  # [11]
    vouched = {f[0] for f in stands if f[1] == "redeem" and best[f].trusted}
    stands |= {f for f in best if f[1] == "purchase" and f[0] in vouched}
    m = Plain(
        bought={f[0]: best[f] for f in stands if f[1] == "purchase"},
        closings={},
        matured={},
        stands=stands,
    )
    for order, purchase in m.bought.items():
        ends = [(best[f].rank[0], best[f].trusted) for f in stands if f[:2] == (order, "redeem") and best[f].closes]
        due, too_late = purchase.matures_at, ceil(purchase.matures_at + grace)
        inside = [trusted for at, trusted in ends if at < too_late]
        if due <= now and all(at >= due for at, _ in ends) and (inside or now < due + grace):  # [14]
            m.matured[order, "maturity"] = due
            ends = [(due, any(inside)), *(end for end in ends if end[0] >= too_late)]
        m.closings[order] = ends
    m.stands, m.held = stands | m.matured.keys(), {order for order, ends in m.closings.items() if not ends}
    m.sure = {order for order, v in m.bought.items() if v.trusted or order in vouched}
    m.last = {order: max([v.rank[0], *(at for at, _ in m.closings[order])]) for order, v in m.bought.items()}
    return m


class Oracle:
    """The fold of one partition: give `fold` its records in order, then read `changes` and `state`."""

    def __init__(self, partition: int) -> None:
        self.tau, self.queue, self.peers, empty = 0, deque[Record](), {partition: self}, defaultdict[Any, Any]
        self.people, self.due, self.tiers, self.sources = empty(), empty(), empty(), empty(list)
        self.links: dict[str, Any] = {}
        self.payloads: dict[int, Any] = {}  # by the offset of a merge: the user's key and the anonymous person
        self.changes: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.define(0, "")

    def prune(self, p: Any) -> None:
        """What has left the window is gone, also should a longer one follow [9]."""
        for e in p.events:
            if e.hour <= self.tau // HOUR_MS * HOUR_MS - self.rules["window_hours"]:
                e.behaviours, e.dwell = [], 0

    def define(self, number: int, toml: str) -> None:
        for p in self.people.values():
            self.prune(p)
        self.number, self.document = number, dict.fromkeys(SHOP, ()) | tomllib.loads(toml)
        rules = SHOP["rules"] | dict(self.document["rules"])
        self.rules = {name: round(value * UNITS.get(name.split("_")[-1], 1)) for name, value in rules.items()}
        self.zone = ZoneInfo(self.document["timezone"] or SHOP["timezone"])
        for key in sorted(self.people):
            self.evaluate(key, self.record.time, {"kind": "definitions"})

    def fold(self, record: Record) -> None:
        draft, self.record, self.where = record.draft, record, f"{record.partition}-{record.offset}"
        if draft.source:
            source, *place = map(int, re.split("[-/]", draft.source))
            if place <= self.sources[source]:
                return
            self.sources[source] = place
        idle = self.rules["forgotten_after_days"]
        self.links = {a: link for a, link in self.links.items() if ceil(link.last + idle) > record.time}  # [31]
        while listed := [(hour, key) for key, hour in self.due.items() if hour <= record.time]:  # [2]
            self.tau = max(self.tau, min(listed)[0])
            self.evaluate(min(listed)[1], min(listed)[0], {"kind": "timer"})
        self.tau = max(self.tau, record.time)
        take: dict[Kind, Any] = {Kind.DEFINITIONS: self.define, Kind.TIERS: self.tiers.update, Kind.CLAIM: self.claim}
        if draft.kind in take:
            take[draft.kind](**json.loads(draft.value))
        elif draft.kind is Kind.TRANSFER:
            self.transfer(source, place[0])
        elif draft.kind in {Kind.EVENTS, Kind.FORWARD}:
            for index, event in enumerate(decode_events(draft.value)):
                self.route(event, index)

    def route(self, event: Event, index: int) -> None:
        anonymous, user, owner = event.anonymous_id or "", event.user_id, self.record.draft.person
        key = owner or (f"a:{anonymous}" if user is None else f"u:{user}")
        if claims := event.type == "identify" and anonymous != "" and user is not None and owner is None:
            self.claim(anonymous, str(user))  # [28]
        link = self.links.get(anonymous) if key[0] == "a" else None
        if link:
            link.last = max(link.last, self.record.time)
        if not claims and (link is None or link.shared):  # else it is forwarded to the user's partition
            self.event(key, event, index)

    def claim(self, anonymous_id: str, user_id: str) -> None:
        key, user, time, fresh = f"a:{anonymous_id}", f"u:{user_id}", self.record.time, anonymous_id not in self.links
        link = self.links.setdefault(anonymous_id, Plain(user=user_id, shared=False, last=time))  # [30]
        link.last, link.shared = max(link.last, time), link.shared or link.user != user_id
        if fresh and key in self.people:
            self.payloads[self.record.offset] = user, self.people[key]
            self.prune(self.people[key])
            self.publish(key, time, {"kind": "transfer"}, merged_into=user)

    def person(self, key: str, index: int) -> Any:
        p = Plain(life=self.where, index=index, version=0, stage="prospect", confirmed=True, elsewhere=False, facts={})
        p.active, p.recorded, p.visited, p.ever_sure, p.events, p.visits = 0, 0, -NEVER, False, [], []
        p.summary, p.stood, p.caused, p.devices = False, set(), {}, {}
        return self.people.get(key, p)

    def remembered(self, p: Any) -> tuple[dict[str, Any], list[str]]:
        """The events of the last 24 hours by id, and the last sessions."""
        events, sessions = p.events[-self.rules["events_remembered"] :], [s for _, s in p.visits if s is not None]
        recent = {e.id: e for e in events if self.tau - e.tau <= self.rules["duplicate_hours"]}
        return recent, sessions[-self.rules["sessions_remembered"] :]

    def event(self, key: str, event: Event, index: int) -> None:
        p, seq, most, time = self.person(key, index), event.seq, self.rules["seq_gaps"], self.record.time
        device = p.devices.get(event.anonymous_id) or Plain(tau=0, highest=-1, gaps=[])
        seen = event.anonymous_id and seq is not None and seq <= device.highest and seq not in device.gaps  # [24]
        if seen or event.id in self.remembered(p)[0]:
            return
        self.people[key], properties, fact = p, json.loads(bytes(event.properties)), None
        cause: dict[str, Any] = {"kind": "event", "event_id": event.id, "trusted": event.trusted}
        if event.type in MONEY_TYPES and key[0] == "u":  # [10]
            order = cause["order_id"] = properties["order_id"]
            self.evaluate(key, time, cause)  # [12], [18]
            orders, (kind, _, cancelled) = {f[0] for f in p.facts}, event.type.partition("_")
            left, m = str(properties.get("remaining") or "").strip(), properties.get("matures_at") or NEVER
            m = (datetime.fromisoformat(m) - EPOCH) // timedelta(milliseconds=1) if isinstance(m, str) else m
            version = Plain(matures_at=m, closes=left[:1] == "-" or not re.search("[1-9]", left))  # [13]
            version.rank, version.recorded = (event.occurred_at, cancelled != "", event.id), time
            version.trusted, redemption = event.trusted, properties.get("redemption_id") if kind == "redeem" else None
            if event.trusted or order in orders or len(orders) < 512:  # [19]
                fact = (order, kind, redemption)
                p.facts.setdefault(fact, []).append(version)
        p.active, p.recorded = max(p.active, event.occurred_at), max(p.recorded, time)
        if event.anonymous_id is not None:
            if seq is not None:
                gaps = [*device.gaps, *range(max(device.highest + 1, seq - most), seq)]
                device.gaps, device.highest = [n for n in gaps if n != seq][-most:], max(device.highest, seq)
            device.tau = self.tau
            devices = [*((a, d) for a, d in p.devices.items() if d is not device), (event.anonymous_id, device)]
            p.devices = dict(sorted(devices, key=lambda d: d[1].tau)[-self.rules["devices_remembered"] :])  # [26]
        self.count(p, event, properties)
        self.evaluate(key, time, cause, fact)

    def count(self, p: Any, event: Event, properties: dict[str, Any]) -> None:
        at, session, ms = min(event.occurred_at, self.record.time), event.session_id, properties.get("ms")
        hour, path = at // HOUR_MS * HOUR_MS, event.page.path if event.page else None
        inside = hour > self.tau // HOUR_MS * HOUR_MS - self.rules["window_hours"]  # [4]
        found = [b["name"] for b in self.document["behaviours"] if inside and matches(b, event, properties)]
        dwells = inside and event.type == "dwell" and type(ms) in {int, float}  # [7]
        ms = int(min(max(ms or 0, 0), self.rules["dwell_cap_minutes"])) if dwells else 0
        category = (match_path(path, self.document["category_paths"]) or {}).get("category")
        category = category if category in self.document["categories"] else None
        apart = abs(at - p.visited) >= self.rules["visit_gap_minutes"]
        if event.type not in MONEY_TYPES:
            p.visits += [(at, session)] if (apart if session is None else session not in self.remembered(p)[1]) else []
            p.visited = at if session is None else p.visited
        p.events.append(Plain(id=event.id, tau=self.tau, hour=hour, behaviours=found, category=category, dwell=ms))

    def transfer(self, source: int, offset: int) -> None:
        oracle = self.peers.get(source, Oracle(source))
        oracle.advance(offset)
        assert offset in oracle.payloads, f"transfer {self.where}: the fold of {source}-{offset} merged nobody"
        key, other = oracle.payloads[offset]
        p = self.people[key] = self.person(key, 0)
        (mine, sessions), (theirs, _) = self.remembered(p), self.remembered(other)  # [27]
        p.events += [e for e in other.events if e.id not in mine or e is not theirs.get(e.id)]
        p.events.sort(key=lambda e: e.tau)
        for anonymous, device in other.devices.items():
            own = p.devices.setdefault(anonymous, Plain(tau=0, highest=-1, gaps=[]))
            gaps = {*own.gaps, *device.gaps}
            own.gaps = sorted(gap for gap in gaps if all(gap > d.highest or gap in d.gaps for d in (own, device)))
            own.highest, own.tau = max(own.highest, device.highest), max(own.tau, device.tau)
        p.visits += [visit for visit in other.visits if visit[1] not in sessions]  # [33]
        p.visited, p.active = max(p.visited, other.visited), max(p.active, other.active)
        p.recorded, p.elsewhere = max(p.recorded, other.recorded, self.record.time), p.elsewhere or other.elsewhere
        self.evaluate(key, self.record.time, {"kind": "transfer"}, other=other)

    def look(self, p: Any, other: Any = None) -> Any:
        """What follows from a person's lists at stream time: the counted part of a message, and the stage."""
        rules, now = self.rules, self.tau // HOUR_MS * HOUR_MS
        weights = Counter({b["name"]: round(b["weight"] * 1000) for b in self.document["behaviours"]})
        m, window = money_of(p.facts, now, rules["provisional_days"]), rules["window_hours"]
        inside = [e for e in p.events if e.hour > now - window]
        since = Counter(b for e in inside if e.hour > max(m.last.values(), default=-NEVER) for b in e.behaviours)  # [6]
        weighted = sorted((-weights[b], b, n) for b, n in since.items() if weights[b] > 0)
        score, decision = sum(weights[b] for e in inside for b in e.behaviours), sum(-w * n for w, _, n in weighted)
        tier = next((t for t in ("top", "next") if score >= self.tiers[t]), "rest") if self.tiers else None
        intent = ("weak", "medium", "strong")[(score > rules["medium_above"]) + (score > rules["strong_above"])]
        dwell = [(sum(e.dwell for e in inside if e.category == c), c) for c in {e.category for e in inside}]
        total, (most, best) = sum(d for d, _ in dwell), min(((-d, c) for d, c in dwell if c), default=(0, ""))
        marked = total >= rules["preference_min_dwell_ms"] and -most * 100 > total * rules["preference_above_percent"]
        preference = {"category": best, "share": round(-most / total, 4)} if marked else None
        evidence = [{"behaviour": b, "count": n, "weight": -w / 1000} for w, b, n in weighted]
        bought, m.active = bool(m.bought or p.summary), max([p.active, *m.matured.values()])  # [21]
        m.view = {"score": score / 1000, "decision_score": decision / 1000, "intent": intent, "tier": tier}
        m.view |= {"customer": "returning" if bought or p.ever_sure else "new", "preference": preference}
        m.view |= {"funds": "held" if m.held else "redeemed" if bought else "none", "evidence": evidence}
        keeps = "decision" in {p.stage, other and other.stage} and decision >= rules["decision_keeps_at"]
        m.dormant = m.active + rules["dormant_after_days"]
        stages = ("holding", "decision", "dormant", "post_redemption")
        holds = (
            m.held,
            keeps or decision > rules["strong_above"],
            (p.elsewhere or bought) and now >= m.dormant,
            bought,
        )  # R5
        m.stage = next((stage for stage, here in zip(stages, holds, strict=True) if here), "prospect")
        closed = all(sure for ends in m.closings.values() for _, sure in ends)
        m.confirmed = {"holding": bool(m.held & m.sure), "post_redemption": closed}.get(m.stage, True)
        m.forget = NEVER if bought else ceil(p.recorded + rules["forgotten_after_days"])  # [22]
        return m

    def evaluate(self, key: str, at: int, cause: Any, fact: Any = None, other: Any = None) -> None:
        """Decide forgetting and stage anew, publish what differs, list the person where time alone may change it."""
        p, rules, now, timer = self.people[key], self.rules, self.tau // HOUR_MS * HOUR_MS, cause["kind"] == "timer"
        grace, waits, ancient = rules["provisional_days"], rules["redeem_waits_days"], rules["summary_after_days"]
        m = money_of(p.facts, now, grace)
        sure = {order for order, ends in m.closings.items() if ends and all(trusted for _, trusted in ends)}
        old = {order for order in sure if m.last[order] < now - ancient}  # [18]
        late = {f for f, vs in p.facts.items() if f[1] == "redeem" and now >= vs[0].recorded + waits}  # [12]
        p.summary, p.active = (
            p.summary or bool(old),
            max([p.active, *(m.matured.get((order, "maturity"), 0) for order in old)]),
        )
        p.facts = {f: v for f, v in p.facts.items() if f[0] not in old and (f not in late or f[0] in m.bought)}
        m = self.look(p, other)
        if timer and now >= m.forget:
            self.publish(key, at, cause)
            return
        gone = [f for f in p.stood - m.stands if (f in p.facts if len(f) == 3 else f[0] in m.held)]  # [17]
        gone.sort(key=lambda f: (p.caused.get(f, NEVER), f[0]))
        begun = sorted(m.matured.keys() - p.stood)
        cause |= {"order_id": (gone + begun)[0][0]} if timer and gone + begun else {}  # [20]
        if (m.stage, m.confirmed) != (p.stage, p.confirmed):
            loud = other is None or other.version == 0 or other.stage != m.stage  # [32]
            back = p.caused.get(gone[0]) if gone else None
            self.publish(key, at, cause, to=m.stage, confirmed=m.confirmed, actionable=loud, retracts=back)
            p.caused = dict.fromkeys([*begun, *({fact} & m.stands)], p.version) | p.caused
        p.caused = {f: version for f, version in p.caused.items() if f in p.facts or f in m.stands}
        p.stage, p.confirmed, p.stood, p.ever_sure = m.stage, m.confirmed, m.stands, p.ever_sure or bool(m.sure)
        p.elsewhere = p.elsewhere or p.stage != "prospect"
        versions = [v for versions in p.facts.values() for v in versions]
        due = [e.hour + rules["window_hours"] for e in p.events if e.behaviours and p.stage == "decision"]
        due += [i + delay for v in versions for i in (v.recorded, v.matures_at) for delay in (0, grace, waits)]
        self.due[key] = min([m.forget, *(hour for hour in map(ceil, [m.dormant, *due]) if hour > now)])

    def publish(self, key: str, at: int, cause: Any, **says: Any) -> None:
        """Publish a change; without `to` the life ends, and says so only where it has published before [23]."""
        p, user, anonymous = self.people[key], key[2:] if key[0] == "u" else None, key[2:] if key[0] == "a" else None
        c = {"to": None, "confirmed": True, "retracts": None, "merged_into": None, "actionable": True} | says
        name, when = f"{p.life}.{p.index}/", EPOCH + timedelta(milliseconds=at)
        c["at"], c["position"] = f"{when:%Y-%m-%dT%H:%M:%S}.{at % 1000:03}Z", {"partition": self.record.partition}
        c["position"]["offset"], c["retracts"] = self.record.offset, c["retracts"] and f"{name}{c['retracts']}"
        c["actionable"] &= not self.record.draft.imported and cause["kind"] != "definitions"
        c |= {"schema": 1, "person": key, "user_id": user, "anonymous_id": anonymous, "site": "default", "life": p.life}
        c |= {"version": p.version + 1, "id": f"{name}{p.version + 1}", "from": p.stage, "cause": cause}
        self.changes[key] += [self.look(p).view | c | {"definitions": self.number}] if c["to"] or p.version else []
        p.version += 1
        if c["to"] is None:
            del self.people[key], self.due[key]

    def state(self, p: Any) -> dict[str, Any]:
        """What is known about a person at stream time."""
        today = datetime.fromtimestamp(self.tau // 1000, self.zone).replace(hour=0, minute=0, second=0)
        visits = sum(at >= (today - timedelta(days=29)).timestamp() * 1000 for at, _ in p.visits)
        m, extra = self.look(p), {"stage": p.stage, "confirmed": p.confirmed, "visits_30_days": visits}
        return {**m.view, **extra, "last_activity": m.active}

    def advance(self, offset: int) -> None:
        while self.queue and self.queue[0].offset <= offset:
            self.fold(self.queue.popleft())


def run(records: list[Record]) -> Any:
    """Fold all partitions side by side; the result has `changes` and `states` by person."""
    oracles = {partition: Oracle(partition) for partition in {r.partition for r in records}}
    for record in sorted(records, key=lambda r: r.offset):
        oracles[record.partition].queue.append(record)
        oracles[record.partition].peers = oracles
    for oracle in oracles.values():
        oracle.advance(NEVER)
    changes = {key: changes for o in oracles.values() for key, changes in o.changes.items() if changes}
    return Plain(changes=changes, states={key: o.state(p) for o in oracles.values() for key, p in o.people.items()})
