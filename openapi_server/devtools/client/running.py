"""One run of the client: ask, read or poll, print, save, and say with the exit code whether a result came."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import httpx

from openapi_server.devtools.client.asking import ChatRequest, ClientError, Timeouts
from openapi_server.devtools.client.polling import TRANSIENT_STATUSES, poll_job
from openapi_server.devtools.client.printing import Transcript, make_error
from openapi_server.devtools.client.reading import StreamCursor, read_stream
from openapi_server.devtools.terminal import escape_control_characters, replace_unencodable

CONNECT_TIMEOUT_S = 10
# The contract's heartbeat comes within a minute; twice that is silence.
READ_TIMEOUT_S = 120
# Chunks are shown as they came, so they come as they are.
HEADERS = {"Accept": "text/event-stream, application/json", "Accept-Encoding": "identity"}
INTERRUPTED = 130


def run_client(
    question: ChatRequest, patience: Timeouts, *, is_verbose: bool = False, save_to: Path | None = None
) -> int:
    """The exit code: 0 when a result came, 1 when none came, 130 on Ctrl-C. What came is saved in any case."""
    replace_unencodable(sys.stdout, sys.stderr)
    transcript = Transcript(is_verbose=is_verbose)
    code = _get_exit_code(question, patience, transcript)
    if save_to is not None:
        try:
            transcript.save(save_to)
        except ClientError as error:
            code = _print_failure(str(error))
    return code


def _get_exit_code(question: ChatRequest, patience: Timeouts, transcript: Transcript) -> int:
    try:
        asyncio.run(_ask_with_timeout(question, patience, transcript))
    except KeyboardInterrupt:
        _print_failure("Interrupted")
        return INTERRUPTED
    except ClientError as error:
        return _print_failure(str(error))
    transcript.print_final_response()
    return 0


def _print_failure(sentence: str) -> int:
    click.echo(f"\n❌ {escape_control_characters(sentence)}", file=sys.stderr)
    return 1


async def _ask_with_timeout(question: ChatRequest, patience: Timeouts, transcript: Transcript) -> None:
    timeout = httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
    try:
        async with (
            asyncio.timeout(patience.total_s),
            httpx.AsyncClient(headers=HEADERS, timeout=timeout, event_hooks=_make_hooks(transcript)) as http,
        ):
            await _ask(http, question, patience, transcript)
    except TimeoutError:
        # A result that came is a result, also from a server that then forgets to say goodbye.
        if transcript.response is None:
            raise ClientError(f"No result within {patience.total_s:g} s") from None
    except httpx.InvalidURL as error:
        raise ClientError(f"{question.url} is no address: {error}") from None


async def _ask(http: httpx.AsyncClient, question: ChatRequest, patience: Timeouts, transcript: Transcript) -> None:
    place = StreamCursor()
    while not await _post_once(http, question, patience, place, transcript):
        await place.wait(transcript)


async def _post_once(
    http: httpx.AsyncClient, question: ChatRequest, patience: Timeouts, place: StreamCursor, transcript: Transcript
) -> bool:
    """Post the question, the first time or to resume; whether that brought the result. Raises `NoResult`."""
    is_first = not place.last_event_id
    try:
        async with http.stream("POST", question.url, json=question.body, headers=place.headers) as answer:
            if answer.status_code in TRANSIENT_STATUSES and not is_first:
                return False
            if answer.status_code != 200:
                raise await make_error(answer)
            if not _is_event_stream(answer):
                await answer.aread()
                await poll_job(http, answer, patience.poll_interval_s, transcript)
                return True
            if is_first:
                _print_stream_start(answer, question, transcript)
            return await read_stream(answer, place, transcript)
    except httpx.TransportError as error:
        if is_first and isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.UnsupportedProtocol):
            raise ClientError(f"No connection to {question.url}: {error or 'no answer'}") from error
        return transcript.response is not None


def _is_event_stream(answer: httpx.Response) -> bool:
    media_type: str = answer.headers.get("content-type", "")
    return media_type.partition(";")[0].strip().lower() == "text/event-stream"


def _print_stream_start(answer: httpx.Response, question: ChatRequest, transcript: Transcript) -> None:
    transcript.print_cookies(answer)
    if question.expects_job:
        transcript.print("⚠️ A job was expected, but the answer is a stream of events")
    transcript.print_heading("STREAMING EVENTS")


def _make_hooks(transcript: Transcript) -> dict[str, list[Callable[..., Any]]]:
    async def show_request(request: httpx.Request) -> None:
        transcript.print_detail(f"{request.method} {request.url}")
        transcript.print_detail(f"Cookies sent: {request.headers.get('cookie', 'none')}")

    async def show_answer(answer: httpx.Response) -> None:
        transcript.print_detail(f"HTTP {answer.status_code} {answer.headers.get('content-type', '')}")
        for cookie in answer.headers.get_list("set-cookie"):
            transcript.print_detail(f"Cookie set: {cookie}")

    return {"request": [show_request], "response": [show_answer]}
