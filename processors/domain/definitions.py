"""Definitions: what interactions mean, and the numbers of the rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from processors.domain.rules import Rules


@dataclass(frozen=True, slots=True)
class Pattern:
    """What an event must look like: the type, and every condition that is not empty (any of its values)."""

    type: str
    path: tuple[str, ...] = ()
    href_path: tuple[str, ...] = ()
    text: tuple[str, ...] = ()
    selector: tuple[str, ...] = ()
    event: tuple[str, ...] = ()
    property: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class Behaviour:
    """A named behaviour with its weight in thousandths (R1, D3)."""

    name: str
    weight: int
    pattern: Pattern


@dataclass(frozen=True, slots=True)
class Milestone:
    """A named first time (D8)."""

    name: str
    pattern: Pattern


@dataclass(frozen=True, slots=True)
class Definitions:
    """One valid document; number 0, with no behaviours, is in force before the first one in the log."""

    name: str = "none"
    timezone: str = "Asia/Shanghai"
    categories: tuple[str, ...] = ()
    category_paths: tuple[str, ...] = ()
    rules: Rules = field(default_factory=Rules)
    behaviours: tuple[Behaviour, ...] = ()
    milestones: tuple[Milestone, ...] = ()


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a document: line and column count from 1."""

    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}: {self.path}: {self.message}"


class DefinitionsError(ValueError):
    """A definitions document is not valid; `problems` lists everything found."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class NewerFoldError(DefinitionsError):
    """A document asks for rules that this program does not know: a worker that meets it stops (architecture, 7)."""
