"""What `phasewatch doctor` makes of what it has seen: each check a pure function, for both forms of deployment."""

from __future__ import annotations

import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeVar

from collector.guards.connections import RESERVED_FILES
from collector.sinks.spool_file import Found
from collector.wire.record import Record
from phasewatch.console_door import door_fault
from phasewatch.logs import SECRET_NAMES
from phasewatch.settings import Settings, Spool, is_loopback
from processors.adapters.kafka.group import Member
from processors.adapters.kafka.topics import Finding
from processors.adapters.redis.health import RedisHealth
from processors.engine.ports import Unreadable
from processors.engine.state import PartitionState, Position
from processors.engine.worker import log_lacks

CLOCKS_MS: Final = 2_000
"""How far two clocks may be apart: far more than NTP leaves, less than any wait that goes by them (tick_settle_ms)."""
SNAPSHOT_OLD_MS: Final = 86_400_000
"""From which on a snapshot is too old, as in the alert SnapshotOld."""
LATE_MS: Final = 60_000
"""From which on waiting is a fault, as in the alerts WorkerBehind and PersonOverdue."""
NEARLY_FULL: Final = 0.7
"""Of the spool's room, as in the alert SpoolNearlyFull."""
LEAST_FREE_BYTES: Final = 500_000_000
"""Of the disk of an embedded deployment: room for the hours until somebody has made more."""

Result = Literal["ok", "fault", "unknown", "away"]
Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class Check:
    """One line: what was looked at and what was found; of a fault also what it means and what to do."""

    name: str
    result: Result
    text: str


@dataclass(frozen=True, slots=True)
class States:
    """What the store has of one partition."""

    partition: int
    state: PartitionState | None
    """None where nothing was committed yet."""
    due: int | None
    """When somebody is due next, UTC ms."""

    @property
    def position(self) -> int:
        """Offset of the next record to fold."""
        return (Position() if self.state is None else self.state.position).offset


@dataclass(frozen=True, slots=True)
class Records:
    """What the log has of one partition."""

    first: int
    end: int
    folded: Record | Unreadable | None
    """The record before the states' position, while the log still has it."""
    waiting_since: int | None
    """When the next record to fold was appended, UTC ms."""
    newest: int | None
    """When the last record was appended, UTC ms."""


def check_settings(settings: Settings) -> list[Check]:
    """Tell of settings that work but endanger, and of those that can't be met."""
    kafka, found = settings.kafka, []
    if kafka.brokers and kafka.min_insync_replicas > kafka.replication_factor:
        found.append(
            Check(
                "settings",
                "fault",
                f"kafka.min_insync_replicas = {kafka.min_insync_replicas} is more than kafka.replication_factor = "
                f"{kafka.replication_factor}: nothing could ever be acknowledged. Lower the one or raise the other",
            )
        )
    if fault := door_fault(settings.console):
        # No fault of a deployment that has none, or has it elsewhere.
        found.append(Check("settings", "ok", f"no console starts with these settings: {fault}"))
    elif settings.console.allow_plain_http and not settings.console.is_encrypted:
        text = "console.allow_plain_http is set: see that the console's port is published on loopback alone"
        found.append(Check("settings", "ok", text))
    if not is_loopback(settings.admin.host):
        text = (
            f"admin.host is {settings.admin.host}: whoever reaches that port needs no password, so let nobody but "
            "operators reach it"
        )
        found.append(Check("settings", "ok", text))
    found += [Check("settings", "ok", text) for text in _in_the_clear(settings)]
    return found or [Check("settings", "ok", "nothing in them endangers anything")]


