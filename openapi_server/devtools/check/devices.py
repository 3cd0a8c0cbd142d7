"""Checks of the devices' contract: unnamed events, the last one marked final, and one session for each device."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence

from openapi_server.devtools.check.probes import CheckFunction, InvalidRequest, StreamProbes
from openapi_server.devtools.check.recording import Recording, RequestSpec
from openapi_server.devtools.check.responses import check_cookie, check_problem
from openapi_server.devtools.check.stream_rules import require

EMPTY_CONTENT = "Content cannot be empty"


class DeviceProbes(StreamProbes):
    """The checks of the contract `devices`."""

    contract = "devices"
    operation = "/chat/stream"

    def list_checks(self) -> dict[str, CheckFunction]:
        return super().list_checks() | {
            "cookie": self.check_cookie,
            "one turn at a time": self.check_one_turn_at_a_time,
            "final event": self.check_final_event,
            "whole answer": self.check_json_response,
            "two addresses": self.check_two_paths,
        }

    async def make_request(self, message: str) -> RequestSpec:
        # A UUID, which is a key of its own: the checks run side by side and may get several cookies.
        return RequestSpec(self.operation, {"content": message}, {"X-Device-ID": str(uuid.uuid4())})

    def change_message(self, request: RequestSpec) -> RequestSpec:
        return request.with_members(content="Hello!")

    async def find_full_texts(self, recording: Recording) -> Mapping[str, str]:
        """None: no event of this contract has the whole reply."""
        return {}

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

    async def check_final_event(self) -> str:
        """The last event is empty and marked final; it is not an error."""
        events = (await self.get_recording()).events
        last = events[-1].data
        is_final = last.get("is_final") is True and last.get("content") == ""
        require(is_final, f"the last event is {str(last)[:80]}")
        require("error" not in last, f"the turn failed: {last.get('error')}")
        return f"{len(events) - 1} pieces, then an empty final event"

    async def check_json_response(self) -> str:
        """`POST /chat/` answers with the whole reply."""
        request = await self.make_request("Hello!")
        answer = await self.send(RequestSpec("/chat/", request.body, request.headers))
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
