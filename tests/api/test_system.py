"""The server itself, over HTTP."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

import httpx
import pytest

from openapi_server import __version__
from openapi_server.models.errors import StoreUnavailable
from openapi_server.protocols import ProviderState, Store
from tests.conftest import OpensClient
from tests.support.examples import OWN_KEY
from tests.support.fakes import FakeKnowledge, Says, Waits, make_lion

HELLO = {"message": "Hello!", "animalId": "lion_001"}


async def test_health_says_that_the_process_lives_and_how_much_it_has_to_do(open_client: OpensClient) -> None:
    """`active_jobs` counts the running turns."""
    provider = Waits()
    client = await open_client(provider)
    idle = (await client.get("/health")).json()
    await client.post("/convo_turn", json=HELLO, headers={"Prefer": "respond-async"})
    busy = (await client.get("/health")).json()
    provider.go.set()

    assert (idle["status"], idle["version"], idle["active_jobs"]) == ("healthy", __version__, 0)
    assert busy["active_jobs"] == 1


async def test_ready_and_system_health(client: httpx.AsyncClient) -> None:
    """The answers when all components are up."""
    ready = await client.get("/ready")
    health = (await client.get("/system_health")).json()

    assert (ready.status_code, ready.json()) == (200, {"status": "ready"})
    assert health["status"] == "healthy"
    assert {name: part["status"] for name, part in health["parts"].items()} == {
        "store": "up",
        "provider": "up",
        "knowledge": "up",
    }


HEALTH_JSON = {"Accept": "application/health+json"}


async def test_health_checks_have_a_format_of_their_own(client: httpx.AsyncClient) -> None:
    """draft-inadarei-api-health-check: `pass`, and a list for each part."""
    answer = await client.get("/system_health", headers=HEALTH_JSON)
    health = answer.json()

    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/health+json")
    assert (health["status"], health["releaseId"]) == ("pass", __version__)
    assert {name: [check["status"] for check in checks] for name, checks in health["checks"].items()} == {
        "store:writability": ["pass"],
        "provider:replies": ["pass"],
        "knowledge:animals": ["pass"],
        "turns:running": ["pass"],
        "turns:readers": ["pass"],
        "uptime": ["pass"],
    }


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("application/json, application/health+json;q=0.5", "application/json"),
        ("application/health+json, application/json;q=0.9", "application/health+json"),
    ],
)
async def test_the_format_is_chosen_by_accept(client: httpx.AsyncClient, accept: str, expected: str) -> None:
    """JSON is the default."""
    answer = await client.get("/system_health", headers={"Accept": accept})

    assert answer.headers["content-type"] == expected


async def test_what_the_last_turns_met_is_told(open_client: OpensClient) -> None:
    """With a wrong key, before, the provider was up and its model available, though no turn was answered by it."""
    provider = Says()
    at = datetime(2026, 11, 21, 10, 30, tzinfo=UTC)
    provider.state = ProviderState(at, "the key was refused (401)")
    client = await open_client(provider)

    health = (await client.get("/system_health")).json()
    check = await client.get("/system_health", headers=HEALTH_JSON)
    models = (await client.get("/models")).json()["models"]

    assert (health["status"], health["parts"]["store"]["status"]) == ("degraded", "up")
    assert health["parts"]["provider"] == {
        "status": "down",
        "detail": "fake-1: the key was refused (401); the offline provider answers",
        "lastTurnAt": "2026-11-21T10:30:00.000Z",
    }
    assert (check.status_code, check.json()["status"]) == (200, "warn")
    assert check.json()["checks"]["provider:replies"][0]["output"] == "the key was refused (401)"
    assert [model["available"] for model in models] == [False]


class CannotBePinged:
    """A store that cannot be written to."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def ping(self) -> None:
        raise StoreUnavailable(retry_after_s=2)


async def test_a_store_that_cannot_be_written_to_makes_the_server_unready(open_client: OpensClient) -> None:
    """But not dead: `/health` asks nothing of the store."""
    client = await open_client(wrap=lambda store: cast(Store, CannotBePinged(store)))

    ready = await client.get("/ready")
    check = await client.get("/system_health", headers=HEALTH_JSON)
    health = await client.get("/system_health")
    alive = await client.get("/health")

    assert (ready.status_code, ready.json()["code"], ready.headers["retry-after"]) == (503, "store_unavailable", "2")
    assert (check.status_code, check.json()["status"]) == (503, "fail")
    assert (health.status_code, health.json()["parts"]["store"]["status"]) == (200, "down")
    assert alive.status_code == 200


async def test_a_browser_gets_a_page_with_the_animals_and_a_command(client: httpx.AsyncClient) -> None:
    """Somebody who opens the address sees at once what this is and how to try it."""
    page = await client.get("/", headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})

    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "Leo" in page.text
    assert "curl -N http://testserver/convo_turn_stream" in page.text
    assert 'href="/ui/"' in page.text


async def test_a_program_gets_the_same_as_json(client: httpx.AsyncClient) -> None:
    """With `Accept: application/json`."""
    welcome = (await client.get("/", headers={"Accept": "application/json"})).json()

    assert welcome["docs"] == "http://testserver/ui/"
    assert [animal["animalId"] for animal in welcome["animals"]] == ["lion_001", "tiger_001"]


@pytest.mark.parametrize(
    "settings", [{"api_docs": "off"}, {"environment": "production", "signing_key": OWN_KEY}], ids=str
)
async def test_swagger_ui_can_be_off_and_the_description_stays(
    open_client: OpensClient, settings: dict[str, Any]
) -> None:
    """In production unless it is asked for."""
    client = await open_client(**settings)

    for path in ("/ui", "/ui/", "/ui/index.html", "/ui/swagger-ui.css"):
        assert (await client.get(path)).status_code == 404
    assert (await client.get("/openapi.yaml")).status_code == 200
    assert "/ui/" not in (await client.get("/", headers={"Accept": "text/html"})).text
    welcome = (await client.get("/", headers={"Accept": "application/json"})).json()
    assert welcome["docs"] == "http://testserver/openapi.yaml"


async def test_what_keepers_write_cannot_become_markup(open_client: OpensClient) -> None:
    """The page escapes it and runs no scripts."""
    client = await open_client(knowledge=FakeKnowledge(make_lion(name="<script>alert(1)</script>")))

    page = await client.get("/", headers={"Accept": "text/html"})

    assert "<script" not in page.text


@pytest.mark.parametrize("path", ["/ui/", "/openapi.json", "/openapi.yaml"])
async def test_the_documentation_is_served(client: httpx.AsyncClient, path: str) -> None:
    """The spec and its browser are available."""
    assert (await client.get(path)).status_code == 200
