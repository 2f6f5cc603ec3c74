"""A person's partition is the one that Kafka's own Java client computes: other producers and joins rely on it."""

from __future__ import annotations

import base64
import random
import subprocess
from pathlib import Path

import pytest

from collector.wire.partition import partition_of
from deploy.local.services import KAFKA_LIBS
from tests.services import skip_or_fail

SOURCE = Path(__file__).parents[1] / "java/Partitions.java"
LETTERS = "abcXYZ0189-_.@ éßñ客户理财基金赎回持有🙂𠮷\u0000\x7f\u0080\uffff"


def keys() -> list[str]:
    """Return keys of every length modulo 4 and of every kind of character, short and long ones, and likely ones."""
    rng = random.Random(4)
    made = ["".join(rng.choices(LETTERS, k=rng.choice((0, 1, 2, 3, 4, 5, 8, 36, 128)))) for _ in range(6000)]
    likely = [f"{kind}:{rng.getrandbits(bits):x}" for kind in "ua" for bits in (8, 32, 64, 128) for _ in range(250)]
    return ["", "u:", "a:", "u:客户", "x" * 100_000, "金" * 40_001, *made, *likely]


@pytest.mark.services
@pytest.mark.parametrize("partitions", [1, 7, 32, 1024])
def test_partitions_are_those_of_kafkas_java_client(partitions: int) -> None:
    if not any(KAFKA_LIBS.glob("kafka-clients-*.jar")):
        skip_or_fail("Kafka's jars are missing; `make test` fetches them or says how")
    asked = keys()
    lines = "".join(base64.b64encode(key.encode()).decode() + "\n" for key in asked)
    done = subprocess.run(
        ["java", "-cp", f"{KAFKA_LIBS}/*", str(SOURCE), str(partitions)],
        input=lines,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expected = [int(line) for line in done.stdout.splitlines()]
    assert [partition_of(key, partitions) for key in asked] == expected
    assert len(set(expected)) > 0.9 * partitions
