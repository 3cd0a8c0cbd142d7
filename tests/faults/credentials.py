"""S: forged tokens, ids that cannot be guessed, and secrets that nothing tells: over HTTP, at a real process."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import httpx

from openapi_server.config import DEVELOPMENT_KEY
from openapi_server.models.user import Login
from tests.accounts.forgery import forge_tokens
from tests.faults.bad_input import read_log
from tests.faults.figures import Figure, expect_all, expect_at_most, expect_none
from tests.faults.unsafe_models import KEY, run_server_with
from tests.support.model_dialects import OpenAIDialect
from tests.support.scripted_model import ScriptedModel

MIN_BITS = 122
# Not the administrator: some of the tokens claim to be that.
USERNAME, PASSWORD = "keeper1", "keeper1-demo"
PROTECTED = ("/me", "/credits/balance", "/chat/sessions", "/api/v1/guardrails/rules", "/animal/lion_001/document")
# What is public, or what a stranger can ask for: none of it may hold a secret.
PUBLIC = (
    "/", "/ui/", "/ui/swagger-ui-bundle.js", "/openapi.yaml", "/openapi.json", "/health", "/ready", "/system_health",
    "/animal_list", "/models", "/metrics", "/nowhere", "/convo_turn/turn_x", "/convo_history?sessionId=x",
)  # fmt: skip
_HEX_ID = re.compile(r"(?:turn|sess|job)_([0-9a-f]+)")


async def guard_credentials(folder: Path, turns: int = 200) -> list[Figure]:
    """One server: forged tokens at protected operations, the ids of many turns, and a search for secrets."""
    async with (
        ScriptedModel(OpenAIDialect()) as model,
        run_server_with(model.url, folder, LOG_LEVEL="DEBUG") as client,
    ):
        answer = await client.post("/auth/login", json={"username": USERNAME, "password": PASSWORD})
        access, refresh = answer.json()["accessToken"], answer.json()["refreshToken"]
        figures = await _send_forged_tokens(client, access)
        ids = [found for _ in range(turns) for found in await _collect_ids(client)]
        cookie = client.cookies.get("session_id") or "no cookie was given"
        told = [await _ask_everything(client, headers) for headers in ({}, {"Authorization": f"Bearer {access}x"})]
    bits = min(4 * len(digits) for digits in ids)
    secrets = (DEVELOPMENT_KEY, KEY, access, refresh, cookie)
    # The password is that of a demo account, which the spec names.
    places = {"logs": (read_log(folder), (*secrets, PASSWORD)), "answers, /ui and the spec": ("\n".join(told), secrets)}
    what = f"ids of {turns} turns and sessions"
    return [
        *figures,
        Figure("S", f"{what}: bits", f"{bits}", f"{MIN_BITS} or more", bits >= MIN_BITS),
        expect_none("S", f"{what}: given twice", len(ids) - len(set(ids)), len(ids)),
        expect_at_most(
            "S", f"{what}: share of the commonest digit at a place", _find_bias(ids), _get_line(ids), "of 1"
        ),
        *(
            expect_none("S", f"secrets in the {place}", sum(each in text for each in known), len(known))
            for place, (text, known) in places.items()
        ),
    ]


async def _send_forged_tokens(client: httpx.AsyncClient, access: str) -> list[Figure]:
    """Each token at each protected operation, in the header; and a good one where none belongs."""
    claims = json.loads(base64.urlsafe_b64decode(access.split(".")[1] + "=="))
    now = datetime.now(UTC)
    login = Login(login_id=claims["sid"], username=claims["sub"], began_at=now, expires_at=now)
    names = list(forge_tokens(login, now))
    accepted: list[str] = []
    for name in names:
        for path in PROTECTED:
            # Anew each time: one of them becomes valid a second later.
            token = forge_tokens(login, datetime.now(UTC))[name]
            answer = await client.get(path, headers=[(b"Authorization", b"Bearer " + token.encode())])
            accepted += [name] if answer.is_success else []
    good = f"Bearer {access}"
    misplaced: list[tuple[list[tuple[str, str]], dict[str, str]]] = [
        ([("Authorization", good), ("Authorization", good)], {}),
        ([("Authorization", "Bearer x"), ("Authorization", good)], {}),
        ([("Authorization", f"{good}, {good}")], {}),
        ([("Authorization", f"Basic {access}")], {}),
        ([("Authorization", access)], {}),
        ([("Cookie", f"access_token={access}; Authorization={access}")], {}),
        ([("X-Authorization", good), ("Proxy-Authorization", good)], {}),
        ([], {"access_token": access}),
        ([], {"token": access, "authorization": good}),
    ]
    outside = 0
    for headers, params in misplaced:
        for path in PROTECTED:
            answer = await client.get(path, headers=headers, params=params)
            outside += answer.is_success
    genuine = [(await client.get(path, headers={"Authorization": good})).status_code for path in PROTECTED]
    count, kept = len(misplaced) * len(PROTECTED), sum(status == 200 for status in genuine)
    return [
        expect_none(
            "S", f"forged tokens accepted {sorted(set(accepted)) or ''}", len(accepted), len(names) * len(PROTECTED)
        ),
        expect_none("S", "good tokens accepted twice, in a query, a cookie or another header", outside, count),
        expect_all("S", "good tokens accepted in their place", kept, len(genuine)),
    ]


async def _collect_ids(client: httpx.AsyncClient) -> list[str]:
    """The random digits of the ids of one turn and its session."""
    answer = await client.post("/convo_turn", json={"message": "How fast are you?", "animalId": "lion_001"})
    body = answer.json()
    return [found[1] for each in (body["turnId"], body["sessionId"]) if (found := _HEX_ID.fullmatch(each))]


def _find_bias(ids: list[str]) -> float:
    """How often the commonest digit stands at the place where it is commonest."""
    length = min(map(len, ids))
    columns = (["".join(each)[place] for each in ids] for place in range(length))
    return max(max(column.count(digit) for digit in set(column)) / len(column) for column in columns)


def _get_line(ids: list[str]) -> float:
    """A sixteenth, and six standard deviations."""
    return 1 / 16 + 6 * math.sqrt(15 / 256 / len(ids))


async def _ask_everything(client: httpx.AsyncClient, headers: Mapping[str, str]) -> str:
    answers = [await client.get(path, headers=headers) for path in PUBLIC + PROTECTED]
    failing = {"message": "hello", "animalId": "nobody", "more": [DEVELOPMENT_KEY[:8]]}
    answers += [
        await client.post(path, json=failing, headers=headers) for path in ("/convo_turn", "/chat", "/auth/login")
    ]
    return "\n".join(f"{answer.headers}\n{answer.text}" for answer in answers)
