"""The server itself, over HTTP."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from openapi_server import __version__
from tests.conftest import OpensClient
from tests.support.examples import OWN_KEY
from tests.support.fakes import FakeKnowledge, Waits, make_lion

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
