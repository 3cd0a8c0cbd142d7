"""`zoochat client`: sends a query as the analytics platform does, and prints the stream or polls the job.

A broken stream is resumed with `Last-Event-ID`, a few times; the same POST without it would start another turn.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import httpx
from httpx_sse import EventSource, ServerSentEvent

from openapi_server.devtools.terminal import replace_control_characters, replace_unencodable
from openapi_server.devtools.transcript import ClientError, Transcript, get_error_message, make_error

CONNECT_TIMEOUT_S = 10
# The contract promises a heartbeat within a minute.
READ_TIMEOUT_S = 120
MAX_RESUMES = 5
MAX_RETRY_S = 30.0
MAX_POLLS = 150
MAX_FAILED_POLLS = 5
FINAL_STATUSES = ("succeeded", "failed")
# A server that restarts may answer with these for a moment.
TRANSIENT_STATUSES = (429, 502, 503, 504)
# `--verbose` shows chunks as they came, so they must come uncompressed.
HEADERS = {"Accept": "text/event-stream, application/json", "Accept-Encoding": "identity"}
INTERRUPTED = 130
ROLES = ("user", "assistant")

HistoryMessage = dict[str, str]


class HistoryError(Exception):
    """The file holds no conversation. The message says what is wrong, and where."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A query for the chatbot at `url`. With `expects_job`, a stream for an answer is printed with a warning."""

    url: str
    query: str
    history: Sequence[HistoryMessage] = ()
    auto_load: bool = True
    memory: bool = True
    expects_job: bool = False

    @property
    def body(self) -> dict[str, object]:
        """The JSON body.

        >>> ChatRequest("http://zoo.example/api/v1/stream", "Who are you?", memory=False).body
        {'query': 'Who are you?', 'auto_load_documents': True, 'memory_enabled': False}
        """
        body: dict[str, object] = {"query": self.query}
        if self.history:
            body["conversation_history"] = list(self.history)
        return body | {"auto_load_documents": self.auto_load, "memory_enabled": self.memory}


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long to wait for the result in all, and between two polls, in seconds."""

    total_s: float = 300
    poll_interval_s: float = 2


@dataclass(slots=True)
class StreamCursor:
    """The position in a stream: the last event id, and the server's reconnection time (the SSE `retry` field)."""

    last_event_id: str = ""
    retry_s: float = 2.0
    attempts: int = 0

    @property
    def headers(self) -> dict[str, str]:
        return {"Last-Event-ID": self.last_event_id} if self.last_event_id else {}

    def update(self, event: ServerSentEvent) -> None:
        if event.retry is not None:
            self.retry_s = min(max(event.retry / 1000, 0), MAX_RETRY_S)
        if event.id:
            self.last_event_id = event.id
        if event.data:
            self.attempts = 0

    async def wait(self, transcript: Transcript) -> None:
        """Wait before the next attempt. Raises `ClientError` without an event id, and after `MAX_RESUMES` attempts."""
        if not self.last_event_id:
            raise ClientError("The connection broke off before the first event id, so the stream cannot be resumed")
        if self.attempts == MAX_RESUMES:
            raise ClientError(f"The stream broke off, and {MAX_RESUMES} attempts to resume it failed")
        self.attempts += 1
        transcript.print(f"\n⚠️ The stream broke off. Resuming after {self.last_event_id} in {self.retry_s:g} s")
        await asyncio.sleep(self.retry_s)


def read_history(path: Path) -> list[HistoryMessage]:
    """The conversation in a file: a JSON list of {role, content}. Raises `HistoryError`."""
    try:
        messages = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise HistoryError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise HistoryError(f"{path} is not JSON: {error}") from None
    if not isinstance(messages, list):
        raise HistoryError(f"{path} must hold a JSON list of messages, each with role and content")
    for number, message in enumerate(messages, 1):
        error_text = _find_message_error(message)
        if error_text:
            raise HistoryError(f"{path}: message {number} {error_text}")
    return messages


def _find_message_error(message: Any) -> str | None:
    if not isinstance(message, dict):
        return "must be an object with role and content"
    if message.get("role") not in ROLES:
        return f"must have the role {' or '.join(ROLES)}"
    if not isinstance(message.get("content"), str):
        return "must have a text as its content"
    unknown = sorted(set(message) - {"role", "content"})
    return f"has unknown fields: {', '.join(unknown)}" if unknown else None


