"""Checks of the chat sessions' contract: accounts, credits, and streams that the client confirms afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from openapi_server.devtools.check.contract_client import QUESTION, AsyncCached, Credentials, TargetServer
from openapi_server.devtools.check.probes import (
    UNKNOWN_ANIMAL,
    UNKNOWN_TURN,
    CheckFunction,
    InvalidRequest,
    Skipped,
    StreamProbes,
)
from openapi_server.devtools.check.recording import Recording, RequestSpec
from openapi_server.devtools.check.responses import check_problem
from openapi_server.devtools.check.stream_rules import require

# What the administrator allocates for a day to an account with less than half of it. Running turns reserve a lot.
ALLOCATED_CREDITS = 100_000


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

    def list_checks(self) -> dict[str, CheckFunction]:
        return super().list_checks() | {
            "login": self.check_login,
            "refresh": self.check_refresh,
            "credits": self.check_credits,
            "no credits": self.check_no_credits,
            "models": self.check_models,
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

    async def _get_balance(self) -> int:
        answer = await self.send(RequestSpec("/credits/balance", headers=await self._make_auth_headers(), method="GET"))
        require(answer.status_code == 200, f"GET /credits/balance: {answer.status_code}, not 200")
        return int(answer.json()["credits"])

    async def _ensure_credits(self) -> str | None:
        """Give the account credits. Returns how a stream was refused before, if it had none."""
        balance = await self._get_balance()
        refusal = await self._check_payment_required() if balance == 0 else None
        if balance < ALLOCATED_CREDITS / 2:
            await self._allocate_credits()
        return refusal

    async def _check_payment_required(self) -> str:
        path = f"/chat/sessions/{await self._create_session()}/stream"
        answer = await self.send(RequestSpec(path, {"message": QUESTION}, await self._make_auth_headers()))
        return check_problem(answer, (402,))

    async def _allocate_credits(self) -> None:
        headers = {"Authorization": f"Bearer {(await self.get_admin_tokens())['accessToken']}"}
        body = {
            "userId": self.server.accounts.user.username,
            "credits": ALLOCATED_CREDITS,
            "expiryDays": 1,
            "notes": "zoochat check",
        }
        answer = await self.send(RequestSpec("/credits/allocate", body, headers))
        require(answer.status_code == 201, f"POST /credits/allocate: {answer.status_code} {answer.text[:80]!r}")


def _make_confirmation(request: RequestSpec, turn_id: str) -> RequestSpec:
    body = {"completeResponse": "", "streamingSessionId": turn_id, "tokensUsed": 0}
    return RequestSpec(request.path.replace("/stream", "/update-stream"), body, request.headers)
