"""`python -m tests.chaos.run`: load, faults by a schedule, and a verdict; exit code 1 where a promise was broken."""

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
from dataclasses import asdict
from pathlib import Path

from tests.chaos.clients import Crowd
from tests.chaos.deployment import Chaos, Services, Size
from tests.chaos.faults import Faults
from tests.chaos.schedule import Fault, make_schedule, read_schedule, write_schedule
from tests.chaos.subscriber import Subscriber
from tests.chaos.verdict import Figures, bugs_in_logs, judge
from tests.integration.production import Inside

SETTLE_SECONDS = 180


def tell(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def run(directory: Path, seed: int, schedule: Sequence[Fault], *, clients: int, pause: float) -> list[str]:
    """Run a schedule; write `figures.json` into the directory and return the findings."""
    write_schedule(directory / "schedule.jsonl", schedule)
    services = Services(directory, brokers=3, replica=True)
    chaos = Chaos(directory, Size(), services)
    figures = Figures(seed=seed, faults=len(schedule))
    began = time.monotonic()
    try:
        await asyncio.to_thread(services.start)
        await asyncio.to_thread(chaos.start)
        tell(f"deployment up after {time.monotonic() - began:.0f} s")
        crowd = Crowd(clients, seed, [one.port for one in chaos.collectors], pause_seconds=pause)
        findings = await _under_load(chaos, crowd, schedule, figures)
        figures.logged_errors = bugs_in_logs(directory)
        findings += [f"a process calls it a fault of its own: {one}" for one in figures.logged_errors]
    finally:
        chaos.close()
        services.close()
    (directory / "figures.json").write_text(json.dumps(asdict(figures) | {"findings": findings}, indent=2))
    tell(figures.table())
    return findings


async def _under_load(chaos: Chaos, crowd: Crowd, schedule: Sequence[Fault], figures: Figures) -> list[str]:
    kafka = chaos.deployment.settings.kafka
    async with Inside.open(chaos.deployment) as inside:
        await inside.settle()
        subscriber = Subscriber(kafka.brokers, kafka.topic_prefix, chaos.size.partitions)
        await subscriber.start()
        supervisor = asyncio.create_task(chaos.supervise())
        try:
            crowd.start()
            faults = Faults(chaos, tell)
            began = time.monotonic()
            await faults.run(schedule)
            figures.seconds_of_faults = round(time.monotonic() - began, 1)
            figures.kinds = dict(faults.done)
            findings = faults.problems + await asyncio.to_thread(crowd.finish)
            await asyncio.to_thread(chaos.wait_until_ready)
            tell(f"all is up again {time.monotonic() - began - figures.seconds_of_faults:.0f} s after the last fault")
            await asyncio.to_thread(chaos.wait_until_drained)
            await inside.settle(SETTLE_SECONDS)
            tell("everything is folded")
            await subscriber.finish()
            figures.ended_by_themselves = len(chaos.ended_by_themselves)
            return findings + await judge(inside, crowd.tally, subscriber, figures)
        finally:
            supervisor.cancel()
            await asyncio.wait({supervisor})
            await subscriber.close()


def main() -> int:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", type=int, default=60, help="how many; a schedule file has its own")
    parser.add_argument("--schedule", type=Path, help="replay this file instead of making one from the seed")
    parser.add_argument("--json", type=Path, help="write the figures and findings here")
    parser.add_argument("--directory", type=Path, help="for logs and data, kept whatever happens; must be new or empty")
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--pause", type=float, default=0.2, help="a client's longest pause between two requests (s)")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends with everything that was started
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it tells of every broker that is away, many times
    schedule = (
        list(read_schedule(options.schedule)) if options.schedule else make_schedule(options.seed, options.faults)
    )
    directory = options.directory or Path(tempfile.mkdtemp(prefix="phasewatch-chaos-"))
    directory.mkdir(parents=True, exist_ok=True)
    tell(f"seed {options.seed}, {len(schedule)} faults; logs in {directory}")
    for fault in schedule:
        tell(f"  {fault}")
    findings = asyncio.run(
        run(directory.resolve(), options.seed, schedule, clients=options.clients, pause=options.pause)
    )
    if options.json:
        shutil.copyfile(directory / "figures.json", options.json)
    if findings:
        tell(f"{len(findings)} findings; everything is kept in {directory}, its schedule in schedule.jsonl:")
        for finding in findings:
            tell(f"  {finding}")
        return 1
    tell("every promise was kept")
    if options.directory is None:
        shutil.rmtree(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
