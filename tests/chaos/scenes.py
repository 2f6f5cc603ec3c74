"""For each mutation the faults that bring it to light; the product itself comes through every one of them."""

from __future__ import annotations

import asyncio
import secrets
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from zlib import crc32

from processors.adapters.redis.store import HASHES
from tests.chaos.clients import Hand
from tests.chaos.deployment import Chaos, Services, Size
from tests.chaos.faults import leader
from tests.chaos.process import arm
from tests.integration.production import Inside, Worker
from tests.integration.redis_loss import bring_back, keep_files

DECIDES = ("invest_clicked", "order_submitted", "order_submitted")
"""Enough for stage decision (docs/stages.md)."""
PATIENCE_SECONDS = 90.0
UNANSWERED_SECONDS = 3.0
"""So long an answer is waited for that the product does not give, and a mutation does."""


class Scene:
    """One small deployment, a hand that writes to it, and a way to look into it."""

    def __init__(self, chaos: Chaos, inside: Inside, hand: Hand) -> None:
        self.chaos, self.inside, self.hand = chaos, inside, hand
        self.first, self.second = chaos.workers[:2]

    async def does(self, user: str, *names: str, kind: str = "") -> None:
        """Let a user do something, and wait for the answer."""
        await asyncio.to_thread(self.hand.do, [user], names, kind)

    def arm(self, worker: Worker, point: str, number: signal.Signals) -> Callable[[], bool]:
        """Let a worker get a signal at a point; return what says whether it has."""
        path = self.chaos.point_file(worker)
        arm(path, point, number)
        return lambda: not path.exists()

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait; raises TimeoutError with `what`."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not await asyncio.to_thread(condition):
            if time.monotonic() > deadline:
                message = f"not within {PATIENCE_SECONDS:g} s: {what}"
                raise TimeoutError(message)
            await asyncio.sleep(0.02)  # polled

    async def again(self, worker: Worker) -> None:
        """Start a worker that has died, and wait until it is there."""
        await self.until(lambda: worker.process.poll() is not None, f"{worker.name} has ended")
        self.chaos.launch_worker(worker)
        await self.until(worker.is_ready, f"{worker.name} is ready")

    def retries(self) -> int:
        """Return how many times a worker has had to take its partition over anew."""
        return sum(one["event"] == "partition_retries" for one in self.chaos.deployment.complaints())

    @property
    def services(self) -> Services:
        """Brokers and Redis."""
        return self.chaos.services


async def fence(scene: Scene) -> None:
    """A former owner reads what its successor has written, the Redis loses that, and the former owner commits.

    With the fence it is refused when it reads, takes over, and finds everything folded.
    """
    await scene.does("a", "product_viewed")
    await scene.inside.settle()
    asleep = scene.arm(scene.first, "before load", signal.SIGSTOP)
    await scene.does("a", *DECIDES)
    await scene.until(asleep, "the first worker sleeps")
    scene.chaos.launch_worker(scene.second)
    folded = scene.arm(scene.second, "before commit", signal.SIGSTOP)
    await scene.until(folded, "the second worker has taken over and folded")
    keep_files(scene.services.redis)
    committed = scene.arm(scene.second, "after commit", signal.SIGKILL)
    scene.second.resume()
    await scene.until(committed, "the second worker has committed and died")
    read, before = scene.arm(scene.first, "before commit", signal.SIGSTOP), scene.retries()
    scene.first.resume()
    await scene.until(lambda: read() or scene.retries() > before, "the first has read and folded, or was refused")
    await asyncio.to_thread(bring_back, scene.services.redis)
    scene.first.resume()
    scene.chaos.launch_worker(scene.second)


async def position(scene: Scene) -> None:
    """Redis loses what was committed of one person, while the owner is about to commit what another one did after."""
    await scene.does("a", "product_viewed")
    await scene.inside.settle()
    keep_files(scene.services.redis)
    await scene.does("b", "list_viewed", "list_viewed")
    await scene.inside.settle()
    asleep = scene.arm(scene.first, "before commit", signal.SIGSTOP)
    await scene.does("a", "product_clicked")
    await scene.until(asleep, "the worker is about to commit")
    await asyncio.to_thread(bring_back, scene.services.redis)
    scene.first.resume()


