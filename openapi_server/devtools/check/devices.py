"""The devices' contract: unnamed events of which the last is final, a session for each device."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence

from openapi_server.devtools.check.answers import check_cookie, check_problem
from openapi_server.devtools.check.findings import require
from openapi_server.devtools.check.probes import CheckFunction, InvalidRequest, StreamProbes
from openapi_server.devtools.check.recording import Recording, RequestSpec

EMPTY_CONTENT = "Content cannot be empty"


class DeviceProbes(StreamProbes):
    """Probes of the devices' contract."""

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
        return RequestSpec(self.operation, {"content": message}, {"X-Device-ID": f"check-{uuid.uuid4()}"})

    def change_message(self, ask: RequestSpec) -> RequestSpec:
        return ask.with_members(content="Hello!")

    async def find_full_texts(self, recording: Recording) -> Mapping[str, str]:
        """No event of this contract repeats the whole; the stored turn does."""
        return {}

    def list_invalid_requests(self, ask: RequestSpec) -> Sequence[InvalidRequest]:
        return [
            InvalidRequest("blank content", ask.with_members(content="  "), (400,), detail=EMPTY_CONTENT),
            InvalidRequest(
                "blank content, not streamed",
                RequestSpec("/chat/", {"content": ""}, ask.headers),
                (400,),
                detail=EMPTY_CONTENT,
            ),
            InvalidRequest("no content", RequestSpec(self.operation, {}, ask.headers), (400,), field="content"),
            InvalidRequest("no JSON", RequestSpec(self.operation, "{", ask.headers), (400,), field="body"),
            InvalidRequest("a bad device", ask.with_headers(X_Device_ID="x" * 256), (400,)),
            InvalidRequest("a bad address", ask.with_members(media_urls=["javascript:alert(1)"]), (400,)),
        ]

    async def check_cookie(self) -> str:
        """Without `X-Device-ID` the server makes a device up, and keeps it in a cookie."""
        visitor = self.server.new_client()
        first = await self.send(RequestSpec("/chat/", {"content": "Hello!"}), visitor)
        require(first.status_code == 200, f"POST /chat/: {first.status_code} {first.text[:80]!r}")
        told = check_cookie(first.headers)
        second = await self.send(RequestSpec("/chat/", {"content": "Hello again!"}), visitor)
        require("set-cookie" not in second.headers, "a visitor with a cookie is given another one")
        return told

    async def check_final_event(self) -> str:
        """Empty and final; the pieces before it are neither."""
        events = (await self.get_recording()).events
        last = events[-1].data
        is_final = last.get("is_final") is True and last.get("content") == ""
        require(is_final, f"the last event is {str(last)[:80]}")
        require("error" not in last, f"the turn failed: {last.get('error')}")
        return f"{len(events) - 1} pieces, then an empty final event"

    async def check_json_response(self) -> str:
        """`POST /chat/` answers whole."""
        ask = await self.make_request("Hello!")
        answer = await self.send(RequestSpec("/chat/", ask.body, ask.headers))
        require(answer.status_code == 200, f"POST /chat/: {answer.status_code} {answer.text[:80]!r}")
        content = answer.json().get("content")
        require(isinstance(content, str) and content, f"POST /chat/ has no content: {answer.text[:80]!r}")
        return f"{content[:40]!r}"

    async def check_two_paths(self) -> str:
        """`/chat/` is not `/chat`: no redirect from one to the other, each refuses the other's body."""
        ask = await self.make_request("Hello!")
        require(isinstance(ask.body, Mapping), "")
        bare = await self.send(RequestSpec("/chat", ask.body, ask.headers))
        slashed = await self.send(RequestSpec("/chat/", {"message": "Hello!", "session_id": "s"}, ask.headers))
        seen = [check_problem(bare, (400,), field="message"), check_problem(slashed, (400,), field="content")]
        return f"the body of the other: /chat {seen[0]}, /chat/ {seen[1]}"
