"""What can be asked of every contract's stream. A contract's own file says how its turns begin, and adds checks.

A check is a coroutine without arguments: it returns what it saw, in one line, or raises `Violation` or `Skipped`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from openapi_server.devtools.check.answers import ANY_4XX, Statuses, check_problem, check_stream_headers
from openapi_server.devtools.check.findings import Skipped, Violation, require
from openapi_server.devtools.check.recording import (
    HEARTBEAT_TOLERANCE_S,
    Recording,
    RequestSpec,
    StreamEnd,
    drop_heartbeats,
)
from openapi_server.devtools.check.streams import check_bytes, check_ids, parse_events
from openapi_server.devtools.check.talking import QUESTION, ContractClient

CheckFunction = Callable[[], Awaitable[str]]
UNKNOWN_TURN = "turn_00000000000000000000000000000000"
UNKNOWN_ANIMAL = "unicorn_001"


@dataclass(frozen=True, slots=True)
class InvalidRequest:
    """A request that has to be refused, and how."""

    name: str
    request: RequestSpec
    statuses: Statuses
    field: str | None = None
    detail: str | None = None


class StreamProbes(ContractClient):
    """The checks of one contract. They run at the same time."""

    is_gapless: ClassVar[bool] = False
    # How a second turn in a busy session is refused.
    busy_statuses: ClassVar[Statuses] = (409,)

    @abstractmethod
    async def find_full_texts(self, recording: Recording) -> Mapping[str, str]:
        """Where else the whole reply stands, and what stands there."""

    @abstractmethod
    def list_invalid_requests(self, ask: RequestSpec) -> Sequence[InvalidRequest]:
        """Requests that this contract refuses."""

    def list_checks(self) -> dict[str, CheckFunction]:
        """The checks by name; a contract adds its own to these."""
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

    async def check_headers(self) -> str:
        return check_stream_headers((await self.get_recording()).headers)

    async def check_bytes(self) -> str:
        return check_bytes((await self.get_recording()).body)

    async def check_events(self) -> str:
        return self.rules.check_events((await self.get_recording()).events)

    async def check_order(self) -> str:
        return self.rules.check_order((await self.get_recording()).events)

    async def check_ids(self) -> str:
        recording = await self.get_recording()
        named = [event for event in recording.events if event.event == "heartbeat" and event.id is not None]
        require(not named, f"a heartbeat carries an id: {named[:1]}")
        return check_ids(recording.logged_events, recording.turn_id, is_gapless=self.is_gapless)

    async def check_end(self) -> str:
        recording = await self.get_recording()
        names = [self.rules.get_name(event) for event in recording.events if self.rules.is_terminal(event)]
        require(len(names) == 1, f"{len(names)} terminal events: {names}")
        require(recording.end is StreamEnd.CLOSED, f"{recording.end} ({names[0]})")
        return f"one {names[0]}, then {recording.end}"

    async def check_silence(self) -> str:
        gap_s = (await self.get_recording()).gap_s
        require(
            gap_s <= self.server.heartbeat_s + HEARTBEAT_TOLERANCE_S,
            f"{gap_s:.1f} s without a byte, not even a heartbeat",
        )
        return f"longest {gap_s:.2f} s"

    async def check_text(self) -> str:
        recording = await self.get_recording()
        told = self.rules.join_text(recording.events)
        require(told, "the stream tells no text")
        for where, text in (await self.find_full_texts(recording)).items():
            require(text == told, f"{where} differs from the stream: {_describe_difference(told, text)}")
        return f"{len(told)} characters, {told[:40]!r}"

    async def check_stored_reply(self) -> str:
        """Holding the id of a turn is the right to it, whichever contract it was begun in."""
        recording = await self.get_recording()
        if not self.server.has_operation("/convo_turn/{turnId}", "get"):
            raise Skipped("this server has no GET /convo_turn/{turnId}")
        state = await self.get_turn(recording.turn_id)
        told = self.rules.join_text(recording.events)
        require(state["status"] == "succeeded", f"the turn is {state['status']} after its last event")
        require(
            state["reply"] == told,
            f"the stored reply differs from the stream: {_describe_difference(told, state['reply'])}",
        )
        return f"GET /convo_turn/{{turnId}}: {state['status']}, {len(told)} characters"

    async def check_resume(self) -> str:
        """At every id: the rest of the recording, to the byte; after the last one 204."""
        recording = await self.get_recording()
        ids = [event.id for event in recording.logged_events if event.id is not None]
        require(ids, "no event has an id")
        await self.run_for_each(lambda event_id: self._check_resume_at(recording, event_id), ids)
        return f"at each of {len(ids)} ids, to the byte; after the last 204"

    async def _check_resume_at(self, recording: Recording, event_id: str) -> None:
        answer = await self.send(
            self.make_resume_request(await self.get_request(), recording.turn_id, event_id), self.client
        )
        rest = recording.get_bytes_after(event_id)
        if not rest:
            require(answer.status_code == 204, f"after the last event: {answer.status_code}, not 204")
            return
        retry_line = recording.body[: recording.body.find(b"\n") + 1]
        is_due = answer.status_code == 200 and answer.content == retry_line + rest
        require(
            is_due, f"after {event_id}: {answer.status_code} {_describe_mismatch(answer.content, retry_line + rest)}"
        )

    async def check_live_resume(self) -> str:
        """A reader that leaves after the first events and comes back misses none and hears none twice."""
        ask = self.keep_running(await self.make_request(QUESTION))
        before = await self.new_recorder(has_enough=bool).record(self.other_client, ask)
        if before.end is not StreamEnd.LEFT or any(map(self.rules.is_terminal, before.events)):
            raise Skipped("the turn was over before its reader could leave")
        heard = before.logged_events
        require(heard[-1].id, "the last event that was heard has no id")
        after = await self.new_recorder().record(
            self.other_client, self.make_resume_request(ask, before.turn_id, str(heard[-1].id))
        )
        check_ids([*heard, *after.logged_events], before.turn_id, is_gapless=self.is_gapless)
        whole = await self.send(self.make_resume_request(ask, before.turn_id, str(heard[0].id)))
        parts = [event.raw for event in [*heard[1:], *after.logged_events]]
        require(
            parts == [event.raw for event in drop_heartbeats(parse_events(whole.content))],
            "the two parts are not the whole",
        )
        return f"{len(heard)} events, then the other {len(after.logged_events)}"

    async def check_invalid_resume(self) -> str:
        """A place that is not in this turn is refused; it is never guessed, and never begins a second turn."""
        recording = await self.get_recording()
        seqs = [event.seq for event in recording.logged_events if event.id is not None]
        require(seqs, "no event has an id")
        places = [f"{UNKNOWN_TURN}-1", f"{recording.turn_id}-{seqs[-1] + 1}", "nonsense"]
        ask = await self.get_request()
        answers = [
            await self.send(self.make_resume_request(ask, recording.turn_id, place), self.client) for place in places
        ]
        seen = [check_problem(answer, ANY_4XX) for answer in answers]
        return f"an unknown turn {seen[0]}, behind the end {seen[1]}, nonsense {seen[2]}"

    async def check_idempotency(self) -> str:
        """The recorded turn was begun with a key: the same again joins it, another request with it is refused."""
        recording, ask = await self.get_recording(), self.add_idempotency_key(await self.get_request())
        joined = await self.new_recorder().record(self.client, ask)
        require(joined.turn_id == recording.turn_id, f"the same request began another turn: {joined.status}")
        same = [event.raw for event in joined.logged_events] == [event.raw for event in recording.logged_events]
        require(same, "the joined stream is not the recorded one")
        other = await self.send(self.add_idempotency_key(self.change_message(await self.get_request())), self.client)
        return f"joined {joined.turn_id[:12]}...; another request {check_problem(other, (422,))}"

    async def check_refusals(self) -> str:
        """The shape of errors; none of them starts a turn."""
        mistakes = self.list_invalid_requests(await self.get_request())
        seen = await self.run_for_each(self._check_refusal, mistakes)
        return ", ".join(f"{mistake.name} {told}" for mistake, told in zip(mistakes, seen, strict=True))

    async def _check_refusal(self, mistake: InvalidRequest) -> str:
        answer = await self.send(mistake.request)
        try:
            return check_problem(answer, mistake.statuses, field=mistake.field, says=mistake.detail)
        except Violation as broken:
            raise Violation(f"{mistake.name}: {broken}") from None

    async def check_one_turn_at_a_time(self) -> str:
        """A second turn in a session that has one running is refused, and told which one that is."""
        ask = await self.make_session_request()
        answer, recording, acted_s = await self.act_while_running(
            ask, lambda turn_id: self.send_for_head(self.change_message(ask))
        )
        if answer.status_code == 200 and recording.ended_s <= acted_s:
            raise Skipped("the first turn was over before the second one came")
        require(answer.status_code != 200, "a second turn begins while the first one runs")
        told = check_problem(answer, self.busy_statuses)
        named = answer.json().get("turnId")
        require(named == recording.turn_id, f"the refusal names the turn {named}, not the one that runs")
        return f"a second one: {told}, turnId {recording.turn_id[:12]}..."

    async def get_turn(self, turn_id: str) -> dict[str, Any]:
        """The stored turn, as the zoo's own contract shows it; `Skipped` where that is not for us."""
        ask = await self.get_request()
        credentials = {name: value for name, value in ask.headers.items() if name.lower() == "authorization"}
        answer = await self.send(RequestSpec(f"/convo_turn/{turn_id}", headers=credentials, method="GET"), self.client)
        if answer.status_code == 404 and self.contract != "convo":
            raise Skipped("GET /convo_turn/{turnId} does not show turns of this contract")
        require(answer.status_code == 200, f"GET /convo_turn/{{turnId}}: {answer.status_code}")
        state: dict[str, Any] = answer.json()
        return state


def _describe_difference(told: str, other: str) -> str:
    """Where two texts part."""
    place = next((at for at, (a, b) in enumerate(zip(told, other, strict=False)) if a != b), min(len(told), len(other)))
    return f"at {place}, {told[place : place + 20]!r} and {other[place : place + 20]!r}"


def _describe_mismatch(got: bytes, due: bytes) -> str:
    """What is wrong with a rest."""
    if got.endswith(due.partition(b"\n")[2]):
        return "repeats events that were seen"
    return f"{len(got)} bytes, not the recording's {len(due)}"
