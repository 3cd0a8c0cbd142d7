"""Checks of the chat sessions' contract: accounts, credits, and streams that the client confirms afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from openapi_server.devtools.check.common_checks import (
    UNKNOWN_ANIMAL,
    UNKNOWN_TURN,
    CheckFunction,
    InvalidRequest,
    Skipped,
    StreamProbes,
)
from openapi_server.devtools.check.contract_client import QUESTION, AsyncCached, Credentials, TargetServer
from openapi_server.devtools.check.recording import Recording, RequestSpec
from openapi_server.devtools.check.responses import check_problem
from openapi_server.devtools.check.stream_rules import Violation, require, require_members

# What the administrator allocates for a day to an account with less than half of it. Running turns reserve a lot.
ALLOCATED_CREDITS = 100_000
# What the script of the document does: it allocates credits, waits before each of its attempts to update a session, and
# reads some chunks before it sends a wrong id.
SOURCE_CREDITS = 5000
SOURCE_ATTEMPTS = 3
SOURCE_WAIT_S = 2.0
SOURCE_CHUNKS = 5


class SessionProbes(StreamProbes):
    """The checks of the contract `sessions`. They need an account, and an administrator to give it credits."""

    contract = "sessions"
    operation = "/chat/sessions/{sessionId}/stream"
    busy_statuses = (400,)

    def __init__(self, server: TargetServer) -> None:
        super().__init__(server)
        self.get_tokens = AsyncCached(self._log_in_user)
        self.get_admin_tokens = AsyncCached(lambda: self._log_in(server.accounts.admin))
        self.ensure_credits = AsyncCached(self._ensure_credits)

    def list_source_checks(self) -> dict[str, CheckFunction]:
        """The steps of the script that the document describes."""
        return super().list_source_checks() | {
            "health": self.check_health,
            "accounts": self.check_accounts,
            "allocation": self.check_allocation,
            "models": self.check_models,
            "session": self.check_session,
            "streaming id": self.check_streaming_id,
            "chunks": self.check_chunks,
            "right id": self.check_right_id,
            "wrong id": self.check_wrong_id,
        }

    def list_extra_checks(self) -> dict[str, CheckFunction]:
        return super().list_extra_checks() | {
            "login": self.check_login,
            "refresh": self.check_refresh,
            "credits": self.check_credits,
            "no credits": self.check_no_credits,
            "balance": self.check_balance,
            "own sessions": self.check_own_sessions,
            "observe": self.check_observe,
            "one turn at a time": self.check_one_turn_at_a_time,
            "confirm": self.check_confirm,
            "confirm early": self.check_early_confirm,
            "mismatch": self.check_mismatch,
            "foreign session": self.check_foreign_session,
        }

    async def make_request(self, message: str) -> RequestSpec:
        await self.ensure_credits()
        session_id = await self._create_session()
        return RequestSpec(f"/chat/sessions/{session_id}/stream", {"message": message}, await self._make_auth_headers())

    def change_message(self, request: RequestSpec) -> RequestSpec:
        return request.with_members(message="Hello!")

    async def find_full_texts(self, recording: Recording) -> Mapping[str, str]:
        done = recording.events[-1].data
        require(done.get("streamingSessionId") == recording.turn_id, "done names another turn than the header")
        return {"done.message": done.get("message", "")}

    def list_invalid_requests(self, request: RequestSpec) -> Sequence[InvalidRequest]:
        credentials = {"username": self.server.accounts.user.username, "password": "not-the-password"}
        unknown = RequestSpec("/chat/sessions/sess_unknown/stream", {"message": "Hello!"}, request.headers)
        animal = RequestSpec("/chat/sessions", {"animalId": UNKNOWN_ANIMAL}, request.headers)
        nobody = RequestSpec(request.path, request.body)
        return [
            InvalidRequest("blank message", request.with_members(message=" "), (400,), field="message"),
            InvalidRequest("no JSON", RequestSpec(request.path, "{", request.headers), (400,), field="body"),
            InvalidRequest("unknown session", unknown, (404,)),
            InvalidRequest("unknown animal", animal, (404,)),
            InvalidRequest("no token", nobody, (401,)),
            InvalidRequest("a bad token", nobody.with_headers(Authorization="Bearer nonsense"), (401,)),
            InvalidRequest("a wrong password", RequestSpec("/auth/login", credentials), (401,)),
        ]

    async def check_accounts(self) -> str:
        """A user and an administrator can log in, and each gets an access token."""
        for name, tokens in (("user", await self.get_tokens()), ("administrator", await self.get_admin_tokens())):
            require_members(tokens, f"the login of the {name}", accessToken=str)
        return "an access token for the user and one for the administrator"

    async def check_allocation(self) -> str:
        """The administrator allocates credits: 201."""
        await self.ensure_credits()
        await self._allocate_credits(SOURCE_CREDITS)
        return f"{SOURCE_CREDITS} credits: 201"

    async def check_session(self) -> str:
        """A session is created with 201 and an id, and deleted with 200."""
        session_id = await self._create_session()
        path = f"/chat/sessions/{session_id}"
        deleted = await self.send(RequestSpec(path, headers=await self._make_auth_headers(), method="DELETE"))
        require(deleted.status_code == 200, f"DELETE {path}: {deleted.status_code}, not 200")
        return f"created {session_id[:12]}..., deleted"

    async def check_streaming_id(self) -> str:
        turn_id = (await self.get_recording()).turn_id
        require(turn_id, "the stream has no header X-Streaming-Session-Id")
        return f"{turn_id[:12]}..."

    async def check_chunks(self) -> str:
        """`chunk` events with a text, then one `done` with the tokens used."""
        events = [event for event in (await self.get_recording()).events if event.event in ("chunk", "done")]
        require(
            len(events) > 1 and events[-1].event == "done", f"chunk and done events: {[e.event for e in events][-3:]}"
        )
        for chunk in events[:-1]:
            require(chunk.event == "chunk", "an event after done")
            require_members(chunk.data, "a chunk", text=str)
        require_members(events[-1].data, "done", tokensUsed=int)
        return f"{len(events) - 1} chunks, tokensUsed {events[-1].data['tokensUsed']}"

    async def check_right_id(self) -> str:
        """An update with the id of the stream is accepted, within the script's attempts."""
        # In a session of its own: other checks stream in that of the recording, too.
        request = await self.make_request("Hello!")
        recording = await self.new_recorder().record(self.server.new_client(), request)
        for attempt in range(1, SOURCE_ATTEMPTS + 1):
            answer = await self.send(_make_confirmation(request, recording.turn_id))
            if answer.status_code == 200:
                return f"200 at attempt {attempt}"
            await asyncio.sleep(SOURCE_WAIT_S)
        raise Violation(f"the right id: {answer.status_code} {answer.text[:80]!r}, {SOURCE_ATTEMPTS} times")

    async def check_wrong_id(self) -> str:
        """After some chunks an update with another id is refused: 400, and the answer speaks of a mismatch."""
        request = await self.make_request(QUESTION)
        recorder = self.new_recorder(lambda events: len(events) >= SOURCE_CHUNKS)
        await recorder.record(self.server.new_client(), request)
        answer = await self.send(_make_confirmation(request, UNKNOWN_TURN))
        require(answer.status_code == 400, f"a wrong id: {answer.status_code}, not 400: {answer.text[:80]!r}")
        require("mismatch" in answer.text.lower(), f"the answer does not speak of a mismatch: {answer.text[:80]!r}")
        return f"400 {answer.text[:60]!r}"

    async def check_login(self) -> str:
        tokens = await self.get_tokens()
        missing = [
            name for name in ("accessToken", "refreshToken", "tokenType", "expiresIn", "user") if name not in tokens
        ]
        require(not missing, f"POST /auth/login: no {', '.join(missing)}")
        me = await self.send(RequestSpec("/me", headers=await self._make_auth_headers(), method="GET"))
        require(me.status_code == 200, f"GET /me: {me.status_code}, not 200")
        return f"{tokens['tokenType']} token for {tokens['user']['username']} ({tokens['user']['role']})"

    async def check_refresh(self) -> str:
        """A refresh token can be used once: the same one again is refused, or at once gets the same successor."""
        tokens = await self._log_in(self.server.accounts.user)
        request = RequestSpec("/auth/refresh", {"refreshToken": tokens["refreshToken"]})
        first = await self.send(request)
        require(first.status_code == 200, f"POST /auth/refresh: {first.status_code} {first.text[:80]!r}")
        require(first.json().get("accessToken"), "POST /auth/refresh: no accessToken")
        again = await self.send(request)
        if again.status_code == 200:
            is_same = again.json().get("refreshToken") == first.json().get("refreshToken")
            require(is_same, "the old token again gave another refresh token: one login has two valid ones")
            return "a new pair; the old token again at once gives the same refresh token"
        return f"a new pair; the old token again {check_problem(again, (401,))}"

    async def check_credits(self) -> str:
        """`done` tells how many tokens the turn used, and the balance is not negative."""
        recording = await self.get_recording()
        used = recording.events[-1].data.get("tokensUsed")
        require(isinstance(used, int) and used > 0, f"done has tokensUsed {used!r}")
        balance = await self._get_balance()
        require(balance >= 0, f"the balance is {balance}")
        return f"tokensUsed {used}, balance {balance}"

    async def check_balance(self) -> str:
        """`GET /credits/balance` has `totalCredits`, the member that the scripts read, equal to `credits`."""
        answer = await self._request_balance()
        require(answer.status_code == 200, f"GET /credits/balance: {answer.status_code}, not 200")
        require_members(answer.json(), "GET /credits/balance", credits=int, totalCredits=int)
        balance = answer.json()
        is_same = balance["credits"] == balance["totalCredits"]
        require(is_same, f"credits {balance['credits']}, totalCredits {balance['totalCredits']}")
        return f"credits and totalCredits {balance['credits']}"

    async def check_own_sessions(self) -> str:
        """`GET /chat/sessions` lists the caller's own sessions, and nobody else's."""
        session_id = await self._create_session()
        stranger = await self._log_in(self.server.accounts.other_user)
        own = await self._list_sessions(await self._make_auth_headers())
        foreign = await self._list_sessions({"Authorization": f"Bearer {stranger['accessToken']}"})
        require(session_id in own, "GET /chat/sessions does not list the caller's new session")
        require(session_id not in foreign, "GET /chat/sessions lists the session of another user")
        return f"{len(own)} of one's own, {len(foreign)} of the stranger's, none in common"

    async def check_observe(self) -> str:
        """A running turn is shown to the administrator, and neither to its own user nor to somebody without a login."""
        if not self.server.has_operation("/chat/sessions/{sessionId}/observe", "get"):
            raise Skipped("this server has no GET /chat/sessions/{sessionId}/observe")
        request = await self.make_request(QUESTION)
        look = RequestSpec(request.path.removesuffix("/stream") + "/observe", method="GET")
        admin = {"Authorization": f"Bearer {(await self.get_admin_tokens())['accessToken']}"}
        recorder = self.new_recorder(lambda events: self.rules.join_text(events) != "")

        async def look_in(turn_id: str) -> tuple[Recording, list[int]]:
            seen = await recorder.record(self.server.new_client(), look.with_headers(**admin))
            refused = [await self.send_for_head(look.with_headers(**headers)) for headers in (request.headers, {})]
            return seen, [answer.status_code for answer in refused]

        (seen, refused), recording, _ = await self.act_while_running(request, look_in)
        require(refused == [404, 401], f"its own user gets {refused[0]}, not 404; nobody {refused[1]}, not 401")
        require(seen.status == 200, f"the administrator gets {seen.status}, not 200: {seen.body[:80]!r}")
        is_same = seen.turn_id == recording.turn_id and recording.events[: len(seen.events)] == seen.events
        require(is_same, "the administrator sees another stream than the turn's reader")
        return f"the administrator sees {len(seen.events)} events of it; its user 404, nobody 401"

    async def _list_sessions(self, headers: Mapping[str, str]) -> set[str]:
        answer = await self.send(RequestSpec("/chat/sessions", headers=headers, method="GET"))
        require(answer.status_code == 200, f"GET /chat/sessions: {answer.status_code}, not 200")
        return {str(session["sessionId"]) for session in answer.json()["sessions"]}

    async def check_no_credits(self) -> str:
        """Without credits a stream is refused with 402."""
        refusal = await self.ensure_credits()
        if refusal is None:
            raise Skipped(f"{self.server.accounts.user.username} had credits already")
        return refusal

    async def check_models(self) -> str:
        answer = await self.send(RequestSpec("/models", method="GET"))
        require(answer.status_code == 200, f"GET /models: {answer.status_code}, not 200")
        models = answer.json()["models"]
        require(models, "GET /models names none")
        return ", ".join(str(model["id"]) for model in models)

    async def check_confirm(self) -> str:
        """A confirmation with the id in the stream's header is accepted; the answer has the server's token count."""
        recording, request = await self.get_recording(), await self.get_request()
        answer = await self.send(_make_confirmation(request, recording.turn_id))
        require(answer.status_code == 200, f"the right id: {answer.status_code} {answer.text[:80]!r}")
        expected = recording.events[-1].data.get("tokensUsed")
        confirmed = answer.json().get("tokensUsed")
        require(confirmed == expected, f"tokensUsed {confirmed} in the answer, {expected} in done")
        return f"200, tokensUsed {confirmed}"

    async def check_early_confirm(self) -> str:
        """A confirmation while the turn runs stops it, and the session accepts the next message."""
        request = await self.make_request(QUESTION)
        answer, _, _ = await self.act_while_running(
            request, lambda turn_id: self.send(_make_confirmation(request, turn_id))
        )
        require(answer.status_code == 200, f"right after the header: {answer.status_code} {answer.text[:80]!r}")
        following = await self.send(self.change_message(request))
        require(following.status_code == 200, f"the next message: {following.status_code} {following.text[:80]!r}")
        return "200 right after the header; the next message 200"

    async def check_mismatch(self) -> str:
        """A confirmation with a wrong id is refused, and the problem does not contain the right one."""
        recording, request = await self.get_recording(), await self.get_request()
        wrong = await self.send(_make_confirmation(request, UNKNOWN_TURN))
        seen = check_problem(wrong, (400,))
        require("mismatch" in wrong.json()["detail"].lower(), f"{wrong.json()['detail']!r} does not say mismatch")
        secret = recording.turn_id.removeprefix("turn_")
        is_leaked = secret in wrong.text or secret in str(wrong.headers)
        require(not is_leaked, "the refusal of a wrong id contains the right one")
        return f"{seen}; it does not contain the right id"

    async def check_foreign_session(self) -> str:
        """Another user's session is answered as an unknown one."""
        request, tokens = await self.get_request(), await self._log_in(self.server.accounts.other_user)
        foreign = request.with_headers(Authorization=f"Bearer {tokens['accessToken']}")
        unknown = RequestSpec("/chat/sessions/sess_unknown/stream", request.body, foreign.headers)
        answers = [await self.send(foreign), await self.send(unknown)]
        seen = [check_problem(answer, (404,)) for answer in answers]
        require(answers[0].json() == answers[1].json(), "a foreign session and an unknown one answer differently")
        return f"{seen[0]}, as for an unknown one"

    async def _log_in_user(self) -> Mapping[str, Any]:
        return await self._log_in(self.server.accounts.user)

    async def _log_in(self, account: Credentials) -> Mapping[str, Any]:
        body = {"username": account.username, "password": account.password}
        answer = await self.send(RequestSpec("/auth/login", body))
        if answer.status_code == 401:
            raise Skipped(f"{account.username} cannot log in here; zoochat check --help says how to name another")
        require(answer.status_code == 200, f"POST /auth/login: {answer.status_code} {answer.text[:80]!r}")
        tokens: Mapping[str, Any] = answer.json()
        return tokens

    async def _make_auth_headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {(await self.get_tokens())['accessToken']}"}

    async def _create_session(self) -> str:
        headers = await self._make_auth_headers()
        answer = await self.send(RequestSpec("/chat/sessions", {"title": "zoochat check"}, headers))
        require(answer.status_code == 201, f"POST /chat/sessions: {answer.status_code} {answer.text[:80]!r}")
        return str(answer.json()["sessionId"])

    async def _request_balance(self) -> httpx.Response:
        headers = await self._make_auth_headers()
        return await self.send(RequestSpec("/credits/balance", headers=headers, method="GET"))

    async def _get_balance(self) -> int:
        answer = await self._request_balance()
        require(answer.status_code == 200, f"GET /credits/balance: {answer.status_code}, not 200")
        return int(answer.json()["credits"])

    async def _ensure_credits(self) -> str | None:
        """Give the account credits. Returns how a stream was refused before, if it had none."""
        answer = await self._request_balance()
        if answer.status_code != 200:
            # The document knows of no balance: credits are just allocated.
            await self._allocate_credits(ALLOCATED_CREDITS)
            return None
        balance = int(answer.json()["credits"])
        refusal = await self._get_refusal_without_credits() if balance == 0 else None
        if balance < ALLOCATED_CREDITS / 2:
            await self._allocate_credits(ALLOCATED_CREDITS)
        return refusal

    async def _get_refusal_without_credits(self) -> str:
        path = f"/chat/sessions/{await self._create_session()}/stream"
        answer = await self.send(RequestSpec(path, {"message": QUESTION}, await self._make_auth_headers()))
        return check_problem(answer, (402,))

    async def _allocate_credits(self, count: int) -> None:
        headers = {"Authorization": f"Bearer {(await self.get_admin_tokens())['accessToken']}"}
        body = {
            "userId": self.server.accounts.user.username,
            "credits": count,
            "expiryDays": 1,
            "notes": "zoochat check",
        }
        answer = await self.send(RequestSpec("/credits/allocate", body, headers))
        require(answer.status_code == 201, f"POST /credits/allocate: {answer.status_code} {answer.text[:80]!r}")


def _make_confirmation(request: RequestSpec, turn_id: str) -> RequestSpec:
    body = {"completeResponse": "", "streamingSessionId": turn_id, "tokensUsed": 0}
    return RequestSpec(request.path.replace("/stream", "/update-stream"), body, request.headers)
