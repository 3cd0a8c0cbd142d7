"""Behind a real nginx, configured as the documentation says, and in a real browser."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from openapi_server.spec import load_spec
from tests.support.browser import FLAGS, chromium
from tests.support.nginx import Nginx, find_nginx
from tests.support.processes import ServerProcess

LOGINS = 3
HELLO = {"message": "Hello!", "animalId": "lion_001"}


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, Nginx]]:
    find_nginx()
    settings = {"OFFLINE_WORDS_PER_S": 0, "TRUSTED_PROXIES": 1, "RATE_LIMIT_LOGINS": LOGINS}
    server = ServerProcess(tmp_path_factory.mktemp("server"), **settings)
    try:
        with Nginx(server.url, tmp_path_factory.mktemp("nginx")) as nginx:
            yield server, nginx
    finally:
        server.stop()


def test_links_and_redirects_lead_back_through_nginx(proxied: tuple[ServerProcess, Nginx]) -> None:
    """Each of them is followed."""
    url = proxied[1].url
    with httpx.Client() as client:
        accepted = client.post(f"{url}/convo_turn", json=HELLO, headers={"Prefer": "respond-async"})
        job = client.post(f"{url}/api/v1/stream?mode=job", json={"query": "Hello!"}).json()
        redirect = client.get(f"{url}/animal_list/")
        welcome = client.get(f"{url}/", headers={"Accept": "application/json"}).json()
        spec = client.get(f"{url}/openapi.json").json()

        followed = [
            accepted.headers["location"],
            job["polling_url"],
            redirect.headers["location"],
            client.get(f"{url}/ui").headers["location"],
            f"{spec['servers'][0]['url']}/health",
        ]
        assert welcome["docs"] == f"{url}/ui/"
        for path in followed:
            assert path.startswith("/zoo/")
            assert client.get(url.removesuffix("/zoo") + path).status_code == 200


def test_a_stream_comes_through_nginx_as_it_is_made(proxied: tuple[ServerProcess, Nginx]) -> None:
    """nginx collects nothing."""
    with httpx.stream("POST", f"{proxied[1].url}/convo_turn_stream", json=HELLO) as answer:
        text = "".join(answer.iter_text())

    assert answer.headers["cache-control"] == "no-cache, no-store, no-transform"
    assert text.startswith("retry: 2000\nid: turn_")
    assert "\nevent: complete\n" in text


def test_what_a_client_writes_itself_is_ignored(proxied: tuple[ServerProcess, Nginx]) -> None:
    """nginx replaces or extends it, and only nginx is believed."""
    spoofed = {
        "X-Forwarded-For": "198.51.100.66",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Prefix": "/evil",
        "Forwarded": "for=198.51.100.66;host=evil.example;proto=https",
        "Accept": "application/json",
    }
    answer = httpx.get(f"{proxied[1].url}/", headers=spoofed)

    assert answer.json()["docs"] == f"{proxied[1].url}/ui/"


def test_limits_count_the_visitors_address_and_not_that_of_nginx(proxied: tuple[ServerProcess, Nginx]) -> None:
    """Each visitor has logins of its own; a header that names another address gives nobody more."""

    def refresh(address: str, **headers: str) -> int:
        """The status for a visitor at this address of the machine, through nginx."""
        with httpx.Client(transport=httpx.HTTPTransport(local_address=address)) as client:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            return client.post(
                f"{proxied[1].url}/auth/refresh", json={"refreshToken": "x" * 43}, headers=sent
            ).status_code

    assert [refresh("127.0.0.2") for _ in range(LOGINS + 1)] == [*LOGINS * [401], 429]
    assert (
        refresh("127.0.0.2", X_Forwarded_For="203.0.113.9", Forwarded="for=203.0.113.9", X_Real_IP="203.0.113.9") == 429
    )
    assert refresh("127.0.0.3") == 401


def test_the_pages_work_in_a_browser_below_a_path(proxied: tuple[ServerProcess, Nginx], tmp_path: Path) -> None:
    """With the policy that they are sent with: every operation is shown, and the console has nothing to say."""
    count = sum(len(item) for item in load_spec()["paths"].values())
    # An address that opens one operation. Swagger UI writes a warning for an id with a `_`.
    login = load_spec()["paths"]["/auth/login"]["post"]
    page, console = open_page(f"{proxied[1].url}/ui/#/{login['tags'][0]}/{login['operationId']}", tmp_path)
    # Swagger UI marks deprecated operations by another class.
    assert len(re.findall('class="opblock-summary-path(?:__deprecated)?"', page)) == count
    assert "Try it out" in page
    assert console == []

    page, console = open_page(f"{proxied[1].url}/", tmp_path)
    assert 'href="/zoo/ui/"' in page
    assert console == []


def test_the_pages_work_in_a_browser_without_a_proxy(server: ServerProcess, tmp_path: Path) -> None:
    """As on a developer's machine."""
    page, console = open_page(f"{server.url}/ui/", tmp_path)

    assert 'class="opblock-summary-path"' in page
    assert console == []


def open_page(url: str, profile: Path) -> tuple[str, list[str]]:
    """The page's elements when it has loaded, and the lines of its console."""
    command = [
        *(chromium(), *FLAGS, f"--user-data-dir={profile}", "--enable-logging=stderr"),
        *("--virtual-time-budget=20000", "--dump-dom", url),
    ]
    done = subprocess.run(command, capture_output=True, timeout=120, check=True)
    lines = done.stderr.decode(errors="replace").splitlines()
    return done.stdout.decode(), [line for line in lines if ":CONSOLE" in line]
