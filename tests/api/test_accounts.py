"""Accounts over HTTP: logins, refresh tokens, and which operations a token permits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import time_machine

from openapi_server.accounts.logins import REFRESH_GRACE_S
from openapi_server.app import create_app
from openapi_server.http.authentication import BearerTokenHandler
from openapi_server.models.user import Login, Role
from openapi_server.spec import load_spec
from openapi_server.storage.sqlite.accounts import SqliteAccounts
from openapi_server.storage.sqlite.sessions import SqliteStore
from tests.accounts.forgery import forge_tokens
from tests.conftest import OpensClient, OpensServices, OpensZoo
from tests.support.asgi import Request, ask
from tests.support.fakes import FakeClock

Tokens = dict[str, Any]
OPTIONAL_LOGIN = "/conversations/sessions"


async def log_in(client: httpx.AsyncClient, username: str) -> Tokens:
    """Log in as a demo user; the tokens."""
    answer = await client.post("/auth/login", json={"username": username, "password": f"{username}-demo"})
    assert answer.status_code == 200
    tokens: Tokens = answer.json()
    return tokens


def bearer(tokens: Tokens) -> dict[str, str]:
    return {"Authorization": f"Bearer {tokens['accessToken']}"}


async def refresh(client: httpx.AsyncClient, token: str) -> httpx.Response:
    return await client.post("/auth/refresh", json={"refreshToken": token})


def read_files(folder: Path) -> bytes:
    """All bytes of the database files."""
    return b"".join(path.read_bytes() for path in folder.glob("zoo.sqlite3*"))


def assert_unauthorized(answer: httpx.Response, code: str, challenge: str) -> None:
    """A problem of ours with the challenge that RFC 9110 wants on every 401."""
    assert (answer.status_code, answer.json()["code"]) == (401, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"] == challenge
    assert answer.headers["cache-control"] == "private, no-store"


REALM = 'Bearer realm="zoochat"'
INVALID = f'{REALM}, error="invalid_token"'


async def test_a_login_gives_two_tokens_and_says_whose(client: httpx.AsyncClient) -> None:
    """Caches must not store the answer."""
    answer = await client.post("/auth/login", json={"username": "keeper1", "password": "keeper1-demo"})

    assert answer.headers["cache-control"] == "private, no-store"
    told = answer.json()
    assert told["user"] == {"username": "keeper1", "role": "zookeeper"}
    assert (told["tokenType"], told["expiresIn"]) == ("Bearer", 900)
    assert told["accessToken"].count(".") == 2
    assert len(told["refreshToken"]) == 43


@pytest.mark.parametrize(("username", "password"), [("user1", "wrong one"), ("nobody", "user1-demo"), ("USER1", "x")])
async def test_a_wrong_name_and_a_wrong_password_look_the_same(
    client: httpx.AsyncClient, username: str, password: str
) -> None:
    """The answers are equal, so nobody learns who has an account."""
    answer = await client.post("/auth/login", json={"username": username, "password": password})

    assert_unauthorized(answer, "bad_credentials", REALM)
    assert answer.json()["detail"] == "The username or the password is wrong."


@pytest.mark.parametrize(
    "body",
    [{}, {"username": "user1"}, {"username": "user1", "password": "x" * 129}, {"username": "", "password": "x"}],
)
async def test_a_login_of_the_wrong_form_is_400(client: httpx.AsyncClient, body: dict[str, str]) -> None:
    """The answer does not repeat what was sent."""
    answer = await client.post("/auth/login", json=body)

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input")
    assert "xxx" not in answer.text


@pytest.mark.parametrize(
    ("username", "role", "children"),
    [("user1", "user", []), ("parent1", "parent", ["user1"]), ("admin", "administrator", [])],
)
async def test_me_says_who_is_calling(client: httpx.AsyncClient, username: str, role: str, children: list[str]) -> None:
    """The username, the role, and a parent's children."""
    answer = await client.get("/me", headers=bearer(await log_in(client, username)))

    assert answer.json() == {"username": username, "role": role, "children": children}


async def test_whoever_brings_nothing_is_asked_to_log_in(client: httpx.AsyncClient) -> None:
    """Our problem, not the framework's; and no error in the challenge, for there was none."""
    assert_unauthorized(await client.get("/me"), "login_required", REALM)
    assert_unauthorized(await client.post("/auth/logout"), "login_required", REALM)


