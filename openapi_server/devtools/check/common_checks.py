"""The checks that every contract's stream must pass. A contract's own module makes its requests and adds checks.

A check is a coroutine without arguments: it returns one line of evidence, or raises `Violation` or `Skipped`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from openapi_server.devtools.check.contract_client import QUESTION, ContractClient
from openapi_server.devtools.check.recording import (
    HEARTBEAT_TOLERANCE_S,
    Recording,
    RequestSpec,
    StreamEnd,
    drop_heartbeats,
)
from openapi_server.devtools.check.responses import (
    ANY_4XX,
    Statuses,
    check_failure,
    check_problem,
    check_stream_headers,
)
from openapi_server.devtools.check.stream_rules import (
    EVENT_STREAM,
    Violation,
    check_bytes,
    check_ids,
    parse_events,
    require,
)

CheckFunction = Callable[[], Awaitable[str]]
UNKNOWN_TURN = "turn_00000000000000000000000000000000"
# Of the server's own form: any other name may be one that a client gives to a new session.
UNKNOWN_SESSION = "sess_00000000000000000000000000000000"
UNKNOWN_ANIMAL = "unicorn_001"


class Skipped(Exception):
    """The check is not possible on this server; the message says why. It never counts as a pass."""


@dataclass(frozen=True, slots=True)
class InvalidRequest:
    """A request that the server must refuse: with one of `statuses`, naming `field`, with `detail` in its detail."""

    name: str
    request: RequestSpec
    statuses: Statuses
    field: str | None = None
    detail: str | None = None


class StreamProbes(ContractClient):
    """The checks of one contract. They all run at the same time.

    What the contract's source document asks is in `list_source_checks`, and holds for any server that was written after
    it; what the API of this server adds is in `list_extra_checks`.
    """

    is_gapless: ClassVar[bool] = False
    # The media types of a stream by the source document.
    source_media_types: ClassVar[tuple[str, ...]] = (EVENT_STREAM,)
    # The statuses that refuse a second turn while a session has one running.
    busy_statuses: ClassVar[Statuses] = (409,)

    async def find_full_texts(self, recording: Recording) -> Mapping[str, str]:
        """Copies of the whole reply, by where they were found; none where no event of the contract has it."""
        return {}

    @abstractmethod
    def list_invalid_requests(self, request: RequestSpec) -> Sequence[InvalidRequest]:
        """Requests that this contract refuses."""

    def list_source_checks(self) -> dict[str, CheckFunction]:
        """The checks of what the source document asks, by name. Subclasses add their own."""
        return {"event stream": self.check_event_stream, "closing": self.check_closing}

    def list_extra_checks(self) -> dict[str, CheckFunction]:
        """The checks of what this server adds, by name. Subclasses add their own."""
        return {
            "headers": self.check_headers,
            "bytes": self.check_bytes,
            "events": self.check_events,
            "order": self.check_order,
            "ids": self.check_ids,
            "end": self.check_end,
            "silence": self.check_silence,
            "text": self.check_text,
            "stored reply": self.check_stored_reply,
            "resume": self.check_resume,
            "resume live": self.check_live_resume,
            "resume elsewhere": self.check_invalid_resume,
            "idempotency": self.check_idempotency,
            "refusals": self.check_refusals,
        }

    async def check_event_stream(self) -> str:
        """The answer has a media type that the source document allows, and consists of events."""
        recording = await self.get_recording()
        media_type = recording.headers.get("content-type", "").partition(";")[0].strip().lower()
        allowed = " or ".join(self.source_media_types)
        require(media_type in self.source_media_types, f"Content-Type {media_type!r}, not {allowed}")
        return f"{media_type}, {len(recording.events)} events"

    async def check_closing(self) -> str:
        """The server closes the stream after its last event."""
        recording = await self.get_recording()
        require(recording.end is StreamEnd.CLOSED, f"the stream was {recording.end}")
        return f"{recording.end}; longest silence {recording.gap_s:.1f} s"

    async def check_failures(self, *requests: RequestSpec) -> str:
        """Requests that cannot be answered are refused, in words."""
        seen = [check_failure(await self.send(request, self.server.new_client())) for request in requests]
        return ", ".join(seen)

    async def check_health(self) -> str:
        answer = await self.send(RequestSpec("/health", method="GET"))
        require(answer.status_code == 200, f"GET /health: {answer.status_code}, not 200")
        return f"GET /health: {answer.text[:60]}"

    async def check_headers(self) -> str:
        return check_stream_headers((await self.get_recording()).headers)

    async def check_bytes(self) -> str:
        return check_bytes((await self.get_recording()).body, is_bare=self.rules.is_bare_by_default)

    async def check_events(self) -> str:
        return self.rules.check_events((await self.get_recording()).events)

    async def check_order(self) -> str:
        return self.rules.check_order((await self.get_recording()).events)

    async def check_ids(self) -> str:
        recording = await self.get_resumable_recording()
        numbered = [event for event in recording.events if event.event == "heartbeat" and event.id is not None]
        require(not numbered, f"a heartbeat has an id: {numbered[:1]}")
        return check_ids(recording.logged_events, recording.turn_id, is_gapless=self.is_gapless)

    async def check_end(self) -> str:
        """Exactly one terminal event, after which the server closes the stream."""
        recording = await self.get_recording()
        names = [self.rules.get_name(event) for event in recording.events if self.rules.is_terminal(event)]
        require(len(names) == 1, f"{len(names)} terminal events: {names}")
        require(recording.end is StreamEnd.CLOSED, f"{recording.end} ({names[0]})")
        return f"one {names[0]}, then {recording.end}"

    async def check_silence(self) -> str:
        """No silence is longer than the promised heartbeat interval."""
        gap_s = (await self.get_recording()).gap_s
        longest_s = self.server.heartbeat_s + HEARTBEAT_TOLERANCE_S
        require(gap_s <= longest_s, f"{gap_s:.1f} s without a byte, not even a heartbeat")
        return f"longest {gap_s:.2f} s"

    async def check_text(self) -> str:
        """The stream has a text, and every copy of the whole reply equals it."""
        recording = await self.get_recording()
        streamed = self.rules.join_text(recording.events)
        require(streamed, "the stream has no text")
        for where, text in (await self.find_full_texts(recording)).items():
            require(text == streamed, f"{where} differs from the stream: {_describe_difference(streamed, text)}")
        return f"{len(streamed)} characters, {streamed[:40]!r}"

    async def check_stored_reply(self) -> str:
        """The stored turn has the streamed reply. Whoever knows a turn's id may read it, in whichever contract."""
        recording = await self.get_recording()
        if not self.server.has_operation("/convo_turn/{turnId}", "get"):
            raise Skipped("this server has no GET /convo_turn/{turnId}")
        turn = await self.get_turn(recording.turn_id)
        streamed, stored = self.rules.join_text(recording.events), turn["reply"]
        require(turn["status"] == "succeeded", f"the turn is {turn['status']} after its last event")
        difference = _describe_difference(streamed, stored)
        require(stored == streamed, f"the stored reply differs from the stream: {difference}")
        return f"GET /convo_turn/{{turnId}}: {turn['status']}, {len(streamed)} characters"

    async def check_resume(self) -> str:
        """A stream resumed at any id has exactly the remaining bytes; after the last id the answer is 204."""
        recording = await self.get_resumable_recording()
        ids = [event.id for event in recording.logged_events if event.id is not None]
        require(ids, "no event has an id")
        await self.run_for_each(lambda event_id: self._check_resume_at(recording, event_id), ids)
        return f"at each of {len(ids)} ids, to the byte; after the last 204"

    async def _check_resume_at(self, recording: Recording, event_id: str) -> None:
        request = self.make_resume_request(await self.get_resumable_request(), recording.turn_id, event_id)
        answer = await self.send(request, self.client)
        rest = recording.get_bytes_after(event_id)
        if not rest:
            require(answer.status_code == 204, f"after the last event: {answer.status_code}, not 204")
            return
        expected = recording.body[: recording.body.find(b"\n") + 1] + rest
        is_same = answer.status_code == 200 and answer.content == expected
        difference = _describe_mismatch(answer.content, expected)
        require(is_same, f"after {event_id}: {answer.status_code} {difference}")

    async def check_live_resume(self) -> str:
        """A reader that leaves while the turn runs, and resumes, misses no event and gets none twice."""
        request = self.keep_running(await self.make_request(QUESTION))
        before = await self.new_recorder(should_stop=bool).record(self.other_client, request)
        if before.end is not StreamEnd.LEFT or any(map(self.rules.is_terminal, before.events)):
            raise Skipped("the turn was over before its reader could leave")
        first = before.logged_events
        require(first[-1].id, "the last event before the reader left has no id")
        resume_request = self.make_resume_request(request, before.turn_id, str(first[-1].id))
        rest = (await self.new_recorder().record(self.other_client, resume_request)).logged_events
        check_ids([*first, *rest], before.turn_id, is_gapless=self.is_gapless)
        whole = await self.send(self.make_resume_request(request, before.turn_id, str(first[0].id)))
        parts = [event.raw for event in [*first[1:], *rest]]
        expected = [event.raw for event in drop_heartbeats(parse_events(whole.content))]
        require(parts == expected, "the two parts together are not the whole stream")
        return f"{len(first)} events, then the other {len(rest)}"

    async def check_invalid_resume(self) -> str:
        """An event id that is not in this turn is refused; the server neither guesses nor starts a second turn."""
        recording = await self.get_resumable_recording()
        seqs = [event.seq for event in recording.logged_events if event.id is not None]
        require(seqs, "no event has an id")
        request = await self.get_resumable_request()
        seen = []
        for event_id in (f"{UNKNOWN_TURN}-1", f"{recording.turn_id}-{seqs[-1] + 1}", "nonsense"):
            answer = await self.send(self.make_resume_request(request, recording.turn_id, event_id), self.client)
            seen.append(check_problem(answer, ANY_4XX))
        return f"an unknown turn {seen[0]}, after the end {seen[1]}, nonsense {seen[2]}"

    async def check_idempotency(self) -> str:
        """The same request with the same key joins the recorded turn; another request with the key is refused."""
        recording, request = await self.get_recording(), self.add_idempotency_key(await self.get_request())
        joined = await self.new_recorder().record(self.client, request)
        require(joined.turn_id == recording.turn_id, f"the same request started another turn: {joined.status}")
        is_same = [event.raw for event in joined.logged_events] == [event.raw for event in recording.logged_events]
        require(is_same, "the joined stream is not the recorded one")
        other = await self.send(self.add_idempotency_key(self.change_message(await self.get_request())), self.client)
        return f"joined {joined.turn_id[:12]}...; another request {check_problem(other, (422,))}"

    async def check_refusals(self) -> str:
        """Invalid requests are refused with problem objects."""
        invalid = self.list_invalid_requests(await self.get_request())
        seen = await self.run_for_each(self._check_refusal, invalid)
        return ", ".join(f"{request.name} {answer}" for request, answer in zip(invalid, seen, strict=True))

    async def _check_refusal(self, invalid: InvalidRequest) -> str:
        answer = await self.send(invalid.request)
        try:
            return check_problem(answer, invalid.statuses, field=invalid.field, detail=invalid.detail)
        except Violation as violation:
            raise Violation(f"{invalid.name}: {violation}") from None

    async def check_one_turn_at_a_time(self) -> str:
        """A second turn in a session with a running one is refused, and the problem names the running turn."""
        request = await self.make_session_request()
        second = self.refuse_when_busy(self.change_message(request))
        answer, recording, acted_s = await self.act_while_running(request, lambda turn_id: self.send_for_head(second))
        if answer.status_code == 200 and recording.ended_s <= acted_s:
            raise Skipped("the first turn was over before the second request came")
        require(answer.status_code != 200, "a second turn starts while the first one runs")
        problem = check_problem(answer, self.busy_statuses)
        named = answer.json().get("turnId")
        require(named == recording.turn_id, f"the refusal names the turn {named}, not the running one")
        return f"a second one: {problem}, turnId {recording.turn_id[:12]}..."

    async def check_second_message(self) -> str:
        """A message that comes while another reply is read is answered, and that reply is read to its end.

        Both replies are whole: clients of these contracts do not ask again.
        """
        request = await self.make_session_request()
        second = self.change_message(request)
        later, first, _ = await self.act_while_running(
            request, lambda turn_id: self.new_recorder().record(self.other_client, second)
        )
        for name, recording in (("first", first), ("second", later)):
            where = f"the {name} of two messages"
            require(recording.status == 200, f"{where}: {recording.status} {recording.body[:80]!r}")
            self.rules.check_order(recording.events)
            require(self.rules.join_text(recording.events), f"{where} has no text")
        require(later.turn_id != first.turn_id, "both messages have the same reply")
        ends = [self.rules.get_name(recording.events[-1]) for recording in (first, later)]
        require(ends[0] == ends[1], f"the first reply ends with {ends[0]}, the second with {ends[1]}")
        if self.server.has_operation("/convo_turn/{turnId}", "get"):
            status = (await self.get_turn(first.turn_id))["status"]
            require(status == "succeeded", f"the first turn is {status}: it was not spoken to its end")
        if later.started_s >= first.ended_s:
            raise Skipped("the first turn was over before the second message came")
        return f"two replies of {len(first.events)} and {len(later.events)} events"

    async def get_turn(self, turn_id: str) -> dict[str, Any]:
        """The stored turn, from the zoo's own contract. Raises `Skipped` when that does not show this turn."""
        request = await self.get_request()
        credentials = {name: value for name, value in request.headers.items() if name.lower() == "authorization"}
        answer = await self.send(RequestSpec(f"/convo_turn/{turn_id}", headers=credentials, method="GET"), self.client)
        if answer.status_code == 404 and self.contract != "convo":
            raise Skipped("GET /convo_turn/{turnId} does not show turns of this contract")
        require(answer.status_code == 200, f"GET /convo_turn/{{turnId}}: {answer.status_code}")
        turn: dict[str, Any] = answer.json()
        return turn


def _describe_difference(expected: str, other: str) -> str:
    """The first position where two texts differ."""
    pairs = enumerate(zip(expected, other, strict=False))
    position = next((at for at, (a, b) in pairs if a != b), min(len(expected), len(other)))
    return f"at {position}, {expected[position : position + 20]!r} and {other[position : position + 20]!r}"


def _describe_mismatch(got: bytes, expected: bytes) -> str:
    """How a resumed stream differs from what it should be."""
    if got.endswith(expected.partition(b"\n")[2]):
        return "repeats events that were seen"
    return f"{len(got)} bytes, not the recording's {len(expected)}"
