"""`python -m tests.fuzz.run --bodies N --seed S`: mutated requests into a collector; exit code 1 where it did wrong.

What failed is sent again by `--replay NUMBER` with the same seed, or from the file that was written of it.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import structlog
import uvloop

from tests.fuzz.figures import SAMPLES, Figures, Finding, Slow, resident_bytes
from tests.fuzz.judge import judge
from tests.fuzz.mutator import Case, Mutator
from tests.fuzz.request import load
from tests.fuzz.target import RECENT_IDS, Outcome, Target
from tests.fuzz.wire import TOGETHER, conversation, served

WIRE_OF = 32
"""One connection for so many requests in the process."""
MOST_FINDINGS = 50
"""After so many a run ends: more of them say nothing new."""
REPEATED_OF = 64
"""One request of so many is sent twice: of the second nothing may be new but what has no id."""


class Part(NamedTuple):
    """What one process does: numbers from `first` on, each `step`-th."""

    seed: int
    first: int
    bodies: int
    step: int


def run_part(part: Part) -> Figures:
    """Send the cases of a part."""
    return uvloop.run(_run_part(part))


async def _run_part(part: Part) -> Figures:
    faults: list[str] = []
    structlog.configure(processors=[_keep_in(faults)], cache_logger_on_first_use=False)
    target, figures, mutator = Target(), Figures(), Mutator(part.seed)
    rss: list[int] = []
    for bomb in mutator.bombs(mutator.samples[0]):
        await target.send(bomb)  # the most memory that any takes: what the allocator keeps of it is here from the start
    started = time.perf_counter()
    for turn, number in enumerate(range(part.first, part.first + part.bodies * part.step, part.step)):
        case = mutator.case(number)
        await _one(target, figures, number, case, faults)
        if turn % max(1, part.bodies // SAMPLES) == 0:
            gc.collect()
            rss.append(resident_bytes())
        if len(figures.findings) >= MOST_FINDINGS:
            break
    figures.rss.append(rss)
    figures.findings += _books(target, figures)
    await target.app.close()
    await _over_connections(part, mutator, figures, faults)
    figures.seconds = time.perf_counter() - started
    return figures


async def _over_connections(part: Part, mutator: Mutator, figures: Figures, faults: list[str]) -> None:
    """Send one request of so many over real connections, to a collector of its own."""
    last = part.first + part.bodies * part.step // WIRE_OF
    async with served(Target()) as wire:
        for number in range(part.first, last, TOGETHER * part.step):
            faults.clear()
            said = [conversation(mutator, part.seed, number + at * part.step) for at in range(TOGETHER)]
            found = await wire.together(said)
            figures.findings += [Finding(number, "wire", f"{problem} {faults or ''}") for problem in found]
            figures.connections += len(said)
            figures.bodies += sum(one.sent for one in said)
            if len(figures.findings) >= MOST_FINDINGS:
                break


def _keep_in(faults: list[str]) -> structlog.typing.Processor:
    """Return what takes the place of the log: a fault's traceback stands in the finding then."""

    def keep(_: object, __: str, entry: structlog.typing.EventDict) -> structlog.typing.EventDict:
        error = entry.get("exc_info")
        faults.append(f"{entry.get('event')}: {error!r}")
        raise structlog.DropEvent

    return keep


async def _one(target: Target, figures: Figures, number: int, case: Case, faults: list[str]) -> None:
    faults.clear()
    try:
        outcome = await target.send(case.request)
        problems = [*judge(case, outcome)]
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what the fuzzer looks for
        figures.findings.append(Finding(number, case.done, f"raised {error!r}"))
        return
    if number % REPEATED_OF == 0 and not problems and len(outcome.lines) < RECENT_IDS // 2:
        problems += await _again(target, figures, case, outcome)
    figures.findings += [Finding(number, case.done, f"{problem} {faults or ''}") for problem in problems]
    figures.took(Slow(outcome.seconds, number, case.done, len(case.request.body)))
    _count(figures, case, outcome)


def _count(figures: Figures, case: Case, outcome: Outcome) -> None:
    figures.bodies += 1
    figures.dialects[case.dialect] += 1
    figures.done[case.done.partition("+")[0]] += 1
    figures.statuses[outcome.status] += 1
    figures.read += bool(outcome.lines or outcome.rejected)
    figures.events["accepted"] += len(outcome.lines)
    figures.events["rejected"] += len(outcome.rejected)
    for record in outcome.rejected:
        figures.reasons[json.loads(record)["reason"]] += 1


async def _again(target: Target, figures: Figures, case: Case, before: Outcome) -> list[str]:
    """Send a request once more: what has an id is a repeat now."""
    outcome = await target.send(case.request)
    _count(figures, case, outcome)
    known = {json.loads(line)["id"] for line in before.lines}
    twice = [line for line in outcome.lines if json.loads(line)["id"] in known]
    return [f"accepted twice: {twice[0][:400]!r}"] if twice else []


def _books(target: Target, figures: Figures) -> Iterable[Finding]:
    """Yield where the metrics and what was made durable differ."""
    counts = target.counts()
    figures.events["duplicate"] += counts["duplicate"]
    if counts["faults"]:
        yield Finding(-1, "", f"{counts['faults']} faults were counted")
    if counts["received"] != sum(counts[name] for name in ("accepted", "duplicate", "rejected", "failed")):
        yield Finding(-1, "", f"the counts do not add up: {counts}")
    if (counts["accepted"], counts["rejected"]) != (figures.events["accepted"], figures.events["rejected"]):
        yield Finding(-1, "", f"counted {counts}, made durable {dict(figures.events)}")


def run(bodies: int, seed: int, processes: int = 1, *, first: int = 0) -> Figures:
    """Send so many requests from so many processes, and return what was found."""
    parts = [Part(seed, first + at, bodies // processes, processes) for at in range(processes)]
    if processes == 1:
        return run_part(parts[0])
    figures = Figures()
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for found in pool.map(run_part, parts):
            figures.add(found)
    return figures


def replay(case: Case) -> None:
    """Send one request and tell all about it."""

    async def once() -> Outcome:
        target = Target()
        outcome = await target.send(case.request)
        await target.app.close()
        return outcome

    tell(f"{case.dialect} {case.done}: {case.request}")
    outcome = uvloop.run(once())
    tell(f"{outcome}")
    for problem in judge(case, outcome):
        tell(f"WRONG: {problem}")


def tell(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bodies", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="the number of the first case")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--replay", type=int, help="the number of one case to send and tell about")
    parser.add_argument("--file", type=Path, help="a request that was saved, to send and tell about")
    parser.add_argument("--save", type=Path, help="a folder for the requests that failed")
    arguments = parser.parse_args()
    if arguments.file is not None:
        replay(Case(load(arguments.file), "saved", "saved"))
        return 0
    if arguments.replay is not None:
        replay(Mutator(arguments.seed).case(arguments.replay))
        return 0
    figures = run(arguments.bodies, arguments.seed, arguments.processes, first=arguments.first)
    tell(json.dumps(figures.as_json(), indent=1))
    if arguments.save is not None:
        save(figures, arguments.seed, arguments.save)
    return 1 if figures.findings else 0


def save(figures: Figures, seed: int, folder: Path) -> None:
    """Write the request of each finding into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    mutator = Mutator(seed)
    for one in figures.findings:
        if one.number >= 0:
            file = folder / f"{seed}-{one.number}.json"
            mutator.case(one.number).request.save(file, seed=seed, number=one.number, problem=one.problem)


if __name__ == "__main__":
    sys.exit(main())
