"""Server-Sent Events streams for handlers: `SSEStreamer` makes the stream, `EventStreamResponse` sends it.

`SSEStreamer` streams turns, any other source of text, and stored histories, in the format of a contract in `wire/`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from secrets import randbelow

import structlog
from starlette.types import Message, Receive, Scope, Send

from openapi_server.clock import SystemClock
from openapi_server.engine.turn_reader import TurnReader
from openapi_server.http.disconnect import run_until_disconnect
from openapi_server.http.send_timeout import SendTimeout
from openapi_server.models.errors import ChatError, Draining, Interrupted, ProviderFailed
from openapi_server.models.ids import make_id, shorten_id
from openapi_server.models.session import SessionRecord
from openapi_server.models.turn import AgeGroup, TurnRecord
from openapi_server.models.turn_event_order import TurnEventBuilder, TurnResult
from openapi_server.models.turn_events import Entry, Failed, Started, TurnEvent, TypingStarted, TypingStopped
from openapi_server.protocols import Clock
from openapi_server.wire import history
from openapi_server.wire.convo import CONVO
from openapi_server.wire.sse import STREAM_HEADERS, Contract, Frame, JsonObject, encode_comment, encode_retry

# Sent before the end of a turn that a server shutdown interrupts.
RESTART_NOTICE = encode_comment("the server restarts; come back in a moment")
RECONNECT_MS = 1000
# Where other processes serve the same turns: over this time the readers of one that ends come back.
RECONNECT_SPREAD_MS = 3000

StreamParts = AsyncGenerator[bytes | str, None] | AsyncGenerator[bytes, None] | AsyncGenerator[str, None]

log = structlog.get_logger(__name__)


class LastPart(bytes):
    """The part of a stream that nothing follows. It leaves in one write with the end of the response."""


class SSEStreamer:
    """Makes streams of one contract, by default the zoo's own. Silences longer than `heartbeat_s` get a heartbeat.

    `reconnect_spread_ms`: over how long the readers of a process that ends come back, where others are there for them.

    >>> SSEStreamer().format_sse({"content": "Hello"}, event="message", id="123")
    'id: 123\\nevent: message\\ndata: {"content":"Hello"}\\n\\n'
    """

    def __init__(
        self,
        contract: Contract = CONVO,
        *,
        heartbeat_s: float = 15,
        clock: Clock | None = None,
        reconnect_spread_ms: int = 0,
    ) -> None:
        self._contract = contract
        self._reconnect_spread_ms = reconnect_spread_ms
        self._heartbeat_s = heartbeat_s
        self._clock = clock or SystemClock()

    def format_sse(
        self, data: str | JsonObject, event: str | None = None, id: str | None = None, retry: int | None = None
    ) -> str:
        """One event as text. A string becomes one `data:` field for each line. `retry` is in milliseconds."""
        return Frame(data, event=event, id=id, retry_ms=retry).text

    async def stream_turn(self, reader: TurnReader) -> AsyncGenerator[bytes, None]:
        """A turn from the reader's position to its terminal event. Entries that are ready together are one part.

        Heartbeats depend on the silence of the stream, not of the log: contracts have no frames for some entries.
        """
        with reader:
            is_first = is_in_first_block = True
            silent_since_s = self._clock.monotonic()
            while not reader.is_over:
                silent_s = self._clock.monotonic() - silent_since_s
                # The headers are sent at once, however long the first event takes.
                entries = await reader.read(0.0 if is_first else max(0.0, self._heartbeat_s - silent_s))
                part = self._contract.encode_entries(entries)
                part += self._encode_unnumbered(reader, has_entries=bool(entries), is_first=is_first)
                prefix = self._contract.opening if is_first else ""
                if reader.is_cut_off:
                    part += self._make_farewell(is_in_first_block=is_in_first_block and not part).encode()
                elif _was_interrupted(reader):
                    prefix += self._make_restart_notice(has_retry_line=is_in_first_block)
                if is_first or prefix or part:
                    whole = prefix.encode() + part
                    yield LastPart(whole) if reader.is_over else whole
                    is_first, silent_since_s = False, self._clock.monotonic()
                is_in_first_block = is_in_first_block and not part
            log.info("Stream completed", turn=shorten_id(reader.turn_id), contract=self._contract.name)

    def _encode_unnumbered(self, reader: TurnReader, *, has_entries: bool, is_first: bool) -> bytes:
        """What is sent beside the entries of the log: an end that another process tells, or a heartbeat."""
        if reader.ending is not None:
            return self._contract.encode_without_ids(Entry(reader.turn_id, 0, self._clock.now(), reader.ending))
        if reader.is_cut_off:
            return b""
        # A turn that waits for another one says so at once.
        is_first_of_queued = reader.is_queued and is_first and not reader.is_over
        return b"" if (has_entries or is_first) and not is_first_of_queued else self._encode_heartbeat(reader)

    def _make_farewell(self, *, is_in_first_block: bool) -> str:
        """The notice of a restart where no event follows, because the turn goes on in another process."""
        # The first block has a retry line already, and ends here.
        end = "\n" if is_in_first_block and not self._contract.is_bare else ""
        return f"{end}{self._make_restart_notice(has_retry_line=False).rstrip()}\n\n"

    def _make_restart_notice(self, *, has_retry_line: bool) -> str:
        """That clients may reconnect after a second, and a comment, in the block of the event that follows.

        A block of comments alone is an empty message to some readers, and others pass over every block that begins with
        a comment. So the block begins with a retry line, as the first one of a stream does; `has_retry_line`: it is the
        first one. Bare streams have no retry line, and their readers take only blocks that begin with `data: `: there
        the comment stands alone.
        """
        if self._contract.is_bare:
            return RESTART_NOTICE
        retry = "" if has_retry_line else encode_retry(RECONNECT_MS + randbelow(self._reconnect_spread_ms + 1))
        return retry + RESTART_NOTICE.removesuffix("\n")

    def _encode_heartbeat(self, reader: TurnReader) -> bytes:
        return self._contract.heartbeat(reader.stage, reader.elapsed_ms).encode()

    async def stream_chat_response(
        self, chunks: AsyncIterable[str], session_id: str, animal_id: str
    ) -> AsyncGenerator[str, None]:
        """Any source of text as a complete stream: metadata, typing, a chunk for each piece, and complete or error.

        For text that does not come from a turn. The stream cannot be resumed.
        """
        began_s = self._clock.monotonic()
        events = _UnloggedStream(self._contract, make_id("turn"), self._clock)
        builder = TurnEventBuilder(_make_started_event(events.turn_id, session_id, animal_id))
        yield events.encode(builder.start())
        try:
            async for chunk in chunks:
                if chunk:
                    yield events.encode(builder.add_text(chunk, self._measure_ms_since(began_s)))
        except ChatError as error:
            yield events.encode(builder.fail(error, self._measure_ms_since(began_s)))
        except Exception:
            # The client waits for a terminal event; the exception's text is only logged.
            log.exception("chunks_failed")
            yield events.encode(builder.fail(ProviderFailed(), self._measure_ms_since(began_s)))
        else:
            yield events.encode(builder.complete(TurnResult(), self._measure_ms_since(began_s)))

    async def stream_script(
        self, turn_id: str, steps: AsyncIterable[Sequence[TurnEvent] | str]
    ) -> AsyncGenerator[str, None]:
        """Given events as a stream, such as simulations. Strings, such as heartbeats, are sent as they are."""
        events = _UnloggedStream(self._contract, turn_id, self._clock)
        prefix = self._contract.opening
        async for step in steps:
            yield prefix + (step if isinstance(step, str) else events.encode(step))
            prefix = ""

    async def stream_typing_indicator(self, work: Awaitable[object]) -> AsyncGenerator[str, None]:
        """`typing` start, and `typing` stop with the duration when the work is done or has failed."""
        began_s = self._clock.monotonic()
        events = _UnloggedStream(self._contract, make_id("turn"), self._clock)
        yield events.encode([TypingStarted()])
        try:
            await work
        finally:
            yield events.encode([TypingStopped(self._measure_ms_since(began_s))])

    async def stream_conversation_history(
        self, session: SessionRecord, turns: AsyncIterable[TurnRecord]
    ) -> AsyncGenerator[str, None]:
        """A stored session: `session`, `history` for its initial message and for each turn, and `history_complete`."""
        stored = [turn async for turn in turns]
        opening = [history.encode_opening_frame(session).text] if session.opening else []
        count = len(opening) + sum(history.count_messages(turn) for turn in stored)
        yield encode_retry() + history.encode_session_frame(session, count).text
        for text in opening:
            yield text
        for index, turn in enumerate(stored, len(opening)):
            yield history.encode_turn_frame(index, turn).text
        yield history.encode_complete_frame(count).text

    def create_sse_response(
        self,
        stream: StreamParts,
        headers: Mapping[str, str] | None = None,
        *,
        send_timeout_s: float = 30,
        on_end: Callable[[], None] = lambda: None,
    ) -> EventStreamResponse:
        """The stream as an ASGI response, with the headers that every stream has."""
        return EventStreamResponse(stream, {**STREAM_HEADERS, **(headers or {})}, send_timeout_s, on_end)

    def _measure_ms_since(self, began_s: float) -> int:
        return round((self._clock.monotonic() - began_s) * 1000)


class EventStreamResponse:
    """ASGI response that sends a stream, and stops as soon as the client disconnects.

    The first part, which may be empty, is read before the headers are sent: until then an error can still become a
    status. The connection of a client that reads nothing for `send_timeout_s` seconds is aborted. `on_end` is called in
    the end, also when the client had left before the first part.
    """

    def __init__(
        self, stream: StreamParts, headers: Mapping[str, str], send_timeout_s: float, on_end: Callable[[], None]
    ) -> None:
        self._stream = stream
        self._send_timeout_s = send_timeout_s
        self._on_end = on_end
        self._headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            with SendTimeout(send, scope, self._send_timeout_s) as send_in_time:
                await run_until_disconnect(receive, self._send_all(send_in_time))
        finally:
            self._on_end()

    async def _send_all(self, send: Send) -> None:
        async with aclosing(self._stream) as parts:
            part: bytes | str = await anext(parts)
            await send({"type": "http.response.start", "status": 200, "headers": self._headers})
            last = b""
            while True:
                if isinstance(part, LastPart):
                    last = part
                elif part:
                    await send(_make_body_message(part))
                try:
                    part = await anext(parts)
                except StopAsyncIteration:
                    break
            await send({"type": "http.response.body", "body": last, "more_body": False})


class _UnloggedStream:
    """Numbers and encodes the events of a stream that has no log."""

    def __init__(self, contract: Contract, turn_id: str, clock: Clock) -> None:
        self.turn_id = turn_id
        self._contract = contract
        self._clock = clock
        self._seq = 0

    def encode(self, events: Sequence[TurnEvent]) -> str:
        entries = [Entry(self.turn_id, self._seq + n, self._clock.now(), event) for n, event in enumerate(events, 1)]
        self._seq += len(entries)
        return self._contract.encode_entries(entries).decode()


def _make_started_event(turn_id: str, session_id: str, animal_id: str) -> Started:
    return Started(
        turn_id=turn_id,
        session_id=session_id,
        animal_id=animal_id,
        animal_name=animal_id,
        model="external",
        age_group=AgeGroup.ELEMENTARY,
        disclosure="You are chatting with a computer program, not with a real animal.",
    )


def _make_body_message(part: bytes | str) -> Message:
    body = part.encode() if isinstance(part, str) else part
    return {"type": "http.response.body", "body": body, "more_body": True}


def _was_interrupted(reader: TurnReader) -> bool:
    event = reader.terminal_event
    return isinstance(event, Failed) and event.problem.code in (Interrupted.code, Draining.code)
