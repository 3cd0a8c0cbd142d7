"""Flask as an ASGI application that works on the event loop.

a2wsgi, which Connexion brings, gives each request to a thread. The thread asks the event loop for the body, and goes
back to it with every part of the answer. Of our operations Flask only finds the function and binds its arguments, which
waits for nothing: that is done where the request is. See docs/decisions/0020-way-to-the-handler.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any
from wsgiref.types import WSGIApplication

import flask
from a2wsgi.wsgi import build_environ
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from werkzeug.datastructures import ImmutableMultiDict

from openapi_server.http.validation import get_validated_body


class ValidatedRequest(flask.Request):
    """Flask's request, with the body that the validators have read. Flask would parse it once more.

    No operation takes a form, and Flask would look for one in every body.
    """

    files = ImmutableMultiDict()

    def get_json(self, force: bool = False, silent: bool = False, cache: bool = True) -> Any:
        return get_validated_body(self.environ["asgi.scope"])


class FlaskAdapter:
    """ASGI application: calls Flask, and sends what it answers.

    `only_binds` tells whether Flask does no more for a request than to bind arguments. Then it runs on the event loop.
    All else is left to a2wsgi: a function that may wait gets a thread of its own.
    """

    def __init__(self, threads: ASGIApp, wsgi_app: WSGIApplication, *, only_binds: Callable[[Scope], bool]) -> None:
        self._threads = threads
        self._wsgi_app = wsgi_app
        self._only_binds = only_binds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self._only_binds(scope):
            await self._threads(scope, receive, send)
            return
        body = await _read_body(receive)
        for message in self._call(scope, body):
            await send(message)

    def _call(self, scope: Scope, body: bytes) -> list[Message]:
        """The whole answer; nothing when Flask starts none."""
        answer: list[Message] = []
        parts: list[bytes] = []

        def start_response(status: str, headers: Iterable[tuple[str, str]], exc_info: object = None) -> Any:
            encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
            answer.append({"type": "http.response.start", "status": int(status[:3]), "headers": encoded})
            return parts.append

        iterable = self._wsgi_app(_make_environ(scope, body), start_response)
        try:
            parts.extend(iterable)
        finally:
            getattr(iterable, "close", lambda: None)()
        if answer:
            answer.append({"type": "http.response.body", "body": b"".join(parts), "more_body": False})
        return answer


def _make_environ(scope: Scope, body: bytes) -> dict[str, Any]:
    """What WSGI says of a request (PEP 3333), as a2wsgi says it."""
    given: Any = scope
    # WSGI takes any file for a body; a2wsgi's types know its own only.
    file: Any = BytesIO(body)
    return dict(build_environ(given, file))


async def _read_body(receive: Receive) -> bytes:
    """The body, which is there already: `RequestLimitsMiddleware` has read it."""
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body", False):
        message = await receive()
        body += message.get("body", b"")
    return body