async def test_a_visitor_needs_no_login_where_it_is_optional(client: httpx.AsyncClient) -> None:
    """Most visitors of the zoo have no account."""
    assert (await client.get(OPTIONAL_LOGIN)).status_code == 200


ATTACKS = list(forge_tokens(Login("", "", datetime.now(UTC), datetime.now(UTC)), datetime.now(UTC)))


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("path", ["/me", OPTIONAL_LOGIN])
async def test_a_forged_token_opens_nothing(open_zoo: OpensZoo, name: str, path: str) -> None:
    """Not even as an anonymous visitor, where a login is optional; all else about the token is right."""
    clock = FakeClock()
    zoo, now = await open_zoo(clock=clock), clock.now()
    with time_machine.travel(now, tick=False):
        granted = await zoo.services.accounts.login("user1", "user1-demo")
        user = await zoo.services.accounts.authenticate(granted.access_token)
        forged = forge_tokens(Login(user.login_id, "user1", now, now + timedelta(days=1)), now)[name]
        headers = (("Authorization", f"Bearer {forged}"),)
        answer = await ask(zoo.app, Request("GET", path, headers=headers))

    assert (answer.status, answer.problem["code"]) == (401, "invalid_token")


HEADERS: dict[str, Callable[[str], list[str]]] = {
    "two headers": lambda token: [f"Bearer {token}", f"Bearer {token}"],
    "two headers, one good": lambda token: [f"Bearer {token}", "Bearer x"],
    "two in one header": lambda token: [f"Bearer {token}, Bearer {token}"],
    "Basic": lambda token: ["Basic dXNlcjE6dXNlcjEtZGVtbw=="],
    "Basic with a good token": lambda token: [f"Basic {token}"],
    "no scheme": lambda token: [token],
    "only the scheme, and a good one": lambda token: ["Bearer", f"Bearer {token}"],
    "quoted": lambda token: [f'Bearer "{token}"'],
    "something behind it": lambda token: [f"Bearer {token} x"],
    "not ASCII": lambda token: [f"Bearer {token}é"],
    "very long": lambda token: ["Bearer " + "x" * 20_000],
}


@pytest.mark.parametrize(
    "value", ["Bearer", "Bearer ", "bearer   ", "", " ", "Bearer \t", "Bearer null", "Bearer undefined"]
)
async def test_an_authorization_without_a_token_is_none(client: httpx.AsyncClient, value: str) -> None:
    """A front end that is logged out sends it: no login is needed, or one is, as without the header."""
    headers = {"Authorization": value}

    assert (await client.get(OPTIONAL_LOGIN, headers=headers)).status_code == 200
    answer = await client.get("/me", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "login_required")


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("path", ["/me", OPTIONAL_LOGIN])
async def test_an_authorization_that_is_not_one_token_is_refused(open_zoo: OpensZoo, name: str, path: str) -> None:
    """Of two nobody can say which is meant, and what we cannot read is no reason to let somebody in."""
    zoo = await open_zoo()
    token = (await zoo.services.accounts.login("user1", "user1-demo")).access_token
    headers = tuple(("Authorization", value) for value in HEADERS[name](token))

    answer = await ask(zoo.app, Request("GET", path, headers=headers))

    assert (answer.status, answer.problem["code"]) == (401, "invalid_token")


async def test_the_scheme_is_read_in_any_case(client: httpx.AsyncClient) -> None:
    """RFC 9110, section 11.1: the scheme is case-insensitive."""
    token = (await log_in(client, "user1"))["accessToken"]

    assert (await client.get("/me", headers={"Authorization": f"bEARER {token}"})).status_code == 200


@pytest.mark.parametrize("name", ["access_token", "token", "authorization", "Authorization"])
async def test_a_token_in_the_query_or_a_cookie_is_no_token(client: httpx.AsyncClient, name: str) -> None:
    """Addresses stand in logs and histories; cookies come with forged requests."""
    token = (await log_in(client, "user1"))["accessToken"]

    assert (await client.get("/me", params={name: token})).status_code == 401
    assert (await client.get("/me", headers={"Cookie": f"{name}={token}"})).status_code == 401


async def test_a_bad_token_is_refused_before_the_body_is_read(client: httpx.AsyncClient) -> None:
    """401, not 400: a stranger learns nothing of what would be valid."""
    answer = await client.post("/credits/allocate", json={"nonsense": 1}, headers={"Authorization": "Bearer x"})

    assert answer.status_code == 401


