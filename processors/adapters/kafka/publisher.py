"""Where outputs go on Kafka: one publisher for all partitions that a worker process owns."""

from __future__ import annotations

from collections.abc import Sequence

from collector.wire.kafka_access import KafkaAccess
from processors.adapters.kafka.sending import Sender
from processors.adapters.kafka.stages import StagesWriter
from processors.engine.outputs import Output
from processors.engine.ports import FencedError
from processors.wire import STAGES


class KafkaPublisher:
    """The engine's `Publisher` on Kafka: between `begin` and `end` of a partition its owner may publish.

    Order and failure are of each source partition alone. Readers of topic `stages` read committed records only.

    Args:
        kafka: where it is and how it is reached.
        prefix: begin of every topic's name, of the transactional ids too.
    """

    def __init__(self, kafka: KafkaAccess, prefix: str) -> None:
        self._kafka, self._prefix = kafka, prefix
        self._sender = Sender(kafka, prefix)
        self._stages: dict[int, StagesWriter] = {}

    async def begin(self, partition: int) -> None:
        """Fence the owner before: call it ahead of acquiring the partition from the store, so ahead of its outbox.

        Raises:
            StoreUnavailableError: if Kafka can't be reached or does not answer in time.
        """
        await self.end(partition)
        self._stages[partition] = await StagesWriter.begin(self._kafka, self._prefix, partition)

    async def end(self, partition: int) -> None:
        """Give a partition up; what waits for `flush` is still in the store's outbox."""
        writer = self._stages.pop(partition, None)
        if writer is not None:
            await writer.close()

    async def close(self) -> None:
        """Give up every partition and all connections."""
        for partition in list(self._stages):
            await self.end(partition)
        await self._sender.close()

    async def publish(self, outputs: Sequence[Output]) -> None:
        """Send outputs in order; return when all are durable but those of topic `stages`, which wait for `flush`.

        Raises:
            StoreUnavailableError: if that could not be achieved; a part may be durable all the same.
            FencedError: if outputs of topic `stages` have no owner here, or another one by now.
        """
        await self._sender.send(one for one in outputs if one.topic != STAGES)
        for one in outputs:
            if one.topic == STAGES:
                writer = self._writer(one.partition)
                writer.keep(one)
                if writer.full:
                    await writer.flush()

    async def flush(self, partition: int) -> None:
        """Write what of this source partition waits for topic `stages`, in one transaction.

        Raises:
            StoreUnavailableError: if Kafka can't be reached; begin the partition anew, then publish its outbox again.
            FencedError: if a later owner of the partition has begun.
        """
        await self._writer(partition).flush()

    def _writer(self, partition: int) -> StagesWriter:
        try:
            return self._stages[partition]
        except KeyError:
            msg = f"partition {partition} was not begun here"
            raise FencedError(msg) from None
