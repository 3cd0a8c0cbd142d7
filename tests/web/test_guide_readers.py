"""The readers of two guides in Chromium, over a connection that breaks off: the token guide's hook on `/chat`, and the
device guide's two readers on `/chat/stream`.

None of them comes back by itself. Its user sees the reply so far and an error, and asks the next thing.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import httpx
import pytest

from tests.conftest import StartsServer
from tests.source_documents.test_device_guide import read_rows
from tests.source_documents.test_device_guide_browser import READERS
from tests.source_documents.test_token_guide import HOOK, HOOK_STAGES
from tests.support.browser import Browser, Page
from tests.support.processes import ServerProcess
from tests.support.tcp_proxy import TcpProxy
from tests.support.timing import wait_until

ASKED_IN_SESSION = """
    SELECT body FROM messages JOIN turns USING (turn_id)
    WHERE direction = 'incoming' AND session_id = (SELECT session_id FROM turns WHERE turn_id = ?)
    ORDER BY messages.created_at
"""
QUESTIONS = ("How fast can you run?", "What do you eat?")

# Asks both questions of each talk, one behind the other, and reports what its user saw.
HOOK_SCRIPT = """
<!doctype html><meta charset="utf-8"><title>reading</title>
<script type="module">
HOOK
const { talks, questions } = JSON.parse(new URLSearchParams(location.search).get("chosen"));
const report = [];
for (const { url, session_id } of talks) {
  for (const message of questions) {
    report.push(await seeWithHook(`${url}/chat`, JSON.stringify({ message, session_id })));
  }
}
fetch("/report", { method: "POST", body: JSON.stringify(report) });
</script>
"""
HOOK_CUTS: dict[str, bytes | None] = {
    "nowhere": None,
    "behind the headers": b"\r\ndata:",
    "between events": b"}\n\n",
    "in an event": b'{"type":"token","content":"sprint',
}

# Likewise. The page gives the readers their addresses and sends the device's cookie; a reader has ended when it writes
# to the console, closes its `EventSource` or throws.
DEVICE_SCRIPT = """
<!doctype html><meta charset="utf-8"><title>reading</title><p id="current-message"></p>
<script>
const { reader, talks, questions } = JSON.parse(new URLSearchParams(location.search).get("chosen"));
const { fetch: send, EventSource: Source } = window;
const shown = document.getElementById("current-message");
let addresses, end;

window.fetch = (path, init) => send(addresses.posts + path, { ...init, credentials: "include" });
window.EventSource = class extends Source {
  constructor(path) { super(addresses.listens + path, { withCredentials: true }); }
  close() { super.close(); end("closed"); }
};
console.log = (text) => end(text);
console.error = (...words) => end(words.map(String).join(" "));
READERS
const ask = (question) => new Promise((resolve) => {
  shown.textContent = "";
  end = (how) => resolve({ end: how, text: shown.textContent });
  window[reader](question)?.catch((error) => end(String(error)));
});

