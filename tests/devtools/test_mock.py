"""`zoochat mock`: a chatbot that follows the platform contract, without a model."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from openapi_server.spec import load_spec
from tests.support.contract import check_stream
from tests.support.processes import MockProcess, run_zoochat

QUERY = {"query": "Who are you?"}


def post_query(mock: MockProcess, path: str = "/api/v1/stream", **more: Any) -> httpx.Response:
    return httpx.post(mock.url + path, **{"json": QUERY, "timeout": 20, **more})


def split_blocks(answer: httpx.Response) -> list[str]:
    return answer.text.split("\n\n")[:-1]


@pytest.mark.parametrize("path", ["/api/v1/stream", "/api/v1/stream/error", "/api/v1/stream/timeout"])
def test_its_streams_keep_the_contract(mock: MockProcess, path: str) -> None:
    """In bytes, order and content, as the real server's."""
    answer = post_query(mock, path)

    events = check_stream(path, answer.content)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["x-streaming-session-id"] == (events[0].id or "").rpartition("-")[0]
    names = {event.event for event in events}
    assert ("heartbeat" in names) == path.endswith("timeout")
    assert events[-1].event == ("complete" if path == "/api/v1/stream" else "error")


def test_its_steps_are_those_of_a_real_turn(mock: MockProcess) -> None:
    """Progress 10, 25 with the documents found, 50 and 75, then the result."""
    events = check_stream("/api/v1/stream", post_query(mock).content)

    assert [(event.data["step"], event.data["progress"]) for event in events if event.event == "progress"] == [
        ("initializing", 10),
        ("loading_documents", 25),
        ("analyzing", 50),
        ("generating_response", 75),
    ]
    assert events[1].data["details"] == {"documents_found": 12}
    assert '"Who are you?"' in events[-2].data["response"]


def test_a_stream_is_resumed_at_every_event(mock: MockProcess) -> None:
    """The same POST with `Last-Event-ID` gets the remaining bytes; after the last event the answer is 204."""
    with httpx.Client(timeout=20) as visitor:
        whole = visitor.post(f"{mock.url}/api/v1/stream", json=QUERY)
        blocks = split_blocks(whole)
        for place, block in enumerate(blocks):
            ids = [line.removeprefix("id: ") for line in block.split("\n") if line.startswith("id: ")]
            if not ids:
                continue
            rest = visitor.post(f"{mock.url}/api/v1/stream", json=QUERY, headers={"Last-Event-ID": ids[0]})
            if place == len(blocks) - 1:
                assert rest.status_code == 204
            else:
                expected = "retry: 2000\n" + "".join(later + "\n\n" for later in blocks[place + 1 :])
                assert rest.text == expected


def test_what_cannot_be_resumed_is_named(mock: MockProcess) -> None:
    """Another query, an unknown event, and another visitor's turn."""
    with httpx.Client(timeout=20) as visitor:
        url = f"{mock.url}/api/v1/stream"
        turn_id = visitor.post(url, json=QUERY).headers["x-streaming-session-id"]

        other = visitor.post(url, json={"query": "Where?"}, headers={"Last-Event-ID": f"{turn_id}-1"})
        beyond = visitor.post(url, json=QUERY, headers={"Last-Event-ID": f"{turn_id}-99"})
        foreign = httpx.post(url, json=QUERY, headers={"Last-Event-ID": f"{turn_id}-1"})

    codes = [(answer.status_code, answer.json()["code"]) for answer in (other, beyond, foreign)]
    assert codes == [(422, "resume_mismatch"), (400, "invalid_input"), (404, "turn_not_found")]


