"""`zoochat doctor`: each part well and not well, what to do, and the exit code."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from openapi_server.cli import main
from openapi_server.cli.doctor import (
    Diagnosis,
    Level,
    check_clock,
    check_limits,
    check_port,
    check_provider,
    check_store,
)
from openapi_server.clock import SystemClock
from openapi_server.config import Settings, load_settings
from openapi_server.storage.sqlite.sessions import SqliteStore
from tests.support.examples import make_session, make_turn
from tests.support.processes import ServerProcess, run_zoochat

SECRET = "sk-hush-0123456789"


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name not in ("PATH", "HOME"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PORT", "0")


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A database with one session."""
    made = tmp_path / "zoo.sqlite3"
    store = await SqliteStore.open(made, SystemClock())
    await store.create_session(make_session())
    await store.close()
    return made


def run_doctor(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["doctor", *arguments])


def list_problems(findings: Iterator[Diagnosis]) -> list[Diagnosis]:
    """Those that are not ok; each has to say what to do."""
    found = [finding for finding in findings if finding.status is not Level.OK]
    assert all(finding.remedy for finding in found)
    return found


def test_a_machine_without_a_server_and_without_data_is_well(tmp_path: Path) -> None:
    """Exit code 0, and nothing is made."""
    result = run_doctor()

    assert result.exit_code == 0, result.output
    assert "does not exist yet; the first start makes it" in result.output
    assert list(tmp_path.iterdir()) == []


