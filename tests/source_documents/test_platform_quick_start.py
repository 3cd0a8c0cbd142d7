"""The quick start of the analytics platform, command by command: against the stand-in and against the real server.

The commands are those of the document; only host, port and the names of the programs differ, and polls and patience
are shorter.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.source_documents.platform_client import PlatformClient
from tests.support.processes import MockProcess, ServerProcess, run_zoochat

RULE = "=" * 80

HISTORY = [
    {"role": "user", "content": "What is the stock market?"},
    {"role": "assistant", "content": "The stock market is a collection of markets where stocks are traded..."},
    {"role": "user", "content": "How does it work in Jamaica?"},
    {"role": "assistant", "content": "In Jamaica, the Jamaica Stock Exchange (JSE) operates..."},
]

# The document's script, as it stands there.
ANALYSIS = """
import json

with open('results.json') as f:
    events = json.load(f)

# Check event types
event_types = [e['event'] for e in events]
print(f"Event sequence: {event_types}")

# Verify progress values
progress_events = [e for e in events if e['event'] == 'progress']
for pe in progress_events:
    data = json.loads(pe['data'])
    print(f"{data['step']}: {data['progress']}%")

# Check final result
result_events = [e for e in events if e['event'] == 'result']
if result_events:
    result = json.loads(result_events[0]['data'])
    print(f"Response length: {len(result['response'])} chars")
