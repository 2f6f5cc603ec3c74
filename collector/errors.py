"""Why a whole request is refused, and what each refusal is as HTTP.

A subclass of RequestError each, and SinkUnavailableError of `collector.sinks.port`; the table is STATUS.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from collector.sinks.port import SinkUnavailableError

RETRY_AFTER_SECONDS: Final = 2
"""Long enough for a restart of the log, short enough that a page is still open."""


class RequestError(Exception):
    """A request that is refused as a whole; the text says what was found and what would be right.

    `retry_after_seconds` is said where it is worth coming again.
    """

    retry_after_seconds: int = RETRY_AFTER_SECONDS


class UnreadableBodyError(RequestError):
    """The body is no JSON of the expected form, or does not unpack."""


class WrongKeyError(RequestError):
    """No write key, or none that is known here."""


class NotAllowedError(RequestError):
    """A known key, used by somebody it is not meant for."""


class UnreadableRequestError(RequestError):
    """What came over the connection is no HTTP request."""


class TooLargeHeadError(RequestError):
    """The request's line and headers are larger than any client's."""


class UnknownPathError(RequestError):
    """Nothing is served there."""


class WrongMethodError(RequestError):
    """The path is served, with another method."""


class TooLargeBodyError(RequestError):
    """More bytes or events than one request may carry."""


class UnknownEncodingError(RequestError):
    """A Content-Encoding that is not gzip, deflate, br or zstd."""


class TooManyRequestsError(RequestError):
    """More than the key's rate; comes with how long to wait."""

    def __init__(self, text: str, retry_after_seconds: int = RETRY_AFTER_SECONDS) -> None:
        super().__init__(text)
        self.retry_after_seconds = retry_after_seconds


class AddressRateError(TooManyRequestsError):
    """More than the rate of one address."""


class OverloadedError(RequestError):
    """The collector holds as much as it may hold."""


STATUS: Final[dict[type[Exception], tuple[HTTPStatus, str, str]]] = {
    UnreadableBodyError: (HTTPStatus.BAD_REQUEST, "unreadable_body", "The body cannot be read."),
    WrongKeyError: (HTTPStatus.UNAUTHORIZED, "wrong_key", "The write key is missing or not known here."),
    NotAllowedError: (HTTPStatus.FORBIDDEN, "not_allowed", "The write key may not be used from there."),
    UnreadableRequestError: (HTTPStatus.BAD_REQUEST, "unreadable_request", "This is no HTTP/1.1 request."),
    TooLargeHeadError: (
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        "too_large_head",
        "The URL and headers are too large.",
    ),
    UnknownPathError: (HTTPStatus.NOT_FOUND, "unknown_path", "Nothing is served at this path."),
    WrongMethodError: (HTTPStatus.METHOD_NOT_ALLOWED, "wrong_method", "The path is served with another method."),
    TooLargeBodyError: (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", "The request is too large."),
    UnknownEncodingError: (HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unknown_encoding", "The encoding is not known."),
    TooManyRequestsError: (HTTPStatus.TOO_MANY_REQUESTS, "too_many_requests", "The key's rate is exceeded."),
    AddressRateError: (HTTPStatus.TOO_MANY_REQUESTS, "address_rate", "The address's rate is exceeded."),
    OverloadedError: (HTTPStatus.SERVICE_UNAVAILABLE, "overloaded", "Too much waits here; try again later."),
    SinkUnavailableError: (HTTPStatus.SERVICE_UNAVAILABLE, "not_durable", "Nothing was stored; try again later."),
}
"""The one table from error class to (status, code, message)."""

UNFORESEEN: Final = (HTTPStatus.SERVICE_UNAVAILABLE, "fault", "The collector failed; it has been logged. Try again.")
"""A fault of ours: the client shall keep its events until it is mended."""


def code_of(error: Exception) -> str:
    """Return the code that the answer to an error has; `fault` for one of ours."""
    return (status_of(error) or UNFORESEEN)[1]


def status_of(error: Exception) -> tuple[HTTPStatus, str, str] | None:
    """Return what the table says of an error's class, or of the nearest one above it; None for a fault of ours."""
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), None)
