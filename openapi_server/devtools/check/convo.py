"""The zoo's own contract: `/convo_turn_stream`, and what can be done with a turn that was begun there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from openapi_server.devtools.check.answers import check_cookie, check_cors
from openapi_server.devtools.check.findings import Skipped, require
from openapi_server.devtools.check.polling import check_forward
from openapi_server.devtools.check.probes import UNKNOWN_ANIMAL, CheckFunction, InvalidRequest, StreamProbes
from openapi_server.devtools.check.recording import Recording, RequestSpec
from openapi_server.devtools.check.streams import check_progress
from openapi_server.devtools.check.talking import QUESTION

STATES = ("queued", "running", "succeeded")


class ConvoProbes(StreamProbes):
    """Probes of the zoo's own contract."""

    contract = "convo"
    operation = "/convo_turn_stream"
    is_gapless = True

    def list_checks(self) -> dict[str, CheckFunction]:
        return super().list_checks() | {
            "cookie": self.check_cookie,
            "progress": self.check_progress,
            "one turn at a time": self.check_one_turn_at_a_time,
            "stop": self.check_stop,
            "polling": self.check_polling,
            "cross-origin": self.check_cross_origin,
        }

    async def make_request(self, message: str) -> RequestSpec:
        return RequestSpec(
            self.operation, {"message": message, "animalId": await self._choose_animal(), "stream": True}
        )

    def change_message(self, ask: RequestSpec) -> RequestSpec:
        return ask.with_members(message="Hello!")

    async def make_session_request(self) -> RequestSpec:
        session_id = (await self.get_recording()).events[0].data["sessionId"]
        return (await self.get_request()).with_members(sessionId=session_id)

    def make_resume_request(self, ask: RequestSpec, turn_id: str, event_id: str) -> RequestSpec:
        return RequestSpec(f"/convo_turn/{turn_id}/stream", headers={"Last-Event-ID": event_id}, method="GET")

    async def find_full_texts(self, recording: Recording) -> Mapping[str, str]:
        return {"fullResponse": recording.events[-1].data.get("fullResponse", "")}

    def list_invalid_requests(self, ask: RequestSpec) -> Sequence[InvalidRequest]:
        unknown = RequestSpec("/convo_turn/turn_00000000000000000000000000000000", method="GET")
        return [
            InvalidRequest("blank message", ask.with_members(message=" \n "), (400,), field="message"),
            InvalidRequest(
                "no message", RequestSpec(self.operation, {"animalId": UNKNOWN_ANIMAL}), (400,), field="message"
            ),
            InvalidRequest("no JSON", RequestSpec(self.operation, "{"), (400,), field="body"),
            InvalidRequest("unknown animal", ask.with_members(animalId=UNKNOWN_ANIMAL), (404,)),
            InvalidRequest("unknown session", ask.with_members(sessionId="sess_unknown"), (404,)),
            InvalidRequest("unknown turn", unknown, (404,)),
            InvalidRequest("unknown path", RequestSpec("/no/such/path", method="GET"), (404,)),
        ]

    async def check_cookie(self) -> str:
        return check_cookie((await self.get_recording()).headers, "session_id")

    async def check_progress(self) -> str:
        return check_progress((await self.get_recording()).events)

    async def check_stop(self) -> str:
        """Idempotent, and every reader hears of it."""
        path = "/convo_turn/{}/stop".format
        ask = await self.make_request(QUESTION)
        first, recording, _ = await self.act_while_running(ask, lambda turn_id: self.send(RequestSpec(path(turn_id))))
        require(first.status_code == 200, f"POST {first.request.url.path}: {first.status_code} {first.text[:80]!r}")
        if first.json()["finishReason"] == "stop":
            raise Skipped("the turn was over before it could be stopped")
        last = recording.events[-1]
        is_told = last.event == "complete" and last.data["finishReason"] == "stopped"
        require(is_told, f"the reader heard {last.event} {last.data.get('finishReason')}, not complete stopped")
        told = self.rules.join_text(recording.events)
        second = await self.send(RequestSpec(path(recording.turn_id)))
        require(second.status_code == 200, f"stopped again: {second.status_code}, not 200")
        for answer in (first.json(), second.json()):
            same = (answer["reply"], answer["finishReason"]) == (told, "stopped")
            require(same, f"a stop answers {answer['finishReason']} {answer['reply']!r}; the stream said {told!r}")
        return f"complete stopped after {len(told)} characters; stopped again: the same"

    async def check_polling(self) -> str:
        """`Prefer: respond-async`: 202, and the state of the turn only goes forwards."""
        answer = await self.send(
            (await self.make_request("Hello!")).with_members(stream=False).with_headers(Prefer="respond-async")
        )
        require(answer.status_code == 202, f"Prefer: respond-async: {answer.status_code}, not 202")
        location = answer.headers.get("location", "")
        states = await self.poll(location, lambda state: state["status"] not in STATES[:2])
        return f"202, {location[:24]}...: {check_forward(states, STATES, lambda state: state['progress'])}"

    async def check_cross_origin(self) -> str:
        """Answers that are no streams have the headers, too."""
        answer = await self.send(RequestSpec("/health", method="GET"))
        return check_cors(answer.headers, "GET /health")

    async def _choose_animal(self) -> str:
        """One who lives there; the lion where the server does not say."""
        answer = await self.send(RequestSpec("/animal_list?status=active", method="GET"))
        animals = answer.json().get("animals", []) if answer.status_code == 200 else []
        ids = [animal["animalId"] for animal in animals]
        return "lion_001" if "lion_001" in ids or not ids else ids[0]