"""


@dataclass(frozen=True, slots=True)
class Chatbot:
    """A server at `url` that the document's client is pointed at."""

    url: str
    process: MockProcess | ServerProcess

    def ask(self, path: str, query: str, *flags: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        return run_zoochat("client", "--url", self.url + path, "--query", query, *flags, folder=folder)


@pytest.fixture(scope="module", params=["mock", "server"])
def chatbot(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chatbot]:
    """The stand-in, then the real server with its defaults, only quicker."""
    folder = tmp_path_factory.mktemp(request.param)
    process: MockProcess | ServerProcess
    if request.param == "mock":
        process = MockProcess(folder, delay_s=0.05)
    else:
        process = ServerProcess(folder, OFFLINE_WORDS_PER_S=60, HEARTBEAT="1")
    try:
        yield Chatbot(process.url, process)
    finally:
        assert process.stop() == 0


def find_json(out: str, heading: str) -> list[dict[str, object]]:
    """The JSON objects that were printed under the heading."""
    decoder = json.JSONDecoder()
    return [decoder.raw_decode(part.lstrip())[0] for part in out.split(f"[{heading}]\n")[1:]]


def test_step_1_the_mock_server(chatbot: Chatbot) -> None:
    """Its banner, and the defaults of what the document edits in the file: port, address and delay."""
    options = run_zoochat("mock", "--help", variables={"COLUMNS": "200"}).stdout

    if isinstance(chatbot.process, MockProcess):
        assert "MOCK CHATBOT SERVER" in chatbot.process.banner
        assert f"Server running at: {chatbot.url}" in chatbot.process.banner
    for option, default in (("--port", "5000"), ("--host", "127.0.0.1"), ("--delay", "1.5")):
        (line,) = [line for line in options.splitlines() if line.strip().startswith(option)]
        assert f"[default: {default}" in line


def test_step_2_the_stream(chatbot: Chatbot) -> None:
    """The headings, progress from 10 to 100, the final response, exit code 0."""
    ended = chatbot.ask("/api/v1/stream", "What are the key financial metrics for company XYZ?")

    assert ended.returncode == 0, ended.stderr
    assert f"\n{RULE}\nSTREAMING EVENTS\n{RULE}\n" in ended.stdout
    shown = [*find_json(ended.stdout, "PROGRESS"), *find_json(ended.stdout, "COMPLETE")]
    assert [(event["step"], event["progress"]) for event in shown] == [
        ("initializing", 10),
        ("loading_documents", 25),
        ("analyzing", 50),
        ("generating_response", 75),
        ("complete", 100),
    ]
    assert "documents_found" in ended.stdout
    (result,) = find_json(ended.stdout, "RESULT")
    assert result.keys() == {"response", "sources", "metadata"}
    assert ended.stdout.endswith(f"\n{RULE}\nFINAL RESPONSE:\n{RULE}\n{result['response']}\n")


def test_step_3_the_job(chatbot: Chatbot) -> None:
    """The job is detected, polled with its cookie, and its result printed."""
    ended = chatbot.ask(
        "/api/v1/stream?mode=job", "Perform deep analysis on market trends", "--expect-job", "--poll-interval", "0.05"
    )

    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert lines[0] == "📋 Detected JSON job response"
    assert lines[1].startswith("Job payload: {'job_id': 'job_")
    assert "'status': 'pending'" in lines[1]
    assert lines[2].startswith(f"🔄 Polling job at: {chatbot.url}/jobs/job_")
    assert lines[3].startswith("✅ Cookies received: {'session_id': '")
    assert "🔄 Poll attempt 1/150" in lines
    assert any(line.startswith('📊 Job status: {"status": "running", "latest_progress": {') for line in lines)
    assert "✅ Job finished with status: succeeded" in lines
    (result,) = find_json(ended.stdout, "RESULT")
    assert result["response"]


JOB_URLS = [
    "/api/v1/stream?mode=job",
    "/api/v1/stream?mode=job/",
    "/api/v1/stream?mode=job/stream",
    "/api/v1/stream?mode=job%2Fstream",
    "/api/v1/stream?mode=job//",
    "/api/v1/stream/?mode=job",
]
STREAM_URLS = [
    "/api/v1",
    "/api/v1/",
    "/api/v1/stream",
    "/api/v1/stream/",
    "/api/v1/stream?mode=sse",
    "/api/v1/stream?mode=",
]


@pytest.mark.parametrize("path", JOB_URLS)
def test_step_3_with_a_client_that_makes_its_own_url(chatbot: Chatbot, path: str) -> None:
    """The document's client puts `/stream` behind `?mode=job`, and gets a job all the same."""
    answered = PlatformClient(chatbot.url + path).ask("Perform deep analysis on market trends")

    assert answered.is_job
    assert "session_id" in answered.cookies
    assert answered.progress == sorted(answered.progress)
    assert answered.progress[-1] == 100
    assert answered.response


@pytest.mark.parametrize("path", STREAM_URLS)
def test_step_2_with_a_client_that_makes_its_own_url(chatbot: Chatbot, path: str) -> None:
    """It knows neither ids nor `retry`, and reads line by line."""
    answered = PlatformClient(chatbot.url + path).ask("What are the key financial metrics?", HISTORY)

    names = [name for name in answered.names if name != "heartbeat"]
    assert not answered.is_job
    assert "session_id" in answered.cookies
    assert names == ["progress"] * 4 + ["result", "complete"]
    assert answered.progress == [10, 25, 50, 75]
    assert answered.response


def test_the_error(chatbot: Chatbot) -> None:
    """Some progress, the error's sentence, exit code 1."""
    ended = chatbot.ask("/api/v1/stream/error", "Test")

    assert ended.returncode == 1
    assert find_json(ended.stdout, "PROGRESS")
    (error,) = find_json(ended.stdout, "ERROR")
    assert str(error["error"]) in ended.stderr


def test_a_job_that_fails(chatbot: Chatbot) -> None:
    """It says why, exit code 1, and the last progress is that of the step it failed in."""
    ended = chatbot.ask("/api/v1/stream/error?mode=job", "Test", "--expect-job", "--poll-interval", "0.05")

    assert ended.returncode == 1
    assert "❌ Job finished with status: failed" in ended.stdout
    states = [json.loads(line.partition(": ")[2]) for line in ended.stdout.splitlines() if "Job status: " in line]
    progress = [state["latest_progress"]["progress"] for state in states]
    assert progress == sorted(progress)
    assert states[-1]["latest_progress"]["step"] == "loading_documents"
    assert progress[-1] == 25
    assert "simulat" in ended.stderr


def test_the_timeout(chatbot: Chatbot) -> None:
    """Heartbeats until the client's patience is over, exit code 1."""
    ended = chatbot.ask("/api/v1/stream/timeout", "Test", "--timeout", "3")

    assert ended.returncode == 1
    assert "[HEARTBEAT]" in ended.stdout
    assert "No result within 3 s" in ended.stderr


def test_the_history(chatbot: Chatbot, tmp_path: Path) -> None:
    """Four messages go along; the stand-in's log counts them."""
    (tmp_path / "history.json").write_text(json.dumps(HISTORY))

    ended = chatbot.ask("/api/v1/stream", "What about recent trends?", "--history", "history.json", folder=tmp_path)

    assert ended.returncode == 0, ended.stderr
    if isinstance(chatbot.process, MockProcess):
        assert "Conversation history: 4 messages" in chatbot.process.log


def test_verbose(chatbot: Chatbot) -> None:
    """Raw chunks, lines, cookies and decoded events."""
    ended = chatbot.ask("/api/v1/stream", "Debug test", "--verbose")

    assert ended.returncode == 0, ended.stderr
    for shown in ("Raw SSE chunk: b'retry: 2000", "Line: event: progress", "Cookie set: session_id=", "Event: "):
        assert f"DEBUG - {shown}" in ended.stdout


def test_the_saved_output_and_its_analysis(chatbot: Chatbot, tmp_path: Path) -> None:
    """The script of the document reads what was saved."""
    ended = chatbot.ask("/api/v1/stream", "Test", "--save-output", "results.json", folder=tmp_path)
    analysed = subprocess.run(
        [sys.executable, "-c", ANALYSIS], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=True
    ).stdout

    assert ended.returncode == 0, ended.stderr
    steps = ["initializing: 10%", "loading_documents: 25%", "analyzing: 50%", "generating_response: 75%"]
    first, *told, last = analysed.splitlines()
    # A heartbeat belongs to a slow machine, not to the document.
    assert first.replace("'heartbeat', ", "") == f"Event sequence: {['progress'] * 4 + ['result', 'complete']}"
    assert told == steps
    assert last.startswith("Response length: ")


def test_the_health_check(chatbot: Chatbot) -> None:
    """`curl http://localhost:5000/health`."""
    assert httpx.get(f"{chatbot.url}/health").json()["status"] == "healthy"


def test_the_list_of_jobs_and_a_poll_without_the_cookie(chatbot: Chatbot) -> None:
    """The document's commonest failure: the session cookie is not sent, and the job is not found."""
    with httpx.Client() as visitor:
        job = visitor.post(f"{chatbot.url}/api/v1/stream?mode=job", json={"query": "Test"}).json()
        assert visitor.get(chatbot.url + job["polling_url"]).json()["job_id"] == job["job_id"]
        assert [each["job_id"] for each in visitor.get(f"{chatbot.url}/jobs").json()["jobs"]] == [job["job_id"]]

    without = httpx.get(chatbot.url + job["polling_url"])
    assert without.status_code == 404
    assert without.json()["detail"].startswith("Job not found")


def test_the_log_of_the_server(chatbot: Chatbot) -> None:
    """The lines that the document looks for are the mock server's; the real one logs neither questions nor cookies."""
    with httpx.Client(timeout=20) as visitor:
        visitor.post(f"{chatbot.url}/api/v1/stream", json={"query": "A question for the log"}).raise_for_status()
        cookie = visitor.cookies["session_id"]

    shown = [
        "Received request - Query: A question for the log",
        f"Created new session: {cookie}",
        "Using SSE streaming mode",
        "SSE -> progress: ",
        "SSE -> result: ",
    ]
    is_mock = isinstance(chatbot.process, MockProcess)
    assert [line in chatbot.process.log for line in shown] == [is_mock] * len(shown)
    assert (cookie in chatbot.process.log) is is_mock


def test_the_checklist_as_a_command(chatbot: Chatbot) -> None:
    """Each item of the validation checklist is a check, and all of them pass."""
    ended = run_zoochat("check", chatbot.url, "--contract", "platform", "--heartbeat", "5", "--json")

    report = json.loads(ended.stdout)
    required = {row["check"]: row["result"] for row in report["findings"] if row["section"] == "required"}
    assert ended.returncode == 0, report
    items = [
        "event stream",
        "cookie",
        "progress",
        "response",
        "silence allowed",
        "closing",
        "job",
        "job cookie",
        "failures",
    ]
    assert {name: required[name] for name in items} == dict.fromkeys(items, "pass")


def test_the_checklist_of_the_headers(chatbot: Chatbot) -> None:
    """`Content-Type: text/event-stream`, and `Set-Cookie` with the session in both modes."""
    stream = httpx.post(f"{chatbot.url}/api/v1/stream", json={"query": "Test"}, timeout=20)
    job = httpx.post(f"{chatbot.url}/api/v1/stream?mode=job", json={"query": "Test"})

    assert stream.headers["content-type"].startswith("text/event-stream")
    for answer in (stream, job):
        attributes = answer.headers["set-cookie"].split("; ")
        assert attributes[0].startswith("session_id=")
        assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(attributes)