def test_the_findings_can_be_read_by_programs(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """With where each setting comes from, and without secrets."""
    Path(".env.local").write_text(f"HEARTBEAT=5\nSQLITE_PATH={path}\n")
    monkeypatch.setenv("SIGNING_KEY", SECRET + "kfjKDJ39dkfjKDF3093kdfj")
    result = run_doctor("--json")
    report = json.loads(result.output)

    details = [check["detail"] for check in report["checks"]]
    assert (result.exit_code, report["status"]) == (0, "ok")
    assert "HEARTBEAT=5.0 from .env.local:1" in details
    assert "SIGNING_KEY=(not shown) from the environment" in details
    assert any(detail.startswith(f"{path}: can be written to") for detail in details)
    assert SECRET not in result.output


def test_settings_that_cannot_be_used_are_a_problem() -> None:
    """The checks that need none are made anyhow."""
    Path(".env.local").write_text("\nPROT=1\n")
    result = run_doctor()

    assert result.exit_code == 1
    assert ".env.local:2: PROT: is not a setting; did you mean PORT?" in result.output
    assert "clock" in result.output


def test_a_store_that_is_well_is_not_changed(path: Path) -> None:
    """But for the row that `/ready` writes, too."""
    assert list_problems(check_store(path)) == []
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM sessions").fetchone() == (1,)


def test_a_file_that_is_no_database_is_a_problem(tmp_path: Path) -> None:
    """It stays as it is."""
    path = tmp_path / "text"
    path.write_text("no database")

    (found,) = list_problems(check_store(path))
    assert (found.check, found.status) == ("store", Level.PROBLEM)
    assert "is not a database" in found.detail
    assert path.read_text() == "no database"


@pytest.mark.parametrize(
    ("statement", "detail"),
    [
        ("PRAGMA user_version = 999", "was written by a newer version"),
        ("PRAGMA user_version = 0", "is the database of another program"),
    ],
)
def test_a_database_of_others_is_a_problem(path: Path, statement: str, detail: str) -> None:
    """A later version of this server counts as another."""
    with closing(sqlite3.connect(path)) as db:
        db.execute(statement)

    (found,) = list_problems(check_store(path))
    assert detail in found.detail


def test_a_locked_store_is_a_problem(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Somebody left a transaction open in another program."""
    monkeypatch.setattr("openapi_server.storage.sqlite.database_files.BUSY_TIMEOUT_S", 0.05)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        (found,) = list_problems(check_store(path))

    assert "another program has locked it" in found.detail


def test_a_folder_that_cannot_be_made_is_a_problem(tmp_path: Path) -> None:
    """Of a database that does not exist yet."""
    (tmp_path / "file").touch()

    (found,) = list_problems(check_store(tmp_path / "file" / "zoo.sqlite3"))
    assert "is no folder" in found.detail


@pytest.mark.parametrize("host", ["999.1.1.1", "host name", "a" * 300, "[::1"])
def test_a_host_that_is_none_is_a_sentence(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """Whatever the library that asks a running server makes of it."""
    monkeypatch.setenv("HOST", host)
    result = run_doctor()

    assert result.exit_code == 1
    assert "HOST" in result.output
    assert not result.exception or isinstance(result.exception, SystemExit)


def test_a_port_of_another_program_is_a_problem() -> None:
    """Whoever it is does not speak as this server."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        taken.settimeout(0)
        port = taken.getsockname()[1]
        taken.close()
        assert list_problems(check_port("127.0.0.1", port, "PORT")) == []
    with run_http_server(200, b"{}") as port:
        (found,) = list_problems(check_port("127.0.0.1", port, "PORT"))

    assert "address already in use" in found.detail
    assert "choose another PORT" in found.remedy


@contextmanager
def run_http_server(status: int, body: bytes, date: datetime | None = None) -> Iterator[int]:
    """Answers everything with one answer; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(status)
            at = date or datetime.now(UTC)
            self.send_header("Date", at.strftime("%a, %d %b %Y %H:%M:%S GMT"))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def make_settings(provider: str, port: int) -> Settings:
    name = provider.upper()
    return load_settings(
        provider=provider,
        **{
            f"{name.lower()}_base_url": f"http://127.0.0.1:{port}",
            f"{name.lower()}_api_key": SECRET,
            f"{name.lower()}_model": "gpt-1",
        },
    )


MODELS = b'{"data": [{"id": "gpt-1"}]}'


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, MODELS, []),
        (200, b'{"data": []}', ["does not name gpt-1"]),
        (200, b"[]", ["does not name gpt-1"]),
        (401, b"", ["the key was refused (401)"]),
        (403, b"", ["the key was refused (403)"]),
        (404, b"", ["status 404 when asked for the list of models"]),
        (429, b"", ["no quota left"]),
        (500, b"", ["status 500"]),
    ],
)
def test_the_provider_is_asked_for_its_models(provider: str, status: int, body: bytes, expected: list[str]) -> None:
    """That costs nothing. The key is never shown."""
    with run_http_server(status, body) as port:
        findings = list(check_provider(make_settings(provider, port), call_model=False))

    problems = list_problems(iter(findings))
    assert len(problems) == len(expected)
    assert all(part in problem.detail for part, problem in zip(expected, problems, strict=True))
    assert SECRET not in repr(findings)


def test_the_model_is_called_only_when_it_is_wanted() -> None:
    """It may cost money."""
    with run_http_server(200, MODELS) as port:
        silent = list(check_provider(make_settings("openai", port), call_model=False))
        called = list(check_provider(make_settings("openai", port), call_model=True))

    assert not any("one word" in finding.detail for finding in silent)
    assert any("one word" in finding.detail for finding in called)


def test_a_provider_that_is_not_there_is_a_problem() -> None:
    """With what may be in the way."""
    (found,) = list_problems(check_provider(make_settings("openai", 1), call_model=False))

    assert "not reachable" in found.detail
    assert "HTTPS_PROXY" in found.remedy


def test_a_clock_that_differs_from_the_providers_is_told() -> None:
    """By the Date of its answer."""
    with run_http_server(200, MODELS, datetime.now(UTC) - timedelta(hours=1)) as port:
        (found,) = list_problems(check_provider(make_settings("openai", port), call_model=False))

    assert (found.check, found.status) == ("clock", Level.WARNING)
    assert "ahead of the provider's" in found.detail


@pytest.mark.parametrize("year", [1970, 2021, 2060])
def test_a_date_that_is_far_off_is_a_problem(year: int) -> None:
    """As on a machine without a battery."""
    (found,) = list_problems(check_clock(None, lambda: datetime(year, 5, 1, tzinfo=UTC)))

    assert "the date is far off" in found.detail


async def test_a_clock_that_went_back_is_a_problem(path: Path) -> None:
    """The store holds a message from what is now the future."""
    store = await SqliteStore.open(path, SystemClock())
    await store.begin_turn(make_turn(), make_session("sess_2"))
    await store.close()
    newest = make_turn().created_at
    assert list_problems(check_clock(path, lambda: newest)) == []

    (found,) = list_problems(check_clock(path, lambda: newest - timedelta(days=1)))
    assert "the clock went back" in found.detail


def test_few_open_files_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each visitor's stream is one."""
    monkeypatch.setattr("resource.getrlimit", lambda kind: (256, 1024))

    (found,) = list_problems(check_limits())
    assert found.status is Level.WARNING


def test_beside_a_running_server_it_tells_how_the_server_is(tmp_path: Path) -> None:
    """And who has the store open, which both write to."""
    server = ServerProcess(tmp_path)
    try:
        variables = {"PORT": server.port, "SQLITE_PATH": tmp_path / "zoo.sqlite3", "SEMANTIC": "off"}
        result = run_zoochat("doctor", folder=tmp_path, variables=variables)
    finally:
        server.stop()

    assert result.returncode == 0, result.stdout
    assert f"runs at http://127.0.0.1:{server.port} and is healthy" in result.stdout
    assert f"({server.process.pid})" in result.stdout
