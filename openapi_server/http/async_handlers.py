"""Handlers that run on the event loop.

Flask calls functions that return the answer, so one that streams or waits would need a thread all the time. A function
decorated with `async_handler` is a coroutine: Flask only finds it, and the event loop runs it with the arguments that
were validated. See docs/decisions/0001-answers-on-the-event-loop.md.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Concatenate, ParamSpec

import structlog
from connexion.utils import get_function_from_name
from starlette.datastructures import URL, Headers
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Receive, Scope, Send
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from openapi_server import linear_regex
from openapi_server.http.arrival_order import Arrival, get_arrival
from openapi_server.http.authentication import get_user
from openapi_server.http.client_addresses import get_client_address
from openapi_server.http.concurrency_limit import release_slot
from openapi_server.http.error_handlers import make_error_response
from openapi_server.http.proxies import get_root_path
from openapi_server.http.rate_limits import Admission, get_admission
from openapi_server.http.routing import FlaskRoutes
from openapi_server.http.services import Services
from openapi_server.http.validation import Unvalidated, get_arguments, require_validated
from openapi_server.models.errors import ChatError, InvalidInput, NotAcceptable
from openapi_server.models.user import AuthenticatedUser
from openapi_server.spec import load_complete_spec
from openapi_server.wire.problem import PROBLEM_JSON

P = ParamSpec("P")
# Browsers send eight media ranges at most. What follows in a longer list does not count.
MAX_MEDIA_RANGES = 50
# RFC 6838, section 4.2: 127 characters each.
MAX_MEDIA_TYPE_CHARS = 255
_MEDIA_TYPE = linear_regex.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+/[A-Za-z0-9!#$%&'*+.^_`|~-]+")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RequestContext:
    """What a handler gets of its request besides its arguments.

    `base_url`, `client_address` and `root_path` are those in front of all trusted proxies: the URL of this server
    without a slash at its end, the visitor's IP address, and a path such as `/zoo` or nothing.
    `user`: the logged-in caller, if there is one. `admission`: what the rate limits say, if one applies.
    `arrival`: its place among the requests that may start a turn, if it is one.
    """

    services: Services
    headers: Headers
    base_url: str
    client_address: str
    user: AuthenticatedUser | None = None
    root_path: str = ""
    is_https: bool = False
    admission: Admission | None = None
    arrival: Arrival | None = None

    @property
    def cookies(self) -> dict[str, str]:
        return cookie_parser(self.headers.get("cookie", ""))

    @property
    def origin(self) -> str:
        """The origin of this server's own pages (RFC 6454)."""
        return self.base_url.removesuffix(self.root_path)

    @property
    def preferences(self) -> frozenset[str]:
        """The names in the `Prefer` header (RFC 7240), in lower case."""
        given = self.headers.get("prefer", "").split(",")
        return frozenset(preference.partition(";")[0].partition("=")[0].strip().lower() for preference in given)

    def choose_media_type(self, *media_types: str) -> str:
        """The media type that the `Accept` header prefers; the first one when it accepts several equally."""
        return _parse_accept(_get_accept(self.headers)).best_match(media_types, default=media_types[0])

    def is_asked_for(self, media_type: str) -> bool:
        """Whether the `Accept` header has the media type itself, not only a wildcard that includes it."""
        accepted = _parse_accept(_get_accept(self.headers))
        return any(value.lower() == media_type and quality > 0 for value, quality in accepted)


AsyncHandler = Callable[Concatenate[RequestContext, P], Awaitable[ASGIApp]]
BoundHandler = Callable[[RequestContext], Awaitable[ASGIApp]]


def async_handler(handler: AsyncHandler[P]) -> AsyncHandler[P]:
    """Mark an async function as a handler for the event loop.

    The function takes a `RequestContext` and the operation's arguments. It raises `ChatError`, or returns an ASGI
    response; nothing is sent before it returns.
    """
    handler.is_async_handler = True  # type: ignore[attr-defined]  # a mark
    return handler


@dataclass(frozen=True, slots=True)
class _Operation:
    """An operation of the spec: the function that Flask has to find for it, and what that is.

    `handler`: the function, if it runs on the event loop. `arguments`: those that it takes beside the context.
    """

    operation_id: str | None
    function: Callable[..., object] | None
    handler: AsyncHandler[...] | None = None
    arguments: tuple[str, ...] = ()


@functools.cache
def _load_operation(operation_id: str | None) -> _Operation:
    """The operation with its function.

    >>> operation = _load_operation("openapi_server.impl.animals.animal_list")
    >>> operation.handler.__name__, operation.arguments
    ('animal_list', ('status',))
    """
    function = get_function_from_name(operation_id) if operation_id else None
    if function is None or not getattr(function, "is_async_handler", False):
        return _Operation(operation_id, function)
    _, *arguments = inspect.signature(function).parameters
    return _Operation(operation_id, function, function, tuple(arguments))