async def cut_commit(scene: Scene) -> None:
    """A key that somebody else has made stands in the way of one of several persons, until it is taken away."""
    name, redis = scene.chaos.deployment.name, scene.services.redis
    users = [f"user-{number}" for number in range(9)]
    taken = {_hash_of(user) for user in users[:8]}
    users[8] = next(user for user in map("other-{}".format, range(99)) if _hash_of(user) not in taken)
    key = f"{name}:{{0}}:people:{_hash_of(users[8])}"
    folded = scene.arm(scene.first, "before commit", signal.SIGSTOP)
    await asyncio.to_thread(scene.hand.do, users, ["product_viewed", "list_viewed"])
    await scene.until(folded, "the worker is about to commit")
    redis.ask(f"SET {key} somebody-elses")
    scene.first.resume()
    await scene.until(lambda: redis.ask(f"HEXISTS {name}:{{0}}:partition pending") == ":1", "a commit was cut short")
    redis.ask(f"DEL {key}")


def _hash_of(user: str) -> int:
    """Return which of a partition's hashes holds a user (docs/redis.md)."""
    return crc32(f"u:{user}".encode()) % HASHES


async def lost_leader(scene: Scene) -> None:
    """The leader of the log dies when no follower has what it was told last."""
    await scene.does("a", "product_viewed")
    leads = await leader(scene.chaos, 0)
    others = [broker for broker in scene.services.kafka.brokers if broker is not leads]
    for broker in others:
        await asyncio.to_thread(broker.pause)
    writing = asyncio.create_task(_twice(scene))
    await asyncio.wait({writing}, timeout=UNANSWERED_SECONDS)
    leads.kill()
    for broker in others:
        broker.resume()
    await scene.until(lambda: others[0].is_ready() and leads.node_id not in others[0].brokers(), "it is missed")
    leads.launch()
    await scene.until(leads.is_ready, "it is back")
    await writing


async def _twice(scene: Scene) -> None:
    """Write twice: a follower that stands still has asked for the first already, and finds it when it goes on."""
    await scene.does("a", "list_viewed")
    await scene.does("a", "list_viewed")


async def unpublished(scene: Scene) -> None:
    """The worker dies when it has committed and not yet published."""
    died = scene.arm(scene.first, "before publish", signal.SIGKILL)
    await scene.does("a", *DECIDES)
    await scene.until(died, "the worker has died")
    await scene.again(scene.first)


async def other_batches(scene: Scene) -> None:
    """What was folded in two commits is folded again in one."""
    await scene.does("a", "product_viewed")
    await scene.inside.settle()
    keep_files(scene.services.redis)
    await scene.does("a", *DECIDES)
    await scene.inside.settle()
    scene.first.pause()
    await scene.does("a", kind="purchase")
    await asyncio.to_thread(bring_back, scene.services.redis)
    scene.first.resume()


async def late_writer(scene: Scene) -> None:
    """A former owner publishes when its successor has gone on."""
    asleep = scene.arm(scene.first, "before publish", signal.SIGSTOP)
    await scene.does("a", *DECIDES)
    await scene.until(asleep, "the first worker is about to publish")
    scene.chaos.launch_worker(scene.second)
    await scene.until(scene.second.is_ready, "the second worker has taken over")
    await scene.does("a", kind="purchase")
    await scene.inside.settle()
    published = scene.arm(scene.first, "after publish", signal.SIGKILL)
    scene.first.resume()
    await scene.until(published, "the first worker has published")


async def hasty_answer(scene: Scene) -> None:
    """The collector dies while Kafka stands still."""
    await scene.does("a", "product_viewed")
    (broker,), (collector,) = scene.services.kafka.brokers, scene.chaos.collectors
    await asyncio.to_thread(broker.pause)
    writing = asyncio.create_task(scene.does("a", "list_viewed"))
    await asyncio.wait({writing}, timeout=UNANSWERED_SECONDS)
    collector.kill_everything()
    broker.resume()
    scene.chaos.launch_collector(collector)
    await writing


@dataclass(frozen=True, slots=True)
class Case:
    """A mutation and what brings it to light."""

    mutation: str
    scene: Callable[[Scene], Awaitable[None]]
    brokers: int = 1


CASES = (
    Case("fence off", fence),
    Case("offset check off", position),
    Case("cut commits forgotten", cut_commit),
    Case("trim before publish", unpublished),
    Case("versions per batch", other_batches),
    Case("stages without transactions", late_writer),
    Case("answer before ack", hasty_answer),
    Case("acks one", lost_leader, brokers=3),
)


def small(mutation: str) -> Size:
    """Return the smallest deployment: one partition, one collector, one worker and the place of a second one."""
    return Size(collectors=1, workers=1, partitions=1, mutation=mutation)


def new_folder_name(mutation: str) -> str:
    """Return a name for the folder of one run."""
    return f"{mutation.replace(' ', '-') or 'unharmed'}-{secrets.token_hex(3)}"
