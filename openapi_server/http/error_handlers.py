"""Errors as HTTP answers: every error has the same form (RFC 9457), whichever library raised it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import structlog
from connexion import FlaskApp
from connexion.exceptions import ProblemException
from connexion.lifecycle import ConnexionRequest, ConnexionResponse
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openapi_server.models.errors import (
    BodyTooLarge,
    ChatError,
    Draining,
    InvalidInput,
    InvalidToken,
    LoginRequired,
    MethodNotAllowed,
    NotAcceptable,
    NotFound,
    Problem,
    UnsupportedMediaType,
)
from openapi_server.wire.problem import PROBLEM_JSON, encode_problem
from openapi_server.wire.sse import encode_json

log = structlog.get_logger(__name__)

# When a client may try again after a shutdown, in seconds.
RESTART_S = 5

# What the frameworks raise, by status. Their own texts are not sent. No error is raised twice: each time its traceback
# would grow by the frames of a request, which then stay in memory.
_MAKERS_BY_STATUS: dict[int, Callable[[], ChatError]] = {
    400: InvalidInput,
    401: lambda: LoginRequired("Log in with POST /auth/login, and send the access token as Authorization: Bearer."),
    404: lambda: NotFound("This address does not exist. GET / gives an overview."),
    405: MethodNotAllowed,
    406: NotAcceptable,
    413: BodyTooLarge,
    415: lambda: UnsupportedMediaType("Send application/json in UTF-8, not compressed."),
}


class UnexpectedErrorMiddleware:
    """ASGI middleware: answers any exception with a 500 problem, unless the answer has begun already.

    A request that is cancelled before its answer, as at a shutdown, is answered with 503.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = False

        async def send_and_note(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        except Exception:
            if scope["type"] != "http":
                raise
            log.exception("unexpected_error")
            if has_begun:
                # Closing the connection is the only way to tell the client that the answer is not complete.
                raise
            await make_error_response(ChatError())(scope, receive, send)
        except asyncio.CancelledError:
            if scope["type"] != "http" or has_begun:
                raise
            # uvicorn cancels what still runs at the end of a shutdown, and would answer with a 500 of its own.
            await make_error_response(Draining(retry_after_s=RESTART_S))(scope, receive, send)


def make_error(status: int) -> ChatError:
    """The error for a status that the frameworks answer with; the unexpected one for one that they should not."""
    return _MAKERS_BY_STATUS.get(status, ChatError)()


def make_error_response(error: ChatError) -> JSONResponse:
    """The error as an ASGI response."""
    return make_problem_response(error.problem, _make_headers(error))


def make_problem_response(problem: Problem, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """A problem without its exception, such as that of a stored turn, as an ASGI response."""
    return JSONResponse(encode_problem(problem), problem.status, headers, PROBLEM_JSON)


def add_error_handlers(app: FlaskApp) -> None:
    """Answer all exceptions that leave Connexion and Flask in our form."""
    app.add_error_handler(ChatError, _handle_chat_error)
    app.add_error_handler(ProblemException, _handle_framework_error)
    app.add_error_handler(HTTPException, _handle_framework_error)
    app.add_error_handler(Exception, _handle_unexpected_error)


def _handle_chat_error(request: ConnexionRequest, error: Exception) -> ConnexionResponse:
    assert isinstance(error, ChatError)  # noqa: S101  # registered for this type only
    return _make_connexion_response(error)


def _handle_framework_error(request: ConnexionRequest, error: Exception) -> ConnexionResponse:
    status: int = error.status_code if isinstance(error, HTTPException) else getattr(error, "status", 500)
    if status not in _MAKERS_BY_STATUS:
        log.error("framework_error", status=status, exc_info=error)
    response = _make_connexion_response(make_error(status))
    allow = (getattr(error, "headers", None) or {}).get("Allow")
    if allow:
        response.headers["Allow"] = allow
    return response


def _handle_unexpected_error(request: ConnexionRequest, error: Exception) -> ConnexionResponse:
    log.error("unexpected_error", exc_info=error)
    return _make_connexion_response(ChatError())


def _make_connexion_response(error: ChatError) -> ConnexionResponse:
    return ConnexionResponse(
        status_code=error.status,
        content_type=PROBLEM_JSON,
        mimetype=PROBLEM_JSON,
        body=encode_json(encode_problem(error.problem)),
        headers=_make_headers(error),
    )


def _make_headers(error: ChatError) -> dict[str, str]:
    headers = {"Cache-Control": "private, no-store", **error.headers}
    if error.status == 401:
        # RFC 6750, section 3: a request without a token gets no error code.
        parameters = ', error="invalid_token"' if isinstance(error, InvalidToken) else ""
        headers["WWW-Authenticate"] = f'Bearer realm="zoochat"{parameters}'
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    return headers
