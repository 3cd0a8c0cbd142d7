"""The devices' contract: unnamed events of which the last is final, a session for each device."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence

from openapi_server.devtools.check.answers import check_cookie, check_problem
from openapi_server.devtools.check.findings import require
from openapi_server.devtools.check.probes import Check, Mistake, StreamProbes
from openapi_server.devtools.check.recording import Ask, Recording

EMPTY = "Content cannot be empty"


class DeviceProbes(StreamProbes):
    """Probes of the devices' contract."""

    contract = "devices"
    operation = "/chat/stream"

    def checks(self) -> dict[str, Check]:
        return super().checks() | {
            "cookie": self.cookie,
            "one turn at a time": self.one_turn_at_a_time,
            "final event": self.final_event,
            "whole answer": self.whole_answer,
            "two addresses": self.two_addresses,
        }

    async def ask(self, message: str) -> Ask:
        return Ask(self.operation, {"content": message}, {"X-Device-ID": f"check-{uuid.uuid4()}"})

    def other(self, ask: Ask) -> Ask:
        return ask.saying(content="Hello!")

    async def whole_texts(self, recording: Recording) -> Mapping[str, str]:
        """No event of this contract repeats the whole; the stored turn does."""
        return {}

    def mistakes(self, ask: Ask) -> Sequence[Mistake]:
        return [
            Mistake("blank content", ask.saying(content="  "), (400,), says=EMPTY),
            Mistake("blank content, not streamed", Ask("/chat/", {"content": ""}, ask.headers), (400,), says=EMPTY),
            Mistake("no content", Ask(self.operation, {}, ask.headers), (400,), field="content"),
            Mistake("no JSON", Ask(self.operation, "{", ask.headers), (400,), field="body"),
            Mistake("a bad device", ask.having(X_Device_ID="x" * 256), (400,)),
            Mistake("a bad address", ask.saying(media_urls=["javascript:alert(1)"]), (400,)),
        ]

    async def cookie(self) -> str:
        """Without `X-Device-ID` the server makes a device up, and keeps it in a cookie."""
        visitor = self.site.visitor()
        first = await self.send(Ask("/chat/", {"content": "Hello!"}), visitor)
        require(first.status_code == 200, f"POST /chat/: {first.status_code} {first.text[:80]!r}")
        told = check_cookie(first.headers)
        second = await self.send(Ask("/chat/", {"content": "Hello again!"}), visitor)
        require("set-cookie" not in second.headers, "a visitor with a cookie is given another one")
        return told

    async def final_event(self) -> str:
        """Empty and final; the pieces before it are neither."""
        events = (await self.recorded()).events
        last = events[-1].data
        is_final = last.get("is_final") is True and last.get("content") == ""
        require(is_final, f"the last event is {str(last)[:80]}")
        require("error" not in last, f"the turn failed: {last.get('error')}")
        return f"{len(events) - 1} pieces, then an empty final event"

    async def whole_answer(self) -> str:
        """`POST /chat/` answers whole."""
        ask = await self.ask("Hello!")
        answer = await self.send(Ask("/chat/", ask.body, ask.headers))
        require(answer.status_code == 200, f"POST /chat/: {answer.status_code} {answer.text[:80]!r}")
        content = answer.json().get("content")
        require(isinstance(content, str) and content, f"POST /chat/ has no content: {answer.text[:80]!r}")
        return f"{content[:40]!r}"

    async def two_addresses(self) -> str:
        """`/chat/` is not `/chat`: no redirect from one to the other, each refuses the other's body."""
        ask = await self.ask("Hello!")
        require(isinstance(ask.body, Mapping), "")
        bare = await self.send(Ask("/chat", ask.body, ask.headers))
        slashed = await self.send(Ask("/chat/", {"message": "Hello!", "session_id": "s"}, ask.headers))
        seen = [check_problem(bare, (400,), field="message"), check_problem(slashed, (400,), field="content")]
        return f"the body of the other: /chat {seen[0]}, /chat/ {seen[1]}"
