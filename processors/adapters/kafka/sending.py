"""Durable sending in order: a batch to a partition waits for the one before, and none follows one that failed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import DefaultRecordBatch

from collector.wire.kafka_access import KafkaAccess, explained
from processors.engine.outputs import Output
from processors.engine.ports import StoreUnavailableError

LARGEST_BYTES: Final = 1_048_588
"""What a topic takes as one batch, compressed where it is: Kafka's default of message.max.bytes, and our topics'."""
BATCH_BYTES: Final = 900_000
"""Of a batch of ours, before compression; the rest is room for a single record's headers."""
DELIVERY_SECONDS: Final = 20.0
"""How long a batch may be under way: aiokafka itself never gives a batch of an idempotent producer up."""
REQUEST_TIMEOUT_MS: Final = 10_000
_CLOSE_SECONDS: Final = 1.0


class Sender:
    """The one idempotent producer of a process; it is replaced after every failure.

    aiokafka counts a batch that failed into the sequence, so that the broker refuses whatever comes after it.
    """

    def __init__(self, kafka: KafkaAccess, prefix: str) -> None:
        self._kafka, self._prefix = kafka, prefix
        self._starting = asyncio.Lock()
        self._current: _Shared | None = None

    async def send(self, outputs: Iterable[Output]) -> None:
        """Send outputs, in order per topic and partition; return when all are acknowledged by all in-sync replicas.

        After a failure nothing later goes to the same partition of that topic; other partitions get theirs.

        Raises:
            StoreUnavailableError: if that could not be achieved; a part may be durable all the same.
        """
        groups: dict[tuple[str, int], list[Output]] = {}
        for output in outputs:
            groups.setdefault((output.topic, output.partition), []).append(output)
        if not groups:
            return
        async with self._producer() as producer:
            results = await asyncio.gather(
                *(send_in_order(producer, self._prefix + topic, n, some) for (topic, n), some in groups.items()),
                return_exceptions=True,
            )
            for result in results:
                if result is not None:
                    raise result

    async def close(self) -> None:
        """Give up the connections."""
        if self._current is not None:
            shared, self._current = self._current, None
            await discard(shared.producer)

    @asynccontextmanager
    async def _producer(self) -> AsyncIterator[AIOKafkaProducer]:
        try:
            async with self._starting:
                if self._current is None:
                    self._current = _Shared(await start_producer(self._kafka))
                shared = self._current
        except (KafkaError, TimeoutError) as error:
            raise unavailable(self._kafka, error) from error
        shared.users += 1
        try:
            yield shared.producer
        except (KafkaError, TimeoutError) as error:
            if self._current is shared:
                self._current = None
            raise unavailable(self._kafka, error) from error
        finally:
            shared.users -= 1
            if self._current is not shared and not shared.users:
                await discard(shared.producer)


@dataclass(slots=True)
class _Shared:
    """A producer, and how many are sending by it right now."""

    producer: AIOKafkaProducer
    users: int = 0


def unavailable(kafka: KafkaAccess, error: BaseException) -> StoreUnavailableError:
    """Return the error that says what happened, for whoever has to try again."""
    reason = str(error) or ("no acknowledgement in time" if isinstance(error, TimeoutError) else type(error).__name__)
    return StoreUnavailableError(f"Kafka at {kafka} has not taken what was sent, it will be sent again: {reason}")


async def start_producer(kafka: KafkaAccess, **options: Any) -> AIOKafkaProducer:  # noqa: ANN401 - aiokafka ships no types
    """Return a connected idempotent producer.

    Raises:
        KafkaError: if Kafka can't be reached.
        TimeoutError: if that is not known within `DELIVERY_SECONDS`.
    """
    producer = AIOKafkaProducer(
        **kafka.options,
        enable_idempotence=True,
        acks="all",
        max_batch_size=BATCH_BYTES,
        request_timeout_ms=REQUEST_TIMEOUT_MS,
        **options,
    )
    try:
        async with asyncio.timeout(DELIVERY_SECONDS):
            async with explained(kafka):
                await producer.start()
    except BaseException:
        await discard(producer)
        raise
    return producer


