"""Standard output and standard error as real processes have them: unread, closed, full, without a reader."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import httpx
import pytest

from tests.support.connections import find_free_port
from tests.support.processes import STOP_S, make_environment
from tests.support.timing import wait_until

HELLO = {"message": "Hello!", "animalId": "lion_001"}
TURNS = 500


class RawServer:
    """A server with the given standard streams; nobody reads them."""

    def __init__(self, folder: Path, stdout: int | IO[bytes], stderr: int | IO[bytes], **settings: object) -> None:
        self.port = find_free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        variables = {"PORT": self.port, "SQLITE_PATH": folder / "zoo.sqlite3", "SEMANTIC": "off", **settings}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "openapi_server"],
            cwd=folder,
            env=make_environment(**variables),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
        )

    def is_up(self) -> bool:
        assert self.process.poll() is None
        try:
            return httpx.get(f"{self.url}/health").status_code == 200
        except httpx.TransportError:
            return False


@contextmanager
def run_raw_server(
    folder: Path, stdout: int | IO[bytes], stderr: int | IO[bytes], **settings: object
) -> Iterator[RawServer]:
    server = RawServer(folder, stdout, stderr, **settings)
    try:
        wait_until(server.is_up, within_s=60)
        yield server
    finally:
        server.process.kill()
        server.process.wait(STOP_S)
        for stream in (server.process.stdout, server.process.stderr):
            if stream is not None:
                stream.close()


def test_a_log_that_nobody_reads_stops_no_turn(tmp_path: Path) -> None:
    """Before, the 64th turn filled the pipe and every later request waited for ever. SIGTERM ends in time, too."""
    with (
        run_raw_server(tmp_path, subprocess.PIPE, subprocess.STDOUT, OFFLINE_WORDS_PER_S=0) as server,
        httpx.Client(timeout=30) as client,
    ):
        answers = [client.post(f"{server.url}/convo_turn", json=HELLO).status_code for _ in range(TURNS)]
        server.process.send_signal(signal.SIGTERM)
        code = server.process.wait(15)

    assert answers == [200] * TURNS
    assert code == 0


@pytest.mark.parametrize("redirect", [">&-", "2>&-", "<&- >&- 2>&-", ">/dev/full 2>/dev/full", "> >(true) 2> >(true)"])
def test_streams_that_cannot_be_written_cost_no_answer(tmp_path: Path, redirect: str) -> None:
    """Closed by the caller, on a full disk, or without a reader. Before, `>&-` aborted the event loop."""
    port = find_free_port()
    variables = make_environment(PORT=port, SQLITE_PATH=tmp_path / "zoo.sqlite3", SEMANTIC="off", OFFLINE_WORDS_PER_S=0)
    command = ["bash", "-c", f"exec {sys.executable} -m openapi_server {redirect}"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"

    def is_up() -> bool:
        assert process.poll() is None
        try:
            return httpx.get(f"{url}/ready").status_code == 200
        except httpx.TransportError:
            return False

    try:
        wait_until(is_up, within_s=60)
        answers = [httpx.post(f"{url}/convo_turn", json=HELLO, timeout=30).status_code for _ in range(3)]
        process.send_signal(signal.SIGTERM)
        code = process.wait(15)
    finally:
        process.kill()
        process.wait(STOP_S)

    assert answers == [200] * 3
    assert code == 0


def read_terminal(reader: int) -> str:
    """What was written to the terminal, when its last writer is gone."""
    shown = b""
    while True:
        try:
            piece = os.read(reader, 65_536)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    return shown.decode()


def test_at_a_terminal_there_is_a_short_line_for_each_request_and_turn(tmp_path: Path) -> None:
    """With colours; and Ctrl-C says what it does: with the true number of turns at first, at once the second time."""
    reader, terminal = pty.openpty()
    with (
        run_raw_server(tmp_path, terminal, terminal, OFFLINE_WORDS_PER_S=1, TERM="xterm") as server,
        httpx.Client(base_url=server.url, timeout=30) as client,
    ):
        os.close(terminal)
        client.get("/no%20where?session_id=secret")
        for _ in range(2):
            client.post("/convo_turn", json=HELLO, headers={"Prefer": "respond-async"})
        server.process.send_signal(signal.SIGINT)
        wait_until(lambda: client.get("/ready").status_code == 503, within_s=10)
        server.process.send_signal(signal.SIGINT)
        code = server.process.wait(15)
        shown = read_terminal(reader)
    os.close(reader)

    assert code == 0
    assert re.search(r"\d\d:\d\d:\d\d\x1b\[0m GET /no%20where \x1b\[33m404\x1b\[0m \d+ ms", shown)
    assert re.search(r"POST /convo_turn \x1b\[32m202\x1b\[0m \d+ ms", shown)
    assert re.search(r"turn lion_001 \x1b\[31mfailed\x1b\[0m \(interrupted\)", shown)
    assert "Finishing 2 turns, once more ends at once." in shown
    assert "Ending at once, 2 turns interrupted." in shown
    assert "secret" not in shown
    assert "stage" not in shown


def test_ctrl_c_without_turns_ends_at_once_with_a_sentence(tmp_path: Path) -> None:
    """SIGTERM is told in the log, Ctrl-C to the person at the terminal as well."""
    out, err = tmp_path / "out", tmp_path / "err"
    with out.open("wb") as stdout, err.open("wb") as stderr, run_raw_server(tmp_path, stdout, stderr) as server:
        server.process.send_signal(signal.SIGINT)
        code = server.process.wait(15)

    assert code == 0
    assert out.read_text().endswith("No turn is running, the server ends now.\n")
    assert "event=shutting_down signal=SIGINT turns=0" in err.read_text()


@pytest.mark.parametrize(
    ("settings", "pattern"),
    [
        ({"LOG_FORMAT": "json"}, r'\{.*"event": "request".*\}'),
        ({"LOG_FORMAT": "console"}, r"\d\d:\d\d:\d\d GET /health 200 \d+ ms"),
        ({"LOG_FORMAT": "auto"}, r"timestamp=\S+ level=info event=request method=GET path=/health .*"),
    ],
)
def test_the_setting_chooses_the_format(tmp_path: Path, settings: dict[str, str], pattern: str) -> None:
    """LOG_FORMAT; without a terminal there are no colours."""
    err = tmp_path / "err"
    with err.open("wb") as stderr, run_raw_server(tmp_path, subprocess.DEVNULL, stderr, **settings) as server:
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(15) == 0

    assert any(re.fullmatch(pattern, line) for line in err.read_text().splitlines())
    assert "\x1b" not in err.read_text()
