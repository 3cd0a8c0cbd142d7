"""Authentication by access token: who is calling, and whether the operation requires a login or a role.

It happens in two steps, because Connexion tries all alternatives of an operation's `security`. Where a login is
optional (`{}`), Connexion would treat the caller with an invalid token as an anonymous visitor, who sees nothing of
their own and is not told why. So `BearerTokenHandler` passes the error on like a result, and
`AuthenticationMiddleware` answers with it before the request is validated.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import structlog
from connexion.lifecycle import ConnexionRequest
from connexion.security import NO_VALUE, BearerSecurityHandler
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from openapi_server import linear_regex
from openapi_server.accounts.logins import AccountService
from openapi_server.http.error_handlers import make_error, make_error_response
from openapi_server.models.errors import ChatError, Forbidden, InvalidToken
from openapi_server.models.user import AuthenticatedUser, Role
from openapi_server.spec import load_spec

USER_EXTENSION = "zoochat.user"
USER_KEY, ERROR_KEY = "user", "error"
# RFC 6750, section 2.1. Our tokens have about 400 characters.
_BEARER = linear_regex.compile(r"^bearer +([A-Za-z0-9._~+/-]+=*)\Z", linear_regex.IGNORECASE)
_MAX_TOKEN_CHARS = 4_096

# What a front end sends that is logged out: no token, or what JavaScript makes of a variable without one.
_EMPTY = linear_regex.compile(r"\s*(bearer(\s+(null|undefined))?)?\s*", linear_regex.IGNORECASE)

InfoFunction = Callable[[AccountService, str], Awaitable[AuthenticatedUser]]

log = structlog.get_logger(__name__)


async def authenticate_token(accounts: AccountService, token: str) -> AuthenticatedUser:
    """The user of the access token. `openapi.yaml` names this function as `x-bearerInfoFunc`."""
    return await accounts.authenticate(token)


class BearerTokenHandler(BearerSecurityHandler):  # type: ignore[misc]  # Connexion has no types
    """Connexion's handler of the security scheme, but it returns the error instead of raising it."""

    def __init__(self, accounts: AccountService) -> None:
        self._accounts = accounts

    def _get_verify_func(self, info_function: InfoFunction) -> Callable[[ConnexionRequest], Awaitable[object]]:
        async def verify(request: ConnexionRequest) -> object:
            given = Headers(scope=request.scope).getlist("authorization")
            if all(_EMPTY.fullmatch(value) for value in given):
                return NO_VALUE
            try:
                return {USER_KEY: await info_function(self._accounts, _parse_token(given))}
            except ChatError as error:
                return {ERROR_KEY: error}
            except Exception:
                # Connexion would try the next alternative and let the caller in as an anonymous visitor.
                log.exception("unexpected_error")
                return {ERROR_KEY: ChatError()}

        return verify


class AuthenticationMiddleware:
    """ASGI middleware behind Connexion's security: answers with the error, or provides the user with `get_user`.

    It also checks the operation's `x-minimum-role`. Where the operation has `x-takes-expired-token`, its handler checks
    the access token itself.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        extensions = scope["extensions"]
        result = extensions.get("connexion_context", {}).get("token_info", {})
        operation_id = extensions["connexion_routing"].get("operation_id")
        error = result.get(ERROR_KEY) or _check_role(result.get(USER_KEY), get_minimum_role(operation_id))
        if isinstance(error, InvalidToken) and takes_expired_token(operation_id):
            error = None
        if error is not None:
            await make_error_response(error)(scope, receive, send)
            return
        extensions[USER_EXTENSION] = result.get(USER_KEY)
        await self._app(scope, receive, send)


def read_bearer_token(headers: Headers) -> str | None:
    """The access token of the request, which may be invalid; None when there is none, or no single one."""
    try:
        return _parse_token(headers.getlist("authorization"))
    except InvalidToken:
        return None


def get_user(scope: Scope) -> AuthenticatedUser | None:
    """The logged-in caller; None for a visitor without an account."""
    user: AuthenticatedUser | None = scope["extensions"].get(USER_EXTENSION)
    return user


@functools.cache
def get_minimum_role(operation_id: str | None) -> Role | None:
    """The `x-minimum-role` of the operation in the spec."""
    operation = _find_operation(operation_id)
    return Role(operation["x-minimum-role"]) if "x-minimum-role" in operation else None


@functools.cache
def takes_expired_token(operation_id: str | None) -> bool:
    """The `x-takes-expired-token` of the operation in the spec."""
    return bool(_find_operation(operation_id).get("x-takes-expired-token", False))


def _find_operation(operation_id: str | None) -> dict[str, Any]:
    for path in load_spec()["paths"].values():
        for operation in path.values():
            if f"{operation['x-openapi-router-controller']}.{operation['operationId']}" == operation_id:
                return dict(operation)
    return {}


def _parse_token(given: Sequence[str]) -> str:
    """The token in the `Authorization` headers. Two headers are refused: either of them could be the right one."""
    match = _BEARER.match(given[0]) if len(given) == 1 else None
    if match is None or len(match[1]) > _MAX_TOKEN_CHARS:
        raise InvalidToken("Send one header, Authorization: Bearer, with the access token.")
    return str(match[1])


def _check_role(user: AuthenticatedUser | None, role: Role | None) -> ChatError | None:
    """The error for a caller who does not have the role; None when they may call the operation."""
    if role is None:
        return None
    if user is None:
        return make_error(401)
    return None if user.may_act_as(role) else Forbidden(f"This is for people with the role {role} or above.")
