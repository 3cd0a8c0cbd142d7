"""`zoochat client` as a command: its exit codes, its flags, and terminals with few characters."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from pathlib import Path

import pytest

from tests.devtools.canned import CannedAnswer, serve_answers
from tests.support.processes import END_S, MockProcess, make_command, make_environment, run_zoochat
from tests.support.tcp_proxy import TcpProxy


def test_ctrl_c_ends_with_130_and_keeps_what_came(tmp_path: Path) -> None:
    """No traceback, and the file holds the events so far."""
    mock = MockProcess(tmp_path, delay_s=30)
    saved = tmp_path / "saved.json"
    client = subprocess.Popen(
        make_command("client", "--url", f"{mock.url}/api/v1/stream", "--query", "Test", "--save-output", str(saved)),
        env=make_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    assert client.stdout is not None
    for line in client.stdout:
        if '"initializing"' in line:
            break
    client.send_signal(signal.SIGINT)
    _, err = client.communicate(timeout=END_S)
    mock.stop()

    assert client.returncode == 130
    assert "Interrupted" in err
    assert "Traceback" not in err
    assert [event["event"] for event in json.loads(saved.read_text())] == ["progress"]


async def test_a_cut_connection_costs_no_event(tmp_path: Path) -> None:
    """A reset in the middle of an answer: the client resumes, and saves every event once."""
    mock = MockProcess(tmp_path, delay_s=0.4)
    saved = tmp_path / "saved.json"
    try:
        async with TcpProxy(int(mock.url.rpartition(":")[2])) as proxy:
            client = await asyncio.create_subprocess_exec(
                *make_command("client", "--url", f"http://127.0.0.1:{proxy.port}/api/v1/stream", "--query", "Test"),
                *("--save-output", str(saved)),
                env=make_environment(),
                stdout=asyncio.subprocess.PIPE,
            )
            assert client.stdout is not None
            async for line in client.stdout:
                if b'"loading_documents"' in line:
                    proxy.reset()
                    break
            out, _ = await asyncio.wait_for(client.communicate(), END_S)
    finally:
        mock.stop()

    assert client.returncode == 0
    assert b"The stream broke off. Resuming after turn_" in out
    events = [(event["event"], json.loads(event["data"]).get("progress")) for event in json.loads(saved.read_text())]
    assert [event for event in events if event[0] != "heartbeat"] == [
        *(("progress", progress) for progress in (10, 25, 50, 75)),
        ("result", None),
        ("complete", 100),
    ]


def test_a_refused_connection_ends_with_1() -> None:
    """The message names the URL."""
    ended = run_zoochat("client", "--url", "http://127.0.0.1:1/api/v1/stream", "--query", "Test")

    assert ended.returncode == 1
    assert "No connection to http://127.0.0.1:1/api/v1/stream" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_timeout_ends_the_command(mock: MockProcess) -> None:
    """The client's own timeout, before any answer."""
    ended = run_zoochat("client", "--url", f"{mock.url}/api/v1/stream", "--query", "Test", "--timeout", "0")

    assert ended.returncode == 1
    assert "No result within 0 s" in ended.stderr


def test_an_invalid_history_is_a_usage_error(tmp_path: Path) -> None:
    """Exit code 2, as for a missing flag, before any request."""
    path = tmp_path / "history.json"
    path.write_text('[{"role": "robot", "content": "beep"}]')

    ended = run_zoochat("client", "--url", "http://127.0.0.1:1/", "--query", "Test", "--history", str(path))

    assert ended.returncode == 2
    assert "message 1 must have the role user or assistant" in ended.stderr


def test_a_stream_instead_of_a_job_is_reported(mock: MockProcess) -> None:
    """With --expect-job; the result still counts."""
    ended = run_zoochat("client", "--url", f"{mock.url}/api/v1/stream", "--query", "Test", "--expect-job")

    assert ended.returncode == 0
    assert "A job was expected" in ended.stdout


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_plain_terminal_gets_plain_characters(encoding: str) -> None:
    """Ornaments are left out, and other characters are escaped."""
    result = 'event: result\ndata: {"response":"L\\u00f6we \\ud83e\\udd81"}\n\n'
    with serve_answers(CannedAnswer(result, headers={"Set-Cookie": "session_id=xyz"})) as bot:
        ended = subprocess.run(
            make_command("client", "--url", bot.url, "--query", "Test"),
            env=make_environment(PYTHONIOENCODING=encoding),
            capture_output=True,
            encoding=encoding,
            timeout=END_S,
        )

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("Cookies received: ")
    assert ended.stdout.splitlines()[-1] == {"ascii": r"L\xf6we \U0001f981", "latin-1": r"Löwe \U0001f981"}[encoding]
