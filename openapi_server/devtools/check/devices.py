"""Checks of the devices' contract: unnamed events, the last one marked final, and one session for each device."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence

from openapi_server.devtools.check.common_checks import CheckFunction, InvalidRequest, StreamProbes
from openapi_server.devtools.check.recording import RequestSpec
from openapi_server.devtools.check.responses import check_cookie, check_problem
from openapi_server.devtools.check.stream_rules import require, require_members

EMPTY_CONTENT = "Content cannot be empty"
# As the guide's clients send them.
EMPTY_LISTS: Mapping[str, object] = {"media_urls": [], "audio_urls": []}


class DeviceProbes(StreamProbes):
    """The checks of the contract `devices`."""

    contract = "devices"
    operation = "/chat/stream"
    # The guide's own server says text/plain.
    source_media_types = ("text/event-stream", "text/plain")

    def list_source_checks(self) -> dict[str, CheckFunction]:
        """The requests and answers of the guide."""
        return super().list_source_checks() | {
            "whole answer": self.check_json_response,
            "pieces": self.check_pieces,
            "final event": self.check_final_event,
            "same device": self.check_same_device,
            "failures": self.check_source_failures,
        }

    def list_extra_checks(self) -> dict[str, CheckFunction]:
        return super().list_extra_checks() | {
            "cookie": self.check_cookie,
            "one turn at a time": self.check_one_turn_at_a_time,
            "second message": self.check_second_message,
            "two addresses": self.check_two_paths,
        }

    async def make_request(self, message: str) -> RequestSpec:
        # A UUID, which is a key of its own: the checks run side by side and may get several cookies.
        return RequestSpec(self.operation, {"content": message}, {"X-Device-ID": str(uuid.uuid4())})

    def change_message(self, request: RequestSpec) -> RequestSpec:
        return request.with_members(content="Hello!")

    def refuse_when_busy(self, request: RequestSpec) -> RequestSpec:
        return request.with_members(onBusy="reject")

    def list_invalid_requests(self, request: RequestSpec) -> Sequence[InvalidRequest]:
        return [
            InvalidRequest("blank content", request.with_members(content="  "), (400,), detail=EMPTY_CONTENT),
            InvalidRequest(
                "blank content, not streamed",
                RequestSpec("/chat/", {"content": ""}, request.headers),
                (400,),
                detail=EMPTY_CONTENT,
            ),
            InvalidRequest("no content", RequestSpec(self.operation, {}, request.headers), (400,), field="content"),
            InvalidRequest("no JSON", RequestSpec(self.operation, "{", request.headers), (400,), field="body"),
            InvalidRequest("a bad device", request.with_headers(X_Device_ID="x" * 256), (400,)),
            InvalidRequest("a bad address", request.with_members(media_urls=["javascript:alert(1)"]), (400,)),
        ]

    async def check_cookie(self) -> str:
        """Without `X-Device-ID` the server creates a device and keeps its id in a cookie."""
        client = self.server.new_client()
        first = await self.send(RequestSpec("/chat/", {"content": "Hello!"}), client)
        require(first.status_code == 200, f"POST /chat/: {first.status_code} {first.text[:80]!r}")
        cookie = check_cookie(first.headers)
        second = await self.send(RequestSpec("/chat/", {"content": "Hello again!"}), client)
        require("set-cookie" not in second.headers, "a visitor with a cookie got another one")
        return cookie

    async def check_pieces(self) -> str:
        """Every event has a content, a timestamp and whether it is the last one."""
        events = (await self.get_recording()).events
        for event in events:
            require_members(event.data, "an event", content=str, timestamp=str, is_final=bool)
        text = "".join(event.data["content"] for event in events)
        require(text, "the stream has no text")
        return f"{len(events)} events, {len(text)} characters"

    async def check_same_device(self) -> str:
        """A device is answered again, as the same one."""
        request, client = await self.make_request("Hello!"), self.server.new_client()
        for message in ("Hello!", "Hello again!"):
            answer = await self.send(
                RequestSpec("/chat/", {**EMPTY_LISTS, "content": message}, request.headers), client
            )
            require(answer.status_code == 200, f"POST /chat/: {answer.status_code} {answer.text[:80]!r}")
            require_members(answer.json(), "POST /chat/", content=str)
        return "answered twice"

    async def check_source_failures(self) -> str:
        """What cannot be answered is refused, in words."""
        return await self.check_failures(RequestSpec("/chat/", "{"), RequestSpec(self.operation, "{"))

    async def check_final_event(self) -> str:
        """The last event is empty and marked final; it is not an error."""
        events = (await self.get_recording()).events
        last = events[-1].data
        finals = sum(event.data.get("is_final") is True for event in events)
        require(finals == 1, f"{finals} final events")
        is_final = last.get("is_final") is True and last.get("content") == ""
        require(is_final, f"the last event is {str(last)[:80]}")
        require("error" not in last, f"the turn failed: {last.get('error')}")
        return f"{len(events) - 1} pieces, then an empty final event"

    async def check_json_response(self) -> str:
        """`POST /chat/` answers with the whole reply."""
        request = await self.make_request("Hello!")
        answer = await self.send(RequestSpec("/chat/", {**EMPTY_LISTS, "content": "Hello!"}, request.headers))
        require(answer.status_code == 200, f"POST /chat/: {answer.status_code} {answer.text[:80]!r}")
        content = answer.json().get("content")
        require(isinstance(content, str) and content, f"POST /chat/ has no content: {answer.text[:80]!r}")
        return f"{content[:40]!r}"

    async def check_two_paths(self) -> str:
        """`/chat/` and `/chat` are different operations: no redirects, and each refuses the other's body."""
        request = await self.make_request("Hello!")
        require(isinstance(request.body, Mapping), "")
        bare = await self.send(RequestSpec("/chat", request.body, request.headers))
        slashed = await self.send(RequestSpec("/chat/", {"message": "Hello!", "session_id": "s"}, request.headers))
        seen = [check_problem(bare, (400,), field="message"), check_problem(slashed, (400,), field="content")]
        return f"the body of the other: /chat {seen[0]}, /chat/ {seen[1]}"