(async () => {
  const report = [];
  for (addresses of talks) {
    for (const question of questions) report.push(await ask(question));
  }
  send("/report", { method: "POST", body: JSON.stringify(report) });
})();
</script>
"""
DEVICE_CUTS: dict[str, bytes | None] = {
    "nowhere": None,
    "behind the headers": b"\nretry:",
    "between events": b'"is_final":false}\n',
    "in an event": b'{"content":"sprint',
}


@pytest.fixture
def page() -> Iterator[Page]:
    reading = Page("")
    yield reading
    reading.close()


async def read_in_chromium(page: Page, profile: Path, **chosen: Any) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """What was seen of both questions of each talk."""
    query = urlencode({"chosen": json.dumps({"questions": QUESTIONS, **chosen})})
    with Browser(f"{page.origin}/?{query}", profile):
        report = await asyncio.to_thread(page.report, 60)
    return list(zip(report[::2], report[1::2], strict=True))


async def get_state(server: ServerProcess, turn_id: str) -> dict[str, Any]:
    async with httpx.AsyncClient(base_url=server.url) as client:
        state: dict[str, Any] = (await client.get(f"/convo_turn/{turn_id}")).json()
    return state


async def open_proxies(stack: AsyncExitStack, server: ServerProcess, cuts: Sequence[bytes | None]) -> list[TcpProxy]:
    return [await stack.enter_async_context(TcpProxy(server.port, cut)) for cut in cuts]


async def test_the_token_hook_over_a_connection_that_breaks_off(
    start_server: StartsServer, page: Page, tmp_path: Path
) -> None:
    """Scenario 3 of the guide: an error, the turn is stopped, and the next message in the session is answered."""
    page.show(HOOK_SCRIPT.replace("HOOK\n", HOOK.read_text(encoding="utf-8")))
    server = start_server(OFFLINE_WORDS_PER_S=30, CORS_ORIGINS=page.origin)
    async with AsyncExitStack() as stack:
        proxies = await open_proxies(stack, server, list(HOOK_CUTS.values()))
        talks = [{"url": f"http://127.0.0.1:{proxy.port}", "session_id": str(uuid4())} for proxy in proxies]
        seen = await read_in_chromium(page, tmp_path, talks=talks)

    for (name, cut), (first, second) in zip(HOOK_CUTS.items(), seen, strict=True):
        assert first["error"] == (None if cut is None else "TypeError: network error"), name
        assert first["endings"] == (["done"] if cut is None else []), name
        assert first["stages"] == HOOK_STAGES[: len(first["stages"])], name
        state = await get_state(server, first["turnId"])
        assert state["status"] == ("succeeded" if cut is None else "stopped"), name
        assert state.get("reply", "").startswith("".join(first["tokens"])), name
        assert (second["error"], second["stages"], second["endings"]) == (None, HOOK_STAGES, ["done"]), name
        state = await get_state(server, second["turnId"])
        assert "".join(second["tokens"]) == state["reply"], name
        assert read_rows(server, ASKED_IN_SESSION, second["turnId"]) == [(question,) for question in QUESTIONS], name
    wait_until(lambda: server.log.count("Stream cancelled by client") == len(HOOK_CUTS) - 1, within_s=5)


@pytest.mark.parametrize(
    ("reader", "end", "error"),
    [
        ("sendStreamingMessage", "Stream completed", "TypeError: network error"),
        ("sendStreamingMessageWithEventSource", "closed", "SSE error: [object Event]"),
    ],
)
async def test_a_device_reader_over_a_connection_that_breaks_off(
    start_server: StartsServer, page: Page, tmp_path: Path, reader: str, end: str, error: str
) -> None:
    """The page keeps what came. The next message interrupts the answer that nobody reads, and all are stored once."""
    page.show(DEVICE_SCRIPT.replace("READERS", READERS))
    server = start_server(OFFLINE_WORDS_PER_S=30, CORS_ORIGINS=page.origin)
    async with AsyncExitStack() as stack:
        proxies = await open_proxies(stack, server, list(DEVICE_CUTS.values()))
        through = [f"http://127.0.0.1:{proxy.port}" for proxy in proxies]
        # Only the answer that the page reads breaks off.
        posts = through if reader == "sendStreamingMessage" else [server.url] * len(through)
        talks = [{"posts": post, "listens": listen} for post, listen in zip(posts, through, strict=True)]
        seen = await read_in_chromium(page, tmp_path, reader=reader, talks=talks)

    stored = read_rows(server, "SELECT direction, body FROM messages ORDER BY created_at, direction")
    assert [body for direction, body in stored if direction == "incoming"] == list(QUESTIONS) * len(DEVICE_CUTS)
    replies = [body for direction, body in stored if direction == "outgoing"]
    for (name, cut), (first, second), (cut_reply, reply) in zip(
        DEVICE_CUTS.items(), seen, zip(replies[::2], replies[1::2], strict=True), strict=True
    ):
        assert first["end"] == (end if cut is None else error), name
        assert cut_reply.startswith(first["text"]), name
        assert (second["end"], second["text"]) == (end, reply), name
