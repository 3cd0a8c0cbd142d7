"""The zoo's own contract: `/convo_turn_stream`, and what can be done with a turn that was begun there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from openapi_server.devtools.check.answers import check_cookie, check_cors
from openapi_server.devtools.check.findings import Skipped, require
from openapi_server.devtools.check.polling import check_forward
from openapi_server.devtools.check.probes import NOBODYS_ANIMAL, Check, Mistake, StreamProbes
from openapi_server.devtools.check.recording import Ask, Recording
from openapi_server.devtools.check.streams import check_progress
from openapi_server.devtools.check.talking import QUESTION

STATES = ("queued", "running", "succeeded")


class ConvoProbes(StreamProbes):
    """Probes of the zoo's own contract."""

    contract = "convo"
    operation = "/convo_turn_stream"
    is_gapless = True

    def checks(self) -> dict[str, Check]:
        return super().checks() | {
            "cookie": self.cookie,
            "progress": self.progress,
            "one turn at a time": self.one_turn_at_a_time,
            "stop": self.stop,
            "polling": self.polling,
            "cross-origin": self.cross_origin,
        }

    async def ask(self, message: str) -> Ask:
        return Ask(self.operation, {"message": message, "animalId": await self._animal(), "stream": True})

    def other(self, ask: Ask) -> Ask:
        return ask.saying(message="Hello!")

    async def in_session(self) -> Ask:
        session_id = (await self.recorded()).events[0].data["sessionId"]
        return (await self.asked()).saying(sessionId=session_id)

    def again(self, ask: Ask, turn_id: str, event_id: str) -> Ask:
        return Ask(f"/convo_turn/{turn_id}/stream", headers={"Last-Event-ID": event_id}, method="GET")

    async def whole_texts(self, recording: Recording) -> Mapping[str, str]:
        return {"fullResponse": recording.events[-1].data.get("fullResponse", "")}

    def mistakes(self, ask: Ask) -> Sequence[Mistake]:
        unknown = Ask("/convo_turn/turn_00000000000000000000000000000000", method="GET")
        return [
            Mistake("blank message", ask.saying(message=" \n "), (400,), field="message"),
            Mistake("no message", Ask(self.operation, {"animalId": NOBODYS_ANIMAL}), (400,), field="message"),
            Mistake("no JSON", Ask(self.operation, "{"), (400,), field="body"),
            Mistake("unknown animal", ask.saying(animalId=NOBODYS_ANIMAL), (404,)),
            Mistake("unknown session", ask.saying(sessionId="sess_unknown"), (404,)),
            Mistake("unknown turn", unknown, (404,)),
            Mistake("unknown path", Ask("/no/such/path", method="GET"), (404,)),
        ]

    async def cookie(self) -> str:
        return check_cookie((await self.recorded()).headers, "session_id")

    async def progress(self) -> str:
        return check_progress((await self.recorded()).events)

    async def stop(self) -> str:
        """Idempotent, and every reader hears of it."""
        path = "/convo_turn/{}/stop".format
        ask = await self.ask(QUESTION)
        first, recording, _ = await self.while_it_runs(ask, lambda turn_id: self.send(Ask(path(turn_id))))
        require(first.status_code == 200, f"POST {first.request.url.path}: {first.status_code} {first.text[:80]!r}")
        if first.json()["finishReason"] == "stop":
            raise Skipped("the turn was over before it could be stopped")
        last = recording.events[-1]
        is_told = last.event == "complete" and last.data["finishReason"] == "stopped"
        require(is_told, f"the reader heard {last.event} {last.data.get('finishReason')}, not complete stopped")
        told = self.rules.join_text(recording.events)
        second = await self.send(Ask(path(recording.turn_id)))
        require(second.status_code == 200, f"stopped again: {second.status_code}, not 200")
        for answer in (first.json(), second.json()):
            same = (answer["reply"], answer["finishReason"]) == (told, "stopped")
            require(same, f"a stop answers {answer['finishReason']} {answer['reply']!r}; the stream said {told!r}")
        return f"complete stopped after {len(told)} characters; stopped again: the same"

    async def polling(self) -> str:
        """`Prefer: respond-async`: 202, and the state of the turn only goes forwards."""
        answer = await self.send((await self.ask("Hello!")).saying(stream=False).having(Prefer="respond-async"))
        require(answer.status_code == 202, f"Prefer: respond-async: {answer.status_code}, not 202")
        location = answer.headers.get("location", "")
        states = await self.poll(location, lambda state: state["status"] not in STATES[:2])
        return f"202, {location[:24]}...: {check_forward(states, STATES, lambda state: state['progress'])}"

    async def cross_origin(self) -> str:
        """Answers that are no streams have the headers, too."""
        answer = await self.send(Ask("/health", method="GET"))
        return check_cors(answer.headers, "GET /health")

    async def _animal(self) -> str:
        """One who lives there; the lion where the server does not say."""
        answer = await self.send(Ask("/animal_list?status=active", method="GET"))
        animals = answer.json().get("animals", []) if answer.status_code == 200 else []
        ids = [animal["animalId"] for animal in animals]
        return "lion_001" if "lion_001" in ids or not ids else ids[0]