async def test_a_refresh_gives_the_next_two_tokens(client: httpx.AsyncClient) -> None:
    """Both work; the old access token stays valid until it expires."""
    first = await log_in(client, "user1")
    second = (await refresh(client, first["refreshToken"])).json()

    assert second["refreshToken"] != first["refreshToken"]
    assert second["user"] == {"username": "user1", "role": "user"}
    assert (await client.get("/me", headers=bearer(second))).status_code == 200
    assert (await refresh(client, second["refreshToken"])).status_code == 200


async def test_a_refresh_token_that_comes_again_later_ends_the_login(open_client: OpensClient) -> None:
    """Every token of the login is void at once, the thief's and the owner's."""
    clock = FakeClock()
    client = await open_client(clock=clock)
    first = await log_in(client, "user1")
    second = (await refresh(client, first["refreshToken"])).json()
    clock.advance(REFRESH_GRACE_S)

    assert_unauthorized(await refresh(client, first["refreshToken"]), "invalid_token", INVALID)

    assert (await refresh(client, second["refreshToken"])).status_code == 401
    assert (await client.get("/me", headers=bearer(second))).status_code == 401


async def test_two_tabs_and_a_lost_answer_get_the_same_token(open_zoo: OpensZoo, tmp_path: Path) -> None:
    """Fifty refreshes at once with one token, at two processes: all get one successor, and no file holds it."""
    processes = [await open_zoo(), await open_zoo()]
    clients = [await process.new_client() for process in processes]
    first = await log_in(clients[0], "user1")

    answers = await asyncio.gather(*(refresh(clients[tab % 2], first["refreshToken"]) for tab in range(50)))

    assert {answer.status_code for answer in answers} == {200}
    (successor,) = {answer.json()["refreshToken"] for answer in answers}
    for answer in answers:
        assert (await clients[0].get("/me", headers=bearer(answer.json()))).status_code == 200
    assert (await refresh(clients[1], successor)).status_code == 200
    stored = read_files(tmp_path)
    assert successor.encode() not in stored
    assert first["refreshToken"].encode() not in stored


@pytest.mark.parametrize("token", ["x", "q5v3hG1n0kT7w2Zb9xY4cR8sL6mJ1pD3fA0eU5iO7gE", "🦁"])
async def test_a_refresh_token_of_nobody_is_refused(client: httpx.AsyncClient, token: str) -> None:
    """An access token is not accepted as a refresh token either."""
    assert (await refresh(client, token)).status_code == 401
    access = (await log_in(client, "user1"))["accessToken"]
    assert (await refresh(client, access[:512])).status_code == 401


async def test_logging_out_works_at_once_and_for_this_login_only(client: httpx.AsyncClient) -> None:
    """Both tokens are invalid at once; another device stays logged in."""
    here, there = await log_in(client, "user1"), await log_in(client, "user1")

    assert (await client.post("/auth/logout", headers=bearer(here))).status_code == 204

    assert (await client.get("/me", headers=bearer(here))).status_code == 401
    assert (await refresh(client, here["refreshToken"])).status_code == 401
    assert (await client.get("/me", headers=bearer(there))).status_code == 200


@pytest.mark.parametrize("proof", ["refresh token", "used refresh token", "expired access token", "all of them"])
async def test_whoever_has_any_token_of_the_login_can_log_out(open_client: OpensClient, proof: str) -> None:
    """Also by the second path; other logins stay. The second time there is nothing to end."""
    clock = FakeClock()
    client = await open_client(clock=clock)
    with time_machine.travel(clock.now(), tick=False):
        first, other = await log_in(client, "user1"), await log_in(client, "user1")
        here = (await refresh(client, first["refreshToken"])).json()
    clock.advance(3600)
    with time_machine.travel(clock.now(), tick=False):
        there = (await refresh(client, other["refreshToken"])).json()
        assert (await client.get("/me", headers=bearer(here))).status_code == 401
        used_last = first if proof == "used refresh token" else here
        parts: dict[str, Any] = {"json": {"refreshToken": used_last["refreshToken"]}}
        if proof == "expired access token":
            parts = {}
        if proof in ("expired access token", "all of them"):
            parts["headers"] = bearer(here)

        assert (await client.post("/api/auth/logout", **parts)).status_code == 204

        again = await client.post("/auth/logout", **parts)
        assert (again.status_code, again.json()["code"]) == (401, "invalid_token")
        assert (await refresh(client, here["refreshToken"])).status_code == 401
        assert (await client.get("/me", headers=bearer(there))).status_code == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 401),
        (b"{}", 401),
        (b'{"refreshToken": "nobody"}', 401),
        (b'{"refreshToken": null}', 401),
        (b'{"refreshToken": ""}', 400),
        (b'{"refreshToken": 7}', 400),
        (b"{", 400),
        (b"[]", 400),
        (b"null", 400),
    ],
)
async def test_a_logout_that_names_no_login_ends_none(client: httpx.AsyncClient, body: bytes, status: int) -> None:
    """Without an access token, or with a forged one."""
    tokens = await log_in(client, "user1")
    json_type = {"Content-Type": "application/json"}
    forged = {"Authorization": f"Bearer {tokens['accessToken'][:-4]}AAAA"}
    for headers in (json_type, {**json_type, **forged}):
        assert (await client.post("/auth/logout", content=body, headers=headers)).status_code == status
    assert (await client.get("/me", headers=bearer(tokens))).status_code == 200


