"""The token streaming guide: its commands, scripts and tests, and its times as limits.

Its `ASGITransport(app=app)` is a real process here; the rest of each script is as it stands there.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from httpx import AsyncClient
from httpx_sse import aconnect_sse

from openapi_server import __version__
from tests.source_documents.commands import run_block
from tests.support.contract import check_stream, parse_events
from tests.support.node import run_script
from tests.support.processes import ServerProcess
from tests.support.timing import is_within, wait_until

QUESTION = {
    "message": "What are the side effects of aripiprazole?",
    "session_id": "550e8400-e29b-41d4-a716-446655440000",
}
STAGES = ["retrieval_start", "retrieval_complete", "reranking_start", "reranking_complete"]
FIRST_TOKEN_S, TOKEN_S, STAGE_S = 1.0, 0.1, 0.2  # SC-001, SC-002, SC-003

HOOK = Path(__file__).with_name("token_hook.mjs")

HEALTH = "curl http://localhost:8000/health"

CURL = """
curl -N -X POST http://localhost:8000/chat \\
  -H "Content-Type: application/json" \\
  -d '{
    "message": "What are the side effects of aripiprazole?",
    "session_id": "550e8400-e29b-41d4-a716-446655440000"
  }'
"""

CURL_OF_THE_TROUBLESHOOTING = """
   curl -X POST http://localhost:8000/chat \\
     -H "Content-Type: application/json" \\
     -d '{"message":"test","session_id":"test-123"}'
"""


def test_the_health_command(server: ServerProcess) -> None:
    """`status` and `version` as the guide shows them, and more beside."""
    health = json.loads(run_block(server, HEALTH))

    assert httpx.get(f"{server.url}/ready").status_code == 200
    assert health.items() >= {"status": "healthy", "version": __version__}.items()


@pytest.mark.parametrize("command", [CURL, CURL_OF_THE_TROUBLESHOOTING], ids=["quick test", "troubleshooting"])
def test_the_curl_commands(server: ServerProcess, command: str) -> None:
    """No `Accept` beyond curl's own: a stream of the four stages, tokens, and done."""
    printed = run_block(server, command)

    events = check_stream("/chat", printed)
    types = [event.data["type"] for event in events]
    assert types[:4] == STAGES
    assert set(types[4:-1]) == {"token"}
    assert events[-1].data["content"] == {}
    assert (
        b'data: {"type":"retrieval_start","content":{"stage":"retrieval","status":"started"},"timestamp":"' in printed
    )


async def test_streaming(server: ServerProcess) -> None:
    """Option 2, the httpx script: what it would print."""
    printed: list[str] = []
    async with (
        AsyncClient(base_url=server.url) as client,
        client.stream("POST", "/chat", json=QUESTION, timeout=30.0) as response,
    ):
        printed.append(f"Status: {response.status_code}\n")
        async for line in response.aiter_lines():
            if line.startswith("data: "):
                data = json.loads(line[6:])  # Remove "data: " prefix
                event_type = data["type"]

                if event_type == "token":
                    printed.append(data["content"])
                elif event_type == "done":
                    printed.append("\n\n✅ Stream completed")
                    break
                elif event_type == "error":
                    printed.append(f"\n\n❌ Error: {data['content']['message']}")
                    break
                else:
                    printed.append(f"\n📊 Stage: {data['content']['stage']} - {data['content']['status']}")

    assert printed[0] == "Status: 200\n"
    assert printed[1:5] == [
        f"\n📊 Stage: {stage} - {status}" for stage in ("retrieval", "reranking") for status in ("started", "complete")
    ]
    assert printed[-1] == "\n\n✅ Stream completed"


async def test_streaming_with_httpx_sse(server: ServerProcess) -> None:
    """The optional package of the guide reads the same stream: every event is an unnamed one."""
    async with (
        AsyncClient(base_url=server.url, timeout=30) as client,
        aconnect_sse(client, "POST", "/chat", json=QUESTION) as source,
    ):
        events = [event async for event in source.aiter_sse()]

    assert {event.event for event in events} == {"message"}
    assert json.loads(events[-1].data)["type"] == "done"
    assert "".join(json.loads(event.data)["content"] for event in events if '"type":"token"' in event.data)


def test_the_lion_does_not_talk_about_medicines(server: ServerProcess) -> None:
    """The guide's question is for another assistant."""
    answer = httpx.post(f"{server.url}/chat", json={**QUESTION, "streaming": False}, timeout=30).json()

    said = answer["response"].lower()
    assert any(word in said for word in ("keeper", "grown-up", "doctor"))
    assert not any(word in said for word in ("nausea", "akathisia", "dose", "drowsiness"))


