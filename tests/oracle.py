"""A naive oracle: R1 to R8 as docs/adr/0001 reads them (numbers in brackets), by brute force over the log's records."""

import json
import re
import tomllib
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace as Plain
from typing import Any
from zoneinfo import ZoneInfo

from msgspec.structs import replace

from collector.wire.block import decode_events
from collector.wire.event import MONEY_TYPES, Element, Event, Page, dwell_ms, person_key
from collector.wire.record import HOUR_MS, Record

DAY_MS, NEVER, EPOCH = 24 * HOUR_MS, 2**60, datetime(1970, 1, 1, tzinfo=UTC)
UNITS = {"days": DAY_MS, "hours": HOUR_MS, "minutes": 60_000, "above": 1000, "at": 1000}  # by how a rule's name ends
SHOP = tomllib.loads((Path(__file__).parents[1] / "processors/definitions/fund-shop.toml").read_text("utf-8"))


def ceil(instant: int) -> int:
    return -(-instant // HOUR_MS) * HOUR_MS


def fits(path: str | None, patterns: list[str]) -> re.Match[str] | None:  # patterns as /products/{category}
    regexes = (re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(pattern.rstrip("/"))) for pattern in patterns)
    return next((m for regex in regexes if path and (m := re.fullmatch(regex, path.rstrip("/")))), None)


def matches(rule: dict[str, Any], event: Event) -> bool:
    page, element = event.page or Page(), event.element or Element()
    has = {"event": event.name, "selector": element.selector, "text": " ".join((element.text or "").split())}
    paths = {"path": page.path, "href_path": re.sub("^([^:/?#]+:)?(//[^/?#]*)?|[?#].*", "", element.href or "")}
    holds = [has[n] in rule[n] for n in has if n in rule] + [fits(paths[n], rule[n]) for n in paths if n in rule]
    return event.type == rule["type"] and all(holds)


def money_of(facts: dict[Any, list[Any]], now: int, grace: int) -> Any:
    """What the facts {(order, "purchase" | "redeem", redemption id): versions} say at the whole hour `now` (R4)."""
    latest = {f: max([v for v in vs if v.trusted] or vs, key=lambda v: v.rank) for f, vs in facts.items()}  # [10]
    best = {f: v for f, v in latest.items() if not v.rank[1]}
    stands = {f for f, v in best.items() if v.trusted or now < facts[f][0].told + grace}  # [11]
    vouched = {f[0] for f in stands if f[1] == "redeem" and best[f].trusted}
    stands |= {f for f in best if f[1] == "purchase" and f[0] in vouched}
    m = Plain(bought={f[0]: best[f] for f in stands if f[1] == "purchase"}, closings={}, last={}, matured={})
    for order, purchase in m.bought.items():
        ends = [(best[f].rank[0], best[f].trusted) for f in stands if f[:2] == (order, "redeem") and best[f].closes]
        due, too_late = purchase.matures_at, ceil(purchase.matures_at + grace)
        inside = [trusted for at, trusted in ends if at < too_late]
        if due <= now and all(at >= due for at, _ in ends) and (inside or now < due + grace):  # [14]
            m.matured[order, "maturity"] = due
            ends = [(due, any(inside)), *(end for end in ends if end[0] >= too_late)]
        m.closings[order], m.last[order] = ends, max([purchase.rank[0], *(at for at, _ in ends)])
    m.stands, m.held = stands | {*m.matured}, {order for order, ends in m.closings.items() if not ends}
    m.final = {order for order, ends in m.closings.items() if ends and all(sure for _, sure in ends)}
    m.sure = {order for order, purchase in m.bought.items() if purchase.trusted or order in vouched}
    return m


