"""`zoochat client`: the requests it sends, the answers it understands, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from openapi_server.devtools.client import (
    MAX_FAILED_POLLS,
    MAX_POLLS,
    MAX_RESUMES,
    ChatRequest,
    HistoryError,
    Timeouts,
    read_history,
    run_client,
)
from tests.devtools.canned import CannedAnswer, CannedServer, make_json_answer, serve_answers

QUICKLY = Timeouts(total_s=10, poll_interval_s=0)
RETRY = "retry: 1\n"
PROGRESS = 'id: turn_a-1\nevent: progress\ndata: {"step":"initializing","message":"","progress":10}\n\n'
RESULT = 'event: result\ndata: {"response":"Roar!","sources":[],"metadata":{}}\n\n'
COMPLETE = 'id: turn_a-9\nevent: complete\ndata: {"progress":100,"message":"","step":"complete"}\n\n'
WHOLE = RETRY + PROGRESS + RESULT + COMPLETE
ACCEPTED = make_json_answer(
    {"job_id": "job_a", "status": "pending", "polling_url": "/jobs/job_a"}, Set_Cookie="session_id=xyz; Path=/"
)


def make_state(status: str, progress: int, **more: object) -> CannedAnswer:
    latest = {"step": "analyzing", "message": "", "progress": progress}
    return make_json_answer({"job_id": "job_a", "status": status, "latest_progress": latest, **more})


def run_against(bot: CannedServer, path: str = "/api/v1/stream", **options: Any) -> int:
    return run_client(ChatRequest(bot.url + path, "Who are you?"), QUICKLY, **options)


def test_the_flags_are_fields_of_the_request() -> None:
    """Document loading and memory are on by default; a history is sent only if there is one."""
    history = [{"role": "user", "content": "Hello"}]

    assert ChatRequest("", "Hi").body == {"query": "Hi", "auto_load_documents": True, "memory_enabled": True}
    assert ChatRequest("", "Hi", history, auto_load=False, memory=False).body == {
        "query": "Hi",
        "conversation_history": history,
        "auto_load_documents": False,
        "memory_enabled": False,
    }


def test_a_stream_that_breaks_off_is_resumed_and_no_event_comes_twice(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The same POST again with the last event id, after the server's reconnection time."""
    with serve_answers(CannedAnswer(RETRY + PROGRESS, breaks_off=True), CannedAnswer(RETRY + RESULT + COMPLETE)) as bot:
        code = run_against(bot, save_to=tmp_path / "saved.json")

    first, second = bot.received
    assert code == 0
    assert "last-event-id" not in first.headers
    assert second.headers["last-event-id"] == "turn_a-1"
    assert second.body == first.body
    events = json.loads((tmp_path / "saved.json").read_text())
    assert [event["event"] for event in events] == ["progress", "result", "complete"]
    assert "Resuming after turn_a-1 in 0.001 s" in capsys.readouterr().out


def test_a_stream_that_just_ends_is_resumed_too(capsys: pytest.CaptureFixture[str]) -> None:
    """Proxies close a stream cleanly when its server is gone."""
    with serve_answers(CannedAnswer(RETRY + PROGRESS), CannedAnswer(RETRY + RESULT + COMPLETE)) as bot:
        assert run_against(bot) == 0

    assert len(bot.received) == 2


def test_a_server_that_restarts_is_asked_again(capsys: pytest.CaptureFixture[str]) -> None:
    """503 is an error for the first request, but not while resuming."""
    with serve_answers(
        CannedAnswer(RETRY + PROGRESS), make_json_answer({"detail": "Restarting"}, 503), CannedAnswer(RETRY + RESULT)
    ) as bot:
        assert run_against(bot) == 0
    with serve_answers(make_json_answer({"detail": "Restarting"}, 503)) as bot:
        assert run_against(bot) == 1
        assert len(bot.received) == 1


def test_resuming_is_bounded(capsys: pytest.CaptureFixture[str]) -> None:
    """A stream without progress is given up."""
    with serve_answers(CannedAnswer(RETRY + PROGRESS), CannedAnswer(RETRY + ": nothing\n\n")) as bot:
        assert run_against(bot) == 1

    assert len(bot.received) == 1 + MAX_RESUMES
    assert "attempts to resume it failed" in capsys.readouterr().err


def test_a_stream_without_ids_is_not_asked_for_twice(capsys: pytest.CaptureFixture[str]) -> None:
    """Without an event id the same POST would start, and charge, another turn."""
    with serve_answers(CannedAnswer(PROGRESS.partition("\n")[2], breaks_off=True)) as bot:
        assert run_against(bot) == 1

    assert len(bot.received) == 1
    assert "broke off" in capsys.readouterr().err


