"""The one place that says how an error looks over HTTP: RFC 9457, whoever raised it."""

from __future__ import annotations

from collections.abc import Mapping

import structlog
from connexion import FlaskApp
from connexion.exceptions import ProblemException
from connexion.lifecycle import ConnexionRequest, ConnexionResponse
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from openapi_server.models.errors import (
    BodyTooLarge,
    ChatError,
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

# What frameworks raise by status, in our words. Their own texts stay inside.
ERRORS_BY_STATUS: dict[int, ChatError] = {
    400: InvalidInput(),
    401: LoginRequired("Log in with POST /auth/login, and send the access token as Authorization: Bearer."),
    404: NotFound("Nothing lives at this address. GET / shows the way."),
    405: MethodNotAllowed(),
    406: NotAcceptable(),
    413: BodyTooLarge(),
    415: UnsupportedMediaType("Send application/json in UTF-8, not compressed."),
}


def make_error_response(error: ChatError) -> JSONResponse:
    """The error as an ASGI answer."""
    return make_problem_response(error.problem, _make_headers(error))


def make_problem_response(problem: Problem, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """A problem that is only a value by now, such as a stored turn's, as an ASGI answer."""
    return JSONResponse(encode_problem(problem), problem.status, headers, PROBLEM_JSON)


def add_error_handlers(app: FlaskApp) -> None:
    """Give every exception that can leave Connexion our shape."""
    app.add_error_handler(ChatError, _handle_chat_error)
    app.add_error_handler(ProblemException, _handle_framework_error)
    app.add_error_handler(HTTPException, _handle_framework_error)
    app.add_error_handler(Exception, _handle_unexpected_error)


def _handle_chat_error(request: ConnexionRequest, error: Exception) -> ConnexionResponse:
    assert isinstance(error, ChatError)  # noqa: S101  # registered for this type only
    return _make_connexion_response(error)


def _handle_framework_error(request: ConnexionRequest, error: Exception) -> ConnexionResponse:
    status: int = error.status_code if isinstance(error, HTTPException) else getattr(error, "status", 500)
    known = ERRORS_BY_STATUS.get(status)
    if known is None:
        log.error("framework_error", status=status, error=repr(error))
    response = _make_connexion_response(known or ChatError())
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
    headers = {"Cache-Control": "no-store", **error.headers}
    if error.status == 401:
        # RFC 6750, section 3: a caller who brought nothing is not told of an error.
        said = ', error="invalid_token"' if isinstance(error, InvalidToken) else ""
        headers["WWW-Authenticate"] = f'Bearer realm="zoochat"{said}'
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    return headers
