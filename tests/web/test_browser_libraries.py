"""Two libraries with which pages read streams, in Chromium: event-source-polyfill, and @microsoft/fetch-event-source,
with its defaults and as `docs/streams.md` shows it.

The connection breaks off in one place of the answer, and each library comes back by itself. Each event must arrive
once, the visitor's message must be asked once, and at the end the library must not come back. With its defaults
fetch-event-source loses the event that was cut behind its id, and no other.
"""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import httpx
import pytest

from tests.conftest import StartsServer
from tests.support.browser import Browser, Page
from tests.support.contract import check_stream
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

# The same with the reader of `docs/streams.md`. The address of the server and the animal are put in, and what the
# reader hears is kept.
DOCUMENTED_SCRIPT = """
<!doctype html><meta charset="utf-8"><title>listening</title>
<script type="module">
IMPORT
async function read({ url, animalId }) {
  const heard = [];
  let text = "", error = null;
  const show = (content) => { text += content; };
  try {
    READER
  } catch (thrown) {
    error = `${thrown}`;
  }
  return { heard, text, error };
}

const reports = await Promise.all(JSON.parse(new URLSearchParams(location.search).get("streams")).map(read));
fetch("/report", { method: "POST", body: JSON.stringify(reports) });
</script>
"""
DOCS = Path(__file__).parent.parent.parent / "docs" / "streams.md"

QUESTION = {"message": "How fast can you run, Löwe?", "animalId": "lion_001"}


class Cut(NamedTuple):
    """Where the connection breaks off, and the name of the event that was cut behind its id, if one was."""

    behind: bytes | None
    event: str | None = None


CUTS = {
    "nowhere": Cut(None),
    "behind the headers": Cut(b"\nretry:"),
    "in the first id": Cut(b"2000\nid: turn_"),
    "between the first id and its event": Cut(b"-1\n", "metadata"),
    "in the first event": Cut(b'"disclosure":', "metadata"),
    "before the first blank line": Cut(b'"}\n', "metadata"),
    "behind the first event": Cut(b'"}\n\n'),
    "in an id": Cut(b"\n\nid: turn_"),
    "behind an id": Cut(b"-2\n", "typing"),
    "between an event's name and its data": Cut(b"\nevent: chunk\n", "chunk"),
    "in an event": Cut(b'"chunkId":6,', "chunk"),
    "in the last event": Cut(b'"fullResponse":', "complete"),
    "behind the last event": Cut(b"\r\n0\r\n"),
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


async def open_proxies(stack: AsyncExitStack, server: ServerProcess) -> list[TcpProxy]:
    return [await stack.enter_async_context(TcpProxy(server.port, cut.behind)) for cut in CUTS.values()]


def list_events(server: ServerProcess, heard: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """All events of the turn of which these were heard, over a connection that holds."""
    turn_id = heard[0]["id"].rpartition("-")[0]
    raw = httpx.get(f"{server.url}/convo_turn/{turn_id}/stream").content
    events = check_stream("/convo_turn/{turnId}/stream", raw, method="get")
    return [{"name": event.event, "id": event.id, "data": event.data} for event in events]


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
async def test_a_library_over_a_connection_that_breaks_off(
    start_server: StartsServer,
    page: Page,
    tmp_path: Path,
    reader: str,
    begin: Callable[[ServerProcess], tuple[str, dict[str, Any]]],
) -> None:
    """With its defaults."""
    server = start_server(OFFLINE_WORDS_PER_S=30, CORS_ORIGINS=page.origin)
    async with AsyncExitStack() as stack:
        proxies = await open_proxies(stack, server)
        streams = []
        for proxy in proxies:
            path, options = await asyncio.to_thread(begin, server)
            streams.append({"reader": reader, "url": f"http://127.0.0.1:{proxy.port}{path}", "options": options})
        with Browser(f"{page.origin}/?{urlencode({'streams': json.dumps(streams)})}", tmp_path):
            report = await asyncio.to_thread(page.report, 60)

    assert [proxy.cut_behind for proxy in proxies] == [None] * len(CUTS)
    for (name, cut), heard in zip(CUTS.items(), report, strict=True):
        events = await asyncio.to_thread(list_events, server, heard)
        missing = [event for event in events if event not in heard]
        # What the page had not taken in when the connection broke off, it comes back for, as if it had not been sent.
        may_miss = [[], [cut.event]] if cut.event and reader == "fetch-event-source" else [[]]
        assert [event["name"] for event in missing] in may_miss, name
        assert heard == [event for event in events if event not in missing], name
        if cut.event != "complete":
            chunks = "".join(event["data"]["content"] for event in events if event["name"] == "chunk")
            assert heard[-1]["data"]["fullResponse"] == chunks, name
    server.wait_for_log("turn_ended", len(CUTS))


async def test_fetch_event_source_as_the_page_on_streams_shows_it(
    start_server: StartsServer, page: Page, tmp_path: Path
) -> None:
    """Each event comes once, wherever the connection breaks off. What is refused is asked once."""
    (example,) = re.findall(r"^```js\n(import .*?)^```", DOCS.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    for shown, actual in {
        '"@microsoft/fetch-event-source"': '"/node_modules/@microsoft/fetch-event-source/lib/esm/index"',
        '"/convo_turn_stream"': "url",
        '"lion_001"': "animalId",
        "onmessage(event) {": "onmessage(event) { heard.push(event);",
    }.items():
        assert example.count(shown) == 1
        example = example.replace(shown, actual)
    import_, _, reader = example.partition("\n")
    page.show(DOCUMENTED_SCRIPT.replace("IMPORT", import_).replace("READER", reader))
    server = start_server(OFFLINE_WORDS_PER_S=30, CORS_ORIGINS=page.origin)
    async with AsyncExitStack() as stack:
        proxies = await open_proxies(stack, server)
        streams = [
            {"url": f"http://127.0.0.1:{proxy.port}/convo_turn_stream", "animalId": "lion_001"} for proxy in proxies
        ]
        streams.append({"url": f"{server.url}/convo_turn_stream", "animalId": "unicorn_001"})
        with Browser(f"{page.origin}/?{urlencode({'streams': json.dumps(streams)})}", tmp_path):
            *reports, refused = await asyncio.to_thread(page.report, 60)

    # At the last event the reader lets go, mostly before the connection breaks off behind it.
    missed = [name for name, proxy in zip(CUTS, proxies, strict=True) if proxy.cut_behind is not None]
    assert missed in ([], ["behind the last event"])
    for name, report in zip(CUTS, reports, strict=True):
        events = await asyncio.to_thread(list_events, server, report["heard"])
        heard = [{"name": got["event"], "id": got["id"], "data": json.loads(got["data"])} for got in report["heard"]]
        assert heard == events, name
        assert (report["text"], report["error"]) == (events[-1]["data"]["fullResponse"], None), name
    server.wait_for_log("turn_ended", len(CUTS))
    assert refused["heard"] == []
    assert refused["error"] == "Error: No animal with this id lives in our zoo. GET /animal_list shows who does."
    server.wait_for_log("status=404")
