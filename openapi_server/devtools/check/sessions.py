"""The chat sessions' contract: accounts, credits, and streams that are confirmed by the id in their header."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from openapi_server.devtools.check.answers import check_problem
from openapi_server.devtools.check.findings import Skipped, require
from openapi_server.devtools.check.probes import NOBODYS_ANIMAL, UNKNOWN_TURN, Check, Mistake, StreamProbes
from openapi_server.devtools.check.recording import Ask, Recording
from openapi_server.devtools.check.site import Login, Once, Site
from openapi_server.devtools.check.talking import QUESTION

# What the administrator gives the account for a day when it has less than half of it: turns that run reserve a lot.
ALLOCATED = 100_000


class SessionProbes(StreamProbes):
    """Probes of the chat sessions' contract. They need an account, and an administrator who gives it credits."""

    contract = "sessions"
    operation = "/chat/sessions/{sessionId}/stream"
    busy = (400,)

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.tokens = Once(self._login)
        self.admin_tokens = Once(lambda: self._logged_in(site.accounts.admin))
        self.credited = Once(self._credit)

    def checks(self) -> dict[str, Check]:
        return super().checks() | {
            "login": self.login,
            "refresh": self.refresh,
            "credits": self.credits,
            "no credits": self.no_credits,
            "models": self.models,
            "one turn at a time": self.one_turn_at_a_time,
            "confirm": self.confirm,
            "confirm early": self.confirm_early,
            "mismatch": self.mismatch,
            "foreign session": self.foreign_session,
        }

    async def ask(self, message: str) -> Ask:
        await self.credited()
        session_id = await self._new_session()
        return Ask(f"/chat/sessions/{session_id}/stream", {"message": message}, await self._headers())

    def other(self, ask: Ask) -> Ask:
        return ask.saying(message="Hello!")

    async def whole_texts(self, recording: Recording) -> Mapping[str, str]:
        done = recording.events[-1].data
        require(done.get("streamingSessionId") == recording.turn_id, "done names another turn than the header")
        return {"done.message": done.get("message", "")}

    def mistakes(self, ask: Ask) -> Sequence[Mistake]:
        credentials = {"username": self.site.accounts.user.username, "password": "not-the-password"}
        unknown = Ask("/chat/sessions/sess_unknown/stream", {"message": "Hello!"}, ask.headers)
        animal = Ask("/chat/sessions", {"animalId": NOBODYS_ANIMAL}, ask.headers)
        nobody = Ask(ask.path, ask.body)
        return [
            Mistake("blank message", ask.saying(message=" "), (400,), field="message"),
            Mistake("no JSON", Ask(ask.path, "{", ask.headers), (400,), field="body"),
            Mistake("unknown session", unknown, (404,)),
            Mistake("unknown animal", animal, (404,)),
            Mistake("no token", nobody, (401,)),
            Mistake("a bad token", nobody.having(Authorization="Bearer nonsense"), (401,)),
            Mistake("a wrong password", Ask("/auth/login", credentials), (401,)),
        ]

    async def login(self) -> str:
        tokens = await self.tokens()
        missing = [
            name for name in ("accessToken", "refreshToken", "tokenType", "expiresIn", "user") if name not in tokens
        ]
        require(not missing, f"POST /auth/login: no {', '.join(missing)}")
        me = await self.send(Ask("/me", headers=await self._headers(), method="GET"))
        require(me.status_code == 200, f"GET /me: {me.status_code}, not 200")
        return f"{tokens['tokenType']} token for {tokens['user']['username']} ({tokens['user']['role']})"

    async def refresh(self) -> str:
        """A refresh token is good for one time."""
        tokens = await self._logged_in(self.site.accounts.user)
        ask = Ask("/auth/refresh", {"refreshToken": tokens["refreshToken"]})
        first = await self.send(ask)
        require(first.status_code == 200, f"POST /auth/refresh: {first.status_code} {first.text[:80]!r}")
        require(first.json().get("accessToken"), "POST /auth/refresh: no accessToken")
        return f"a new pair; the old token again {check_problem(await self.send(ask), (401,))}"

    async def credits(self) -> str:
        """A turn costs what it used, and no balance is below zero."""
        recording = await self.recorded()
        used = recording.events[-1].data.get("tokensUsed")
        require(isinstance(used, int) and used > 0, f"done tells tokensUsed {used!r}")
        balance = await self._balance()
        require(balance >= 0, f"the balance is {balance}")
        return f"tokensUsed {used}, balance {balance}"

    async def no_credits(self) -> str:
        """402 before anything was allocated."""
        refusal = await self.credited()
        if refusal is None:
            raise Skipped(f"{self.site.accounts.user.username} had credits already")
        return refusal

    async def models(self) -> str:
        answer = await self.send(Ask("/models", method="GET"))
        require(answer.status_code == 200, f"GET /models: {answer.status_code}, not 200")
        models = answer.json()["models"]
        require(models, "GET /models names none")
        return ", ".join(str(model["id"]) for model in models)

    async def confirm(self) -> str:
        """With the id that the header named; the count is the server's."""
        recording, ask = await self.recorded(), await self.asked()
        answer = await self.send(_confirmation(ask, recording.turn_id))
        require(answer.status_code == 200, f"the right id: {answer.status_code} {answer.text[:80]!r}")
        due = recording.events[-1].data.get("tokensUsed")
        told = answer.json().get("tokensUsed")
        require(told == due, f"tokensUsed {told} in the answer, {due} in done")
        return f"200, tokensUsed {told}"

    async def confirm_early(self) -> str:
        """Right after the header, while the turn runs: it is stopped, and the session takes the next message."""
        ask = await self.ask(QUESTION)
        answer, _, _ = await self.while_it_runs(ask, lambda turn_id: self.send(_confirmation(ask, turn_id)))
        require(answer.status_code == 200, f"right after the header: {answer.status_code} {answer.text[:80]!r}")
        following = await self.send(self.other(ask))
        require(following.status_code == 200, f"the next message: {following.status_code} {following.text[:80]!r}")
        return "200 right after the header; the next message 200"

    async def mismatch(self) -> str:
        """A wrong id is refused, and the right one is not told."""
        recording, ask = await self.recorded(), await self.asked()
        wrong = await self.send(_confirmation(ask, UNKNOWN_TURN))
        seen = check_problem(wrong, (400,))
        require("mismatch" in wrong.json()["detail"].lower(), f"{wrong.json()['detail']!r} does not say mismatch")
        inside = recording.turn_id.removeprefix("turn_")
        is_told = inside in wrong.text or inside in str(wrong.headers)
        require(not is_told, "the refusal of a wrong id tells the right one")
        return f"{seen}; the right id is not told"

    async def foreign_session(self) -> str:
        """Somebody else's session looks like none."""
        ask, tokens = await self.asked(), await self._logged_in(self.site.accounts.stranger)
        foreign = ask.having(Authorization=f"Bearer {tokens['accessToken']}")
        unknown = Ask("/chat/sessions/sess_unknown/stream", ask.body, foreign.headers)
        answers = [await self.send(foreign), await self.send(unknown)]
        seen = [check_problem(answer, (404,)) for answer in answers]
        require(answers[0].json() == answers[1].json(), "a foreign session and an unknown one answer differently")
        return f"{seen[0]}, as for an unknown one"

    async def _login(self) -> Mapping[str, Any]:
        return await self._logged_in(self.site.accounts.user)

    async def _logged_in(self, who: Login) -> Mapping[str, Any]:
        answer = await self.send(Ask("/auth/login", {"username": who.username, "password": who.password}))
        if answer.status_code == 401:
            raise Skipped(f"{who.username} cannot log in here; zoochat check --help says how to name who can")
        require(answer.status_code == 200, f"POST /auth/login: {answer.status_code} {answer.text[:80]!r}")
        tokens: Mapping[str, Any] = answer.json()
        return tokens

    async def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {(await self.tokens())['accessToken']}"}

    async def _new_session(self) -> str:
        answer = await self.send(Ask("/chat/sessions", {"title": "zoochat check"}, await self._headers()))
        require(answer.status_code == 201, f"POST /chat/sessions: {answer.status_code} {answer.text[:80]!r}")
        return str(answer.json()["sessionId"])

    async def _balance(self) -> int:
        answer = await self.send(Ask("/credits/balance", headers=await self._headers(), method="GET"))
        require(answer.status_code == 200, f"GET /credits/balance: {answer.status_code}, not 200")
        return int(answer.json()["credits"])

    async def _credit(self) -> str | None:
        """See to it that there are credits; what a stream said while there were none, if that could be seen."""
        balance = await self._balance()
        refusal = await self._refused_stream() if balance == 0 else None
        if balance < ALLOCATED / 2:
            await self._allocate()
        return refusal

    async def _refused_stream(self) -> str:
        path = f"/chat/sessions/{await self._new_session()}/stream"
        return check_problem(await self.send(Ask(path, {"message": QUESTION}, await self._headers())), (402,))

    async def _allocate(self) -> None:
        headers = {"Authorization": f"Bearer {(await self.admin_tokens())['accessToken']}"}
        body = {
            "userId": self.site.accounts.user.username,
            "credits": ALLOCATED,
            "expiryDays": 1,
            "notes": "zoochat check",
        }
        answer = await self.send(Ask("/credits/allocate", body, headers))
        require(answer.status_code == 201, f"POST /credits/allocate: {answer.status_code} {answer.text[:80]!r}")


def _confirmation(ask: Ask, turn_id: str) -> Ask:
    body = {"completeResponse": "", "streamingSessionId": turn_id, "tokensUsed": 0}
    return Ask(ask.path.replace("/stream", "/update-stream"), body, ask.headers)