def run_client(
    request: ChatRequest, timeouts: Timeouts, *, is_verbose: bool = False, save_to: Path | None = None
) -> int:
    """Send the request and print the answer; returns the exit code: 0 with a result, 1 without one, 130 on Ctrl-C.

    The events that came are saved in every case.
    """
    replace_unencodable(sys.stdout, sys.stderr)
    transcript = Transcript(is_verbose=is_verbose)
    code = _get_exit_code(request, timeouts, transcript)
    if save_to is not None:
        try:
            transcript.save(save_to)
        except ClientError as error:
            code = _print_failure(str(error))
    return code


def _get_exit_code(request: ChatRequest, timeouts: Timeouts, transcript: Transcript) -> int:
    try:
        asyncio.run(_send_with_timeout(request, timeouts, transcript))
    except KeyboardInterrupt:
        _print_failure("Interrupted")
        return INTERRUPTED
    except ClientError as error:
        return _print_failure(str(error))
    transcript.print_final_response()
    return 0


def _print_failure(message: str) -> int:
    click.echo(f"\n❌ {replace_control_characters(message)}", file=sys.stderr)
    return 1


async def _send_with_timeout(request: ChatRequest, timeouts: Timeouts, transcript: Transcript) -> None:
    timeout = httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
    try:
        async with (
            asyncio.timeout(timeouts.total_s),
            httpx.AsyncClient(headers=HEADERS, timeout=timeout, event_hooks=_make_hooks(transcript)) as http,
        ):
            cursor = StreamCursor()
            while not await _post(http, request, timeouts, cursor, transcript):
                await cursor.wait(transcript)
    except TimeoutError:
        # A result counts, also from a server that does not close the stream after it.
        if transcript.response is None:
            raise ClientError(f"No result within {timeouts.total_s:g} s") from None
    except httpx.InvalidURL as error:
        raise ClientError(f"{request.url} is not a valid URL: {error}") from None


async def _post(
    http: httpx.AsyncClient, request: ChatRequest, timeouts: Timeouts, cursor: StreamCursor, transcript: Transcript
) -> bool:
    """Post the request, for the first time or to resume; true when the result came. Raises `ClientError`."""
    is_first = not cursor.last_event_id
    try:
        async with http.stream("POST", request.url, json=request.body, headers=cursor.headers) as answer:
            if answer.status_code in TRANSIENT_STATUSES and not is_first:
                return False
            if answer.status_code != 200:
                raise await make_error(answer)
            if not _is_event_stream(answer):
                await answer.aread()
                await _poll_job(http, answer, timeouts.poll_interval_s, transcript)
                return True
            if is_first:
                _print_stream_start(answer, request, transcript)
            return await _read_stream(answer, cursor, transcript)
    except httpx.TransportError as error:
        if is_first and isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.UnsupportedProtocol):
            raise ClientError(f"No connection to {request.url}: {error or 'no answer'}") from error
        return transcript.response is not None


def _is_event_stream(answer: httpx.Response) -> bool:
    media_type: str = answer.headers.get("content-type", "")
    return media_type.partition(";")[0].strip().lower() == "text/event-stream"


def _print_stream_start(answer: httpx.Response, request: ChatRequest, transcript: Transcript) -> None:
    transcript.print_cookies(answer)
    if request.expects_job:
        transcript.print("⚠️ A job was expected, but the answer is a stream of events")
    transcript.print_heading("STREAMING EVENTS")


async def _read_stream(answer: httpx.Response, cursor: StreamCursor, transcript: Transcript) -> bool:
    """Print the events of a stream; true when its result came. Raises `ClientError` for an error event."""
    answer.stream = _LoggingByteStream(answer.stream, transcript)
    async for event in EventSource(answer).aiter_sse():
        transcript.print_detail(f"Event: {event}")
        cursor.update(event)
        # A block without data is not an event: it is a retry line, or an id with a comment.
        if event.data:
            transcript.add_event(event.event, event.data)
        if event.event == "complete":
            if transcript.response is None:
                raise ClientError("The stream is complete, but no result came")
            break
    # Other chatbots close the stream after the result, without a `complete` event.
    return transcript.response is not None


class _LoggingByteStream(httpx.AsyncByteStream):
    """The bytes of an answer; prints each chunk as it came, and each line once it is complete, with `--verbose`."""

    def __init__(self, stream: object, transcript: Transcript) -> None:
        assert isinstance(stream, httpx.AsyncByteStream)  # noqa: S101  # the client is an asynchronous one
        self._stream = stream
        self._transcript = transcript
        self._rest = b""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            self._transcript.print_detail(f"Raw SSE chunk: {chunk!r}")
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            for line in lines:
                self._transcript.print_detail(f"Line: {line.decode(errors='replace')}")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _poll_job(http: httpx.AsyncClient, answer: httpx.Response, interval_s: float, transcript: Transcript) -> None:
    """Poll the job that the answer names until its result is in the transcript. Raises `ClientError`."""
    job = _parse_object(answer)
    if not isinstance(job.get("job_id"), str):
        raise ClientError("The answer is neither a stream of events nor a job with a job_id")
    transcript.print(f"📋 Detected JSON job response\nJob payload: {job}")
    url = _resolve_polling_url(answer.url, job)
    transcript.print(f"🔄 Polling job at: {url}")
    transcript.print_cookies(answer)
    _print_result(await _poll_until_final(http, url, interval_s, transcript), transcript)


