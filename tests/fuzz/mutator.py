"""From a seed and a number to a request: always the same one, so that what failed can be sent again."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final, NamedTuple

from tests.fuzz.byte_mutations import mutate_bytes, mutate_head, mutate_protobuf, recode
from tests.fuzz.json_mutations import mutate_json
from tests.fuzz.packing import CODINGS, PACK
from tests.fuzz.planted import Planted
from tests.fuzz.request import Sent
from tests.fuzz.samples import TRUSTED, Sample, samples

NATIVE_SHARE: Final = 0.2
_BOMB_BYTES: Final = 24 * 1024 * 1024
_BOMBS_OF: Final = 20_000
"""One body of so many is a bomb: each costs as much as hundreds of others."""


class Case(NamedTuple):
    """A request, what was done to it, and what is known of it.

    `native` is the JSON of a native request that arrives as it is, None for any other; `trusted` its key's kind.
    """

    request: Sent
    dialect: str
    done: str
    planted: Sequence[Planted] = ()
    native: bytes | None = None
    trusted: bool = False


class Mutator:
    """Makes cases from the samples."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.samples = samples()
        self._of_dialect: dict[str, list[Sample]] = {}
        for one in self.samples:
            self._of_dialect.setdefault(one.dialect, []).append(one)
        self._plains = [one.plain for one in self.samples if one.plain]
        self._requests = [one.request for one in self.samples]
        self._bombs = [(name, PACK[name](b"[" + b" " * _BOMB_BYTES)) for name in CODINGS]

    def case(self, number: int) -> Case:
        """Return the case of a number."""
        rng = random.Random(self._seed << 40 | number)
        dialects = [*self._of_dialect]
        dialect = "native" if rng.random() < NATIVE_SHARE else rng.choice(dialects)
        sample = rng.choice(self._of_dialect[dialect])
        if rng.randrange(_BOMBS_OF) == 0:
            return Case(rng.choice(self.bombs(sample)), dialect, "bomb")
        case = self._inside(rng, sample)
        if rng.random() < 0.1:
            case = case._replace(request=recode(rng, case.request), done=case.done + "+recode", native=None)
        if rng.random() < 0.15:
            request = mutate_head(rng, case.request, self._requests)
            case = case._replace(request=request, done=case.done + "+head", native=None, planted=())
        return case

    def bombs(self, sample: Sample) -> list[Sent]:
        """Return a sample's request with a body that unpacks to more than any may, in each coding."""
        return [
            sample.request._replace(body=bomb).with_header(b"content-encoding", name.encode())
            for name, bomb in self._bombs
        ]

    def _inside(self, rng: random.Random, sample: Sample) -> Case:
        how = rng.random()
        if how < 0.15:
            request = sample.request
            if sample.in_query:
                request = request._replace(query=mutate_bytes(rng, request.query, self._plains))
            else:
                request = request._replace(body=mutate_bytes(rng, request.body, self._plains))
            native = request.body if sample.dialect == "native" else None
            return self._case(sample, request, "bytes", native=native)
        if how < 0.3:
            plain, done, planted = mutate_bytes(rng, sample.plain, self._plains), "inner", list[Planted]()
        else:
            found = mutate_json(rng, sample.plain, self._plains)
            if found is None:
                is_protobuf = b"protobuf" in sample.request.header(b"content-type")
                mutate = mutate_protobuf if is_protobuf else lambda r, b: mutate_bytes(r, b, self._plains)
                plain, done, planted = mutate(rng, sample.plain), "protobuf" if is_protobuf else "inner", []
            else:
                (plain, planted), done = found, "json"
        native = plain if sample.dialect == "native" else None
        return self._case(sample, sample.saying(plain), done, planted, native)

    @staticmethod
    def _case(
        sample: Sample, request: Sent, done: str, planted: Sequence[Planted] = (), native: bytes | None = None
    ) -> Case:
        trusted = request.header(b"authorization").endswith(TRUSTED.encode())
        return Case(request, sample.dialect, done, planted, native, trusted)
