"""`zoochat serve --workers N`: several processes behind one address, which share turns."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.contract import check_stream
from tests.support.processes import ServerProcess, run_zoochat, start_process
from tests.support.timing import wait_until

STORY = {"message": "Tell me a story about yourself", "animalId": "lion_001"}


class Workers(ServerProcess):
    """Three processes at one address."""

    @classmethod
    def start(cls, folder: Path, log_path: Path, **settings: object) -> Any:
        variables = {"PORT": "0", "SQLITE_PATH": folder / "zoo.sqlite3", "SEMANTIC": "off", **settings}
        arguments = ("serve", "--workers", "3")
        return start_process("openapi_server", *arguments, folder=folder, log_path=log_path, variables=variables)

    def list_pids(self) -> set[int]:
        listed = subprocess.run(["ps", "--ppid", str(self.process.pid), "-o", "pid="], capture_output=True, text=True)
        return {int(pid) for pid in listed.stdout.split()}

    def wait_for_pids(self) -> set[int]:
        """The processes that serve, when there are three that listen."""
        wait_until(lambda: len(self.list_pids()) == 3 and self._count_listeners() == 3, within_s=60)
        return self.list_pids()

    def _count_listeners(self) -> int:
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return sum(int(row[1].partition(":")[2], 16) == self.port and row[3] == "0A" for row in rows)


@pytest.fixture
def workers(tmp_path: Path, redis_url: str) -> Iterator[Workers]:
    server = Workers(tmp_path, EVENT_LOG="redis", REDIS_URL=redis_url, OFFLINE_WORDS_PER_S=20, LEASE=3)
    try:
        yield server
    finally:
        server.stop(signal.SIGTERM)


def post_stream(server: Workers) -> bytes:
    answer = httpx.post(f"{server.url}/convo_turn_stream", json=STORY, timeout=60)
    assert answer.status_code == 200
    return answer.content


def test_a_turn_is_served_whichever_process_a_request_reaches(workers: Workers) -> None:
    """Each request has a connection of its own, which any of the three may get."""
    workers.wait_for_pids()
    with httpx.stream("POST", f"{workers.url}/convo_turn_stream", json=STORY, timeout=60) as own:
        parts = own.iter_raw()
        raw = next(parts)
        turn_id = own.headers["x-streaming-session-id"]
        states = [httpx.get(f"{workers.url}/convo_turn/{turn_id}").json()["status"] for _ in range(6)]
        reads = [httpx.get(f"{workers.url}/convo_turn/{turn_id}/stream", timeout=60).content]
        raw += b"".join(parts)
    reads += [httpx.get(f"{workers.url}/convo_turn/{turn_id}/stream", timeout=60).content for _ in range(12)]
    check_stream("/convo_turn_stream", raw)
    assert set(states) <= {"running", "succeeded"}
    assert set(reads) == {raw}


def test_a_process_that_dies_is_replaced(workers: Workers) -> None:
    """And the others go on. When the first process of all is killed, the others end by themselves."""
    pids = workers.wait_for_pids()
    victim = min(pids)
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: victim not in workers.list_pids(), within_s=20)
    now = workers.wait_for_pids()
    assert len(now & pids) == 2
    assert "another takes its place" in workers.log
    check_stream("/convo_turn_stream", post_stream(workers))

    workers.process.kill()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in now), within_s=30)


def test_a_signal_ends_all_and_turns_may_finish(workers: Workers) -> None:
    """With exit code 0, when the turn that runs has ended."""
    workers.wait_for_pids()
    with httpx.stream("POST", f"{workers.url}/convo_turn_stream", json=STORY, timeout=60) as own:
        parts = own.iter_raw()
        raw = next(parts)
        workers.process.send_signal(signal.SIGTERM)
        raw += b"".join(parts)
    assert check_stream("/convo_turn_stream", raw)[-1].event == "complete"
    assert workers.stop() == 0


def test_several_processes_need_a_shared_event_log(tmp_path: Path) -> None:
    """With the settings that say so; nothing is started."""
    refused = run_zoochat("serve", "--workers", "2", folder=tmp_path, variables={"PORT": 0})
    assert refused.returncode == 2
    assert "EVENT_LOG: must be redis for 2 processes" in refused.stderr
    assert not list(tmp_path.glob("**/*.sqlite3"))


def test_what_stops_one_process_stops_all(tmp_path: Path, redis_url: str) -> None:
    """It is said once."""
    settings = {"EVENT_LOG": "redis", "REDIS_URL": redis_url, "PORT": 0, "SQLITE_PATH": "/dev/null/zoo.sqlite3"}
    refused = run_zoochat("serve", "--workers", "3", folder=tmp_path, variables=settings)
    assert refused.returncode == 2
    assert refused.stderr.count("SQLITE_PATH") == 1