def test_an_idempotency_key_joins_the_same_turn(mock: MockProcess) -> None:
    """The same key and query join the turn; the same key with another query is refused with 422."""
    key = {"Idempotency-Key": "0b6f9c1e-58a3-4d0e-9b6e-3a1c2d4e5f60"}
    with httpx.Client(timeout=20, headers=key) as visitor:
        visitor.get(f"{mock.url}/health")
        cookie = visitor.post(f"{mock.url}/api/v1/stream", json=QUERY, headers={"Idempotency-Key": "first"}).cookies
        first, second = (visitor.post(f"{mock.url}/api/v1/stream", json=QUERY) for _ in range(2))
        other = visitor.post(f"{mock.url}/api/v1/stream", json={"query": "Where?"})

    assert cookie
    assert first.content == second.content
    assert (other.status_code, other.json()["code"]) == (422, "key_reused")


def test_a_job_is_only_there_for_the_cookie_that_began_it(mock: MockProcess) -> None:
    """Without the cookie, or with another one: 404 `Job not found`. `/jobs` lists the visitor's own jobs."""
    with httpx.Client() as visitor:
        job = visitor.post(f"{mock.url}/api/v1/stream?mode=job", json=QUERY).json()
        own = visitor.get(mock.url + job["polling_url"])
        same = visitor.get(f"{mock.url}/api/v1{job['polling_url']}")
        listed = visitor.get(f"{mock.url}/jobs").json()["jobs"]
    foreign = httpx.get(mock.url + job["polling_url"])

    assert job["status"] == "pending"
    assert own.json().keys() == set(load_spec()["components"]["schemas"]["Job"]["required"])
    assert (own.status_code, same.status_code) == (200, 200)
    assert [each["job_id"] for each in listed] == [job["job_id"]]
    assert (foreign.status_code, foreign.json()["detail"]) == (404, "Job not found")
    assert httpx.get(f"{mock.url}/jobs").json()["jobs"] == []


def test_a_job_can_fail(mock: MockProcess) -> None:
    """The simulated error as a job."""
    with httpx.Client() as visitor:
        url = mock.url + visitor.post(f"{mock.url}/api/v1/stream/error?mode=job", json=QUERY).json()["polling_url"]
        seen = [visitor.get(url).json()]
        while seen[-1]["status"] == "running" and len(seen) < 2000:
            seen.append(visitor.get(url).json())

    progress = [job["latest_progress"]["progress"] for job in seen]
    assert progress == sorted(progress)
    assert (seen[-1]["status"], seen[-1]["error"]) == ("failed", "This error is simulated.")
    assert seen[-1]["problem"]["code"] == "provider_failed"


def test_its_cookie_is_for_the_server_only(mock: MockProcess) -> None:
    """A visitor who sends it gets no other."""
    with httpx.Client() as visitor:
        first = visitor.post(f"{mock.url}/api/v1/stream?mode=job", json=QUERY)
        second = visitor.post(f"{mock.url}/api/v1/stream?mode=job", json=QUERY)

    name, *attributes = first.headers["set-cookie"].split("; ")
    assert name.startswith("session_id=")
    assert attributes == ["HttpOnly", "Path=/", "SameSite=Lax"]
    assert "set-cookie" not in second.headers


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{}", "query"),
        (b'{"query": " "}', "query"),
        (b'{"query": 1}', "query"),
        (b'{"query": "Hi", "conversation_history": [{"role": "user"}]}', "conversation_history.0.content"),
        (b"[]", "body"),
        (b"{", "body"),
        (b"", "body"),
        (b"\xff", "body"),
    ],
)
def test_a_body_that_breaks_the_contract_is_refused(mock: MockProcess, body: bytes, field: str) -> None:
    """400, and the problem names the field."""
    answer = post_query(mock, json=None, content=body)

    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert field in [error["field"] for error in answer.json()["errors"]]


def test_it_serves_nothing_else(mock: MockProcess) -> None:
    """Neither other contracts nor other methods."""
    assert httpx.post(f"{mock.url}/convo_turn_stream", json=QUERY).json()["code"] == "not_found"
    assert httpx.get(f"{mock.url}/api/v1/stream").json()["code"] == "method_not_allowed"
    assert httpx.post(f"{mock.url}/api/v1/stream?mode=fax", json=QUERY).json()["code"] == "invalid_input"