def _in_the_clear(settings: Settings) -> list[str]:
    """Return what of Kafka and Redis is open to whoever shares their network."""
    kafka, redis = settings.kafka, settings.redis
    if not kafka.brokers:
        return []
    found = []
    if kafka.security != "sasl_ssl" and not all(_on_this_machine(one) for one in kafka.brokers.split(",")):
        lacks = {"ssl": "", "sasl_plaintext": "nothing is encrypted"}.get(kafka.security, "neither TLS nor a login")
        if lacks:
            found.append(
                f"kafka.security is {kafka.security}, with brokers on other machines: {lacks}, so whoever shares their "
                "network may read events or write purchases. Take sasl_ssl, or let nobody else into that network"
            )
    address = redis.url.partition("://")[2].partition("/")[0]
    if not all(_on_this_machine(one) for one in redis.sentinels or (address,)):
        lacking = [] if redis.url.startswith("rediss:") else ["TLS (rediss:// in redis.url)"]
        lacking += [] if redis.password.get_secret_value() else ["a password (redis.password)"]
        if lacking:
            found.append(
                f"Redis is on another machine, without {' and '.join(lacking)}: whoever shares its network may read "
                "and change what is known of people. Set it, or let nobody else into that network"
            )
    return found


def _on_this_machine(address: str) -> bool:
    host = address.rpartition(":")[0] if address.rpartition(":")[2].isdecimal() else address
    return is_loopback(host.strip("[]"))


def check_settings_file(file: Path, mode: int, given: Mapping[str, object]) -> list[Check]:
    """Tell where everybody on this machine can read a settings file that holds a secret.

    Args:
        file: where it is.
        mode: its permissions.
        given: what stands in it.
    """
    if not mode & stat.S_IROTH or not _holds_secret(given):
        return []
    text = f"{file} holds keys or passwords, and everybody on this machine may read it: chmod o= {file}"
    return [Check("settings", "ok", text)]


def _holds_secret(given: object) -> bool:
    if isinstance(given, Mapping):
        return any((name in SECRET_NAMES and bool(one)) or _holds_secret(one) for name, one in given.items())
    return isinstance(given, list) and any(_holds_secret(one) for one in given)


def check_open_files(settings: Settings, limit: int) -> list[Check]:
    """Compare the connections that are allowed with the files that a process here may have open."""
    most = settings.collector.connections.most
    if limit >= most + RESERVED_FILES:
        return []
    fit = max(RESERVED_FILES, limit - RESERVED_FILES)
    text = (
        f"a process here may have {limit} files open, so a collector holds {fit} connections and not {most} "
        "(collector.connections.most): raise the hard limit (`ulimit -Hn`, systemd's LimitNOFILE), or lower it"
    )
    return [Check("open files", "ok", text)]


def check_brokers(settings: Settings, brokers: int) -> list[Check]:
    """Compare the copies asked for with the brokers in service."""
    kafka = settings.kafka
    if brokers < kafka.replication_factor:
        text = (
            f"{brokers} of at least {kafka.replication_factor} brokers are in service (kafka.replication_factor): the "
            "next one that fails may stop all writes, and no topic can be created. Bring them back"
        )
        return [Check("kafka", "fault", text)]
    few = {
        "kafka.replication_factor": (kafka.replication_factor, "a broker's disk that breaks takes records with it"),
        "kafka.min_insync_replicas": (kafka.min_insync_replicas, "what was acknowledged can be lost with one broker"),
    }
    found = [(name, meaning) for name, (copies, meaning) in few.items() if copies == 1]
    if brokers == 1:
        return [Check("kafka", "ok", "its only broker answers; with its disk everything would be lost")]
    if found:
        return [
            Check(
                "kafka",
                "fault",
                f"{name} is 1 though there are {brokers} brokers: {meaning}. Take 3 copies and 2 in sync; then "
                "`phasewatch topics` shows what the topics lack",
            )
            for name, meaning in found
        ]
    return [Check("kafka", "ok", f"{brokers} brokers are in service")]


def check_topics(findings: Sequence[Finding]) -> list[Check]:
    """Tell what of the topics is not as it has to be."""
    found = []
    for one in findings:
        if one.state == "missing":
            found.append(f"{one.topic.name} is missing: what belongs there waits. `phasewatch topics` creates it")
        for two in one.differences:
            remedy = ". `phasewatch topics` corrects it" if two.mended else ""
            text = f"{one.topic.name}: {two.what} is {two.found}, not {two.wanted}: {two.meaning}{remedy}"
            found.append(text)
    return _faults("topics", found, f"all {len(findings)} are as they have to be")


