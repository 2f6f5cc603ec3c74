"""What can be wrong with a request, and what each fault is as HTTP: one table, one body."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from console.answers import Error
from console.security import HEADERS
from processors.engine.ports import StoreUnavailableError

RETRY_AFTER_SECONDS: Final = 5


class UnknownPersonError(Exception):
    """Nothing is known about the person that was asked for."""


class BadParameterError(Exception):
    """A parameter makes no sense; the text begins with its name."""


class TooManyStreamsError(Exception):
    """As many streams are open as may be."""


class StoppingError(Exception):
    """The console is about to stop."""


class DoorError(Exception):
    """A request is refused before it reaches what it asks for."""


class UnknownHostError(DoorError):
    """It asks for a name that is not the console's."""


class ThroughProxyError(DoorError):
    """It came through a proxy that the settings do not know, or that changed what it asks for."""


class WithoutTlsError(DoorError):
    """It came readably over a network."""


class CrossSiteError(DoorError):
    """Another site's page made a browser send it."""


class LoginNeededError(DoorError):
    """It comes from nobody who is logged in, and with no token of a program."""


STATUS: Final[dict[type[Exception], tuple[HTTPStatus, str, str]]] = {
    UnknownPersonError: (HTTPStatus.NOT_FOUND, "unknown_person", "Nothing is known about this person."),
    BadParameterError: (HTTPStatus.BAD_REQUEST, "bad_parameter", "A parameter makes no sense."),
    TooManyStreamsError: (HTTPStatus.SERVICE_UNAVAILABLE, "too_many_streams", "Too many streams are open."),
    StoppingError: (HTTPStatus.SERVICE_UNAVAILABLE, "stopping", "The console is stopping; try again soon."),
    StoreUnavailableError: (
        HTTPStatus.SERVICE_UNAVAILABLE,
        "store_away",
        "The state store or the log can't be read right now.",
    ),
    UnknownHostError: (HTTPStatus.MISDIRECTED_REQUEST, "unknown_host", "The console does not have this name."),
    ThroughProxyError: (HTTPStatus.FORBIDDEN, "through_proxy", "The console does not know the proxy before it."),
    WithoutTlsError: (HTTPStatus.FORBIDDEN, "without_tls", "The console is reached by https alone."),
    CrossSiteError: (HTTPStatus.FORBIDDEN, "cross_site", "Other sites' pages may not ask for this."),
    LoginNeededError: (HTTPStatus.UNAUTHORIZED, "login_needed", "Log in first, or send a token of console.api_tokens."),
}
"""The one table from error class to (status, code, message)."""

_UNFORESEEN: Final = (HTTPStatus.INTERNAL_SERVER_ERROR, "fault", "The console failed; it has been logged.")
_OF_HTTP: Final = {
    HTTPStatus.NOT_FOUND: ("unknown_path", "Nothing is served at this path."),
    HTTPStatus.METHOD_NOT_ALLOWED: ("wrong_method", "The path is served with another method."),
}


def error_answer(status: HTTPStatus, code: str, message: str, detail: str = "") -> JSONResponse:
    """Return the one body of errors, with what a client needs in order to try again."""
    headers = dict(HEADERS)
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="phasewatch"'
    body = Error(error=status.phrase, code=code, message=message, detail=detail)
    return JSONResponse(body.model_dump(), status, headers)


async def _known(_: Request, error: Exception) -> JSONResponse:
    return error_answer(*STATUS[type(error)], str(error))


async def _bad_parameter(_: Request, error: Exception) -> JSONResponse:
    problems = error.errors() if isinstance(error, RequestValidationError) else []
    told = [f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}" for one in problems]
    return error_answer(*STATUS[BadParameterError], "; ".join(told))


async def _of_http(_: Request, error: Exception) -> JSONResponse:
    status = HTTPStatus(error.status_code if isinstance(error, HTTPException) else 500)
    answer = error_answer(status, *_OF_HTTP.get(status, ("refused", "The request is refused.")))
    if isinstance(error, HTTPException):
        answer.headers.update(error.headers or {})
    return answer


async def _unforeseen(_: Request, __: Exception) -> JSONResponse:
    """Say no more than that it is logged: the server raises the exception again, and logs it, after this answer."""
    return error_answer(*_UNFORESEEN)


def answer_errors(app: FastAPI) -> None:
    """Give every error of `app` its status and the one body."""
    for kind in STATUS:
        app.add_exception_handler(kind, _known)
    app.add_exception_handler(RequestValidationError, _bad_parameter)
    app.add_exception_handler(HTTPException, _of_http)
    app.add_exception_handler(Exception, _unforeseen)
