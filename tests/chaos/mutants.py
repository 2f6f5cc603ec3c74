"""Mutations of the product, applied from outside before a process starts: the product has no switch for any of it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha1
from typing import Any

from aiokafka import AIOKafkaProducer

from collector.ingest import Ingest
from collector.sinks import kafka as kafka_sink
from phasewatch import collector_process
from processors.adapters.kafka.publisher import KafkaPublisher
from processors.adapters.redis import store as redis_store
from processors.adapters.redis.scripts import Script
from processors.domain import fold as domain_fold
from processors.engine import fold as engine_fold
from processors.engine.outputs import EVENTS, SET_ASIDE, Output
from processors.engine.unit import PartitionUnit
from processors.engine.worker import PartitionWorker

_COLLECTOR_WORKER = "phasewatch.collector_worker"


def _alter_script(old: bytes, new: bytes) -> None:
    """Replace a text in the Lua scripts wherever it stands; the first use of a store finds it where it is gone."""
    scripts = [one for one in vars(redis_store).values() if isinstance(one, Script) and old in one.text]
    if not scripts:
        msg = f"no script has {old!r} any more: the mutation has to be written anew"
        raise LookupError(msg)
    for one in scripts:
        one.text = one.text.replace(old, new)
        one.digest = sha1(one.text, usedforsecurity=False).hexdigest()


def fence_off() -> None:
    """Let whoever knows the position commit, and anybody load and trim."""
    _alter_script(b"held[1] ~= token", b"false")
    _alter_script(b"held[1] ~= ARGV[1]", b"false")
    _alter_script(b"if ARGV[1] ~= '' then", b"if false then")


def offset_check_off() -> None:
    """Let an owner commit wherever the store stands."""
    _alter_script(b"at ~= offset .. ', ' .. cursor", b"false")


def cut_commits_forgotten() -> None:
    """Drop what a cut commit has left to do, and fold its records again without looking for repeats."""
    _alter_script(b"if pending then", b"redis.call('HDEL', KEYS[1], 'pending')\nif false then")
    vars(domain_fold).update(find=lambda _remembered, _number: -1)


def acks_one() -> None:
    """Let the collector answer when the leader alone has an event."""

    class Hasty(AIOKafkaProducer):  # type: ignore[misc] # aiokafka ships no types
        def __init__(self, **options: Any) -> None:
            super().__init__(**(options | {"acks": 1, "enable_idempotence": False}))

    vars(kafka_sink).update(AIOKafkaProducer=Hasty)


def trim_before_publish() -> None:
    """Forget outputs before they are sent."""
    publish: Callable[..., Awaitable[None]] = vars(PartitionWorker)["_publish"]

    async def hasty(self: Any, waiting: Sequence[tuple[int, Output]]) -> None:
        await self._store.trim(self.partition, self._token, waiting[-1][0])
        await publish(self, waiting)

    type.__setattr__(PartitionWorker, "_publish", hasty)


def versions_per_batch() -> None:
    """Give a person one change a commit, whatever happened in it."""
    form: Callable[..., Any] = vars(engine_fold)["form_change"]
    start: Callable[..., None] = vars(engine_fold.PartitionFold)["start_unit"]
    commit: Callable[..., Awaitable[None]] = vars(PartitionUnit)["_commit"]
    versions: dict[int, dict[str, int]] = {}

    def start_unit(self: Any) -> None:
        versions[self.state.partition] = {}
        start(self)

    def form_change(person: Any, book: Any, state: Any, *rest: Any, **named: Any) -> Any:
        given = versions[state.partition]
        person.version = given.setdefault(person.key, person.version)
        return form(person, book, state, *rest, **named)

    async def commit_unit(self: Any) -> None:
        outputs = self.fold.outputs
        last = {(one.topic, one.key): number for number, one in enumerate(outputs)}
        outputs[:] = [
            one
            for number, one in enumerate(outputs)
            if one.topic in {EVENTS, SET_ASIDE} or last[one.topic, one.key] == number
        ]
        await commit(self)

    vars(engine_fold).update(form_change=form_change)
    type.__setattr__(engine_fold.PartitionFold, "start_unit", start_unit)
    type.__setattr__(PartitionUnit, "_commit", commit_unit)


def stages_without_transactions() -> None:
    """Write topic `stages` as every other one."""

    async def publish(self: Any, outputs: Sequence[Output]) -> None:
        await self._sender.send(outputs)

    async def nothing(self: Any, partition: int) -> None:
        """Return: nothing is begun, nothing waits."""

    for name, function in {"publish": publish, "begin": nothing, "flush": nothing, "end": nothing}.items():
        type.__setattr__(KafkaPublisher, name, function)


def answer_before_ack() -> None:
    """Answer at once; what becomes of the write is nobody's business."""
    put: Callable[..., asyncio.Future[None]] = vars(Ingest)["put"]

    def hasty(self: Any, *arguments: Any) -> asyncio.Future[None]:
        put(self, *arguments).add_done_callback(lambda done: done.cancelled() or done.exception())
        answered = asyncio.get_running_loop().create_future()
        answered.set_result(None)
        return answered

    type.__setattr__(Ingest, "put", hasty)


MUTANTS: dict[str, Callable[[], None]] = {
    function.__name__.replace("_", " "): function
    for function in (
        fence_off,
        offset_check_off,
        cut_commits_forgotten,
        acks_one,
        trim_before_publish,
        versions_per_batch,
        stages_without_transactions,
        answer_before_ack,
    )
}


def apply(name: str) -> None:
    """Put a mutation into this process, and into those that a collector starts."""
    MUTANTS[name]()
    spawn = asyncio.create_subprocess_exec

    async def spawn_mutated(*command: str, **options: Any) -> asyncio.subprocess.Process:
        words = ["tests.chaos.collector_worker" if word == _COLLECTOR_WORKER else word for word in command]
        return await spawn(*words, **options)

    if _COLLECTOR_WORKER not in vars(collector_process)["_Worker"].live.__code__.co_consts:
        msg = f"the collector no longer starts {_COLLECTOR_WORKER}: the mutations have to be written anew"
        raise LookupError(msg)
    vars(asyncio).update(create_subprocess_exec=spawn_mutated)
    sys.stderr.write(f'{{"level": "info", "event": "mutated", "mutation": "{name}"}}\n')
