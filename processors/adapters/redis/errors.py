"""What a Redis error means, and what to do about it."""

from __future__ import annotations

from typing import Final

from redis.asyncio.sentinel import MasterNotFoundError
from redis.exceptions import RedisError

from processors.engine.ports import StoreUnavailableError

_BY_CODE: Final = {
    "OOM": "it has reached maxmemory. What it holds stays, nothing further is folded: give it more memory",
    "MISCONF": "it can't write to its disk, and refuses writes until it can: free or repair the disk",
    "NOREPLICAS": "fewer replicas are connected than min-replicas-to-write asks for: bring them back",
    "LOADING": "it is reading its data back after a start; that passes by itself",
    "BUSY": "another script keeps it busy: find out whose with CLIENT LIST, end it with SCRIPT KILL",
    "READONLY": "it is a replica: after a failover that passes by itself, else let redis.url name the master",
    "MASTERDOWN": "it is a replica that has lost its master: let redis.url name the master",
    "NOAUTH": "it wants a password: set redis.username and redis.password",
    "WRONGPASS": "it does not know this user with this password: check redis.username and redis.password",
    "NOPERM": "its user may not do that: allow redis.username the commands and keys that docs/redis.md lists",
    "MOVED": "it is a node of a Redis Cluster, which is not supported: name a standalone Redis or Sentinels",
    "CLUSTERDOWN": "it is a node of a Redis Cluster, which is not supported: name a standalone Redis or Sentinels",
    "WRONGTYPE": "a key holds something else than the store wrote: another program uses this prefix (redis.prefix)",
}
"""Meaning and remedy by the first word of what Redis answers."""

_BY_TEXT: Final = {
    "user executing the script": _BY_CODE["NOPERM"],  # Redis 7.0
    "DB index is out of range": "it has no database of this number: check the number at the end of redis.url",
    "certificate has expired": "its certificate has expired: renew it there",
    "certificate is not valid for": "its certificate is for other names: name it in redis.url (Sentinels: in "
    "redis.sentinels, and the addresses that they tell of) as its certificate does",
    "CERTIFICATE_VERIFY_FAILED": "its certificate comes from no authority that this side knows: let redis.ca_file name "
    "the one that signed it",
    "certificate required": "it asks for a certificate of ours: set redis.certificate_file and redis.key_file",
    "Connection reset by peer": "it ends the connection. See whether that port asks for TLS (rediss://) and a "
    "certificate of ours (redis.certificate_file), and whether it runs; workers go on by themselves",
    "Timeout connecting to server": "it can't be reached in time. Check that it runs, redis.url, and whether that port "
    "is for TLS (rediss://); workers go on by themselves",
    "unknown command 'SENTINEL'": "redis.sentinels names something that is no Sentinel: name the Sentinels' ports, "
    "or leave it empty and let redis.url name the Redis",
}
"""The same by what Redis says without a code of its own."""

_BY_CLASS: Final = {
    "AuthenticationError": _BY_CODE["WRONGPASS"],
    "AuthorizationError": _BY_CODE["NOAUTH"],
    "BusyLoadingError": _BY_CODE["LOADING"],
    "OutOfMemoryError": _BY_CODE["OOM"],
    "ReadOnlyError": _BY_CODE["READONLY"],
    "NoPermissionError": _BY_CODE["NOPERM"],
    "MasterDownError": _BY_CODE["MASTERDOWN"],
    "MovedError": _BY_CODE["MOVED"],
    "ClusterDownError": _BY_CODE["CLUSTERDOWN"],
    "TimeoutError": "no answer came in time. It may have done what was asked, which is looked up before work goes on: "
    "check the network and its load (SLOWLOG GET)",
    "ConnectionError": "it can't be reached. Check that it runs, and redis.url; workers go on by themselves",
}
"""The same by the class that redis-py makes of it, which drops the word from the text."""


def unavailable(error: RedisError, address: str) -> StoreUnavailableError:
    """Return the error to raise: what happened, what it means, what to do; `address` carries no password."""
    return StoreUnavailableError(f"the state store on Redis ({address}) is not available: {_meaning(error)} ({error})")


def _meaning(error: RedisError) -> str:
    if isinstance(error, MasterNotFoundError) and ":ConnectionError" in str(error):
        return (
            "not every Sentinel could be asked, and none of the others knows a master: check redis.sentinels, and with "
            "TLS (rediss:// in redis.url) redis.ca_file and their certificates' names"
        )
    if isinstance(error, MasterNotFoundError):
        return "no Sentinel knows a master under this name: check redis.sentinels and redis.sentinel_service"
    for said, meaning in _BY_TEXT.items():
        if said in str(error):
            return meaning
    word = str(error).partition(" ")[0]
    if word in _BY_CODE:
        return _BY_CODE[word]
    for kind in type(error).__mro__:
        if kind.__name__ in _BY_CLASS:
            return _BY_CLASS[kind.__name__]
    return "it refused a command; work goes on once it accepts it"