def test_it_passes_the_check_of_the_contract(mock: MockProcess) -> None:
    """`zoochat check` finds no fault, so clients of the mock work with the real server, too."""
    ended = run_zoochat("check", mock.url, "--contract", "platform")
    assert ended.returncode == 0, ended.stdout


def test_a_browser_of_a_local_page_may_read_it(mock: MockProcess) -> None:
    """Its origin is allowed, with credentials; foreign origins are not."""
    ours, stranger = ({"Origin": origin} for origin in ("http://localhost:5173", "http://evil.example"))
    answer, refused = (httpx.get(f"{mock.url}/health", headers=headers) for headers in (ours, stranger))
    preflight = httpx.options(f"{mock.url}/api/v1/stream", headers=ours)

    assert answer.headers["access-control-allow-origin"] == "http://localhost:5173"
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert refused.headers["access-control-allow-origin"] != "http://evil.example"
    assert (preflight.status_code, "POST" in preflight.headers["access-control-allow-methods"]) == (204, True)


def test_its_health_is_that_of_the_real_one(mock: MockProcess) -> None:
    """It has the same members."""
    health = httpx.get(f"{mock.url}/health").json()
    assert health.keys() == {"status", "version", "timestamp", "active_jobs"}
    assert health["status"] == "healthy"


def test_a_query_cannot_forge_a_line_of_its_log(mock: MockProcess) -> None:
    """Line ends in a query are logged as question marks."""
    post_query(mock, json={"query": "Hi\nINFO - forged"})
    assert "Received request - Query: Hi?INFO - forged" in mock.log


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_an_orderly_end_also_for_open_streams(tmp_path: Path, number: signal.Signals) -> None:
    """Exit code 0, no traceback, and open streams are closed."""
    mock = MockProcess(tmp_path, delay_s=5)

    with httpx.stream("POST", f"{mock.url}/api/v1/stream", json=QUERY, timeout=20) as answer:
        pieces = answer.iter_text()
        next(pieces)
        assert mock.stop(number) == 0
        assert list(pieces) == []

    assert "Traceback" not in mock.log


def test_a_plain_terminal_gets_plain_characters(tmp_path: Path) -> None:
    """The banner and the log work without frames and ornaments."""
    mock = MockProcess(tmp_path, PYTHONIOENCODING="ascii")
    try:
        post_query(mock, json={"query": "Löwe"})
    finally:
        mock.stop()

    assert mock.banner.isascii()
    assert f"={'MOCK CHATBOT SERVER':^78}=" in mock.banner
    assert "INFO - Created new session: " in mock.log
    assert r"Query: L\xf6we" in mock.log


def test_a_minimal_one_does_what_the_quick_start_asks(tmp_path: Path) -> None:
    """`zoochat check` finds all that is required there, and nothing that this server adds; the client works."""
    mock = MockProcess(tmp_path, "--minimal")
    try:
        answer = post_query(mock, headers={"Origin": "http://localhost:3000", "Idempotency-Key": "k"})
        again = post_query(mock, headers={"Last-Event-ID": "turn_a-1"})
        unknown = httpx.get(f"{mock.url}/jobs/job_unknown")
        checked = run_zoochat("check", mock.url, "--contract", "platform", "--heartbeat", "5", "--json")
        asked = run_zoochat("client", "--url", f"{mock.url}/api/v1/stream?mode=job", "--query", "Hello", "--expect-job")
    finally:
        assert mock.stop() == 0

    assert not any(line.startswith(("id:", "retry:")) for line in answer.text.split("\n"))
    assert "access-control-allow-origin" not in answer.headers
    assert again.text.startswith("event: progress\n")
    assert (unknown.status_code, unknown.json()) == (404, {"error": "Job not found"})
    report = json.loads(checked.stdout)
    assert (checked.returncode, report["required"]["fail"], report["required"]["skip"]) == (0, 0, 0)
    assert report["extra"]["fail"] > 5
    assert asked.returncode == 0, asked.stderr
