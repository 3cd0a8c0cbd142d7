"""Who may come in. Connexion asks who the caller is; the gate behind it says no, before anything is validated.

In two steps, because Connexion tries all alternatives of an operation's `security`: where a login is optional (`{}`), a
token that is refused would make its bearer an anonymous visitor, who finds none of his things and is not told why.
So a refusal is handed on like an answer, and the gate raises it. An operation's `x-minimum-role` is kept here, too.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Awaitable, Callable, Sequence

import structlog
from connexion.lifecycle import ConnexionRequest
from connexion.security import NO_VALUE, BearerSecurityHandler
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from openapi_server.accounts.service import AccountService
from openapi_server.http.problems import ERRORS_BY_STATUS, make_error_response
from openapi_server.models.errors import ChatError, Forbidden, InvalidToken
from openapi_server.models.user import AuthenticatedUser, Role
from openapi_server.spec import load_spec

USER_EXTENSION = "zoochat.person"
USER_KEY, ERROR_KEY = "person", "refusal"
# RFC 6750, section 2.1. Ours are 400 characters long; what is longer is not worth a look.
_BEARER = re.compile(r"bearer +([A-Za-z0-9._~+/-]{1,4096}=*)", re.IGNORECASE)

InfoFunction = Callable[[AccountService, str], Awaitable[AuthenticatedUser]]

log = structlog.get_logger(__name__)


async def authenticate_token(accounts: AccountService, token: str) -> AuthenticatedUser:
    """Whose the access token is; named as `x-bearerInfoFunc` in `openapi.yaml`."""
    return await accounts.authenticate(token)


class BearerTokenHandler(BearerSecurityHandler):  # type: ignore[misc]  # Connexion has no types
    """Connexion's handler of the scheme, which hands a refusal on instead of raising it."""

    def __init__(self, accounts: AccountService) -> None:
        self._accounts = accounts

    def _get_verify_func(self, info_function: InfoFunction) -> Callable[[ConnexionRequest], Awaitable[object]]:
        async def verify(request: ConnexionRequest) -> object:
            given = Headers(scope=request.scope).getlist("authorization")
            if not given:
                return NO_VALUE
            try:
                return {USER_KEY: await info_function(self._accounts, _parse_token(given))}
            except ChatError as error:
                return {ERROR_KEY: error}
            except Exception:
                # Connexion would go on to the next alternative, and let the caller in as nobody.
                log.exception("unexpected_error")
                return {ERROR_KEY: ChatError()}

        return verify


class AuthenticationMiddleware:
    """ASGI middleware behind Connexion's security: refuses, or leaves the `Person` for those behind it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        extensions = scope["extensions"]
        found = extensions.get("connexion_context", {}).get("token_info", {})
        role = get_minimum_role(extensions["connexion_routing"].get("operation_id"))
        refusal = found.get(ERROR_KEY) or _check_role(found.get(USER_KEY), role)
        if refusal is not None:
            await make_error_response(refusal)(scope, receive, send)
            return
        extensions[USER_EXTENSION] = found.get(USER_KEY)
        await self._app(scope, receive, send)


def get_user(scope: Scope) -> AuthenticatedUser | None:
    """Who is calling; None for a visitor without an account."""
    person: AuthenticatedUser | None = scope["extensions"].get(USER_EXTENSION)
    return person


@functools.cache
def get_minimum_role(operation_id: str | None) -> Role | None:
    """What the spec's `x-minimum-role` says of the operation."""
    for path in load_spec()["paths"].values():
        for operation in path.values():
            if f"{operation['x-openapi-router-controller']}.{operation['operationId']}" == operation_id:
                return Role(operation["x-minimum-role"]) if "x-minimum-role" in operation else None
    return None


def _parse_token(given: Sequence[str]) -> str:
    """The one token in the `Authorization` headers: of two, nobody can say which one is meant."""
    match = _BEARER.fullmatch(given[0]) if len(given) == 1 else None
    if match is None:
        raise InvalidToken("Send one header, Authorization: Bearer, with the access token.")
    return match[1]


def _check_role(person: AuthenticatedUser | None, role: Role | None) -> ChatError | None:
    if role is None:
        return None
    if person is None:
        return ERRORS_BY_STATUS[401]
    return None if person.may_act_as(role) else Forbidden(f"This is for people with the role {role} or above.")
