"""Why a command stops, named by what its caller has to do; the exit codes are the contract's.

StopError
├── FaultError         1: a difference or a fault was found
├── UsageError         2: the command or a setting is wrong
└── ServiceAwayError   3: something that is needed does not answer; try again later
"""

from __future__ import annotations

from typing import ClassVar

__all__ = ["FaultError", "ServiceAwayError", "StopError", "UsageError"]


class StopError(Exception):
    """A command cannot go on; its text says what happened, what it means and what to do."""

    exit_code: ClassVar[int]


class FaultError(StopError):
    """A difference or a fault was found."""

    exit_code = 1


class UsageError(StopError):
    """The command, its arguments or a setting are wrong; nothing was started."""

    exit_code = 2


class ServiceAwayError(StopError):
    """A file, a server or another process that is needed does not answer; trying again later may help."""

    exit_code = 3
