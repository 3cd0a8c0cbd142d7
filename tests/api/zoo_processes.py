"""Server processes over one database, with a keeper and others who call each of them."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import httpx

from openapi_server.http.services import Services
from tests.api.test_accounts import bearer, log_in
from tests.conftest import RunningApp


@dataclass
class ZooProcess:
    """One server process, and who calls it."""

    services: Services
    keeper: httpx.AsyncClient
    admin: httpx.AsyncClient
    user: httpx.AsyncClient
    visitor: httpx.AsyncClient

    async def ask(self, message: str, **members: str) -> str:
        """The reply to a visitor's message to the lion, or with these members of the request."""
        answer = await self.visitor.post("/convo_turn", json={"message": message, "animalId": "lion_001", **members})
        assert answer.status_code == 200, answer.text
        reply: str = answer.json()["reply"]
        return reply

    @classmethod
    async def start(cls, opened: AbstractAsyncContextManager[Services], parts: AsyncExitStack) -> Self:
        zoo = RunningApp(await parts.enter_async_context(opened), parts)

        async def log_in_as(username: str) -> httpx.AsyncClient:
            caller = await zoo.new_client()
            caller.headers.update(bearer(await log_in(caller, username)))
            return caller

        keeper, admin, user = [await log_in_as(username) for username in ("keeper1", "admin", "user1")]
        return cls(zoo.services, keeper, admin, user, await zoo.new_client())


class OpensProcesses:
    """Opens processes over the database in the folder. All of them are closed with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.parts = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.parts.aclose()
