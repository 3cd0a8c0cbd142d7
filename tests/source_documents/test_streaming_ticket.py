"""The streaming ticket: its commands and its unit test, against a real process."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import requests
import sseclient

from openapi_server.impl.streaming_response import SSEStreamer
from tests.source_documents.commands import run_block
from tests.support.contract import check_stream
from tests.support.node import run_script
from tests.support.processes import ServerProcess, run_zoochat

FRONT_END = Path(__file__).with_name("zoo_front_end.mjs")
HELLO = {"message": "Hello!", "animalId": "lion_001", "stream": True}

CURL = """
# Test SSE endpoint with curl
curl -N -H "Accept: text/event-stream" \\
  http://localhost:8080/convo_turn_stream \\
  -H "Content-Type: application/json" \\
  -d '{"message": "Hello!", "animalId": "lion_001", "stream": true}'
"""


def test_the_prerequisites(tmp_path: Path) -> None:
    """Port 8080 without a setting, and another one from `.env.local`."""
    without = run_zoochat("doctor", folder=tmp_path).stdout
    (tmp_path / ".env.local").write_text("PORT=18080\n")
    with_file = run_zoochat("doctor", folder=tmp_path).stdout

    assert "PORT: 8080 of " in without
    assert "PORT: 18080 of " in with_file


def test_the_curl_command(server: ServerProcess) -> None:
    """Metadata, typing, chunks and complete, each event whole."""
    events = check_stream("/convo_turn_stream", run_block(server, CURL))

    names = [event.event for event in events]
    assert names[:2] == ["metadata", "typing"]
    assert "chunk" in names
    assert names[-1] == "complete"


def test_the_python_client(server: ServerProcess) -> None:
    """requests and sseclient-py, as written there: the chunks are the whole reply."""
    response = requests.post(
        f"{server.url}/convo_turn_stream",
        json={"message": "Hello!", "animalId": "lion_001", "stream": True},
        stream=True,
        headers={"Accept": "text/event-stream"},
        timeout=30,
    )

    client = sseclient.SSEClient(response)  # type: ignore[arg-type]  # as every example of it does
    events = [(event.event, json.loads(event.data)) for event in client.events()]
    response.close()

    assert events[0][0] == "metadata"
    assert events[-1][0] == "complete"
    assert "".join(data["content"] for name, data in events if name == "chunk") == events[-1][1]["fullResponse"]


def test_the_unit_test_of_the_format() -> None:
    """`SSEStreamer` stands where the ticket imports it from, and formats as it expects."""
    streamer = SSEStreamer()
    formatted = streamer.format_sse(data='{"content": "Hello"}', event="message", id="123")
    assert "event: message\n" in formatted
    assert 'data: {"content": "Hello"}\n' in formatted
    assert formatted.endswith("\n\n")


async def test_the_unit_test_of_the_stream() -> None:
    """Any text as a stream, as written there."""
    streamer = SSEStreamer()

    async def mock_generator() -> AsyncIterator[str]:
        yield "Hello "
        yield "World!"

    result = []
    async for event in streamer.stream_chat_response(mock_generator(), "session123", "lion_001"):
        result.append(event)  # noqa: PERF401  # as it was written there

    # Should have metadata, content chunks, and complete events
    assert any("metadata" in e for e in result)
    assert any("complete" in e for e in result)


def test_typing_starts_and_stops_with_its_real_duration(server: ServerProcess) -> None:
    """Substep 3: typing lasts from the first word of the server to the first of the animal."""
    answer = httpx.post(f"{server.url}/convo_turn_stream", json=HELLO)

    events = check_stream("/convo_turn_stream", answer.content)
    typing = [event.data for event in events if event.event == "typing"]
    first_token_ms = events[-1].data["firstTokenMs"]
    assert [data["status"] for data in typing] == ["start", "stop"]
    assert 0 <= typing[1]["durationMs"] <= first_token_ms + 1


def test_headers_are_those_of_the_troubleshooting(server: ServerProcess) -> None:
    """No cache, no buffering proxy, an origin for the browser, chunked transfer."""
    with httpx.stream("POST", f"{server.url}/convo_turn_stream", json=HELLO) as answer:
        headers = answer.headers

    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert "no-cache" in headers["cache-control"]
    assert headers["x-accel-buffering"] == "no"
    assert headers["access-control-allow-origin"] == "http://localhost:3000"
    assert headers["transfer-encoding"] == "chunked"


def test_a_failure_before_the_stream_is_a_plain_answer(server: ServerProcess) -> None:
    """Substep 4: what the client did wrong, as a status and a sentence."""
    answer = httpx.post(f"{server.url}/convo_turn_stream", json={**HELLO, "animalId": "dodo_001"})

    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "animal_not_found"


def test_a_reader_that_was_cut_off_gets_exactly_the_rest(server: ServerProcess) -> None:
    """Reconnection: the same post with the last id, and no turn is asked twice."""
    url = f"{server.url}/convo_turn_stream"
    with httpx.Client() as client:
        whole = check_stream("/convo_turn_stream", client.post(url, json=HELLO).content)
        rest = client.post(url, json=HELLO, headers={"Last-Event-ID": whole[3].id or ""}).content

    assert check_stream("/convo_turn_stream", rest, is_resumed=True) == whole[4:]


def test_the_front_end_with_a_session_id_of_its_own(server: ServerProcess) -> None:
    """In Node, logged out and without cookies: its turns are one conversation, under the id that it made."""
    seen = run_script(FRONT_END, server.url)

    statuses = {name: answer["status"] for name, answer in seen.items() if name != "sessionId"}
    assert statuses == {
        **dict.fromkeys(statuses, 200),
        "deleted": 204,
        "afterwards": 404,
    }
    for name in ("first", "second", "history", "session", "summary"):
        assert seen[name]["body"]["sessionId"] == seen["sessionId"], name
    events = check_stream("/convo_turn_stream", seen["stream"]["body"].encode())
    assert events[0].data["sessionId"] == events[-1].data["sessionId"] == seen["sessionId"]
    assert "Mia" in seen["second"]["body"]["reply"]
    assert seen["history"]["body"]["totalTurns"] == 3