def check_redis(health: RedisHealth) -> list[Check]:
    """Tell what endangers the states in a Redis, and what it does not say of itself."""
    said = {"append-only file": health.appendonly, "maxmemory-policy": health.maxmemory_policy}
    hidden = [name for name, value in said.items() if value is None]
    used = "" if health.used_memory_bytes is None else f", {health.used_memory_bytes:,} bytes used"
    limit = f" of {health.maxmemory_bytes:,}" if health.maxmemory_bytes else ""
    found = _faults("redis", health.faults(), f"version {health.version or 'unknown'}{used}{limit}")
    if hidden:
        found.append(
            Check("redis", "unknown", f"it does not tell its {' and '.join(hidden)}: see that nothing is lost")
        )
    return found


def check_binding(bound: tuple[str, int] | None, log_id: str, partitions: int) -> Check:
    """Tell whether the states were made from this log."""
    if bound is None:
        return Check("states", "ok", "there are none yet: the log is folded from its begin")
    if bound == (log_id, partitions):
        return Check("states", "ok", "they belong to this log")
    text = (
        f"they belong to the log {bound[0]} with {bound[1]} partitions, not to {log_id} with {partitions}: no worker "
        "goes on. Bring the old log back, or restore states that match this one"
    )
    return Check("states", "fault", text)


def check_positions(states: Sequence[States], records: Sequence[Records]) -> list[Check]:
    """Tell where the log no longer has, does not yet have, or has another record than what was folded."""
    found = []
    for held, log in zip(states, records, strict=True):
        if lacking := log_lacks(held.partition, held.position, log.first, log.end):
            found.append(f"{lacking}. Until then nobody folds it")
        elif log.folded is not None and held.state is not None and held.state.appended:
            if log.folded.append_time == held.state.appended:
                continue
            found.append(
                f"record {log.folded.offset} of partition {held.partition} is not the one that was folded: the log was "
                "cut or made anew, nobody folds it. Bring the old log back, or restore states that match this one"
            )
    return _faults("positions", found, f"of all {len(states)} partitions lie within the log")


def check_definitions(states: Sequence[States], *, running: bool) -> Check:
    """Tell whether the same definitions are in force everywhere."""
    if all(one.state is None for one in states):
        return Check("definitions", "unknown", "nothing was folded yet")
    numbers = _grouped({one.partition: _definitions(one) for one in states})
    if len(numbers) == 1:
        (number,) = numbers
        if number:
            return Check("definitions", "ok", f"number {number} is in force everywhere")
        text = "none are in force: no interaction means anything. `phasewatch definitions publish FILE` hands some in"
        return Check("definitions", "fault", text)
    shown = "; ".join(f"number {number} in partitions {_listed(found)}" for number, found in sorted(numbers.items()))
    text = f"they differ ({shown}; 0 is none): people are measured by different rules"
    if not running:
        return Check("definitions", "ok", f"{text} until something runs again")
    text += ". It passes once every partition is folded: see the lines workers, behind and outbox"
    return Check("definitions", "fault", text)


def same_definitions(states: Sequence[States]) -> bool:
    """Return whether no partition's definitions are other ones than the others'."""
    return len(set(map(_definitions, states))) <= 1


def _definitions(held: States) -> int:
    return 0 if held.state is None else held.state.definitions


def unassigned(members: Sequence[Member], partitions: int) -> list[int]:
    """Return the partitions that no worker has."""
    return sorted(set(range(partitions)) - {number for one in members for number in one.partitions})


def check_workers(members: Sequence[Member], partitions: int, group: str) -> Check:
    """Tell whether every partition is somebody's."""
    if not members:
        text = f"none is in the group {group}: nothing is folded. Start `phasewatch worker`, or read why it ended"
        return Check("workers", "fault", text)
    if lacking := unassigned(members, partitions):
        text = (
            f"the {len(members)} in the group {group} have not got partitions {_listed(lacking)}: nobody folds them. "
            "Two workers with one worker.name throw each other out; else read /readyz of each"
        )
        return Check("workers", "fault", text)
    shown = ", ".join(f"{one.name} has {len(one.partitions)}" for one in members)
    return Check("workers", "ok", f"every partition has one: {shown}")


