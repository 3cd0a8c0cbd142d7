"""What can be asked of every contract's stream. A contract's own file says how its turns begin, and adds checks.

A check is a coroutine without arguments: it returns what it saw, in one line, or raises `Violation` or `Skipped`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from openapi_server.devtools.check.answers import ANY_4XX, Due, check_problem, check_stream_headers
from openapi_server.devtools.check.findings import Skipped, Violation, require
from openapi_server.devtools.check.recording import LATE_S, Ask, End, Recording, kept_of
from openapi_server.devtools.check.streams import check_bytes, check_ids, parse_events
from openapi_server.devtools.check.talking import QUESTION, Talking

Check = Callable[[], Awaitable[str]]
UNKNOWN_TURN = "turn_00000000000000000000000000000000"
NOBODYS_ANIMAL = "unicorn_001"


@dataclass(frozen=True, slots=True)
class Mistake:
    """A request that has to be refused, and how."""

    what: str
    ask: Ask
    due: Due
    field: str | None = None
    says: str | None = None


class StreamProbes(Talking):
    """The checks of one contract. They run at the same time."""

    is_gapless: ClassVar[bool] = False
    # How a second turn in a busy session is refused.
    busy: ClassVar[Due] = (409,)

    @abstractmethod
    async def whole_texts(self, recording: Recording) -> Mapping[str, str]:
        """Where else the whole reply stands, and what stands there."""

    @abstractmethod
    def mistakes(self, ask: Ask) -> Sequence[Mistake]:
        """Requests that this contract refuses."""

    def checks(self) -> dict[str, Check]:
        """The checks by name; a contract adds its own to these."""
        return {
            "headers": self.headers,
            "bytes": self.bytes,
            "events": self.events,
            "order": self.order,
            "ids": self.ids,
            "end": self.end,
            "silence": self.silence,
            "text": self.text,
            "stored reply": self.stored_reply,
            "resume": self.resume,
            "resume live": self.resume_live,
            "resume elsewhere": self.resume_elsewhere,
            "idempotency": self.idempotency,
            "refusals": self.refusals,
        }

    async def headers(self) -> str:
        return check_stream_headers((await self.recorded()).headers)

    async def bytes(self) -> str:
        return check_bytes((await self.recorded()).body)

    async def events(self) -> str:
        return self.rules.check_events((await self.recorded()).events)

    async def order(self) -> str:
        return self.rules.check_order((await self.recorded()).events)

    async def ids(self) -> str:
        recording = await self.recorded()
        named = [event for event in recording.events if event.event == "heartbeat" and event.id is not None]
        require(not named, f"a heartbeat carries an id: {named[:1]}")
        return check_ids(recording.kept, recording.turn_id, is_gapless=self.is_gapless)

    async def end(self) -> str:
        recording = await self.recorded()
        names = [self.rules.get_name(event) for event in recording.events if self.rules.is_terminal(event)]
        require(len(names) == 1, f"{len(names)} terminal events: {names}")
        require(recording.end is End.CLOSED, f"{recording.end} ({names[0]})")
        return f"one {names[0]}, then {recording.end}"

    async def silence(self) -> str:
        gap_s = (await self.recorded()).gap_s
        require(gap_s <= self.site.heartbeat_s + LATE_S, f"{gap_s:.1f} s without a byte, not even a heartbeat")
        return f"longest {gap_s:.2f} s"

    async def text(self) -> str:
        recording = await self.recorded()
        told = self.rules.join_text(recording.events)
        require(told, "the stream tells no text")
        for where, text in (await self.whole_texts(recording)).items():
            require(text == told, f"{where} differs from the stream: {_difference(told, text)}")
        return f"{len(told)} characters, {told[:40]!r}"

    async def stored_reply(self) -> str:
        """Holding the id of a turn is the right to it, whichever contract it was begun in."""
        recording = await self.recorded()
        if not self.site.has("/convo_turn/{turnId}", "get"):
            raise Skipped("this server has no GET /convo_turn/{turnId}")
        state = await self.state_of(recording.turn_id)
        told = self.rules.join_text(recording.events)
        require(state["status"] == "succeeded", f"the turn is {state['status']} after its last event")
        require(
            state["reply"] == told, f"the stored reply differs from the stream: {_difference(told, state['reply'])}"
        )
        return f"GET /convo_turn/{{turnId}}: {state['status']}, {len(told)} characters"

    async def resume(self) -> str:
        """At every id: the rest of the recording, to the byte; after the last one 204."""
        recording = await self.recorded()
        ids = [event.id for event in recording.kept if event.id is not None]
        require(ids, "no event has an id")
        await self.each(lambda event_id: self._resume_at(recording, event_id), ids)
        return f"at each of {len(ids)} ids, to the byte; after the last 204"

    async def _resume_at(self, recording: Recording, event_id: str) -> None:
        answer = await self.send(self.again(await self.asked(), recording.turn_id, event_id), self.visitor)
        rest = recording.rest_after(event_id)
        if not rest:
            require(answer.status_code == 204, f"after the last event: {answer.status_code}, not 204")
            return
        retry_line = recording.body[: recording.body.find(b"\n") + 1]
        is_due = answer.status_code == 200 and answer.content == retry_line + rest
        require(is_due, f"after {event_id}: {answer.status_code} {_which(answer.content, retry_line + rest)}")

    async def resume_live(self) -> str:
        """A reader that leaves after the first events and comes back misses none and hears none twice."""
        ask = self.lasting(await self.ask(QUESTION))
        before = await self.reading(has_enough=bool).of(self.neighbour, ask)
        if before.end is not End.LEFT or any(map(self.rules.is_terminal, before.events)):
            raise Skipped("the turn was over before its reader could leave")
        heard = before.kept
        require(heard[-1].id, "the last event that was heard has no id")
        after = await self.reading().of(self.neighbour, self.again(ask, before.turn_id, str(heard[-1].id)))
        check_ids([*heard, *after.kept], before.turn_id, is_gapless=self.is_gapless)
        whole = await self.send(self.again(ask, before.turn_id, str(heard[0].id)))
        parts = [event.raw for event in [*heard[1:], *after.kept]]
        require(
            parts == [event.raw for event in kept_of(parse_events(whole.content))], "the two parts are not the whole"
        )
        return f"{len(heard)} events, then the other {len(after.kept)}"

    async def resume_elsewhere(self) -> str:
        """A place that is not in this turn is refused; it is never guessed, and never begins a second turn."""
        recording = await self.recorded()
        seqs = [event.seq for event in recording.kept if event.id is not None]
        require(seqs, "no event has an id")
        places = [f"{UNKNOWN_TURN}-1", f"{recording.turn_id}-{seqs[-1] + 1}", "nonsense"]
        ask = await self.asked()
        answers = [await self.send(self.again(ask, recording.turn_id, place), self.visitor) for place in places]
        seen = [check_problem(answer, ANY_4XX) for answer in answers]
        return f"an unknown turn {seen[0]}, behind the end {seen[1]}, nonsense {seen[2]}"

    async def idempotency(self) -> str:
        """The recorded turn was begun with a key: the same again joins it, another request with it is refused."""
        recording, ask = await self.recorded(), self.with_key(await self.asked())
        joined = await self.reading().of(self.visitor, ask)
        require(joined.turn_id == recording.turn_id, f"the same request began another turn: {joined.status}")
        same = [event.raw for event in joined.kept] == [event.raw for event in recording.kept]
        require(same, "the joined stream is not the recorded one")
        other = await self.send(self.with_key(self.other(await self.asked())), self.visitor)
        return f"joined {joined.turn_id[:12]}...; another request {check_problem(other, (422,))}"

    async def refusals(self) -> str:
        """The shape of errors; none of them starts a turn."""
        mistakes = self.mistakes(await self.asked())
        seen = await self.each(self._refusal, mistakes)
        return ", ".join(f"{mistake.what} {told}" for mistake, told in zip(mistakes, seen, strict=True))

    async def _refusal(self, mistake: Mistake) -> str:
        answer = await self.send(mistake.ask)
        try:
            return check_problem(answer, mistake.due, field=mistake.field, says=mistake.says)
        except Violation as broken:
            raise Violation(f"{mistake.what}: {broken}") from None

    async def one_turn_at_a_time(self) -> str:
        """A second turn in a session that has one running is refused, and told which one that is."""
        ask = await self.in_session()
        answer, recording, acted_s = await self.while_it_runs(ask, lambda turn_id: self.head(self.other(ask)))
        if answer.status_code == 200 and recording.ended_s <= acted_s:
            raise Skipped("the first turn was over before the second one came")
        require(answer.status_code != 200, "a second turn begins while the first one runs")
        told = check_problem(answer, self.busy)
        named = answer.json().get("turnId")
        require(named == recording.turn_id, f"the refusal names the turn {named}, not the one that runs")
        return f"a second one: {told}, turnId {recording.turn_id[:12]}..."

    async def state_of(self, turn_id: str) -> dict[str, Any]:
        """The stored turn, as the zoo's own contract shows it; `Skipped` where that is not for us."""
        ask = await self.asked()
        credentials = {name: value for name, value in ask.headers.items() if name.lower() == "authorization"}
        answer = await self.send(Ask(f"/convo_turn/{turn_id}", headers=credentials, method="GET"), self.visitor)
        if answer.status_code == 404 and self.contract != "convo":
            raise Skipped("GET /convo_turn/{turnId} does not show turns of this contract")
        require(answer.status_code == 200, f"GET /convo_turn/{{turnId}}: {answer.status_code}")
        state: dict[str, Any] = answer.json()
        return state


def _difference(told: str, other: str) -> str:
    """Where two texts part."""
    place = next((at for at, (a, b) in enumerate(zip(told, other, strict=False)) if a != b), min(len(told), len(other)))
    return f"at {place}, {told[place : place + 20]!r} and {other[place : place + 20]!r}"


def _which(got: bytes, due: bytes) -> str:
    """What is wrong with a rest."""
    if got.endswith(due.partition(b"\n")[2]):
        return "repeats events that were seen"
    return f"{len(got)} bytes, not the recording's {len(due)}"