async def send_in_order(producer: AIOKafkaProducer, topic: str, partition: int, outputs: Sequence[Output]) -> None:
    """Send outputs to one partition of a topic, each batch after the one before is acknowledged.

    Why not at once: whoever folds topic `events` drops a derived record that comes after one with a higher place in
    the same source. Were a batch lost and the next one not, the lost one would be dropped when it is sent again.

    Raises:
        KafkaError: if a batch was refused; none after it was sent.
        TimeoutError: if a batch was not acknowledged in `DELIVERY_SECONDS`; it may still arrive, none after it will.
    """
    for batch in _batches(producer, outputs):
        async with asyncio.timeout(DELIVERY_SECONDS):
            known = await producer.partitions_for(topic)
            if partition not in known:
                msg = f"{topic} has {len(known)} partitions, and none of number {partition}: run `phasewatch topics`"
                raise KafkaError(msg)
            try:
                await (await producer.send_batch(batch, topic, partition=partition))
            except (MessageSizeTooLargeError, RecordListTooLargeError) as error:
                raise KafkaError(_too_large(topic, batch.size())) from error


def _too_large(topic: str, size: int) -> str:
    return (
        f"topic {topic} refuses a batch of {size} bytes, since its max.message.bytes is below that. Nothing is lost, "
        f"what follows waits. `phasewatch topics` sets max.message.bytes to the {LARGEST_BYTES} that Phasewatch needs; "
        "where that does not do, raise it further"
    )


def _batches(producer: AIOKafkaProducer, outputs: Sequence[Output]) -> Iterator[Any]:
    """Yield batches that a topic takes; one that is too large for that by itself goes alone, compressed."""
    batch = producer.create_batch()
    for one in outputs:
        row = {"key": one.key, "value": one.value, "timestamp": None, "headers": list(one.headers)}
        large = len(one.value or b"") > BATCH_BYTES
        if large or batch.append(**row) is None:  # full
            if batch.record_count():
                yield batch
            batch = _compressed() if large else producer.create_batch()
            batch.append(**row)
            if large:
                yield batch
                batch = producer.create_batch()
    if batch.record_count():
        yield batch


def _compressed() -> BatchBuilder:
    """Return a batch that is compressed when it is sent: a transfer of 2 MB, mostly digits, becomes some 400 kB."""
    return BatchBuilder(BATCH_BYTES, DefaultRecordBatch.CODEC_GZIP)


async def discard(producer: AIOKafkaProducer) -> None:
    """Give a producer up at once, with whatever it has not sent yet.

    `stop` alone waits for every batch, which is for ever while a broker is away. So its sending task is ended, its
    batches are taken from it and errors that nobody waits for any more are looked at, before it is stopped. All of
    these are private to aiokafka 0.14 (producer.py `stop`, message_accumulator.py `flush`, transaction_manager.py).
    """
    sending = producer._sender.sender_task  # noqa: SLF001 - see above
    if sending is not None:
        sending.cancel()
    await producer.client.close()
    if sending is not None:
        done, _ = await asyncio.wait([sending], timeout=_CLOSE_SECONDS)
        if not done:  # it waits for metadata that never come
            sending.cancel()
            await asyncio.wait([sending])
    accumulator = producer._message_accumulator  # noqa: SLF001 - see above
    waiters = [producer._txn_manager.wait_for_transaction_end()]  # noqa: SLF001 - see above
    for batch in (*chain.from_iterable(accumulator._batches.values()), *accumulator._pending_batches):  # noqa: SLF001 - see above
        waiters += [batch.future, batch._drain_waiter]  # noqa: SLF001 - see above
    for waiter in waiters:
        if waiter is not None and waiter.done() and not waiter.cancelled():
            waiter.exception()
    accumulator._batches.clear()  # noqa: SLF001 - see above
    accumulator._pending_batches.clear()  # noqa: SLF001 - see above
    await producer.stop()
