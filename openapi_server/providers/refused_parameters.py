"""Parameters that a model's server refuses: the request is sent again without them, and they are not sent any more.

Servers that speak one API differ in what they accept, and so do models of one server: `stream_options`, `max_tokens`
(newer models of OpenAI want `max_completion_tokens`), `temperature`, `stop`, a system prompt.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TypeVar

import structlog

from openapi_server import linear_regex

# 422 is what servers on FastAPI answer.
REFUSAL_STATUSES = frozenset({400, 422})
# Enough for the list of everything that is wrong with a request.
_MAX_TEXT_CHARS = 20_000
_WORD = linear_regex.compile(r"[A-Za-z_]+")
# "stop" and "system" are words of every day, too: without one of these nothing has been refused.
_REFUSAL_WORDS = linear_regex.compile(
    r"argument|parameter|field|property|support|unrecogni[sz]ed|unknown|unexpected|extra|allowed|permitted|forbidden"
    r"|deprecated|invalid|only|must|use ",
    linear_regex.IGNORECASE,
)
# The prompt was too long: other prompts will not be.
_TOO_LONG = linear_regex.compile(r"context (?:length|window|size)|too many (?:input )?tokens", linear_regex.IGNORECASE)

log = structlog.get_logger(__name__)

T = TypeVar("T")


class RefusedParameters:
    """What each model of one provider refuses, as long as the process runs."""

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._names: dict[str, frozenset[str]] = {}

    def get(self, model: str) -> frozenset[str]:
        return self._names.get(model, frozenset())

    def remember(self, model: str, names: Collection[str]) -> None:
        """Called when the model has accepted a request without the parameters of those names."""
        if new := frozenset(names) - self.get(model):
            self._names[model] = self.get(model) | new
            log.warning("provider_parameters_refused", provider=self._provider, model=model, parameters=sorted(new))

    @asynccontextmanager
    async def open_response(
        self,
        model: str,
        make_request: Callable[[frozenset[str]], tuple[Collection[str], AbstractAsyncContextManager[T]]],
    ) -> AsyncIterator[T]:
        """The response to a request without the parameters that the model refuses, with which it is made.

        `make_request` gets their names, and returns the names of those that it sends and the request. Errors are those
        of `openai` and `anthropic`, which have the status and the parsed body of the answer.
        """
        refused = self.get(model)
        async with AsyncExitStack() as opened:
            while True:
                sent, request = make_request(refused)
                try:
                    response = await opened.enter_async_context(request)
                    break
                except Exception as error:
                    found = find_refused(sent, getattr(error, "status_code", None), getattr(error, "body", None))
                    if not found:
                        raise
                    refused |= found
            self.remember(model, refused)
            yield response


def find_refused(sent: Collection[str], status: int | None, answer: object) -> frozenset[str]:
    """The parameters among those sent that the error names; none when it is about something else.

    `answer` is the error's text, or its JSON. It is only searched, never kept.

    >>> sorted(find_refused(["stop", "max_tokens"], 400, "Unsupported parameter: 'max_tokens'. Use 'max_new_tokens'."))
    ['max_tokens']
    """
    text = (answer if isinstance(answer, str) else _write_json(answer))[:_MAX_TEXT_CHARS]
    if status not in REFUSAL_STATUSES or _TOO_LONG.search(text) or not _REFUSAL_WORDS.search(text):
        return frozenset()
    named = _find_named_parameter(answer)
    if named is not None and named in sent:
        return frozenset({named})
    words = set(_WORD.findall(text))
    # A sentence may begin with the name.
    return frozenset(name for name in sent if name in words or name.capitalize() in words)


def _find_named_parameter(answer: object) -> str | None:
    """The member `param` of an error in OpenAI's shape; its libraries leave out the object around it."""
    error = answer.get("error", answer) if isinstance(answer, dict) else None
    named = error.get("param") if isinstance(error, dict) else None
    return named if isinstance(named, str) else None


def _write_json(answer: object) -> str:
    try:
        return json.dumps(answer, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return ""
