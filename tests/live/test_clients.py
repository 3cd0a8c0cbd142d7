"""Common SSE clients against a server process. Those of older documents are in `tests/source_documents/`."""

from __future__ import annotations

import subprocess
import time

import httpx
import httpx_sse

from openapi_server.web.pages import make_curl_command
from tests.conftest import StartsServer
from tests.support.contract import check_stream
from tests.support.processes import ServerProcess

HELLO = {"message": "Hello!", "animalId": "lion_001", "stream": True}


def test_httpx_sse_reads_the_same_turn(server: ServerProcess) -> None:
    """Every event but a heartbeat has the turn's id and its number; the retry time is told."""
    with (
        httpx.Client(timeout=30) as client,
        httpx_sse.connect_sse(client, "POST", f"{server.url}/convo_turn_stream", json=HELLO) as source,
    ):
        events = list(source.iter_sse())

    turn_id = events[0].json()["turnId"]
    numbered = [event for event in events if event.event != "heartbeat"]
    assert [event.id for event in numbered] == [f"{turn_id}-{seq}" for seq in range(1, len(numbered) + 1)]
    assert events[0].retry == 2000


def test_the_command_that_the_server_prints(server: ServerProcess) -> None:
    """What a person pastes from the welcome page shows the events of a turn."""
    pasted = make_curl_command(server.url, "lion_001").replace("curl", "curl -s", 1)

    printed = subprocess.run(["sh", "-c", pasted], capture_output=True, timeout=30, check=True).stdout

    assert check_stream("/convo_turn_stream", printed)[-1].event == "complete"


def test_chunks_come_one_by_one_not_in_a_heap(start_server: StartsServer) -> None:
    """At 20 words a second the words of a reply reach the visitor over time, in many pieces."""
    server = start_server(OFFLINE_WORDS_PER_S=20)
    arrivals: list[float] = []

    with (
        httpx.Client(timeout=30) as client,
        httpx_sse.connect_sse(client, "POST", f"{server.url}/convo_turn_stream", json=HELLO) as source,
    ):
        arrivals = [time.monotonic() for event in source.iter_sse() if event.event == "chunk"]

    assert len(arrivals) >= 5
    assert arrivals[-1] - arrivals[0] >= 0.6 * (len(arrivals) - 1) / 20


def test_recorded_bytes_keep_the_contract(server: ServerProcess) -> None:
    """The raw bytes of a real answer, as any client gets them."""
    answer = httpx.post(
        f"{server.url}/convo_turn_stream", json={**HELLO, "message": "How fast can you run?"}, timeout=30
    )

    events = check_stream("/convo_turn_stream", answer.content)
    assert "kilomet" in events[-1].data["fullResponse"]
    assert any(source["factId"].startswith("lion_001/") for source in events[-1].data["sources"])
