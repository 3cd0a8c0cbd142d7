"""One run of the client: ask, read or poll, print, save, and say with the exit code whether a result came."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import httpx

from openapi_server.devtools.client.asking import NoResult, Patience, Question
from openapi_server.devtools.client.polling import PASSING, follow
from openapi_server.devtools.client.printing import Transcript, refusal
from openapi_server.devtools.client.reading import Place, hear
from openapi_server.devtools.terminal import be_lenient, printable

CONNECT_S = 10
# The contract's heartbeat comes within a minute; twice that is silence.
SILENCE_S = 120
# Chunks are shown as they came, so they come as they are.
HEADERS = {"Accept": "text/event-stream, application/json", "Accept-Encoding": "identity"}
INTERRUPTED = 130


def run(question: Question, patience: Patience, *, is_verbose: bool = False, save_to: Path | None = None) -> int:
    """The exit code: 0 when a result came, 1 when none came, 130 on Ctrl-C. What came is saved in any case."""
    be_lenient(sys.stdout, sys.stderr)
    transcript = Transcript(is_verbose=is_verbose)
    code = _ended(question, patience, transcript)
    if save_to is not None:
        try:
            transcript.save(save_to)
        except NoResult as error:
            code = _failed(str(error))
    return code


def _ended(question: Question, patience: Patience, transcript: Transcript) -> int:
    try:
        asyncio.run(_ask_in_time(question, patience, transcript))
    except KeyboardInterrupt:
        _failed("Interrupted")
        return INTERRUPTED
    except NoResult as error:
        return _failed(str(error))
    transcript.final_response()
    return 0


def _failed(sentence: str) -> int:
    click.echo(f"\n❌ {printable(sentence)}", file=sys.stderr)
    return 1


async def _ask_in_time(question: Question, patience: Patience, transcript: Transcript) -> None:
    timeout = httpx.Timeout(SILENCE_S, connect=CONNECT_S)
    try:
        async with (
            asyncio.timeout(patience.timeout_s),
            httpx.AsyncClient(headers=HEADERS, timeout=timeout, event_hooks=_hooks(transcript)) as http,
        ):
            await _ask(http, question, patience, transcript)
    except TimeoutError:
        # A result that came is a result, also from a server that then forgets to say goodbye.
        if transcript.response is None:
            raise NoResult(f"No result within {patience.timeout_s:g} s") from None
    except httpx.InvalidURL as error:
        raise NoResult(f"{question.url} is no address: {error}") from None


async def _ask(http: httpx.AsyncClient, question: Question, patience: Patience, transcript: Transcript) -> None:
    place = Place()
    while not await _is_answered(http, question, patience, place, transcript):
        await place.wait(transcript)


async def _is_answered(
    http: httpx.AsyncClient, question: Question, patience: Patience, place: Place, transcript: Transcript
) -> bool:
    """Post the question, the first time or to resume; whether that brought the result. Raises `NoResult`."""
    is_first = not place.last_id
    try:
        async with http.stream("POST", question.url, json=question.body, headers=place.headers) as answer:
            if answer.status_code in PASSING and not is_first:
                return False
            if answer.status_code != 200:
                raise await refusal(answer)
            if not _is_stream(answer):
                await answer.aread()
                await follow(http, answer, patience.poll_interval_s, transcript)
                return True
            if is_first:
                _open(answer, question, transcript)
            return await hear(answer, place, transcript)
    except httpx.TransportError as error:
        if is_first and isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.UnsupportedProtocol):
            raise NoResult(f"No connection to {question.url}: {error or 'no answer'}") from error
        return transcript.response is not None


def _is_stream(answer: httpx.Response) -> bool:
    media_type: str = answer.headers.get("content-type", "")
    return media_type.partition(";")[0].strip().lower() == "text/event-stream"


def _open(answer: httpx.Response, question: Question, transcript: Transcript) -> None:
    transcript.cookies(answer)
    if question.expects_job:
        transcript.say("⚠️ A job was expected, but the answer is a stream of events")
    transcript.heading("STREAMING EVENTS")


def _hooks(transcript: Transcript) -> dict[str, list[Callable[..., Any]]]:
    async def show_request(request: httpx.Request) -> None:
        transcript.detail(f"{request.method} {request.url}")
        transcript.detail(f"Cookies sent: {request.headers.get('cookie', 'none')}")

    async def show_answer(answer: httpx.Response) -> None:
        transcript.detail(f"HTTP {answer.status_code} {answer.headers.get('content-type', '')}")
        for cookie in answer.headers.get_list("set-cookie"):
            transcript.detail(f"Cookie set: {cookie}")

    return {"request": [show_request], "response": [show_answer]}
