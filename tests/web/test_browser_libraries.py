"""Two libraries with which pages read streams, in Chromium and with their defaults: event-source-polyfill, and
@microsoft/fetch-event-source.

The connection breaks off in one place of the answer, and each library comes back by itself. Each event must arrive
once, the visitor's message must be asked once, and at the end the library must not come back.
"""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from tests.conftest import StartsServer
from tests.seeds.test_004 import read_rows
from tests.support.browser import Browser, Page
from tests.support.processes import ServerProcess
from tests.support.tcp_proxy import TcpProxy
from tests.tools import need_tools

# Reads all streams at once. A reader that does not come back any more hands on what it heard; the last one reports.
SCRIPT = """
<!doctype html><meta charset="utf-8"><title>listening</title>
<script src="/node_modules/event-source-polyfill/src/eventsource.js"></script>
<script type="module">
import { fetchEventSource } from "/node_modules/@microsoft/fetch-event-source/lib/esm/index";

const NAMES = ["metadata", "typing", "progress", "chunk", "heartbeat", "complete"];

const readers = {
  // The page never closes it.
  "event-source-polyfill": (url, options, hear) => new Promise((resolve) => {
    const source = new EventSourcePolyfill(url, options);
    for (const name of NAMES) {
      source.addEventListener(name, (event) => hear(name, event.lastEventId, event.data));
    }
    source.onerror = () => source.readyState === EventSourcePolyfill.CLOSED && resolve();
  }),
  "fetch-event-source": (url, options, hear) =>
    fetchEventSource(url, { ...options, onmessage: (event) => hear(event.event, event.id, event.data) }),
};

async function read({ reader, url, options }) {
  const heard = [];
  await readers[reader](url, options, (name, id, data) => heard.push({ name, id, data: JSON.parse(data) }));
  return heard;
}

const heard = await Promise.all(JSON.parse(new URLSearchParams(location.search).get("streams")).map(read));
fetch("/report", { method: "POST", body: JSON.stringify(heard) });
</script>
"""

# The reader of `docs/streams.md`, with the address of the server, of the page and of the animal put in.
DOCUMENTED_SCRIPT = """
<!doctype html><meta charset="utf-8"><title>listening</title>
<script type="module">
const tell = (report) => fetch("/report", { method: "POST", body: JSON.stringify(report) });
window.onerror = (message, source, line, column, error) => tell({ text, error: `${error}` });
let text = "";
const show = (content) => { text += content; };
READER
tell({ text, error: null });
</script>
"""
DOCS = Path(__file__).parent.parent.parent / "docs" / "streams.md"

QUESTION = {"message": "How fast can you run, Löwe?", "animalId": "lion_001"}
# Where the connection breaks off.
CUTS: dict[str, bytes | None] = {
    "nowhere": None,
    "behind the headers": b"\nretry:",
    "in the first event": b'"disclosure":',
    "behind the first event": b"event: typing",
    "in an event": b'"chunkId":6,',
    "in the last event": b'"fullResponse":',
    "behind the last event": b"\r\n0\r\n",
}


def ask(server: ServerProcess) -> tuple[str, dict[str, Any]]:
    """Path and options of a reader that asks by `GET`."""
    return f"/convo_turn_stream?{urlencode(QUESTION | {'idempotencyKey': str(uuid.uuid4())})}", {}


def post(server: ServerProcess) -> tuple[str, dict[str, Any]]:
    """Path and options of a reader that asks by `POST`."""
    headers = {"Content-Type": "application/json", "Idempotency-Key": str(uuid.uuid4())}
    return "/convo_turn_stream", {"method": "POST", "headers": headers, "body": json.dumps(QUESTION)}


def attach(server: ServerProcess) -> tuple[str, dict[str, Any]]:
    """Path and options of a reader of a turn that another request began."""
    accepted = httpx.post(f"{server.url}/convo_turn", json=QUESTION, headers={"Prefer": "respond-async"})
    return f"/convo_turn/{accepted.json()['turnId']}/stream", {}


@pytest.fixture
def page() -> Iterator[Page]:
    need_tools()
    listening = Page(SCRIPT)
    yield listening
    listening.close()


@pytest.mark.parametrize(
    ("reader", "begin"),
    [
        ("event-source-polyfill", ask),
        ("event-source-polyfill", attach),
        ("fetch-event-source", post),
        ("fetch-event-source", ask),
        ("fetch-event-source", attach),
    ],
)
async def test_a_library_hears_each_event_once_wherever_the_connection_breaks_off(
    start_server: StartsServer,
    page: Page,
    tmp_path: Path,
    reader: str,
    begin: Callable[[ServerProcess], tuple[str, dict[str, Any]]],
) -> None:
    server = start_server(OFFLINE_WORDS_PER_S=30, CORS_ORIGINS=page.origin)
    async with AsyncExitStack() as stack:
        proxies = [await stack.enter_async_context(TcpProxy(server.port, cut)) for cut in CUTS.values()]
        streams = []
        for proxy in proxies:
            path, options = await asyncio.to_thread(begin, server)
            streams.append({"reader": reader, "url": f"http://127.0.0.1:{proxy.port}{path}", "options": options})
        with Browser(f"{page.origin}/?{urlencode({'streams': json.dumps(streams)})}", tmp_path):
            report = await asyncio.to_thread(page.report, 60)

    assert [proxy.cut_behind for proxy in proxies] == [None] * len(CUTS)
    for cut, heard in zip(CUTS, report, strict=True):
        turn_id = heard[0]["data"]["turnId"]
        assert [event["id"] for event in heard] == [f"{turn_id}-{seq}" for seq in range(1, len(heard) + 1)], cut
        assert heard[-1]["name"] == "complete", cut
        chunks = "".join(event["data"]["content"] for event in heard if event["name"] == "chunk")
        assert chunks == heard[-1]["data"]["fullResponse"], cut
    assert server.log.count("turn_ended") == len(CUTS)


@pytest.mark.parametrize(
    ("animal_id", "error"),
    [
        ("lion_001", None),
        ("unicorn_001", "Error: No animal with this id lives in our zoo. GET /animal_list shows who does."),
    ],
    ids=["answered", "refused"],
)
async def test_fetch_event_source_as_the_page_on_streams_shows_it(
    start_server: StartsServer, page: Page, tmp_path: Path, animal_id: str, error: str | None
) -> None:
    """The reply comes once over a connection that breaks off. What is refused is asked once."""
    server = start_server(OFFLINE_WORDS_PER_S=30, CORS_ORIGINS=page.origin)
    async with TcpProxy(server.port, b'"chunkId":6,' if error is None else None) as proxy:
        (reader,) = re.findall(r"^```js\n(import .*?)^```", DOCS.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
        for shown, actual in {
            '"@microsoft/fetch-event-source"': '"/node_modules/@microsoft/fetch-event-source/lib/esm/index"',
            '"/convo_turn_stream"': f'"http://127.0.0.1:{proxy.port}/convo_turn_stream"',
            "lion_001": animal_id,
        }.items():
            assert shown in reader
            reader = reader.replace(shown, actual)
        page.show(DOCUMENTED_SCRIPT.replace("READER", reader))
        with Browser(page.origin, tmp_path):
            report = await asyncio.to_thread(page.report, 60)
        assert proxy.cut_behind is None

    assert report["error"] == error
    stored = read_rows(server, "SELECT body FROM messages WHERE direction = 'outgoing'")
    assert [report["text"]] == ([reply for (reply,) in stored] if error is None else [""])
    assert server.log.count("method=POST") == (2 if error is None else 1), server.log
