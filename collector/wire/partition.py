"""Which partition a key belongs to: murmur2, as Kafka's Java client computes it."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

_SEED: Final = 0x9747B28C
_M: Final = 0x5BD1E995
_MASK: Final = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """Return the 32-bit murmur2 hash of `data` with Kafka's seed (org.apache.kafka.common.utils.Utils)."""
    length = len(data)
    h = _SEED ^ length
    whole = length & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * _M & _MASK
        k = (k ^ k >> 24) * _M & _MASK
        h = h * _M & _MASK ^ k
    if whole < length:
        h = (h ^ int.from_bytes(data[whole:], "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    return h ^ h >> 15


@lru_cache(maxsize=65536)  # a person comes with many events; the hash costs as much as an event's decoding
def partition_of(key: str, partitions: int) -> int:
    """Return the partition (0 .. partitions - 1) of a key, encoded as UTF-8."""
    return (murmur2(key.encode()) & 0x7FFFFFFF) % partitions
