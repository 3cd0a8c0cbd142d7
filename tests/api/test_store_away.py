"""The store goes away in the middle of a turn that is answered as JSON: 503 and when to try again, never 500."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from openapi_server.models.errors import StoreUnavailable
from openapi_server.protocols import Store
from tests.api.chat_endpoints import MANY_CREDITS, log_in_client
from tests.conftest import OpensZoo, RunningApp


class FailingStore:
    """A store whose methods raise from their n-th call on, for `length` calls; `calls` are the names of all calls."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.calls: list[str] = []
        self.first: int | None = None
        self.length = 0

    def fail(self, first: int | None, length: int) -> None:
        self.calls, self.first, self.length = [], first, length

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self._store, name)

        async def unless_failing(*args: Any, **kwargs: Any) -> Any:
            number = len(self.calls)
            self.calls.append(name)
            if self.first is not None and self.first <= number < self.first + self.length:
                raise StoreUnavailable(retry_after_s=2)
            return await method(*args, **kwargs)

        return unless_failing


Asks = Callable[[httpx.AsyncClient], Awaitable[httpx.Response]]


async def ask_convo(client: httpx.AsyncClient) -> httpx.Response:
    return await client.post("/convo_turn", json={"message": "Hello!", "animalId": "lion_001"})


async def ask_later(client: httpx.AsyncClient) -> httpx.Response:
    body = {"message": "Hello!", "animalId": "lion_001"}
    return await client.post("/convo_turn", json=body, headers={"Prefer": "respond-async"})


async def ask_job(client: httpx.AsyncClient) -> httpx.Response:
    return await client.post("/api/v1/stream?mode=job", json={"query": "Hello!"})


async def ask_session(client: httpx.AsyncClient) -> httpx.Response:
    created = await client.post("/chat/sessions", json={})
    if created.status_code != 201:
        return created
    return await client.post(f"/chat/sessions/{created.json()['sessionId']}/messages", json={"message": "Hello!"})


async def ask_chat(client: httpx.AsyncClient) -> httpx.Response:
    return await client.post("/chat", json={"message": "Hello!", "session_id": "talk-1", "streaming": False})


async def ask_device(client: httpx.AsyncClient) -> httpx.Response:
    return await client.post("/chat/", json={"content": "Hello!"}, headers={"X-Device-ID": "kiosk-7"})


CONTRACTS: dict[str, Asks] = {
    "convo": ask_convo,
    "convo later": ask_later,
    "platform": ask_job,
    "sessions": ask_session,
    "chat": ask_chat,
    "devices": ask_device,
}


async def open_failing(open_zoo: OpensZoo) -> tuple[RunningApp, FailingStore]:
    stores: list[FailingStore] = []

    def wrap(store: Store) -> Store:
        stores.append(FailingStore(store))
        return stores[0]  # type: ignore[return-value]

    zoo = await open_zoo(wrap=wrap)
    return zoo, stores[0]


@pytest.mark.parametrize("ask", CONTRACTS.values(), ids=CONTRACTS)
@pytest.mark.parametrize("length", [1, 10_000], ids=["for a moment", "for good"])
async def test_a_store_that_goes_away_at_any_step_is_503(
    open_zoo: OpensZoo, monkeypatch: pytest.MonkeyPatch, ask: Asks, length: int
) -> None:
    """At each call of the store that the turn makes: a locked file, or a disk that is full from then on."""
    monkeypatch.setattr("openapi_server.engine.turn_lifecycle.SETTLE_RETRY_DELAYS_S", ())
    zoo, store = await open_failing(open_zoo)
    client = await log_in_client(zoo, "user1", MANY_CREDITS)
    store.fail(None, 0)
    assert (await ask(client)).status_code < 300
    calls = len(store.calls)
    assert calls >= 2

    seen = set()
    for number in range(calls + 1):
        store.fail(number, length)
        answer = await ask(client)
        seen.add(answer.status_code)
        if answer.status_code >= 300:
            assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable"), store.calls
            assert int(answer.headers["retry-after"]) > 0
        elif ask not in (ask_later, ask_job):
            assert "Roar! I am a lion." in answer.text
    # A device is answered without memory.
    assert (503 in seen) == (ask is not ask_device)