def check_behind(states: Sequence[States], records: Sequence[Records], now: int, *, running: bool) -> Check:
    """Tell how much is not yet folded; late only where something runs that should have."""
    pairs = list(zip(states, records, strict=True))
    behind = sum(max(0, log.end - held.position) for held, log in pairs)
    waiting = {held.partition: now - log.waiting_since for held, log in pairs if log.waiting_since is not None}
    late = {partition: ms for partition, ms in waiting.items() if ms > LATE_MS}
    if not behind:
        return Check("behind", "ok", "everything in the log is folded")
    if not running:
        return Check("behind", "ok", f"records not yet folded: {behind:,}; that goes on when something runs again")
    if not late:
        return Check("behind", "ok", f"records not yet folded: {behind:,}, none for long")
    text = (
        f"records not yet folded: {behind:,}, in partitions {_listed(sorted(late))} since "
        f"{_seconds(max(late.values()))}: messages come late; nothing is lost until log.retention_days are over. See "
        "/readyz of who folds, and whether Redis, Kafka or the disk is slow"
    )
    return Check("behind", "fault", text)


def check_overdue(states: Sequence[States], now: int, *, running: bool) -> Check:
    """Tell whether people are still in phases that are over; late only where something runs that should have."""
    live = {one.partition: one.due for one in states if one.state is not None and one.state.live}
    late = {partition: now - due for partition, due in live.items() if due is not None and now - due > LATE_MS}
    shown = f"time passes in {len(live)} of {len(states)} partitions (the others hold history, or nothing yet)"
    if not late:
        return Check("overdue", "ok", f"nobody is; {shown}")
    text = f"in partitions {_listed(sorted(late))} people are due since {_seconds(max(late.values()))}"
    if not running:
        return Check("overdue", "ok", f"{text}, and wait until something runs again")
    text += ": they are still told to be in phases that are over. See the lines behind and workers, and /readyz of each"
    return Check("overdue", "fault", text)


def check_outbox(stuck: Collection[int], seconds: float, *, running: bool) -> Check:
    """Tell whether what is committed is published."""
    if not stuck:
        return Check("outbox", "ok", "what is committed is published")
    text = f"outputs of partitions {_listed(sorted(stuck))} are committed and not published"
    if not running:
        return Check("outbox", "ok", f"{text}; they are sent when something runs again")
    text += (
        f" for {seconds:g} s and more: subscribers wait, nothing is lost. See the lines kafka, topics and workers, and "
        "what the workers log"
    )
    return Check("outbox", "fault", text)


def check_redis_clock(said: int | None, before: int, after: int) -> Check:
    """Compare what Redis took for the time with this machine's clock `before` and `after` it was asked, UTC ms."""
    if said is None:
        return Check("clocks", "unknown", "Redis does not tell what time it has")
    off = max(0, said - after) or min(0, said - before)
    if abs(off) <= CLOCKS_MS:
        return Check("clocks", "ok", f"Redis and this machine are within {CLOCKS_MS / 1000:g} s")
    text = (
        f"Redis' machine is {_seconds(abs(off))} {'ahead of' if off > 0 else 'behind'} this one: one of the two is "
        "wrong, and by a wrong one timers fire too early or too late. Let NTP set the clocks of all machines"
    )
    return Check("clocks", "fault", text)


def check_log_clock(records: Sequence[Records], now: int) -> Check:
    """Compare the newest record's append time with this machine's clock: it can only be seen to lie ahead."""
    newest = max((one.newest for one in records if one.newest is not None), default=None)
    if newest is None:
        return Check("clocks", "unknown", "no record of the log tells what time it has")
    if newest - now <= CLOCKS_MS:
        text = f"the log's newest record was appended {_seconds(max(0, now - newest))} ago, not in the future"
        return Check("clocks", "ok", text)
    text = (
        f"the log's newest record was appended {_seconds(newest - now)} in this machine's future: one of the clocks "
        "is or was wrong, and timers fire too early or too late. Let NTP set the clocks of all machines"
    )
    return Check("clocks", "fault", text)


