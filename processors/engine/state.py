"""What is kept about one partition beside its persons: position, stream time, what is in force."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from processors.domain.definitions import Definitions, DefinitionsError, NewerFoldError
from processors.domain.document import parse
from processors.domain.fold import Rulebook
from processors.domain.matching import Names, TooManyNamesError
from processors.engine.tallies import Tallies


class Position(NamedTuple):
    """The next record to fold, and how many slices of work were committed at it before (architecture, section 6)."""

    offset: int = 0
    cursor: int = 0


@dataclass(slots=True)
class PartitionState:
    """The fold's own state; everything in it follows from the partition's log alone."""

    partition: int
    partitions: int
    position: Position = field(default_factory=Position)
    tau: int = 0
    """Stream time: the largest record time so far (UTC ms)."""
    live: bool = False
    """Whether the newest block is no imported history: only then the owner lets time pass."""
    definitions: int = 0
    document: str | None = None
    published: int = 0
    """Highest number given to a document; counts at partition 0 only."""
    tiers: tuple[int, int] | None = None
    names: Names = field(default_factory=lambda: Names([], [], []))
    heard: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Highest (offset, index) of derived records folded, by source partition."""
    stages: dict[str, int] = field(default_factory=dict)
    """How many persons are in each stage."""
    sweep: str | None = None
    """The last person that a definitions record at `position` has re-evaluated so far."""
    sweep_floor: int = 0
    """What that record re-evaluates counts from this hour on: what had left the window before it is gone."""
    outputs: int = 0
    """How many outputs were formed so far: the outbox's numbers."""
    appended: int = 0
    """Append time of the record before `position`, by which another log under the same name is told apart; 0: none."""
    tallies: Tallies = field(default_factory=Tallies)

    def rulebook(self) -> Rulebook:
        """Return the definitions in force, ready to fold under."""
        return Rulebook(self.definitions, parse(self.document) if self.document else Definitions(), self.names)

    def take(self, number: int, document: str) -> bool:
        """Put a document into force; return False, changing nothing, where it is not valid.

        Raises:
            NewerFoldError: if it asks for rules that this program does not know; whoever folds has to stop.
        """
        try:
            self.names.learn(parse(document))
        except NewerFoldError:
            raise
        except (DefinitionsError, TooManyNamesError):
            return False
        self.definitions, self.document = number, document
        return True
