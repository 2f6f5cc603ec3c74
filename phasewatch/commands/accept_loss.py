"""`phasewatch accept-loss`: lets a partition go on without records that the log deleted before they were folded."""

from __future__ import annotations

import asyncio

from rich.console import Console

from phasewatch.backend import open_backend, require_kafka
from phasewatch.errors import ServiceAwayError, UsageError
from phasewatch.settings import Settings
from processors.engine.loss import accept_loss
from processors.engine.ports import FencedError
from processors.engine.state import Position

__all__ = ["run_accept_loss"]


def run_accept_loss(settings: Settings, partition: int, *, confirmed: bool) -> int:
    """Say how many records are missing, and where that is confirmed pass over them; return the exit code.

    Raises:
        UsageError: if there is no such partition, or nothing is missing that could be passed over.
        ServiceAwayError: if a worker acquires the partition at the same moment.
    """
    require_kafka(settings, "accept-loss")
    lost = asyncio.run(_accept(settings, partition, confirmed=confirmed))
    console = Console()
    if confirmed:
        text = f"partition {partition} goes on; {lost:,} records were never folded and count for nobody"
        console.print(text, highlight=False, soft_wrap=True)
        return 0
    console.print(
        f"{lost:,} records of partition {partition} were deleted before they were folded. Going on without them loses "
        "for good what was in them: events of this partition's people, orders and redemptions among them, and "
        "people who were just being united with their user. What is folded already stays. A copy of "
        f"the log would bring them back; if there is none: `phasewatch accept-loss {partition} --yes`",
        highlight=False,
        soft_wrap=True,
    )
    return 1


async def _accept(settings: Settings, partition: int, *, confirmed: bool) -> int:
    async with open_backend(settings) as backend:
        if not 0 <= partition < backend.log.partitions:
            msg = f"there is no partition {partition}: the log has {backend.log.partitions}, from 0"
            raise UsageError(msg)
        first, end = await backend.log.bounds(partition)
        state = await backend.query.state(partition)
        position = (Position() if state is None else state.position).offset
        if position >= first:
            msg = (
                f"partition {partition} of the log holds offsets {first} to {end}, and its states stand at {position}: "
                "nothing was deleted before it was folded. `phasewatch doctor` says what else is wrong"
            )
            raise UsageError(msg)
        if not confirmed:
            return first - position
        try:
            return await accept_loss(backend.store, partition, backend.log.partitions, first)
        except FencedError as error:
            msg = f"a worker has just acquired partition {partition}; repeat this command"
            raise ServiceAwayError(msg) from error