def test_a_chatbot_may_end_after_its_result(capsys: pytest.CaptureFixture[str]) -> None:
    """Other chatbots close the stream without `complete`."""
    with serve_answers(CannedAnswer(PROGRESS + RESULT, breaks_off=True)) as bot:
        assert run_against(bot) == 0

    assert capsys.readouterr().out.endswith("FINAL RESPONSE:\n" + "=" * 80 + "\nRoar!\n")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (CannedAnswer('event: error\ndata: {"error":"No luck"}\n\n'), "No luck"),
        (CannedAnswer('event: error\ndata: {"problem":{}}\n\n'), "event has no message"),
        (CannedAnswer("event: error\ndata: oops\n\n"), "event has no message"),
        (CannedAnswer('event: result\ndata: {"result":"Roar"}\n\n'), "no text in its field `response`"),
        (CannedAnswer("event: result\ndata: Roar\n\n"), "no text in its field `response`"),
        (CannedAnswer(COMPLETE), "no result came"),
        (make_json_answer({"detail": "query: is required"}, 400), "HTTP 400: query: is required"),
        (CannedAnswer("<html>", 502, "text/html"), "HTTP 502: Bad Gateway"),
        (CannedAnswer("", 307, headers={"Location": "/elsewhere"}), "HTTP 307"),
        (CannedAnswer("Roar", media_type="text/plain"), "not a JSON object"),
        (make_json_answer({"response": "Roar"}), "neither a stream of events nor a job"),
        (make_json_answer({"job_id": "job_a"}), "no polling_url"),
    ],
)
def test_an_answer_without_a_result_has_an_error_message(
    answer: CannedAnswer, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, the reason on standard error, and never a traceback."""
    with serve_answers(answer) as bot:
        assert run_against(bot) == 1

    assert said in capsys.readouterr().err


@pytest.mark.parametrize("url", ["nonsense", "ftp://zoo.example/", "http://[::1", "http://127.0.0.1:1/"])
def test_an_address_where_nobody_listens_is_named(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The most frequent mistake."""
    assert run_client(ChatRequest(url, "Hi"), QUICKLY) == 1
    assert url in capsys.readouterr().err


def test_a_missing_cookie_is_pointed_out(capsys: pytest.CaptureFixture[str]) -> None:
    """Without one, a load balancer may send polls to another worker."""
    with serve_answers(CannedAnswer(WHOLE)) as bot:
        assert run_against(bot) == 0
    assert "NO COOKIES received" in capsys.readouterr().out


def test_cookies_are_kept_between_the_post_and_the_polls(capsys: pytest.CaptureFixture[str]) -> None:
    """`polling_url` is relative to the server's origin."""
    with serve_answers(
        ACCEPTED, make_state("running", 25), make_state("succeeded", 100, result={"response": "Roar!"})
    ) as bot:
        assert run_against(bot, "/deep/api/v1/stream?mode=job") == 0

    out = capsys.readouterr().out
    assert [(got.path, got.headers.get("cookie")) for got in bot.received] == [
        ("/deep/api/v1/stream?mode=job", None),
        ("/jobs/job_a", "session_id=xyz"),
        ("/jobs/job_a", "session_id=xyz"),
    ]
    assert "Cookies received: {'session_id': 'xyz'}" in out
    assert f"Poll attempt 2/{MAX_POLLS}" in out
    assert "Job finished with status: succeeded" in out


def test_a_jobs_changes_are_saved_once_each(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """One `progress` for each change, then the `result`; `data` is a JSON text, as in a stream."""
    states = [make_state("running", 25), make_state("running", 25), make_state("running", 50)]
    with serve_answers(ACCEPTED, *states, make_state("succeeded", 100, result={"response": "Roar!"})) as bot:
        assert run_against(bot, save_to=tmp_path / "saved.json") == 0

    events = json.loads((tmp_path / "saved.json").read_text())
    assert [event["event"] for event in events] == ["progress", "progress", "progress", "result"]
    assert [json.loads(event["data"])["progress"] for event in events[:3]] == [25, 50, 100]
    assert json.loads(events[-1]["data"]) == {"response": "Roar!"}


@pytest.mark.parametrize(
    ("states", "said"),
    [
        ([make_state("failed", 100, error="No luck", result=None)], "No luck"),
        ([make_state("failed", 100)], "failed without a message"),
        ([make_state("succeeded", 100, result=None)], "no text in its field `response`"),
        ([make_json_answer({"detail": "Job not found"}, 404)], "HTTP 404: Job not found"),
        ([make_json_answer({"detail": "Later"}, 503)], f"{MAX_FAILED_POLLS} polls in a row failed"),
        ([make_json_answer([])], "not a JSON object"),
    ],
)
def test_a_job_without_a_result_is_said_in_a_sentence(
    states: list[CannedAnswer], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1."""
    with serve_answers(ACCEPTED, *states) as bot:
        assert run_against(bot) == 1

    assert said in capsys.readouterr().err


def test_polls_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """A job that never ends is given up after as many polls as the platform makes."""
    with serve_answers(ACCEPTED, make_state("running", 25)) as bot:
        assert run_against(bot) == 1

    assert len(bot.received) == 1 + MAX_POLLS
    assert f"not finished after {MAX_POLLS} polls" in capsys.readouterr().err


def test_a_chatbot_cannot_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Escape sequences in a reply are printed as text."""
    with serve_answers(CannedAnswer('event: result\ndata: {"response":"\\u001b[2Jgone\\u009b1m\\tfar"}\n\n')) as bot:
        assert run_against(bot) == 0

    assert "?[2Jgone?1m\tfar" in capsys.readouterr().out


def test_a_file_that_cannot_be_written_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Without the file, the exit code is not 0."""
    with serve_answers(CannedAnswer(WHOLE)) as bot:
        assert run_against(bot, save_to=tmp_path / "missing" / "saved.json") == 1

    assert "saved.json cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("{}", "must hold a JSON list"),
        ("[", "is not JSON"),
        ("[1]", "message 1 must be an object"),
        ('[{"role": "system", "content": "x"}]', "message 1 must have the role user or assistant"),
        ('[{"role": "user", "content": "x"}, {"role": "user"}]', "message 2 must have a text as its content"),
        ('[{"role": "user", "content": "x", "name": "y"}]', "message 1 has unknown fields: name"),
    ],
)
def test_a_history_that_is_none_is_explained(text: str, wrong: str, tmp_path: Path) -> None:
    """The error names the defect and the message."""
    path = tmp_path / "history.json"
    path.write_text(text)

    with pytest.raises(HistoryError, match=wrong):
        read_history(path)


def test_a_history_that_is_not_there_is_explained(tmp_path: Path) -> None:
    """Without a traceback."""
    with pytest.raises(HistoryError, match="cannot be read"):
        read_history(tmp_path / "history.json")
