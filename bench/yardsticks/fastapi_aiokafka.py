"""The collector that a good engineer writes in an afternoon: FastAPI, pydantic models, one aiokafka send an event.

It checks types and no more: no keys, no masking, no identities, no limits. It answers when all sends of the request
are acknowledged (acks=all), which it awaits together. Environment: BROKERS, TOPIC.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

from aiokafka import AIOKafkaProducer
from fastapi import FastAPI, Request
from pydantic import BaseModel


class Page(BaseModel):
    """Where it happened."""

    url: str | None = None
    path: str | None = None
    title: str | None = None
    referrer: str | None = None


class Element(BaseModel):
    """What it happened to."""

    tag: str | None = None
    text: str | None = None
    selector: str | None = None
    href: str | None = None


class Event(BaseModel):
    """One event as a browser sends it."""

    id: str
    type: Literal["page", "click", "change", "submit", "dwell", "identify", "custom"]
    ts: int
    anonymous_id: str
    user_id: str | None = None
    session_id: str | None = None
    seq: int | None = None
    name: str | None = None
    page: Page | None = None
    element: Element | None = None
    properties: dict[str, Any] | None = None


class Batch(BaseModel):
    """A request."""

    sent_at: int
    events: list[Event]


@asynccontextmanager
async def lifespan(application: FastAPI) -> AsyncIterator[None]:
    """Hold one producer."""
    producer = AIOKafkaProducer(
        bootstrap_servers=os.environ["BROKERS"], acks="all", enable_idempotence=True, linger_ms=5
    )
    await producer.start()
    application.state.producer = producer
    yield
    await producer.stop()


app = FastAPI(lifespan=lifespan)


@app.post("/v1/events")
async def take(batch: Batch, request: Request) -> dict[str, int]:
    """Answer when every event is acknowledged."""
    producer: AIOKafkaProducer = request.app.state.producer
    sends = [
        producer.send_and_wait(
            os.environ["TOPIC"], event.model_dump_json(exclude_none=True).encode(), key=event.anonymous_id.encode()
        )
        for event in batch.events
    ]
    await asyncio.gather(*sends)
    return {"accepted": len(sends)}
