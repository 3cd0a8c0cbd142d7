"""A browser's EventSource reads a turn, resumes it after an interruption, and stops reconnecting at its end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlencode

import httpx
import pytest

from tests.conftest import StartsServer
from tests.support.browser import Browser, Page, PageHandler
from tests.support.tcp_proxy import TcpProxy

# Listens to everything, reports the ids at the end, and whether the browser came back when the stream had ended.
SCRIPT = """
<!doctype html><meta charset="utf-8"><title>listening</title>
<script>
const stream = new URLSearchParams(location.search).get("stream");
const heard = [];
let opened = 0;
const source = new EventSource(stream, { withCredentials: false });
source.onopen = () => { opened += 1; };
for (const name of ["metadata", "typing", "progress", "chunk", "heartbeat", "complete", "error"]) {
  source.addEventListener(name, (event) => {
    if (event.data) heard.push({ name, id: event.lastEventId, data: JSON.parse(event.data) });
  });
}
source.onerror = () => {
  if (source.readyState === EventSource.CLOSED) {
    fetch("/report", { method: "POST", body: JSON.stringify({ heard, opened }) });
  }
};
</script>
"""


@pytest.fixture
def page() -> Iterator[Page]:
    listening = Page(SCRIPT)
    yield listening
    listening.close()


def test_an_event_source_hears_a_turn_once_and_does_not_come_back(
    start_server: StartsServer,
    page: Page,
    tmp_path: Path,
) -> None:
    """At the end the browser reconnects with its last id, gets 204 and closes: every event was heard exactly once."""
    server = start_server(OFFLINE_WORDS_PER_S=30, CORS_ORIGINS=page.origin)
    accepted = httpx.post(
        f"{server.url}/convo_turn",
        json={"message": "How fast can you run?", "animalId": "lion_001"},
        headers={"Prefer": "respond-async"},
    )
    turn_id = accepted.json()["turnId"]

    with Browser(f"{page.origin}/?stream={server.url}/convo_turn/{turn_id}/stream", tmp_path / "profile"):
        report = page.report()

    heard = report["heard"]
    assert [event["id"] for event in heard] == [f"{turn_id}-{seq}" for seq in range(1, len(heard) + 1)]
    assert heard[-1]["name"] == "complete"
    chunks = "".join(event["data"]["content"] for event in heard if event["name"] == "chunk")
    assert chunks == heard[-1]["data"]["fullResponse"]


# Where the connection is cut, and what the page adds to its address. Before its first event has arrived whole, a
# browser has no id to send.
KEY = {"idempotencyKey": "0b6f9c1e-58a3-4d0e-9b6e-3a1c2d4e5f60"}
CUTS = {
    "in the middle": (b'"chunkId":6,', {}),
    "behind the first event": (b"event: typing", {}),
    "in the first event": (b'"disclosure":', KEY),
    "before the first event": (b"\r\n\r\n", KEY),
}


@pytest.mark.parametrize(("cut_behind", "more"), CUTS.values(), ids=CUTS)
async def test_an_event_source_asks_once_over_a_connection_that_breaks_off(
    start_server: StartsServer, page: Page, tmp_path: Path, cut_behind: bytes, more: dict[str, str]
) -> None:
    """`new EventSource("/convo_turn_stream?message=...")`: it reconnects by itself and gets exactly the rest."""
    server = start_server(OFFLINE_WORDS_PER_S=30, CORS_ORIGINS=page.origin)
    port = int(server.url.rpartition(":")[2])
    question = urlencode({"message": "How fast can you run, Löwe?", "animalId": "lion_001", **more})

    async with TcpProxy(port, cut_behind) as proxy:
        stream = f"http://127.0.0.1:{proxy.port}/convo_turn_stream?{question}"
        with Browser(f"{page.origin}/?stream={quote(stream)}", tmp_path / "profile"):
            report = await asyncio.to_thread(page.report)
        assert proxy.cut_behind is None

    heard = report["heard"]
    turn_id = heard[0]["data"]["turnId"]
    assert [event["id"] for event in heard] == [f"{turn_id}-{seq}" for seq in range(1, len(heard) + 1)]
    assert heard[-1]["name"] == "complete"
    chunks = "".join(event["data"]["content"] for event in heard if event["name"] == "chunk")
    assert chunks == heard[-1]["data"]["fullResponse"]
    server.wait_for_log("turn_ended")


# Asks in every way that a page can without naming itself, then as the page's own EventSource does, and reports which
# of its questions were answered.
ASKING = """
<!doctype html><meta charset="utf-8"><title>asking</title>
<script>
const server = new URLSearchParams(location.search).get("server");
const address = (message) => `${server}/convo_turn_stream?message=${message}&animalId=lion_001`;
const headers = { Accept: "text/event-stream" };
const ask = async (message, options) => {
  await fetch(address(message), { headers, ...options }).catch(() => {});
};
const listen = (message) => new Promise((resolve) => {
  const source = new EventSource(address(message), { withCredentials: true });
  source.addEventListener("complete", () => { source.close(); resolve(true); });
  source.onerror = () => { if (source.readyState === EventSource.CLOSED) resolve(false); };
});
(async () => {
  await ask("hidden", { mode: "no-cors", credentials: "include" });
  await ask("hidden", { mode: "no-cors", credentials: "include", referrerPolicy: "no-referrer", keepalive: true });
  const heard = await listen("open");
  fetch("/report", { method: "POST", body: JSON.stringify(heard) });
})();
</script>
"""


@pytest.mark.parametrize("is_listed", [True, False])
def test_only_a_listed_page_asks_and_only_where_it_names_itself(
    start_server: StartsServer, page: Page, tmp_path: Path, *, is_listed: bool
) -> None:
    """A page of another port is of the same site: a browser sends the visitor's cookie with all that it asks for."""
    server = start_server(CORS_ORIGINS=page.origin if is_listed else "http://127.0.0.1:1")
    page.show(ASKING)

    with Browser(f"{page.origin}/?server={server.url}", tmp_path / "profile"):
        is_heard = page.report()

    assert is_heard is is_listed
    server.wait_for_log("turn_ended", int(is_listed))
    server.wait_for_log("status=403", 2 if is_listed else 3)


def test_the_servers_own_page_asks(start_server: StartsServer, tmp_path: Path) -> None:
    """An EventSource of the same origin sends no `Origin`. Page and server stand behind one address here."""
    server = start_server()

    class ForwardingHandler(PageHandler):
        def do_GET(self) -> None:  # noqa: N802  # the name that the base class calls
            if not self.path.startswith("/convo_turn_stream"):
                super().do_GET()
                return
            sent = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")}
            answer = httpx.get(server.url + self.path, headers=sent)
            self.send_response(answer.status_code)
            self.send_header("Content-Type", answer.headers["Content-Type"])
            self.end_headers()
            self.wfile.write(answer.content)

    page = Page(ASKING, ForwardingHandler)
    try:
        with Browser(f"{page.origin}/?server=", tmp_path / "profile"):
            is_heard = page.report()
    finally:
        page.close()

    assert is_heard is True
    server.wait_for_log("turn_ended")
    server.wait_for_log("status=403", 2)