async def test_an_access_token_ends_on_time(open_client: OpensClient) -> None:
    """To the second; the refresh token goes on, for thirty days from its last use."""
    clock = FakeClock()
    client = await open_client(clock=clock)
    issued_at = clock.now()
    with time_machine.travel(issued_at, tick=False):
        tokens = await log_in(client, "user1")

    with time_machine.travel(issued_at + timedelta(seconds=899), tick=False):
        assert (await client.get("/me", headers=bearer(tokens))).status_code == 200
    with time_machine.travel(issued_at + timedelta(seconds=900), tick=False):
        assert_unauthorized(await client.get("/me", headers=bearer(tokens)), "invalid_token", INVALID)
    clock.advance(29 * 86_400)
    tokens = (await refresh(client, tokens["refreshToken"])).json()
    clock.advance(30 * 86_400)
    assert (await refresh(client, tokens["refreshToken"])).status_code == 401


async def test_a_new_role_counts_from_the_next_request_on(open_services: OpensServices) -> None:
    """The token names the user, but the role is read from the store."""
    # What is measured is no SqliteStore.
    services = await open_services(metrics="off")
    assert isinstance(services.store, SqliteStore)
    app = create_app(services)
    token = (await services.accounts.login("user1", "user1-demo")).access_token
    allocates = Request(
        "POST", "/credits/allocate", headers=(("Authorization", f"Bearer {token}"), ("Content-Type", "text/plain"))
    )

    assert (await ask(app, allocates)).status == 403
    await SqliteAccounts(services.store.connections, services.clock).set_role("user1", Role.ADMINISTRATOR)
    # The role is sufficient: now the body is invalid.
    assert (await ask(app, allocates)).status == 400


class Broken:
    """Accounts with a bug that no test of ours has found yet."""

    async def who(self, access_token: str) -> None:
        raise ZeroDivisionError("a secret in a traceback")


async def test_a_bug_behind_the_token_lets_nobody_in(
    open_services: OpensServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a login is optional, an error must not make an anonymous visitor of somebody."""
    services = await open_services()
    monkeypatch.setattr(BearerTokenHandler, "__init__", lambda self, accounts: setattr(self, "_accounts", Broken()))

    answer = await ask(create_app(services), Request("GET", OPTIONAL_LOGIN, headers=(("Authorization", "Bearer x"),)))

    assert (answer.status, answer.problem["code"]) == (500, "internal_error")
    assert b"secret" not in answer.body


def test_every_operation_says_whom_it_lets_in() -> None:
    """A minimum role needs a login; whoever may be refused for a token is told so in the contract."""
    for path, operations in load_spec()["paths"].items():
        for method, operation in operations.items():
            where, security = f"{method} {path}", operation.get("security", [])
            assert security in ([], [{"bearerAuth": []}], [{"bearerAuth": []}, {}]), where
            assert "x-minimum-role" not in operation or security == [{"bearerAuth": []}], where
            assert not security or "401" in operation["responses"], where
            assert "x-minimum-role" not in operation or "403" in operation["responses"], where


async def test_no_token_and_no_password_is_logged(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor a name, of somebody who mistyped it or typed the password there."""
    tokens = await log_in(client, "user1")
    await client.post("/auth/login", json={"username": "user1-demo", "password": "wrong one"})
    await client.get("/me", headers=bearer(tokens))
    await refresh(client, tokens["refreshToken"])

    logged = caplog.text + "".join(capsys.readouterr())
    assert "login_refused" in logged
    for secret in ("user1", "wrong one", tokens["accessToken"], tokens["refreshToken"], json.dumps(tokens)):
        assert secret not in logged
