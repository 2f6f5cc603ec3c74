"""Logging, configured once per process: JSON lines for machines, colours and columns at a terminal."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Final, TextIO

import structlog

__all__ = ["MASK", "SECRET_NAMES", "configure", "mask_secrets"]

MASK: Final = "********"

SECRET_NAMES: Final = frozenset(
    {"authorization", "cookie", "key", "password", "password_hash", "secret", "token", "token_hash", "write_key"}
)
"""Names whose values are shown nowhere: not in logs, not by `phasewatch settings`."""

_TALKATIVE: Final = ("aiokafka", "faust", "mode", "processors.adapters.faust.app")
"""Libraries that tell each step of theirs as information; the last is what Faust logs of its own app."""


_INDISCREET: Final = ("aiokafka",)
"""Libraries whose debug messages show whole requests and answers: a login with its password, events of people."""


def mask_secrets(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace the values of secret names, at any depth, before anything is rendered."""
    return {name: _masked(name, value) for name, value in event.items()}


def _masked(name: str, value: object) -> object:
    if name.lower() in SECRET_NAMES and value:
        return MASK
    if isinstance(value, dict):
        return {inner: _masked(str(inner), inner_value) for inner, inner_value in value.items()}
    if isinstance(value, list | tuple):
        return [_masked("", item) for item in value]
    return value


def configure(level: str, *, stream: TextIO | None = None) -> None:
    """Send the logs of Phasewatch and of the libraries it uses to one stream in one form.

    Args:
        level: the least serious level shown: debug, info, warning or error.
        stream: where to; standard error unless given, so that a command's output stays clean.
    """
    out = sys.stderr if stream is None else stream
    before: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        mask_secrets,
    ]
    # Tracebacks without local variables: a write key may be one of them.
    render: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if out.isatty()
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *before,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,  # a logger made at import time has to see this configuration too
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=before,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _INDISCREET:
        logging.getLogger(name).setLevel(max(logging.INFO, root.level))
    if level == "info":
        for name in _TALKATIVE:
            logging.getLogger(name).setLevel(logging.WARNING)
