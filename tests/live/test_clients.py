"""The clients that people really use, against a real process: requests with sseclient-py, httpx-sse, and curl."""

from __future__ import annotations

import json
import shutil
import subprocess
import time

import httpx
import httpx_sse
import requests
import sseclient

from openapi_server.web.welcome import curl_to_paste
from tests.live.conftest import StartsServer
from tests.live.processes import ServerProcess
from tests.streams import check_stream

HELLO = {"message": "Hello!", "animalId": "lion_001", "stream": True}


def test_the_python_client_of_the_ticket(server: ServerProcess) -> None:
    """The script that the first front end was tested with: requests and sseclient-py, as written there."""
    with requests.post(
        f"{server.url}/convo_turn_stream",
        json=HELLO,
        stream=True,
        headers={"Accept": "text/event-stream"},
        timeout=30,
    ) as response:
        client = sseclient.SSEClient(response)  # type: ignore[arg-type]  # as every example of it does
        events = [(event.event, json.loads(event.data)) for event in client.events()]

    assert [name for name, _ in events][:2] == ["metadata", "typing"]
    assert events[-1][0] == "complete"
    assert "".join(data["content"] for name, data in events if name == "chunk") == events[-1][1]["fullResponse"]


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


def test_curl_prints_the_events_as_they_come(server: ServerProcess) -> None:
    """The command of the ticket, and the one that the server prints, with only the port changed."""
    curl = shutil.which("curl")
    assert curl, "curl belongs to the tools that the tests need"
    ticket = [
        *(curl, "-sN", "-H", "Accept: text/event-stream", f"{server.url}/convo_turn_stream"),
        *("-H", "Content-Type: application/json"),
        *("-d", '{"message": "Hello!", "animalId": "lion_001", "stream": true}'),
    ]

    printed = subprocess.run(ticket, capture_output=True, timeout=30, check=True).stdout
    pasted = subprocess.run(  # noqa: S602  # what a person does with the printed command
        curl_to_paste(server.url, "lion_001").replace("curl", f"{curl} -s", 1),
        shell=True,
        capture_output=True,
        timeout=30,
        check=True,
    ).stdout

    assert check_stream("/convo_turn_stream", printed)[-1].event == "complete"
    assert check_stream("/convo_turn_stream", pasted)[-1].event == "complete"


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