class Oracle:  # the fold of one partition; `merged`: anonymous persons on their way to users, of all partitions
    def __init__(self, merged: dict[str, Any], changes: dict[str, list[dict[str, Any]]]) -> None:
        self.tau, self.merged, self.changes, self.heard = 0, merged, changes, set[str | None]()
        self.people, self.links, self.due, self.cut = (dict[str, Any]() for _ in range(4))
        self.define(0, "")

    def define(self, number: int, toml: str) -> None:
        self.number, self.document = number, dict.fromkeys(SHOP, ()) | tomllib.loads(toml)
        rules = SHOP["rules"] | dict(self.document["rules"])
        self.rules = Plain(**{name: round(n * UNITS.get(name.split("_")[-1], 1)) for name, n in rules.items()})
        for key in sorted(self.people):
            self.evaluate(key, self.record.time, {"kind": "definitions"})

    def fold(self, record: Record) -> None:
        draft, self.record, self.where = record.draft, record, f"{record.partition}-{record.offset}"
        while listed := [(hour, key) for key, hour in self.due.items() if hour <= record.time]:  # [2]
            self.tau = max(self.tau, min(listed)[0])
            self.evaluate(min(listed)[1], min(listed)[0], {"kind": "timer"})
        self.tau, idle = max(self.tau, record.time), self.rules.forgotten_after_days
        self.links = {a: link for a, link in self.links.items() if ceil(link.last + idle) > record.time}  # [31]
        if draft.source and draft.source in self.heard:
            return
        self.heard.add(draft.source)
        take = dict[str, Any](definitions=self.define, tiers=self.cut.update, claim=self.claim, transfer=self.transfer)
        if draft.kind in take:
            take[draft.kind](**json.loads(draft.value))
        for index, event in enumerate(decode_events(draft.value) if draft.kind in {"events", "forward"} else ()):
            key = draft.person or person_key(event.user_id, event.anonymous_id)
            link = self.links.get(key[2:]) if key[0] == "a" else None
            if link:
                link.last = max(link.last, record.time)
            if event.type == "identify" and event.anonymous_id and event.user_id and not draft.person:
                self.claim(event.anonymous_id, event.user_id)  # [28]: another record forwards it
            elif link is None or link.shared:
                self.event(key, event, index)

    def claim(self, anonymous_id: str, user_id: str) -> None:
        key, time, fresh = f"a:{anonymous_id}", self.record.time, anonymous_id not in self.links
        link = self.links.setdefault(anonymous_id, Plain(user=user_id, shared=False, last=time))  # [30]
        link.last, link.shared = max(link.last, time), link.shared or link.user != user_id
        if fresh and key in self.people:
            for e in (e for e in self.people[key].events if e.hour + self.rules.window_hours <= self.tau):
                e.behaviours, e.dwell = [], 0  # what has left the window here is not transferred
            self.merged[self.where] = f"u:{user_id}", self.people[key]
            self.publish(key, time, {"kind": "transfer"}, merged_into=f"u:{user_id}")

    def person(self, key: str, index: int) -> Any:
        p = Plain(life=self.where, name=f"{self.where}.{index}", version=0, stage="prospect", confirmed=True, facts={})
        p.active, p.recorded, p.visited, p.events, p.visits, p.devices = 0, 0, -NEVER, [], [], {}
        p.elsewhere, p.ever_sure, p.summary, p.stood, p.caused = False, False, False, set(), {}
        return self.people.get(key, p)

    def remembered(self, p: Any) -> tuple[dict[Any, Any], list[str]]:  # events of the last 24 hours by id; sessions
        events, sessions = p.events[-self.rules.events_remembered :], [s for _, s in p.visits if s is not None]
        recent = {e.id: e for e in events if self.tau - e.tau <= self.rules.duplicate_hours}
        return recent, sessions[-self.rules.sessions_remembered :]

    def see(self, p: Any, device: str, numbers: set[int]) -> None:  # a latest device's numbers [24], [26]
        seen = p.devices.pop(device, set()) | numbers
        gaps = [n for n in range(max(seen, default=0)) if n not in seen]
        devices = [*p.devices.items(), (device, seen | {*gaps[: -self.rules.seq_gaps]})]
        p.devices = dict(devices[-self.rules.devices_remembered :])

    def event(self, key: str, event: Event, index: int) -> None:
        p, device, time, fact = self.person(key, index), event.anonymous_id, self.record.time, None
        event = replace(event, occurred_at=min(event.occurred_at, time))  # [3]
        if (device and event.seq in p.devices.get(device, ())) or (event.trusted, event.id) in self.remembered(p)[0]:
            return
        self.people[key], cause = p, {"kind": "event", "event_id": event.id, "trusted": event.trusted}
        if event.type in MONEY_TYPES and key[0] == "u":  # [10]
            says, (kind, _, cancelled) = json.loads(bytes(event.properties)), event.type.partition("_")
            fact = (says["order_id"], kind, says.get("redemption_id") if kind == "redeem" else None)
            self.evaluate(key, time, cause | {"order_id": fact[0]})  # [12], [18]
            version = Plain(rank=(event.occurred_at, cancelled != "", event.id), trusted=event.trusted, told=time)
            version.closes = not re.match(r"\+?[0-9.]*[1-9]", str(says.get("remaining") or ""))  # [13]
            version.matures_at = says.get("matures_at") or NEVER
            p.facts.setdefault(fact, []).append(version)
        p.active, p.recorded = max(p.active, event.occurred_at), max(p.recorded, time)
        if device:
            self.see(p, device, set() if event.seq is None else {event.seq})
        self.count(p, event, event.occurred_at)
        self.evaluate(key, time, cause | ({"order_id": fact[0]} if fact else {}), fact)

    def count(self, p: Any, event: Event, at: int) -> None:
        session, hour, name = event.session_id, at // HOUR_MS * HOUR_MS, (event.trusted, event.id)  # ADR 4
        inside = hour > self.tau // HOUR_MS * HOUR_MS - self.rules.window_hours  # [4]
        found = [b["name"] for b in self.document["behaviours"] if inside and matches(b, event)]
        ms = max(0, min(dwell_ms(event) * (inside and event.type == "dwell"), self.rules.dwell_cap_minutes))  # [7]
        named = fits((event.page or Page()).path, self.document["category_paths"])
        category = next((c for c in self.document["categories"] if named and c == named["category"]), None)
        if event.type not in MONEY_TYPES:
            apart = abs(at - p.visited) >= self.rules.visit_gap_minutes
            p.visits += [(at, session)] if (apart if session is None else session not in self.remembered(p)[1]) else []
            p.visited = at if session is None else p.visited
        p.events.append(Plain(id=name, tau=self.tau, hour=hour, behaviours=found, category=category, dwell=ms))

    def transfer(self, **_body: Any) -> None:  # the record holds the product's idea of the person; here is the oracle's
        key, other = self.merged[str(self.record.draft.source).split("/")[0]]
        p = self.people[key] = self.person(key, 0)
        (mine, sessions), (theirs, _) = self.remembered(p), self.remembered(other)  # [27]
        p.events += [e for e in other.events if e.id not in mine or e is not theirs.get(e.id)]
        p.events.sort(key=lambda e: e.tau)
        for device, seen in other.devices.items():
            self.see(p, device, seen)
        p.visits = [visit for visit in other.visits if visit[1] not in sessions] + p.visits  # [33]
        p.visited, p.active = max(p.visited, other.visited), max(p.active, other.active)
        p.recorded, p.elsewhere = max(p.recorded, other.recorded, self.record.time), p.elsewhere or other.elsewhere
        self.evaluate(key, self.record.time, {"kind": "transfer"}, other=other)

    def look(self, p: Any, other: Any = None) -> Any:  # what follows from a person's lists at stream time
        rules, now = self.rules, self.tau // HOUR_MS * HOUR_MS
        m = money_of(p.facts, now, rules.provisional_days)
        weights = Counter({b["name"]: round(b["weight"] * 1000) for b in self.document["behaviours"]})
        inside = [e for e in p.events if e.hour > now - rules.window_hours]
        since = Counter(b for e in inside if e.hour > max(m.last.values(), default=-NEVER) for b in e.behaviours)  # [6]
        weighted = sorted((-weights[b], b, n) for b, n in since.items() if weights[b] > 0)
        score, decision = sum(weights[b] for e in inside for b in e.behaviours), sum(-w * n for w, _, n in weighted)
        tier = next((t for t in ("top", "next") if score >= self.cut[t]), "rest") if self.cut else None
        intent = ("weak", "medium", "strong")[(score > rules.medium_above) + (score > rules.strong_above)]
        dwell = [(-sum(e.dwell for e in inside if e.category == c), c) for c in {e.category for e in inside}]
        total, (most, best) = -sum(ms for ms, _ in dwell), min((d for d in dwell if d[1]), default=(0, ""))
        marked = total >= rules.preference_min_dwell_ms and -most * 100 > total * rules.preference_above_percent
        bought, m.active = bool(m.bought or p.summary), max([p.active, *m.matured.values()])  # [21]
        m.view = {"score": score / 1000, "decision_score": decision / 1000, "intent": intent, "tier": tier}
        m.view["evidence"] = [{"behaviour": b, "count": n, "weight": -w / 1000} for w, b, n in weighted]
        m.view["preference"] = {"category": best, "share": round(-most / total, 4)} if marked else None
        m.view |= {"customer": "returning" if bought or p.ever_sure else "new"}
        m.view["funds"] = "held" if m.held else "redeemed" if bought else "none"
        keeps = "decision" in {p.stage, other and other.stage} and decision >= rules.decision_keeps_at
        decides, m.dormant = keeps or decision > rules.strong_above, m.active + rules.dormant_after_days
        silent = (p.elsewhere or bought) and now >= m.dormant
        order = {"holding": m.held, "decision": decides, "dormant": silent, "post_redemption": bought, "prospect": True}
        m.stage = next(stage for stage, holds in order.items() if holds)  # R5
        m.confirmed = bool({"holding": m.held & m.sure, "post_redemption": m.final == {*m.bought}}.get(m.stage, True))
        m.forget = NEVER if bought else ceil(p.recorded + rules.forgotten_after_days)  # [22]
        return m

    def evaluate(self, key: str, at: int, cause: Any, fact: Any = None, other: Any = None) -> None:
        p, rules, now, timer = self.people[key], self.rules, self.tau // HOUR_MS * HOUR_MS, cause["kind"] == "timer"
        m, grace, waits = self.look(p), rules.provisional_days, rules.redeem_waits_days
        old = {order for order in m.final if m.last[order] < now - rules.summary_after_days}  # [18]
        p.summary, p.active = p.summary or bool(old), max([p.active, *(m.matured.get((o, "maturity"), 0) for o in old)])
        late = {f for f, vs in p.facts.items() if f[1] == "redeem" and now >= vs[0].told + waits}  # [12]
        p.facts = {f: v for f, v in p.facts.items() if f[0] not in old and (f not in late or f[0] in m.bought)}
        m = self.look(p, other)
        if timer and now >= m.forget:
            self.publish(key, at, cause)
            return
        gone = [f for f in p.stood - m.stands if (f in p.facts if len(f) == 3 else f[0] in m.held)]  # [17]
        gone.sort(key=lambda f: (p.caused.get(f, NEVER), f[0]))
        begun, back = sorted(m.matured.keys() - p.stood), p.caused.get([*gone, None][0])
        cause |= {"order_id": (gone + begun)[0][0]} if timer and gone + begun else {}  # [20]
        if (m.stage, m.confirmed) != (p.stage, p.confirmed):
            loud = other is None or other.version == 0 or other.stage != m.stage  # [32]
            self.publish(key, at, cause, to=m.stage, confirmed=m.confirmed, actionable=loud, retracts=back)
            p.caused = dict.fromkeys([*begun, *({fact} & m.stands)], p.version) | p.caused
        p.caused = {f: version for f, version in p.caused.items() if f in p.facts or f in m.stands}
        p.stage, p.confirmed, p.stood, p.ever_sure = m.stage, m.confirmed, m.stands, p.ever_sure or bool(m.sure)
        p.elsewhere = p.elsewhere or p.stage != "prospect"
        due = [e.hour + rules.window_hours for e in p.events if e.behaviours and p.stage == "decision"]
        due += [i for vs in p.facts.values() for v in vs for i in (v.told + grace, v.matures_at, v.matures_at + grace)]
        self.due[key] = min([m.forget, *(hour for hour in map(ceil, [m.dormant, *due]) if hour > now)])

    def publish(self, key: str, at: int, cause: Any, **says: Any) -> None:
        p, here = self.people[key], {"partition": self.record.partition, "offset": self.record.offset}
        c = {"to": None, "confirmed": True, "retracts": None, "merged_into": None, "actionable": True} | says
        if c["to"] is None:  # the life ends, and says so only where it has published before [23]
            del self.people[key], self.due[key]
        p.version += 1 if c["to"] or p.version else 0
        c |= {"person": key, "user_id": None, "anonymous_id": None, "site": "default", "position": here, "cause": cause}
        c["user_id" if key[0] == "u" else "anonymous_id"] = key[2:]
        c |= {"schema": 1, "life": p.life, "version": p.version, "id": f"{p.name}/{p.version}", "from": p.stage}
        c["at"] = (EPOCH + timedelta(milliseconds=at)).isoformat("T", "milliseconds")[:23] + "Z"
        c["retracts"] = c["retracts"] and f"{p.name}/{c['retracts']}"
        c["actionable"] &= not self.record.draft.imported and cause["kind"] != "definitions"
        if p.version:
            self.changes[key].append(self.look(p).view | c | {"definitions": self.number})

    def state(self, p: Any) -> Any:
        zone, times = ZoneInfo(self.document["timezone"] or SHOP["timezone"]), [self.tau, *(at for at, _ in p.visits)]
        m, today, *days = self.look(p), *(datetime.fromtimestamp(at // 1000, zone).toordinal() for at in times)
        m.view["visits_30_days"] = sum(day > today - 30 for day in days)
        return m.view | {"stage": p.stage, "confirmed": p.confirmed, "last_activity": m.active}


def run(records: list[Record]) -> Any:  # of all partitions, each after the one that it follows from
    merged, changes = dict[str, Any](), defaultdict[str, list[dict[str, Any]]](list)
    oracles = {partition: Oracle(merged, changes) for partition in {r.partition for r in records}}
    for record in records:
        oracles[record.partition].fold(record)
    return Plain(changes=changes, states={key: o.state(p) for o in oracles.values() for key, p in o.people.items()})
