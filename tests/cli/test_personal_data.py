"""`zoochat privacy` and `zoochat audit`, as somebody at the information desk uses them."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from click.testing import CliRunner, Result

from openapi_server.cli import main
from openapi_server.cli.context import AdminContext, open_admin_context
from openapi_server.clock import SystemClock
from openapi_server.config import Settings
from openapi_server.models.credits import Allocation
from openapi_server.models.user import Role, User, derive_cookie_owner
from tests.support.examples import NOTEBOOK, make_outcome, make_session, make_turn

T = TypeVar("T")
COOKIE = "3tq0mE2p2h4wH0d0Wb3x9A"
NOW = SystemClock().now()


@pytest.fixture(autouse=True)
def _zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store of its own for each test, with somebody of each kind in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SQLITE_PATH", "data/zoo.sqlite3")
    run_in_context(fill)


def run_in_context(work: Callable[[AdminContext], Awaitable[T]]) -> T:
    async def run() -> T:
        async with open_admin_context(Settings(_env_file=None)) as context:  # type: ignore[call-arg]
            return await work(context)

    return asyncio.run(run())


async def fill(context: AdminContext) -> None:
    await context.stores.accounts.create_user(User("mia", Role.USER, "$argon2id$hash-of-mia", NOW))
    await context.stores.credits.allocate_credits(Allocation("mia", 50, NOW, notes="Secret-birthday"))
    await add_session(context, "user:mia", "sess_mia")
    await add_session(context, derive_cookie_owner(COOKIE), "sess_cookie")
    await add_session(context, None, "sess_kiosk", handle="chat_kiosk-7")
    await add_session(context, None, "sess_other")


async def add_session(context: AdminContext, owner: str | None, session_id: str, handle: str | None = None) -> None:
    session = replace(make_session(session_id, owner=owner, at=NOW), handle=handle, title=f"Secret-title-{session_id}")
    turn = make_turn(f"turn_{session_id}", session_id, message=f"Secret-{session_id}", at=NOW)
    await context.stores.sessions.begin_turn(replace(turn, metadata='{"row":7}'), session)
    await context.stores.sessions.settle_turn(turn.turn_id, make_outcome("Roar!", at=NOW, sources=(NOTEBOOK,)))


def run_zoochat(*words: str, typed: str = "") -> Result:
    return CliRunner().invoke(main, words, input=typed)


def export_json(*words: str, typed: str = "") -> dict[str, Any]:
    result = run_zoochat("privacy", "export", *words, typed=typed)
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(result.output)
    return document


def read_database_files() -> bytes:
    return b"".join(file.read_bytes() for file in Path("data").iterdir())


SUBJECTS = [
    (("mia",), "sess_mia"),
    (("user:mia",), "sess_mia"),
    ((COOKIE,), "sess_cookie"),
    ((f"cookie:{COOKIE}",), "sess_cookie"),
    (("chat_kiosk-7",), "sess_kiosk"),
    (("device:kiosk-7",), "sess_kiosk"),
    (("--session", "sess_other"), "sess_other"),
]


@pytest.mark.parametrize(("words", "session_id"), SUBJECTS, ids=[" ".join(words) for words, _ in SUBJECTS])
def test_somebody_is_found_by_what_they_know(words: tuple[str, ...], session_id: str) -> None:
    """A name, a cookie, the device that they stood at, or no more than a session."""
    document = export_json(*words)

    assert [session["sessionId"] for session in document["sessions"]] == [session_id]
    (turn,) = document["sessions"][0]["turns"]
    assert [message["body"] for message in turn["messages"]] == [f"Secret-{session_id}", "Roar!"]
    assert (turn["metadata"], turn["sources"][0]["factId"]) == ({"row": 7}, NOTEBOOK.fact_id)


def test_an_export_has_the_account_but_no_password(tmp_path: Path) -> None:
    """Not even its hash. The file is for nobody else on the machine."""
    result = run_zoochat("privacy", "export", "mia", "--output", "mia.json")

    assert (result.exit_code, result.output) == (0, "Wrote mia.json\n")
    text = Path("mia.json").read_text(encoding="utf-8")
    assert "argon2" not in text
    account = json.loads(text)["account"]
    assert (account["username"], account["credits"]["balance"]) == ("mia", 50)
    assert account["credits"]["ledger"][0]["notes"] == "Secret-birthday"
    assert stat.S_IMODE(Path("mia.json").stat().st_mode) == 0o600


def test_a_cookie_need_not_stand_on_the_command_line() -> None:
    """Other users of the machine can read that."""
    assert export_json("-", typed=f"{COOKIE}\n")["sessions"][0]["sessionId"] == "sess_cookie"


@pytest.mark.parametrize(("words", "session_id"), SUBJECTS, ids=[" ".join(words) for words, _ in SUBJECTS])
def test_what_is_erased_leaves_no_byte_behind(words: tuple[str, ...], session_id: str) -> None:
    """Neither in the database nor in its log; all others are as they were."""
    assert f"Secret-{session_id}".encode() in read_database_files()

    result = run_zoochat("privacy", "erase", *words, "--yes")

    devices = int(session_id == "sess_kiosk")
    assert result.exit_code == 0, result.output
    assert result.output == f"Erased 1 sessions, 1 turns, 2 messages, {devices} devices, 0 accounts\n"
    left = read_database_files()
    for trace in (f"Secret-{session_id}", f"Secret-title-{session_id}", f"turn_{session_id}"):
        assert trace.encode() not in left
    others = {"sess_mia", "sess_cookie", "sess_kiosk", "sess_other"} - {session_id}
    assert all(f"Secret-{other}".encode() in left for other in others)


def test_an_account_is_erased_only_when_it_is_meant() -> None:
    """Then its name, too, stands nowhere any more."""
    run_zoochat("privacy", "erase", "mia", "--yes")
    assert run_in_context(lambda context: context.stores.accounts.get_user("mia")) is not None
    assert b"Secret-birthday" not in read_database_files()

    result = run_zoochat("privacy", "erase", "mia", "--account", "--yes")

    assert result.output.endswith("1 accounts\n")
    assert b"mia" not in read_database_files()


def test_erasing_asks_first() -> None:
    """A no leaves all as it was."""
    refused = run_zoochat("privacy", "erase", "mia", typed="n\n")

    assert refused.exit_code == 1
    assert "Erase 1 sessions with 1 turns" in refused.output
    assert b"Secret-sess_mia" in read_database_files()
    assert run_zoochat("privacy", "erase", "mia", typed="y\n").exit_code == 0
    assert b"Secret-sess_mia" not in read_database_files()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("eve",), 1, "no data is stored about them"),
        (("--session", "sess_nobodys"), 1, "no data is stored about them"),
        ((), 2, "name a person"),
        (("chat_twice",), 1, "this could be more than one person"),
    ],
    ids=["nobody", "no session", "no name", "two"],
)
@pytest.mark.parametrize("command", [("export",), ("erase", "--yes")], ids=" ".join)
def test_an_ambiguous_or_unknown_person_is_refused(
    command: tuple[str, ...], words: tuple[str, ...], code: int, said: str
) -> None:
    """One line, and nothing is shown or erased."""

    async def add(context: AdminContext) -> None:
        await context.stores.accounts.create_user(User("chat_twice", Role.USER, "hash", NOW))
        await add_session(context, None, "sess_twice", handle="chat_twice")

    run_in_context(add)
    result = run_zoochat("privacy", *command, *words)

    assert result.exit_code == code
    assert said in result.output
    assert "Traceback" not in result.output
    assert b"Secret-sess_twice" in read_database_files()


# The audit trail


def list_actions() -> list[tuple[str, str]]:
    printed = json.loads(run_zoochat("audit", "--json").output)
    assert {entry["role"] for entry in printed} <= {"operator"}
    return [(entry["deed"], entry["about"]) for entry in reversed(printed)]


def test_actions_of_an_operator_are_recorded() -> None:
    """Each command, latest first; a cookie and a device by part of a hash, an erased account by nothing."""
    run_zoochat("users", "add", "ben", "--password-stdin", typed="roar roar\n")
    run_zoochat("users", "set-role", "ben", "parent")
    run_zoochat("users", "reset-password", "ben", "--password-stdin", typed="roar roar roar\n")
    run_zoochat("credits", "grant", "ben", "5")
    run_zoochat("privacy", "export", "ben")
    run_zoochat("privacy", "erase", "chat_kiosk-7", "--yes")
    run_zoochat("privacy", "erase", COOKIE, "--yes")
    run_zoochat("privacy", "erase", "--session", "sess_other", "--yes")
    run_zoochat("privacy", "erase", "ben", "--account", "--yes")

    cookie = derive_cookie_owner(COOKIE)[: len("cookie:") + 16]
    assert list_actions() == [
        ("account_added", "(erased)"),
        ("role_changed", "(erased)"),
        ("password_reset", "(erased)"),
        ("credits_granted", "(erased)"),
        ("exported", "(erased)"),
        ("erased", "device:05219ecf5b568722"),
        ("erased", cookie),
        ("erased", "sess_other"),
        ("erased", "(erased)"),
    ]


def test_refused_actions_are_not_recorded() -> None:
    """It was not done."""
    run_zoochat("users", "set-role", "nobody", "parent")
    run_zoochat("credits", "grant", "nobody", "5")
    run_zoochat("users", "reset-password", "nobody", "--password-stdin", typed="roar roar\n")
    run_zoochat("privacy", "export", "nobody")

    assert list_actions() == []


def test_the_audit_trail_is_printed_as_a_table() -> None:
    """From a day on, when one is named; a day that is none is refused."""
    run_zoochat("privacy", "export", "mia")
    tomorrow = f"{NOW + timedelta(days=1):%Y-%m-%d}"

    assert "exported" in run_zoochat("audit").output
    assert "exported" in run_zoochat("audit", "--since", f"{NOW:%Y-%m-%d}").output
    assert "exported" not in run_zoochat("audit", "--since", tomorrow).output
    assert run_zoochat("audit", "--since", "yesterday").exit_code == 2


def test_no_name_in_the_table_is_cut_short() -> None:
    """What is piped on is found again with the next command, one action a line."""
    long = "m" * 60
    run_zoochat("users", "add", long, "--password-stdin", typed="roar roar\n")
    run_zoochat("privacy", "erase", COOKIE, "--yes")

    for told in (run_zoochat("audit").output, run_zoochat("users", "list").output):
        assert len([line for line in told.splitlines() if long in line]) == 1
    assert derive_cookie_owner(COOKIE)[: len("cookie:") + 16] in run_zoochat("audit").output


# Retention


def test_purge_deletes_old_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """And says how much that was, where there is such a limit."""
    assert run_zoochat("sessions", "purge").output == "Cleaned up 0 expired sessions\n"

    async def add(context: AdminContext) -> None:
        store, long_ago = context.stores.sessions, NOW - timedelta(days=40)
        await store.create_session(replace(make_session("sess_long", at=long_ago), ttl_s=3650 * 86_400))
        for name, at in (("old", long_ago), ("young", NOW)):
            await store.begin_turn(make_turn(f"turn_{name}", "sess_long", message=f"Secret-{name}", at=at))
            await store.settle_turn(f"turn_{name}", make_outcome(at=at))

    run_in_context(add)
    monkeypatch.setenv("RETENTION_DAYS", "30")

    assert run_zoochat("sessions", "purge").output == (
        "Cleaned up 0 expired sessions\nDeleted 1 turns older than 30 days\n"
    )
    assert b"Secret-old" not in read_database_files()
    assert b"Secret-young" in read_database_files()