async def _poll_until_final(
    http: httpx.AsyncClient, url: httpx.URL, interval_s: float, transcript: Transcript
) -> dict[str, Any]:
    latest_progress: object = None
    failed_polls = 0
    for attempt in range(1, MAX_POLLS + 1):
        transcript.print(f"\n🔄 Poll attempt {attempt}/{MAX_POLLS}")
        job = await _get_job(http, url, transcript)
        failed_polls = failed_polls + 1 if job is None else 0
        if failed_polls == MAX_FAILED_POLLS:
            raise ClientError(f"{MAX_FAILED_POLLS} polls in a row failed")
        if job is not None:
            latest_progress = _print_state(job, latest_progress, transcript)
            if job.get("status") in FINAL_STATUSES:
                return job
        await asyncio.sleep(interval_s)
    raise ClientError(f"The job was not finished after {MAX_POLLS} polls")


async def _get_job(http: httpx.AsyncClient, url: httpx.URL, transcript: Transcript) -> dict[str, Any] | None:
    """The job's state; None after a failure that may pass. Raises `ClientError` for other failures."""
    try:
        answer = await http.get(url)
    except httpx.TransportError as error:
        transcript.print(f"⚠️ No answer: {error or type(error).__name__}")
        return None
    if answer.status_code in TRANSIENT_STATUSES:
        transcript.print(f"⚠️ {await make_error(answer)}")
        return None
    if answer.status_code != 200:
        raise await make_error(answer)
    return _parse_object(answer)


def _print_state(job: dict[str, Any], latest_progress: object, transcript: Transcript) -> object:
    """Print the state, and keep its progress if it has changed. Returns the progress."""
    progress = job.get("latest_progress")
    state = json.dumps({"status": job.get("status"), "latest_progress": progress}, ensure_ascii=False)
    transcript.print(f"📊 Job status: {state}")
    if progress is not None and progress != latest_progress:
        transcript.store_event("progress", progress)
    return progress


def _print_result(job: dict[str, Any], transcript: Transcript) -> None:
    status = job["status"]
    transcript.print(f"\n{'✅' if status == 'succeeded' else '❌'} Job finished with status: {status}")
    if status == "succeeded":
        transcript.add_event("result", json.dumps(job.get("result")))
        return
    transcript.store_event("error", {name: job[name] for name in ("error", "problem") if name in job})
    raise ClientError(get_error_message(job) or "The job failed without a message")


def _parse_object(answer: httpx.Response) -> dict[str, Any]:
    try:
        body = answer.json()
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise ClientError("The answer is not a JSON object")
    return body


def _resolve_polling_url(posted_to: httpx.URL, job: dict[str, Any]) -> httpx.URL:
    """The absolute polling URL. A relative one is relative to the server's origin, not to the path of the POST.

    >>> posted_to = httpx.URL("http://zoo.example:5000/api/v1/stream?mode=job")
    >>> str(_resolve_polling_url(posted_to, {"polling_url": "/jobs/job_1"}))
    'http://zoo.example:5000/jobs/job_1'
    """
    given = job.get("polling_url")
    if not isinstance(given, str) or not given:
        raise ClientError("The job has no polling_url")
    try:
        return posted_to.copy_with(path="/", query=None).join(given)
    except httpx.InvalidURL:
        raise ClientError(f"The job's polling_url is not a valid URL: {given}") from None


def _make_hooks(transcript: Transcript) -> dict[str, list[Callable[..., Any]]]:
    async def print_request(request: httpx.Request) -> None:
        transcript.print_detail(f"{request.method} {request.url}")
        transcript.print_detail(f"Cookies sent: {request.headers.get('cookie', 'none')}")

    async def print_answer(answer: httpx.Response) -> None:
        transcript.print_detail(f"HTTP {answer.status_code} {answer.headers.get('content-type', '')}")
        for cookie in answer.headers.get_list("set-cookie"):
            transcript.print_detail(f"Cookie set: {cookie}")

    return {"request": [print_request], "response": [print_answer]}