async def test_token_streaming(server: ServerProcess) -> None:
    """Test that tokens are streamed progressively."""
    async with AsyncClient(base_url=server.url) as client:
        tokens = []

        async with client.stream(
            "POST", "/chat", json={"message": "test query", "session_id": "test-session-123"}
        ) as response:
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    data = json.loads(line[6:])

                    if data["type"] == "token":
                        tokens.append(data["content"])
                    elif data["type"] == "done":
                        break

        assert len(tokens) > 0, "No tokens received"
        assert "".join(tokens), "Response is empty"


async def test_stage_indicators(server: ServerProcess) -> None:
    """Test that processing stages are emitted."""
    async with AsyncClient(base_url=server.url) as client:
        stages_seen = set()

        async with client.stream(
            "POST", "/chat", json={"message": "test query", "session_id": "test-session-456"}
        ) as response:
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    data = json.loads(line[6:])

                    if data["type"] in STAGES:
                        stages_seen.add(data["type"])
                    elif data["type"] == "done":
                        break

        assert "retrieval_start" in stages_seen
        assert "retrieval_complete" in stages_seen


HOOK_STAGES = ["retrieval started", "retrieval complete", "reranking started", "reranking complete"]


def test_the_hook_sees_every_token_and_every_stage(server: ServerProcess) -> None:
    """In Node, as the guide's front end runs it: no block is passed over, and the text is the stored reply."""
    body = {"message": QUESTION["message"], "user_id": "demo-user", "session_id": None}

    seen = run_script(HOOK, f"{server.url}/chat", json.dumps(body))

    assert (seen["status"], seen["stages"], seen["endings"]) == (200, HOOK_STAGES, ["done"])
    assert seen["ignoredBlocks"] == []
    turn = httpx.get(f"{server.url}/convo_turn/{seen['turnId']}").json()
    assert "".join(seen["tokens"]) == turn["reply"]
    # The server has made a session, whose name the next message can have.
    seen = run_script(HOOK, f"{server.url}/chat", json.dumps({**body, "session_id": seen["sessionId"]}))
    assert (seen["status"], seen["endings"]) == (200, ["done"])


def test_error_handling(server: ServerProcess) -> None:
    """Empty in the guide: here what the client did wrong is a plain answer that names the field."""
    answer = httpx.post(f"{server.url}/chat", json={"message": "", "session_id": "test-session-789"})

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == "message"


async def post_message(client: AsyncClient, session_id: str, message: str, *, stop_after: int | None = None) -> str:
    """The reply's text; with `stop_after`, the request is aborted when so many tokens came."""
    tokens: list[str] = []
    async with client.stream("POST", "/chat", json={"message": message, "session_id": session_id}) as response:
        assert response.status_code == 200
        async for line in response.aiter_lines():
            data = json.loads(line[6:]) if line.startswith("data: ") else {}
            if data.get("type") == "token":
                tokens.append(data["content"])
            if data.get("type") == "done" or len(tokens) == stop_after:
                break
    return "".join(tokens)


def count_stopped(server: ServerProcess) -> int:
    return server.log.count("Stream cancelled by client")


async def test_the_stop_button(server: ServerProcess) -> None:
    """FR-018, FR-019, FR-021: the log says so at once, and the next message works and knows what was said before."""
    session_id = "f2f5bb7b-6f0c-4d27-8a10-6c2e7c0f0d57"
    before = count_stopped(server)
    async with AsyncClient(base_url=server.url) as client:
        await post_message(client, session_id, "My name is Mia.")

        await post_message(client, session_id, "Tell me all about your pride.", stop_after=3)
        await asyncio.to_thread(wait_until, lambda: count_stopped(server) > before, within_s=2)

        assert "Mia" in await post_message(client, session_id, "What is my name?")


async def test_the_next_message_may_come_at_once(server: ServerProcess) -> None:
    """Nobody has to wait for the server to notice the stop."""
    async with AsyncClient(base_url=server.url) as client:
        for n in range(5):
            await post_message(client, "eager-visitor", f"Tell me all about your pride, {n}.", stop_after=2)
            assert await post_message(client, "eager-visitor", "Hello!")


def test_the_log_filtered_for_streams(server: ServerProcess) -> None:
    """`grep "Stream"` shows the streams that were read to their end, and those that were stopped."""
    before, completed = count_stopped(server), server.log.count("Stream completed")
    httpx.post(f"{server.url}/chat", json={"message": "Hello!", "session_id": "log-reader"}, timeout=30)
    wait_until(lambda: server.log.count("Stream completed") > completed, within_s=2)
    with httpx.stream("POST", f"{server.url}/chat", json={"message": "Hello!", "session_id": "log-reader"}) as answer:
        assert next(answer.iter_lines()).startswith("data: ")
    wait_until(lambda: count_stopped(server) > before, within_s=2)

    found = subprocess.run(["grep", "Stream", server.log_path], capture_output=True, text=True, check=True)
    assert 'event="Stream completed" turn=turn_' in found.stdout
    assert 'event="Stream cancelled by client" turn=turn_' in found.stdout


