"""Going on behind records that the log deleted before they were folded: only an operator may decide that."""

from __future__ import annotations

from processors.engine.codec import decode_state, encode_state
from processors.engine.ports import Commit, StateStore
from processors.engine.state import PartitionState, Position


async def accept_loss(store: StateStore, partition: int, partitions: int, first: int) -> int:
    """Let a partition's states stand at the log's first record; return how many records they never saw.

    Where they stand there or later, nothing is changed and 0 returned. Definitions that were being applied to every
    person when their record vanished stay applied to some: publish them once more.

    Args:
        store: with the states; whoever owns the partition there has to acquire it anew.
        partition: its number.
        partitions: of the log.
        first: first offset that the log still has.

    Raises:
        FencedError: if a worker has acquired the partition in between; nothing was changed.
    """
    acquired = await store.acquire(partition)
    state = (
        PartitionState(partition, partitions)
        if acquired.state is None
        else decode_state(partition, partitions, acquired.state)
    )
    before = state.position
    if before.offset >= first:
        return 0
    state.position, state.appended, state.sweep = Position(first), 0, None
    await store.commit(Commit(partition, acquired.token, before, state.position, encode_state(state)))
    return first - before.offset
