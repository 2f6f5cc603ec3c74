"""What an operator should know about the Redis that keeps the states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

OLDEST_MAJOR: Final = 7
"""The oldest Redis that the tests run on; Valkey answers as Redis 7.2."""
NEARLY_FULL: Final = 0.8
"""Share of maxmemory from which on an operator should know (alert RedisNearlyFull)."""


@dataclass(frozen=True, slots=True)
class RedisHealth:
    """What a Redis says of itself; None is unknown, as managed ones hide a part."""

    version: str | None
    role: str | None
    """`master` or `slave`, in Redis's words."""
    appendonly: bool | None
    disk_writes: bool | None
    """Whether the last write to its append-only file succeeded."""
    maxmemory_policy: str | None
    maxmemory_bytes: int | None
    """0: no limit but the machine's."""
    used_memory_bytes: int | None
    time_ms: int | None = None
    """Its clock when it answered, UTC."""

    @property
    def persistent(self) -> bool | None:
        """Whether it keeps an append-only file and can write it."""
        return None if self.appendonly is None else self.appendonly and self.disk_writes is not False

    @property
    def may_evict(self) -> bool | None:
        """Whether it may throw states away when it is full."""
        return None if self.maxmemory_policy is None else self.maxmemory_policy != "noeviction"

    def faults(self) -> list[str]:
        """Return what endangers the states, each as what is so, what it means and what to do."""
        found = []
        if self.appendonly is False:
            found.append(
                "Redis keeps no append-only file (appendonly no): a restart loses all states, and the log may no "
                "longer hold what they were made of. Set appendonly yes and appendfsync everysec"
            )
        if self.disk_writes is False:
            found.append(
                "Redis could not write its append-only file: it refuses writes, nothing further is folded. "
                "Free or repair its disk"
            )
        if self.may_evict:
            found.append(
                f"Redis may evict states (maxmemory-policy {self.maxmemory_policy}): persons would be forgotten "
                "without a word. Set maxmemory-policy noeviction"
            )
        if self.maxmemory_bytes and (self.used_memory_bytes or 0) > NEARLY_FULL * self.maxmemory_bytes:
            found.append(
                f"Redis uses {self.used_memory_bytes} of its {self.maxmemory_bytes} bytes (maxmemory): once it is full "
                "it refuses writes, nothing further is folded. Give it more memory"
            )
        if self.version is not None and int(self.version.partition(".")[0]) < OLDEST_MAJOR:
            found.append(
                f"Redis {self.version} is older than {OLDEST_MAJOR}.0, the oldest that is tested. Upgrade it before "
                "relying on it"
            )
        if self.role == "slave":
            found.append(
                "This Redis is a replica: it takes no writes, nothing is folded. Let redis.url name the master, or "
                "name the Sentinels in redis.sentinels"
            )
        return found


def read_health(info: Mapping[str, Any]) -> RedisHealth:
    """Return what the fields of INFO say."""

    def flag(field: str, good: object) -> bool | None:
        return None if field not in info else info[field] == good

    return RedisHealth(
        version=info.get("redis_version"),
        role=info.get("role"),
        appendonly=flag("aof_enabled", 1),
        disk_writes=flag("aof_last_write_status", "ok"),
        maxmemory_policy=info.get("maxmemory_policy"),
        maxmemory_bytes=info.get("maxmemory"),
        used_memory_bytes=info.get("used_memory"),
        time_ms=info["server_time_usec"] // 1000 if "server_time_usec" in info else None,
    )
