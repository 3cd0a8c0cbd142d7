"""Idempotency keys for operations that create something other than a turn: a repeated request gets the same answer.

The header is `Idempotency-Key` (IETF draft idempotency-key-header). Turns have keys of their own, which are stored in
the transaction that starts the turn: see `impl/turn_requests.py`.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Concatenate, ParamSpec, cast

from starlette.responses import Response
from starlette.types import ASGIApp

from openapi_server.http.async_handlers import AsyncHandler, RequestContext
from openapi_server.http.authorization import require_user
from openapi_server.models.errors import RequestRunning
from openapi_server.models.idempotency import StoredAnswer
from openapi_server.models.turn import IdempotencyKey

P = ParamSpec("P")
# How long a repetition waits for the first request, and how often it looks.
WAIT_S, POLL_S = 5.0, 0.05


def idempotent(subject: str | None = None) -> Callable[[AsyncHandler[P]], AsyncHandler[P]]:
    """Make a handler answer a repeated request with its first answer. For operations that require a login.

    The key counts within the caller's account and the operation. A request that failed may be repeated as if it had
    not been sent. `subject`: the member of the answer that names the session or user whom it is about; the stored
    answer is deleted with them.
    """

    def decorate(handler: Callable[Concatenate[RequestContext, P], Any]) -> AsyncHandler[P]:
        @functools.wraps(handler)
        async def handle(context: RequestContext, *args: P.args, **kwargs: P.kwargs) -> ASGIApp:
            key = make_request_key(context, handler.__name__, kwargs)
            if key is None:
                result: ASGIApp = await handler(context, *args, **kwargs)
                return result
            earlier = await _begin(context, key)
            if earlier is not None:
                return Response(earlier.body, earlier.status, dict(earlier.headers))
            requests = context.services.requests
            try:
                response = await handler(context, *args, **kwargs)
            except BaseException:
                await requests.release(key)
                raise
            await requests.finish(key, _read_answer(response, subject))
            return response  # type: ignore[no-any-return]

        return cast(AsyncHandler[P], handle)

    return decorate


def make_request_key(context: RequestContext, operation: str, arguments: dict[str, Any]) -> IdempotencyKey | None:
    """The key of the request in the scope of its caller and operation; None without the header.

    `arguments` are those that Connexion binds: the body and the parameters. The version in `If-Match` is part of the
    request, too.
    """
    value = context.headers.get("idempotency-key")
    if value is None:
        return None
    sent = json.dumps([arguments, context.headers.get("if-match")], sort_keys=True)
    scope = f"{require_user(context).owner}\n{operation}\n{value}"
    expires_at = context.services.clock.now() + timedelta(seconds=context.services.settings.idempotency_ttl_s)
    return IdempotencyKey(
        hashlib.sha256(scope.encode()).hexdigest(), hashlib.sha256(sent.encode()).hexdigest(), expires_at
    )


async def _begin(context: RequestContext, key: IdempotencyKey) -> StoredAnswer | None:
    """The earlier answer, which is waited for; None when this request is to be carried out now."""
    owner, requests = require_user(context).owner, context.services.requests
    deadline_s = asyncio.get_running_loop().time() + WAIT_S
    while True:
        try:
            return await requests.begin(key, owner)
        except RequestRunning:
            if asyncio.get_running_loop().time() >= deadline_s:
                raise
            await asyncio.sleep(POLL_S)


def _read_answer(response: Response, subject: str | None) -> StoredAnswer:
    body = bytes(response.body).decode()
    kept = tuple((name, value) for name, value in response.headers.items() if name != "content-length")
    return StoredAnswer(response.status_code, kept, body, json.loads(body)[subject] if subject else None)
