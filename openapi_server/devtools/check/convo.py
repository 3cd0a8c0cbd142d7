"""Checks of the zoo's own contract: `/convo_turn_stream`, and the operations on its turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import httpx

from openapi_server.devtools.check.common_checks import (
    UNKNOWN_ANIMAL,
    UNKNOWN_SESSION,
    UNKNOWN_TURN,
    CheckFunction,
    InvalidRequest,
    Skipped,
    StreamProbes,
)
from openapi_server.devtools.check.contract_client import QUESTION, AsyncCached, TargetServer
from openapi_server.devtools.check.recording import Recording, RequestSpec
from openapi_server.devtools.check.responses import check_cookie, check_cors, check_forward
from openapi_server.devtools.check.stream_rules import check_progress, require, require_members

# The ticket calls the pieces "message chunks".
CHUNK_EVENTS = ("chunk", "message")
STATES = ("queued", "running", "succeeded")


class ConvoProbes(StreamProbes):
    """The checks of the contract `convo`."""

    contract = "convo"
    operation = "/convo_turn_stream"
    is_gapless = True

    def __init__(self, server: TargetServer) -> None:
        super().__init__(server)
        self._introduce = AsyncCached(self._get_cookie)

    def list_source_checks(self) -> dict[str, CheckFunction]:
        """The pass and fail conditions of the ticket."""
        return super().list_source_checks() | {
            "fields": self.check_fields,
            "cache and CORS headers": self.check_source_headers,
            "sequence": self.check_sequence,
            "typing": self.check_typing,
            "assembled reply": self.check_assembled_reply,
            "coming back": self.check_coming_back,
            "failures": self.check_source_failures,
        }

    def list_extra_checks(self) -> dict[str, CheckFunction]:
        return super().list_extra_checks() | {
            "cookie": self.check_cookie,
            "progress": self.check_progress,
            "one turn at a time": self.check_one_turn_at_a_time,
            "stop": self.check_stop,
            "polling": self.check_polling,
            "cross-origin": self.check_cross_origin,
        }

    async def make_request(self, message: str) -> RequestSpec:
        body = {"message": message, "animalId": await self._choose_animal(), "stream": True}
        await self._introduce()
        return RequestSpec(self.operation, body)

    def change_message(self, request: RequestSpec) -> RequestSpec:
        return request.with_members(message="Hello!")

    async def make_session_request(self) -> RequestSpec:
        recording = await self.get_recording()
        request = (await self.get_request()).with_members(sessionId=recording.events[0].data["sessionId"])
        token = recording.headers.get("x-session-token")
        return request.with_headers(X_Session_Token=token) if token else request

    def make_resume_request(self, request: RequestSpec, turn_id: str, event_id: str) -> RequestSpec:
        return RequestSpec(f"/convo_turn/{turn_id}/stream", headers={"Last-Event-ID": event_id}, method="GET")

    async def find_full_texts(self, recording: Recording) -> Mapping[str, str]:
        return {"fullResponse": recording.events[-1].data.get("fullResponse", "")}

    def list_invalid_requests(self, request: RequestSpec) -> Sequence[InvalidRequest]:
        no_message = RequestSpec(self.operation, {"animalId": UNKNOWN_ANIMAL})
        unknown_turn = RequestSpec(f"/convo_turn/{UNKNOWN_TURN}", method="GET")
        return [
            InvalidRequest("blank message", request.with_members(message=" \n "), (400,), field="message"),
            InvalidRequest("no message", no_message, (400,), field="message"),
            InvalidRequest("no JSON", RequestSpec(self.operation, "{"), (400,), field="body"),
            InvalidRequest("unknown animal", request.with_members(animalId=UNKNOWN_ANIMAL), (404,)),
            InvalidRequest("unknown session", request.with_members(sessionId=UNKNOWN_SESSION), (404,)),
            InvalidRequest("unknown turn", unknown_turn, (404,)),
            InvalidRequest("unknown path", RequestSpec("/no/such/path", method="GET"), (404,)),
        ]

    async def check_fields(self) -> str:
        """Every event has the fields `event`, `id` and `data`, and a blank line after it."""
        recording = await self.get_recording()
        require(recording.body.endswith((b"\n\n", b"\r\n\r\n")), "no blank line after the last event")
        bare = [event.event for event in recording.logged_events if event.id is None or b"event:" not in event.raw]
        require(not bare, f"events without an id or a name: {bare[:3]}")
        return f"{len(recording.logged_events)} events with event, id and data"

    async def check_source_headers(self) -> str:
        """Nothing may keep the stream, and a browser may read it."""
        headers = (await self.get_recording()).headers
        control, origin = headers.get("cache-control", ""), headers.get("access-control-allow-origin", "")
        require("no-cache" in control or "no-store" in control, f"Cache-Control {control!r}")
        require(origin, "no Access-Control-Allow-Origin")
        return f"Cache-Control {control}, Access-Control-Allow-Origin {origin}"

    async def check_sequence(self) -> str:
        """`metadata` first, then the chunks, `complete` last."""
        names = [event.event for event in (await self.get_recording()).logged_events]
        require(names[0] == "metadata", f"the first event is {names[0]}, not metadata")
        require(names[-1] == "complete", f"the last event is {names[-1]}, not complete")
        require(names.count("complete") == 1, f"{names.count('complete')} complete events")
        require(set(names) & set(CHUNK_EVENTS), "no chunks")
        return f"metadata, {sum(name in CHUNK_EVENTS for name in names)} chunks, complete"

    async def check_typing(self) -> str:
        """The typing indicator starts, and stops again."""
        events = (await self.get_recording()).events
        statuses = [event.data.get("status") for event in events if event.event == "typing"]
        require(statuses == ["start", "stop"], f"typing {statuses}, not start and stop")
        return "start, stop"

    async def check_assembled_reply(self) -> str:
        """The chunks put together are the whole reply, where `complete` has one."""
        events = (await self.get_recording()).events
        chunks = [event.data for event in events if event.event in CHUNK_EVENTS]
        for chunk in chunks:
            require_members(chunk, "a chunk", content=str)
        reply = "".join(chunk["content"] for chunk in chunks)
        whole = events[-1].data.get("fullResponse", reply)
        require(reply and reply == whole, f"the chunks are {reply[:40]!r}, the whole reply is {str(whole)[:40]!r}")
        return f"{len(chunks)} chunks, {len(reply)} characters"

    async def check_coming_back(self) -> str:
        """A client whose connection was cut asks again, and gets a whole stream."""
        client = self.server.new_client()
        await self.new_recorder(should_stop=bool).record(client, await self.make_request(QUESTION))
        recording = await self.new_recorder().record(client, await self.make_request("Hello!"))
        require(recording.events, f"asked again: {recording.status} {recording.body[:80]!r}")
        require(recording.events[-1].event == "complete", f"asked again: {recording.events[-1].event} at the end")
        return f"asked again: {len(recording.events)} events, complete"

    async def check_source_failures(self) -> str:
        """What cannot be answered is refused, in words."""
        return await self.check_failures(RequestSpec(self.operation, "{"), RequestSpec(self.operation, {}))

    async def check_cookie(self) -> str:
        return check_cookie((await self.get_recording()).headers, "session_id")

    async def check_progress(self) -> str:
        return check_progress((await self.get_recording()).events)

    async def check_stop(self) -> str:
        """A stop ends the stream with `complete stopped`; a second stop has the same answer."""
        request = await self.make_request(QUESTION)
        first, recording, _ = await self.act_while_running(request, self._stop)
        require(first.status_code == 200, f"POST {first.request.url.path}: {first.status_code} {first.text[:80]!r}")
        if first.json()["finishReason"] == "stop":
            raise Skipped("the turn was over before it could be stopped")
        last = recording.events[-1]
        is_stopped = last.event == "complete" and last.data["finishReason"] == "stopped"
        require(is_stopped, f"the stream ended with {last.event} {last.data.get('finishReason')}, not complete stopped")
        streamed = self.rules.join_text(recording.events)
        second = await self._stop(recording.turn_id)
        require(second.status_code == 200, f"stopped again: {second.status_code}, not 200")
        for answer in (first.json(), second.json()):
            is_same = (answer["reply"], answer["finishReason"]) == (streamed, "stopped")
            seen = f"{answer['finishReason']} {answer['reply']!r}"
            require(is_same, f"the answer to a stop has {seen}; the stream had {streamed!r}")
        return f"complete stopped after {len(streamed)} characters; stopped again: the same"

    async def _stop(self, turn_id: str) -> httpx.Response:
        return await self.send(RequestSpec(f"/convo_turn/{turn_id}/stop"))

    async def check_polling(self) -> str:
        """`Prefer: respond-async` is answered with 202, and the turn's status and progress never go back."""
        request = (await self.make_request("Hello!")).with_members(stream=False).with_headers(Prefer="respond-async")
        answer = await self.send(request)
        require(answer.status_code == 202, f"Prefer: respond-async: {answer.status_code}, not 202")
        location = answer.headers.get("location", "")
        states = await self.poll(location, lambda state: state["status"] not in STATES[:2])
        return f"202, {location[:24]}...: {check_forward(states, STATES, lambda state: state['progress'])}"

    async def check_cross_origin(self) -> str:
        """Answers that are not streams have CORS headers, too."""
        answer = await self.send(RequestSpec("/health", method="GET"))
        return check_cors(answer.headers, "GET /health")

    async def _get_cookie(self) -> None:
        """Let the other client be known by one cookie, before its checks run side by side: turns may be bound to it."""
        body = {"message": "Hello!", "animalId": await self._choose_animal()}
        await self.send(RequestSpec("/convo_turn", body).with_headers(Prefer="respond-async"))

    async def _choose_animal(self) -> str:
        """An active animal: the lion if it is there, or if the server does not list its animals."""
        answer = await self.send(RequestSpec("/animal_list?status=active", method="GET"))
        animals = answer.json().get("animals", []) if answer.status_code == 200 else []
        ids = [animal["animalId"] for animal in animals]
        return "lion_001" if "lion_001" in ids or not ids else ids[0]
