"""Topic `stages` of one source partition: written by its owner alone, in transactions that fence the owner before."""

from __future__ import annotations

import asyncio
from typing import Final, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    InvalidTxnState,
    KafkaError,
    OutOfOrderSequenceNumber,
    ProducerFenced,
)

from collector.wire.kafka_access import KafkaAccess
from processors.adapters.kafka.sending import DELIVERY_SECONDS, discard, send_in_order, start_producer, unavailable
from processors.engine.outputs import Output
from processors.engine.ports import FencedError
from processors.wire import STAGES

TRANSACTION_TIMEOUT_MS: Final = 60_000
"""How long a transaction of an owner that died without a successor holds up the readers of committed records."""
MOST_WAITING_BYTES: Final = 4_000_000
"""Values that may wait for `flush`; what is more is written without waiting. Some 8,000 persons, a few MB in memory."""

_LOST: Final = (
    ProducerFenced, InvalidProducerEpoch, InvalidProducerIdMapping, InvalidTxnState, OutOfOrderSequenceNumber,
)  # fmt: skip
"""After these a producer can't go on, and only who acquires the partition may make another one."""


class StagesWriter:
    """The transactional producer of a source partition, and what waits to be written by it: the latest of each key."""

    def __init__(self, kafka: KafkaAccess, prefix: str, partition: int, producer: AIOKafkaProducer) -> None:
        self._kafka, self._topic, self._partition = kafka, prefix + STAGES, partition
        self._producer: AIOKafkaProducer | None = producer
        self._waiting: dict[bytes | None, Output] = {}
        self._bytes = 0
        self._flushing = asyncio.Lock()

    @classmethod
    async def begin(cls, kafka: KafkaAccess, prefix: str, partition: int) -> Self:
        """Become the only one who writes for a source partition; a transaction of the owner before is aborted.

        Raises:
            StoreUnavailableError: if Kafka can't be reached or does not answer in time.
        """
        try:
            producer = await start_producer(
                kafka,
                transactional_id=f"{prefix}{STAGES}-{partition}",
                transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
            )
        except (KafkaError, TimeoutError) as error:
            raise unavailable(kafka, error) from error
        return cls(kafka, prefix, partition, producer)

    def keep(self, output: Output) -> None:
        """Keep an output for `flush`, in place of an earlier one of the same key."""
        before = self._waiting.pop(output.key, None)
        self._bytes += _size(output) - (0 if before is None else _size(before))
        self._waiting[output.key] = output

    @property
    def full(self) -> bool:
        """Whether so much waits that it has to be written now."""
        return self._bytes > MOST_WAITING_BYTES

    async def flush(self) -> None:
        """Write what waits in one transaction; return when it is committed.

        After a failure the writer is of no more use: whether the transaction took place is not known, so the partition
        has to be acquired anew, and its outbox sent again.

        Raises:
            FencedError: if a later owner has begun, or this writer has failed before.
            StoreUnavailableError: if Kafka can't be reached or does not answer in time.
        """
        async with self._flushing:  # what was kept while a transaction is under way takes the next one
            await self._flush()

    async def _flush(self) -> None:
        producer = self._producer
        if producer is None:
            msg = f"the writer of partition {self._partition} of topic {self._topic} was given up: acquire anew"
            raise FencedError(msg)
        if not self._waiting:
            return
        outputs, self._waiting, self._bytes = list(self._waiting.values()), {}, 0
        try:
            await self._write(producer, outputs)
        except _LOST as error:
            await self.close()
            msg = f"partition {self._partition} of topic {self._topic} has another owner by now: {error!r}"
            raise FencedError(msg) from error
        except (KafkaError, TimeoutError) as error:
            await self.close()
            raise unavailable(self._kafka, error) from error
        except BaseException:  # cancelled: nobody will repeat it by this writer
            await self.close()
            raise

    async def _write(self, producer: AIOKafkaProducer, outputs: list[Output]) -> None:
        async with asyncio.timeout(DELIVERY_SECONDS):
            await producer.begin_transaction()
            await send_in_order(producer, self._topic, self._partition, outputs)
            await producer.commit_transaction()

    async def close(self) -> None:
        """Give up the producer; a transaction that is open is aborted by the next owner's begin, or by its timeout."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await discard(producer)


def _size(output: Output) -> int:
    return len(output.value or b"") + len(output.key or b"") + sum(len(k) + len(v) for k, v in output.headers)
