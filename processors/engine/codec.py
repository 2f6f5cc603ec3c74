"""Persons, links and partition states as bytes (msgpack), and a person as the payload of a transfer."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from processors.domain.matching import Names
from processors.domain.money import Ledger
from processors.domain.person import Device, Link, Person, Told
from processors.domain.remembered import forget_before
from processors.engine.state import PartitionState, Position
from processors.engine.tallies import Tallies

_STAGES: Final = ("prospect", "decision", "holding", "post_redemption", "dormant")
_NUMBER: Final = {stage: number for number, stage in enumerate(_STAGES)}

_Counts = dict[int, int]
_PersonTuple = tuple[
    int, int, int, int, int, int, bool, int, bool,
    _Counts, _Counts, bytearray, list[tuple[str, int, int, list[int]]],
    _Counts, dict[int, int], int, int | None, str | None, tuple[int, str | None] | None,
    dict[int, int], Ledger | None, bool, list[Told], int,
]  # fmt: skip

_encoder = msgspec.msgpack.Encoder()
_person_decoder = msgspec.msgpack.Decoder(_PersonTuple)
_link_decoder = msgspec.msgpack.Decoder(tuple[str, bool, int, int])


def _person_tuple(person: Person, oldest: int) -> tuple[Any, ...]:
    if oldest:
        forget_before(person.remembered, oldest)
    return (
        person.life_offset, person.life_index, person.version, person.last_record, person.activity,
        _NUMBER[person.stage], person.ever, _NUMBER[person.published], person.published_confirmed,
        person.buckets, person.dwell, person.remembered,
        [(_short(one.anonymous_id, person.key), one.claimed, one.high, one.gaps) for one in person.devices.values()],
        person.sessions, person.visit_days, person.last_visit, person.last_loose, person.place, person.first_touch,
        person.milestones, person.ledger, person.ever_confirmed, person.changes, person.listed,
    )  # fmt: skip


def _short(anonymous_id: str, key: str) -> str:
    """Return nothing for a device whose id the person's key says already, as most anonymous persons' does."""
    return "" if anonymous_id == key[2:] else anonymous_id


def _person(key: str, state: _PersonTuple) -> Person:
    (
        life_offset, life_index, version, last_record, activity, stage, ever, published, published_confirmed,
        buckets, dwell, remembered, devices, sessions, visit_days, last_visit, last_loose, place, first_touch,
        milestones, ledger, ever_confirmed, changes, listed,
    ) = state  # fmt: skip
    return Person(
        key, life_offset, life_index, version, last_record, activity, _STAGES[stage], ever,
        _STAGES[published], published_confirmed, buckets, dwell, remembered,
        {name or key[2:]: Device(name or key[2:], claimed, high, gaps) for name, claimed, high, gaps in devices},
        sessions, visit_days, last_visit, last_loose, place, first_touch, milestones, ledger, ever_confirmed,
        changes, listed,
    )  # fmt: skip


def encode_person(person: Person) -> bytes:
    """Return a person's state: a function of the log alone, so nothing is left out by the time of the commit."""
    return _encoder.encode(_person_tuple(person, 0))


def decode_person(key: str, value: bytes) -> Person:
    """Return the person that `encode_person` wrote; its derived fields are refreshed at the next evaluation."""
    return _person(key, _person_decoder.decode(value))


def encode_link(link: Link) -> bytes:
    """Return a link's state."""
    return _encoder.encode((link.user_id, link.shared, link.last_record, link.listed))


def decode_link(key: str, value: bytes) -> Link:
    """Return the link that `encode_link` wrote."""
    return Link(key, *_link_decoder.decode(value))


class TransferBody(msgspec.Struct):
    """The value of a `transfer` record: an anonymous person on the way to its user (R8)."""

    anonymous_id: str
    user_id: str
    stage: str
    """The stage evaluated last; from `decision`, a decision score of 4 suffices."""
    published: str | None
    """The stage published last, if any was."""
    state: _PersonTuple


_transfer_decoder = msgspec.json.Decoder(TransferBody)


def encode_transfer(anonymous_id: str, user_id: str, person: Person, oldest: int) -> bytes:
    """Return the payload of a transfer as JSON; a function of the person alone."""
    told = person.published if person.version else None
    state = _person_tuple(person, oldest)
    return msgspec.json.encode(TransferBody(anonymous_id, user_id, person.stage, told, state))


def decode_transfer(value: bytes) -> tuple[TransferBody, Person]:
    """Return a transfer and the anonymous person in it; raises msgspec.MsgspecError where `value` is none."""
    body = _transfer_decoder.decode(value)
    return body, _person(f"a:{body.anonymous_id}", body.state)


class _State(msgspec.Struct, array_like=True):
    offset: int
    cursor: int
    tau: int
    live: bool
    definitions: int
    document: str | None
    published: int
    tiers: tuple[int, int] | None
    names: tuple[list[str], list[str], list[str]]
    heard: dict[int, tuple[int, int]]
    stages: dict[str, int]
    sweep: str | None
    sweep_floor: int
    outputs: int
    appended: int
    tallies: Tallies | None = None
    """None in states of before there were any."""


_state_decoder = msgspec.msgpack.Decoder(_State)


def encode_state(state: PartitionState) -> bytes:
    """Return a partition's state."""
    names = (state.names.behaviours, state.names.categories, state.names.milestones)
    return _encoder.encode(
        _State(
            *state.position, state.tau, state.live, state.definitions, state.document, state.published, state.tiers,
            names, state.heard, state.stages, state.sweep, state.sweep_floor,
            state.outputs, state.appended, state.tallies,
        )
    )  # fmt: skip


def decode_state(partition: int, partitions: int, value: bytes) -> PartitionState:
    """Return the partition state that `encode_state` wrote."""
    s = _state_decoder.decode(value)
    return PartitionState(
        partition, partitions, Position(s.offset, s.cursor), s.tau, s.live, s.definitions, s.document, s.published,
        s.tiers, Names(*s.names), s.heard, s.stages, s.sweep, s.sweep_floor, s.outputs, s.appended,
        Tallies(begin=s.offset) if s.tallies is None else s.tallies,
    )  # fmt: skip
