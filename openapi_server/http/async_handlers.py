"""The bridge from Flask's threads to the event loop.

Connexion runs Flask on a few threads, and an answer that streams or waits would hold one of them all the while. So a
handler marked `on_loop` is a coroutine that runs on the event loop: its Flask thread only binds the arguments that
Connexion has checked, and is free again. See docs/decisions/0001-on-loop-answers.md.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec

import flask
from connexion.utils import get_function_from_name
from starlette.datastructures import URL, Headers
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from openapi_server.http.authentication import person_in
from openapi_server.http.concurrency_limit import give_place_back
from openapi_server.http.problems import problem_answer
from openapi_server.http.services import Services
from openapi_server.models.errors import ChatError, NotAcceptable
from openapi_server.models.user import Person
from openapi_server.spec import load_spec

P = ParamSpec("P")
EXTENSION = "zoochat.on_loop"


@dataclass(frozen=True, slots=True)
class Call:
    """What an on-loop handler may know of its request beside its arguments."""

    services: Services
    headers: Headers
    base_url: str
    address: str
    person: Person | None = None

    @property
    def cookies(self) -> dict[str, str]:
        return cookie_parser(self.headers.get("cookie", ""))

    @property
    def preferences(self) -> frozenset[str]:
        """The names in the `Prefer` header (RFC 7240), in lower case."""
        given = self.headers.get("prefer", "").split(",")
        return frozenset(preference.partition(";")[0].partition("=")[0].strip().lower() for preference in given)

    def best_of(self, *media_types: str) -> str:
        """The media type that the caller likes best; the first one where it does not care."""
        return _accept(self.headers.get("accept")).best_match(media_types, default=media_types[0])


OnLoopHandler = Callable[Concatenate[Call, P], Awaitable[ASGIApp]]


class OnLoopResponse(flask.Response):
    """The empty answer that a Flask thread leaves behind: it carries what is to run on the event loop."""

    def __init__(self, work: Callable[[Call], Awaitable[ASGIApp]]) -> None:
        super().__init__(status=200)
        self.work = work

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        # Nothing is sent, not even a status: each message would be a trip to the event loop and back, to be swallowed.
        environ["asgi.scope"]["extensions"][EXTENSION].work = self.work
        return ()


def on_loop(handler: OnLoopHandler[P]) -> Callable[P, OnLoopResponse]:
    """Make an async handler one that Connexion can call. Its first argument will be the `Call`.

    The handler checks and raises, or returns an ASGI answer; nothing is sent before it returns.
    """

    @functools.wraps(handler)
    def bind(*args: P.args, **kwargs: P.kwargs) -> OnLoopResponse:
        return OnLoopResponse(lambda call: handler(call, *args, **kwargs))

    return bind


def needs_no_binding(operation_id: str | None) -> OnLoopHandler[[]] | None:
    """The handler of an operation that takes nothing but the `Call`; None for all others.

    >>> needs_no_binding("openapi_server.impl.system.health").__name__
    'health'
    """
    function = get_function_from_name(operation_id) if operation_id else None
    handler = getattr(function, "__wrapped__", None)
    is_bare = handler is not None and list(inspect.signature(handler).parameters) == ["call"]
    return handler if is_bare else None


@dataclass(slots=True)
class _Slot:
    work: Callable[[Call], Awaitable[ASGIApp]] | None = None


class Bridge:
    """ASGI middleware, next to the application: swallows the empty answer and runs what it carries."""

    def __init__(self, app: ASGIApp, *, services: Services) -> None:
        self._app = app
        self._services = services
        # Operations that take no arguments need no Flask thread to bind them: a health check never waits for one.
        self._bare: dict[str | None, OnLoopHandler[[]] | None] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        operation_id = scope["extensions"]["connexion_routing"].get("operation_id")
        if operation_id not in self._bare:
            self._bare[operation_id] = needs_no_binding(operation_id)
        slot = _Slot(self._bare[operation_id])
        scope = {**scope, "extensions": {**scope.get("extensions", {}), EXTENSION: slot}}

        async def send_unless_bridged(message: Message) -> None:
            if slot.work is None:
                await send(message)

        if slot.work is None:
            await self._app(scope, receive, send_unless_bridged)
        if slot.work is not None:
            give_place_back(scope)
            answer = await self._answer(slot.work, scope)
            await answer(scope, receive, send)

    async def _answer(self, work: Callable[[Call], Awaitable[ASGIApp]], scope: Scope) -> ASGIApp:
        base_url = str(URL(scope=scope).replace(path="", query=""))
        address = (scope.get("client") or ("unknown", 0))[0]
        call = Call(self._services, Headers(scope=scope), base_url, address, person_in(scope))
        try:
            _refuse_unacceptable(call.headers.get("accept"), scope)
            return await work(call)
        except ChatError as error:
            return problem_answer(error)


def _refuse_unacceptable(accept: str | None, scope: Scope) -> None:
    """406 when the operation has no answer of a kind that the caller accepts: the spec says which kinds it has."""
    if accept in (None, "*/*"):
        return
    media_types = _media_types(scope["extensions"]["connexion_routing"]["operation_id"])
    if media_types and _accept(accept).best_match(media_types) is None:
        raise NotAcceptable(f"This address answers with {' or '.join(media_types)}.")


@functools.cache
def _media_types(operation_id: str) -> tuple[str, ...]:
    """The kinds of answer that the spec gives the operation when all goes well."""
    found = [
        media_type
        for path in load_spec()["paths"].values()
        for operation in path.values()
        if f"{operation['x-openapi-router-controller']}.{operation['operationId']}" == operation_id
        for status, response in operation["responses"].items()
        if status.startswith("2")
        for media_type in response.get("content", {})
    ]
    return tuple(dict.fromkeys(found))


def _accept(header: str | None) -> MIMEAccept:
    return parse_accept_header(header or "*/*", MIMEAccept)