def check_snapshot(taken_at: int | None, now: int, retention_days: int) -> Check:
    """Tell how old the newest snapshot of the states is, UTC ms; None: none is known."""
    if taken_at is None:
        text = "none is known. After a total loss of Redis all of the log would have to be folded: see docs/recovery.md"
        return Check("snapshot", "ok", text)
    age = now - taken_at
    if age > retention_days * 86_400_000:
        text = (
            f"the newest was begun {_seconds(age)} ago, and the log keeps {retention_days} days: what followed it is "
            "gone, so that it can't be restored. Take one now with `phasewatch snapshot`"
        )
        return Check("snapshot", "fault", text)
    if age > SNAPSHOT_OLD_MS:
        text = (
            f"the newest was begun {_seconds(age)} ago: the older it is, the longer workers fold once Redis is lost. "
            "See why `phasewatch snapshot` does not run"
        )
        return Check("snapshot", "fault", text)
    return Check("snapshot", "ok", f"the newest was begun {_seconds(age)} ago")


def check_free(free_bytes: int) -> Check:
    """Tell whether the disk of an embedded deployment has room."""
    if free_bytes >= LEAST_FREE_BYTES:
        return Check("data", "ok", f"it can be written; {free_bytes / 1e9:.1f} GB are free")
    text = (
        f"its disk has {free_bytes / 1e6:.0f} MB left: when it is full, events are refused and nothing is folded. Make "
        "room, or lower log.retention_days"
    )
    return Check("data", "fault", text)


def check_spool(found: Sequence[Found], free_bytes: int, settings: Spool, now: int) -> list[Check]:
    """Tell what waits in the spool of this machine, for how long, and whether it could take more.

    Args:
        found: its files.
        free_bytes: of its disk.
        settings: of the spool.
        now: UTC milliseconds.
    """
    faults = [f"{one.path}: {one.fault}. Save it, then see the runbook SpoolDamaged" for one in found if one.fault]
    orphans = [one for one in found if one.rows and not one.held]
    if orphans:
        faults.append(
            f"{len(orphans)} files with {sum(one.rows for one in orphans):,} blocks are nobody's: what is in them was "
            "acknowledged and counts for nobody until a collector runs over this folder. Start one"
        )
    taken = sum(one.bytes for one in found)
    if taken > NEARLY_FULL * settings.max_bytes or free_bytes < settings.min_free_bytes:
        faults.append(
            f"{taken:,} of {settings.max_bytes:,} bytes are taken (spool.max_bytes), {free_bytes:,} are free on its "
            f"disk (spool.min_free_bytes = {settings.min_free_bytes:,}): events are refused once there is no more. "
            "Bring Kafka back, or make room"
        )
    oldest = min((one.oldest for one in found if one.oldest is not None), default=now)
    if now - oldest > LATE_MS:
        faults.append(
            f"its oldest block has waited for Kafka for {_seconds(now - oldest)}: messages come late, nothing is lost. "
            "See the lines kafka and topics, and /readyz of the collectors"
        )
    rows = sum(one.rows for one in found)
    return _faults("spool", faults, f"{rows:,} blocks wait in it" if rows else "nothing waits in it on this machine")


def _faults(name: str, found: Sequence[str], fine: str) -> list[Check]:
    return [Check(name, "fault", text) for text in found] or [Check(name, "ok", fine)]


def _grouped(numbers: Mapping[int, Key]) -> dict[Key, list[int]]:
    found: dict[Key, list[int]] = {}
    for partition, number in sorted(numbers.items()):
        found.setdefault(number, []).append(partition)
    return found


def _listed(numbers: Sequence[int]) -> str:
    """Return ascending numbers as people write them: 0-3, 7."""
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in _runs(numbers))


def _runs(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    low = high = numbers[0]
    for number in numbers[1:]:
        if number != high + 1:
            yield low, high
            low = number
        high = number
    yield low, high


def _seconds(ms: int) -> str:
    return f"{ms / 1000:,.1f} s"
