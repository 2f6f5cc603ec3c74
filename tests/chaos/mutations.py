"""`python -m tests.chaos.mutations`: does the harness find what is broken? Exit code 1 where a mutation survives.

Each mutation is played twice with the same faults: upon the product as it is, which has to come through, and mutated.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from deploy.local.process import ServiceError
from tests.chaos.clients import Hand
from tests.chaos.deployment import Chaos, Services
from tests.chaos.run import tell
from tests.chaos.scenes import CASES, Case, Scene, new_folder_name, small
from tests.chaos.subscriber import Subscriber
from tests.chaos.verdict import Figures, judge
from tests.integration.load import Tally
from tests.integration.production import Inside

SETTLE_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Result:
    """What was found with the product as it is, and with the mutation in it."""

    mutation: str
    unharmed: list[str]
    mutated: list[str]
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether the mutation was found, and nothing without it."""
        return not self.unharmed and bool(self.mutated)

    def __str__(self) -> str:
        how = self.mutated[0] if self.mutated else "NOT FOUND"
        false = f"; WITHOUT IT: {self.unharmed[0]}" if self.unharmed else ""
        return f"{self.mutation:<28} {self.seconds:4.0f} s  {how[:200]}{false[:600]}"


async def play(case: Case, mutation: str, directory: Path, services: Services) -> list[str]:
    """Play a case's faults with a mutation, or without; return what the verdict finds."""
    await asyncio.to_thread(directory.mkdir, parents=True)
    chaos = Chaos(directory, small(mutation), services)
    try:
        await asyncio.to_thread(chaos.start)
        async with Inside.open(chaos.deployment) as inside:
            await inside.settle()
            return await _findings(case, chaos, inside)
    except (AssertionError, TimeoutError, ServiceError) as error:  # it does not come to rest
        return [f"{type(error).__name__}: {error}"]
    finally:
        chaos.close()


async def _findings(case: Case, chaos: Chaos, inside: Inside) -> list[str]:
    tally, kafka = Tally(), chaos.deployment.settings.kafka
    subscriber = Subscriber(kafka.brokers, kafka.topic_prefix, chaos.size.partitions)
    await subscriber.start()
    try:
        await case.scene(Scene(chaos, inside, Hand([chaos.collectors[0].port], tally)))
        await asyncio.to_thread(chaos.wait_until_drained)
        await inside.settle(SETTLE_SECONDS)
        await subscriber.finish()
        return await judge(inside, tally, subscriber, Figures())
    finally:
        await subscriber.close()


async def try_cases(cases: Sequence[Case], directory: Path) -> list[Result]:
    """Try mutations; the ones that need as many brokers share them."""
    results = []
    for brokers in sorted({case.brokers for case in cases}):
        services = Services(directory / f"services-{brokers}", brokers=brokers, replica=False)
        try:
            await asyncio.to_thread(services.start)
            for case in cases:
                if case.brokers == brokers:
                    results.append(await _try(case, directory, services))
                    tell(str(results[-1]))
        finally:
            services.close()
    return results


async def _try(case: Case, directory: Path, services: Services) -> Result:
    began = time.monotonic()
    unharmed = await play(case, "", directory / new_folder_name(""), services)
    mutated = await play(case, case.mutation, directory / new_folder_name(case.mutation), services)
    return Result(case.mutation, unharmed, mutated, round(time.monotonic() - began, 1))


def main() -> int:
    """Try all mutations, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mutation", nargs="*", choices=[[], *(case.mutation for case in CASES)], help="default: all")
    parser.add_argument("--json", type=Path, help="write the results here")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends with everything that was started
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    directory = Path(tempfile.mkdtemp(prefix="phasewatch-mutations-"))
    tell(f"logs in {directory}")
    cases = [case for case in CASES if not options.mutation or case.mutation in options.mutation]
    results = asyncio.run(try_cases(cases, directory))
    if options.json:
        options.json.write_text(json.dumps([asdict(one) for one in results], indent=2))
    survived = [one.mutation for one in results if not one.passed]
    tell(f"{len(results)} mutations, survived or found without a reason: {survived or 'none'}")
    if survived:
        return 1
    shutil.rmtree(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