def test_the_log_names_each_stage(server: ServerProcess) -> None:
    """What the guide looks for as `chat_model` is the stage `generation`."""
    httpx.post(f"{server.url}/chat", json={"message": "Hello!", "session_id": "stage-reader"}, timeout=30)

    wait_until(lambda: "stage=generation" in server.log, within_s=2)
    found = subprocess.run(["grep", "generation", server.log_path], capture_output=True, text=True, check=True)
    assert "event=stage_complete" in found.stdout
    assert "stage=generation" in found.stdout


def test_debug_logging_is_a_line_in_the_settings_file(tmp_path: Path) -> None:
    """`LOG_LEVEL=DEBUG` in `.env.local`: the log also has the lines for debugging."""
    (tmp_path / ".env.local").write_text("LOG_LEVEL=DEBUG\n")
    server = ServerProcess(tmp_path)
    try:
        httpx.post(f"{server.url}/chat", json={"message": "Hello!", "session_id": "debugger"}, timeout=30)
        wait_until(lambda: "level=debug" in server.log, within_s=5)
    finally:
        assert server.stop() == 0


def test_a_stream_that_goes_on_without_its_reader_is_resumed(tmp_path: Path) -> None:
    """Scenario 3: the network goes away in the middle, and the same post gets exactly the rest."""
    body = {"message": "Tell me all about your pride.", "session_id": str(uuid4()), "onDisconnect": "continue"}
    server = ServerProcess(tmp_path, OFFLINE_WORDS_PER_S=30)
    try:
        with httpx.Client(base_url=server.url, timeout=30) as client:
            with client.stream("POST", "/chat", json=body) as answer:
                turn_id, seen = answer.headers["x-streaming-session-id"], b""
                for piece in answer.iter_raw():
                    seen += piece
                    if seen.count(b'"type":"token"') >= 3:
                        break
            read = parse_events(seen)
            rest = client.post("/chat", json=body, headers={"Last-Event-ID": str(read[-1].id)})
            turn = client.get(f"/convo_turn/{turn_id}").json()
    finally:
        assert server.stop() == 0

    said = [event.data["content"] for event in [*read, *parse_events(rest.content)] if event.data["type"] == "token"]
    assert rest.headers["x-streaming-session-id"] == turn_id
    assert "".join(said) == turn["reply"]


async def stream_message(client: AsyncClient, session_id: str, message: str) -> bool:
    """Single streaming request."""
    async with client.stream("POST", "/chat", json={"message": message, "session_id": session_id}) as response:
        async for line in response.aiter_lines():
            if '"type":"done"' in line:
                return True
    return False


async def test_concurrent_streams(server: ServerProcess) -> None:
    """SC-006: ten sessions at once, each to its end."""
    async with AsyncClient(base_url=server.url, timeout=30) as client:
        ends = await asyncio.gather(*(stream_message(client, f"session-{i}", f"Query {i}") for i in range(10)))

    assert ends == [True] * 10


async def time_events(server: ServerProcess, message: str) -> tuple[datetime, list[tuple[datetime, dict[str, Any]]]]:
    """When the request went out, and when each event arrived."""
    body = {"message": message, "session_id": "stop-watch"}
    async with AsyncClient(base_url=server.url) as client:
        began = datetime.now(UTC)
        async with client.stream("POST", "/chat", json=body) as response:
            lines = [(datetime.now(UTC), line) async for line in response.aiter_lines()]
    return began, [(at, json.loads(line[6:])) for at, line in lines if line.startswith("data: ")]


async def test_the_times_of_the_success_criteria(server: ServerProcess) -> None:
    """SC-001 to SC-003: the first token within 1 s; a token on the way for 100 ms at most, a stage for 200 ms."""
    began, events = await time_events(server, "How fast can you run?")

    first = next(at for at, data in events if data["type"] == "token")
    assert is_within((first - began).total_seconds(), FIRST_TOKEN_S)
    for at, data in events:
        on_its_way_s = (at - datetime.fromisoformat(data["timestamp"])).total_seconds()
        assert is_within(on_its_way_s, TOKEN_S if data["type"] == "token" else STAGE_S), data
    wait_until(lambda: "First token latency: " in server.log, within_s=2)
    logged = re.findall(r"First token latency: ([0-9.]+)s", server.log)
    assert logged
    assert is_within(max(map(float, logged)), FIRST_TOKEN_S)