class AsyncHandlerMiddleware:
    """ASGI middleware, the innermost: runs the handler with the arguments that were validated.

    Flask routes by itself: it has to find the function of the operation whose validators have seen the request. All
    other functions are left to Flask, in threads.
    """

    def __init__(self, app: ASGIApp, *, services: Services, routes: FlaskRoutes) -> None:
        self._app = app
        self._services = services
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        operation = _load_operation(scope["extensions"]["connexion_routing"].get("operation_id"))
        try:
            require_validated(scope)
            if self._routes.find_function(scope["method"], scope["path"]) is not operation.function:
                raise Unvalidated(operation.operation_id)
        except Unvalidated:
            log.exception("request_not_validated", operation=operation.operation_id)
            await make_error_response(InvalidInput("This request could not be checked."))(scope, receive, send)
            return
        if operation.handler is None:
            await self._app(scope, receive, send)
            return
        release_slot(scope)
        validated = get_arguments(scope)
        given = {name: validated[name] for name in operation.arguments if name in validated}
        response = await self._run_handler(partial(operation.handler, **given), scope)
        await response(scope, receive, send)

    async def _run_handler(self, handler: BoundHandler, scope: Scope) -> ASGIApp:
        headers, root_path = Headers(scope=scope), get_root_path(scope)
        address = get_client_address(scope)
        context = RequestContext(
            self._services,
            headers,
            _make_base_url(scope["scheme"], headers.get("host"), scope.get("server"), root_path),
            address,
            get_user(scope),
            root_path,
            is_https=scope["scheme"] == "https",
            admission=get_admission(scope),
            arrival=get_arrival(scope),
        )
        try:
            _require_acceptable(_get_accept(context.headers), scope)
            return await handler(context)
        except ChatError as error:
            return make_error_response(error)


@functools.lru_cache(maxsize=256)
def _make_base_url(scheme: str, host: str | None, server: tuple[str, int | None] | None, root_path: str) -> str:
    """The URL of this server as the client has it, without a slash at its end."""
    headers = [] if host is None else [(b"host", host.encode("latin-1"))]
    scope = {"type": "http", "scheme": scheme, "server": server, "path": "/", "query_string": b"", "headers": headers}
    return str(URL(scope=scope).replace(path=root_path, query=""))


def _get_accept(headers: Headers) -> str:
    """The `Accept` headers as one list (RFC 9110, section 5.3)."""
    return ", ".join(headers.getlist("accept"))


def _require_acceptable(accept: str, scope: Scope) -> None:
    """Raise `NotAcceptable` when the spec gives the operation no media type that the `Accept` header allows.

    Whoever takes a problem gets the answer, too: some generated clients (openapi-generator for Python) name one media
    type of the operation's, JSON where there is any, and beside an event stream only the problem is JSON.
    """
    if accept in ("", "*/*"):
        return
    media_types = _list_media_types(scope["extensions"]["connexion_routing"]["operation_id"])
    if media_types and _parse_accept(accept).best_match([*media_types, PROBLEM_JSON]) is None:
        raise NotAcceptable(f"This address answers with {' or '.join(media_types)}.")


@functools.cache
def _list_media_types(operation_id: str) -> tuple[str, ...]:
    """The media types of the operation's successful answers in the spec."""
    found = [
        media_type
        for path in load_complete_spec()["paths"].values()
        for operation in path.values()
        if f"{operation['x-openapi-router-controller']}.{operation['operationId']}" == operation_id
        for status, response in operation["responses"].items()
        if status.startswith("2")
        for media_type in response.get("content", {})
    ]
    return tuple(dict.fromkeys(found))


def _parse_accept(header: str) -> MIMEAccept:
    """The media ranges and their weights. Parameters of media types, such as `charset`, do not choose between answers.

    What is no media range is dropped first: werkzeug takes quadratic time for one with many blanks inside.

    >>> _parse_accept("application/json; charset=utf-8, *;q=0.5, a  b").best_match(["text/html", "application/json"])
    'application/json'
    """
    kept = []
    for media_range in (header or "*/*").split(",")[:MAX_MEDIA_RANGES]:
        # Some clients write `*` for any media type.
        media_type, *parameters = (part.strip() for part in media_range.split(";"))
        media_type = "*/*" if media_type == "*" else media_type
        if len(media_type) <= MAX_MEDIA_TYPE_CHARS and _MEDIA_TYPE.fullmatch(media_type):
            kept.append("; ".join((media_type, *[one for one in parameters if one.startswith("q=")][:1])))
    return parse_accept_header(",".join(kept), MIMEAccept)
