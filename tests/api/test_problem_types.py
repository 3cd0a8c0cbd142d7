"""The `type` of each problem opens: it says to people and to programs what has happened, and what to do."""

from __future__ import annotations

import re

import httpx
import pytest

from openapi_server.models.errors import ChatError, ProviderFailed, list_error_types
from openapi_server.spec import load_spec
from openapi_server.wire.problem import encode_problem
from tests.api.chat_endpoints import CHAT_ENDPOINTS, ChatEndpoint, get_turn_id, open_endpoint
from tests.conftest import OpensZoo
from tests.support.fakes import Fails, Says

ERRORS = list_error_types()
each_error = pytest.mark.parametrize("error", ERRORS, ids=[error.code for error in ERRORS])


def test_the_document_lists_every_code() -> None:
    """And no other, by name."""
    assert load_spec()["components"]["schemas"]["ProblemCode"]["enum"] == [error.code for error in ERRORS]
    assert len(ERRORS) > 45


@each_error
async def test_the_type_of_a_problem_opens(client: httpx.AsyncClient, error: type[ChatError]) -> None:
    """It is that of the problem, with the same title and status."""
    problem = encode_problem(error().problem)

    answer = await client.get(str(problem["type"]))

    assert answer.status_code == 200
    told = answer.json()
    assert {name: told[name] for name in ("type", "code", "title", "status")} == {
        name: problem[name] for name in ("type", "code", "title", "status")
    }
    assert told["retryable"] is error.retryable


@each_error
def test_each_error_has_its_own_explanation(error: type[ChatError]) -> None:
    """In sentences, and not that of the error it is made from."""
    for name in ("meaning", "remedy"):
        assert name in vars(error)
        assert re.fullmatch(r"[A-Z`].*\.", getattr(error, name))


async def test_a_browser_gets_a_page(client: httpx.AsyncClient) -> None:
    """Which loads nothing from elsewhere, and no script."""
    browser = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
    answer = await client.get("/problems/turn_running", headers=browser)
    every = await client.get("/problems", headers=browser)

    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "<h1>This session already has a turn running</h1>" in answer.text
    assert "<strong>" not in answer.text
    assert "or send <code>onBusy</code> with the message." in answer.text
    assert "`" not in every.text
    assert all(f'id="{error.code}"' in every.text for error in ERRORS)
    assert "<script" not in every.text
    assert every.headers["content-security-policy"].startswith("default-src 'none'; style-src 'sha256-")


async def test_the_list_has_every_kind(client: httpx.AsyncClient) -> None:
    """By its code."""
    answer = await client.get("/problems")

    assert [each["code"] for each in answer.json()["problems"]] == [error.code for error in ERRORS]


async def test_an_answer_leads_to_its_explanation(client: httpx.AsyncClient) -> None:
    """From the address that was asked, as a client resolves a reference."""
    refused = await client.get("/animal/unicorn_001")

    answer = await client.get(refused.url.join(refused.json()["type"]))
    assert answer.json()["code"] == "animal_not_found"


PREFIX = {"X-Forwarded-Prefix": "/zoo"}
# A problem of a handler, of the address, of the validation, of the authentication, of the media type, and the lists.
REQUESTS = [
    *(("GET", path) for path in ("/animal/unicorn_001", "/nowhere", "/animal_list?page=2", "/me", "/problems")),
    *(("GET", "/problems/turn_running"), ("DELETE", "/health"), ("POST", "/convo_turn"), ("GET", "/convo_turn_stream")),
]


@pytest.mark.parametrize(("method", "path"), REQUESTS)
async def test_behind_a_proxy_the_type_has_its_prefix(open_zoo: OpensZoo, method: str, path: str) -> None:
    """The proxy that removes `/zoo` adds it where it says so; without it, or from a client, nothing changes."""
    client = await (await open_zoo(Says(), trusted_proxies="1")).new_client()

    proxied = await client.request(method, path, headers=PREFIX)
    plain = await client.request(method, path)

    assert '"type":"/zoo/problems/' in proxied.text
    assert '"type":"/problems/' not in proxied.text
    assert '"type":"/problems/' in plain.text
    untrusted = await (await open_zoo(Says())).new_client()
    assert '"type":"/problems/' in (await untrusted.request(method, path, headers=PREFIX)).text


@pytest.mark.parametrize("endpoint", CHAT_ENDPOINTS.values(), ids=CHAT_ENDPOINTS)
async def test_each_reader_of_a_failure_gets_its_own_prefix(open_zoo: OpensZoo, endpoint: ChatEndpoint) -> None:
    """In the error event of every contract, of a stream and of what is read from it again, and in the turn's state."""
    zoo = await open_zoo(Fails(ProviderFailed(), "Well, "), trusted_proxies="1")
    chat = await open_endpoint(zoo, endpoint)

    first = await chat.post_message(**PREFIX)
    turn = f"/convo_turn/{get_turn_id(first)}"

    assert chat.read_problem(first)["type"] == "/zoo/problems/provider_failed"
    for prefix in ("", "/other"):
        headers = {"X-Forwarded-Prefix": prefix} if prefix else {}
        for path in (turn, f"{turn}/stream"):
            again = await chat.client.get(path, headers=headers)
            assert f'"type":"{prefix}/problems/provider_failed"' in again.text


@pytest.mark.parametrize(
    ("code", "status"), [("no_such_code", 404), ("TURN_RUNNING", 404), ("1", 400), ("a" * 65, 400)]
)
async def test_an_unknown_code_has_no_page(client: httpx.AsyncClient, code: str, status: int) -> None:
    """And its refusal is a problem as any other."""
    answer = await client.get(f"/problems/{code}")

    assert answer.status_code == status
    assert (await client.get(answer.json()["type"])).status_code == 200
