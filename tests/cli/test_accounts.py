"""`zoochat users` and `zoochat credits`, as somebody at a terminal uses them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click
import pytest
from argon2 import PasswordHasher
from click.testing import CliRunner, Result

from openapi_server.accounts import passwords
from openapi_server.cli import main
from openapi_server.clock import SystemClock
from openapi_server.models.user import Role, User
from openapi_server.storage.sqlite.accounts import SqliteAccounts
from openapi_server.storage.sqlite.credits import SqliteCredits
from openapi_server.storage.sqlite.sessions import SqliteStore

PASSWORD = "roar roar"


@pytest.fixture(autouse=True)
def _zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store of its own for each test, and hashes that take no time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SQLITE_PATH", "zoo.sqlite3")
    # A command makes its own hasher: only here it is made cheap.
    cheap = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(passwords, "PasswordHasher", lambda **parameters: cheap)


def run_zoochat(*words: str, typed: str = "") -> Result:
    return CliRunner().invoke(main, words, input=typed)


def add_user(name: str, *options: str) -> Result:
    return run_zoochat("users", "add", name, *options, "--password-stdin", typed=f"{PASSWORD}\n")


async def _get_user(name: str) -> User | None:
    store = await SqliteStore.open(Path("zoo.sqlite3"), SystemClock())
    try:
        return await SqliteAccounts(store.connections, SystemClock()).get_user(name)
    finally:
        await store.close()


def get_user(name: str) -> User:
    found = asyncio.run(_get_user(name))
    assert found is not None
    return found


async def _get_credits(name: str) -> tuple[int, str | None]:
    store = await SqliteStore.open(Path("zoo.sqlite3"), SystemClock())
    try:
        credits = SqliteCredits(store.connections, SystemClock())
        balance, page = await credits.get_balance(name), await credits.list_entries(name, 1)
        assert balance is not None
        return balance.credits, page.items[0].notes
    finally:
        await store.close()


def test_an_account_is_added_with_a_role_and_a_parent() -> None:
    """The password comes from standard input, and only its hash is kept."""
    assert add_user("mia", "--role", "parent").output == "Added mia with the role parent\n"
    assert add_user("ben", "--parent", "mia").exit_code == 0

    ben = get_user("ben")
    assert (ben.role, ben.parent, ben.is_demo) == (Role.USER, "mia", False)
    assert PASSWORD not in ben.password_hash
    assert PasswordHasher().verify(ben.password_hash, PASSWORD)


def test_a_password_is_asked_for_twice_and_not_shown() -> None:
    """Two that differ are asked for again."""
    result = run_zoochat("users", "add", "mia", typed="roar roar\nmeow meow\nroar roar\nroar roar\n")

    assert result.exit_code == 0
    assert "roar" not in result.output
    assert PasswordHasher().verify(get_user("mia").password_hash, PASSWORD)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("users", "add", "Mia"), "1 to 64 of a-z"),
        (("users", "add", "../mia"), "1 to 64 of a-z"),
        (("users", "add", "mia\n"), "1 to 64 of a-z"),
        (("users", "add", "ben"), "the name ben is taken"),
        (("users", "add", "mia", "--role", "king"), "'king' is not one of"),
        (("users", "add", "mia", "--parent", "nobody"), "there is no parent nobody"),
        (("users", "add", "mia", "--parent", "ben"), "there is no parent ben"),
        (("users", "reset-password", "nobody"), "there is no user nobody"),
    ],
    ids=lambda value: " ".join(value[1:]) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_done_is_said_in_a_line(words: tuple[str, ...], said: str) -> None:
    """No traceback, and an exit code that is not 0."""
    add_user("ben")

    result = run_zoochat(*words, "--password-stdin", typed=f"{PASSWORD}\n")

    assert result.exit_code in (1, 2)
    assert said in result.output
    assert "Traceback" not in result.output


def test_a_short_password_is_refused() -> None:
    """Nothing is kept."""
    result = run_zoochat("users", "add", "mia", "--password-stdin", typed="short\n")

    assert (result.exit_code, result.output) == (1, "Error: a password has 8 to 128 characters\n")
    assert asyncio.run(_get_user("mia")) is None


def test_the_list_shows_every_account() -> None:
    """One row each; never a hash."""
    add_user("mia", "--role", "parent")
    add_user("ben", "--parent", "mia")

    shown = run_zoochat("users", "list").output

    assert [name in shown for name in ("mia", "ben", "parent", "user")] == [True] * 4
    assert "argon2" not in shown


def test_a_role_and_a_password_can_be_changed() -> None:
    """The words say what it means."""
    add_user("mia")

    assert run_zoochat("users", "set-role", "mia", "zookeeper").output == "mia has the role zookeeper now\n"
    reset = run_zoochat("users", "reset-password", "mia", "--password-stdin", typed="meow meow\n")
    assert reset.output == "mia has a new password, and is logged out everywhere\n"
    assert get_user("mia").role is Role.ZOOKEEPER
    assert PasswordHasher().verify(get_user("mia").password_hash, "meow meow")
    assert run_zoochat("users", "set-role", "ben", "zookeeper").output == "Error: there is no user ben\n"


def test_credits_are_granted() -> None:
    """They add up, and the ledger has the notes."""
    add_user("mia")

    assert run_zoochat("credits", "grant", "mia", "5000").output == "mia has 5,000 credits now\n"
    again = run_zoochat("credits", "grant", "mia", "1", "--expiry-days", "30", "--notes", "open day")
    assert again.output == "mia has 5,001 credits now\n"
    assert asyncio.run(_get_credits("mia")) == (5001, "open day")


@pytest.mark.parametrize("words", [("mia", "0"), ("mia", "-5"), ("mia", "1000000001"), ("mia", "x"), ("nobody", "5")])
def test_credits_that_make_no_sense_are_not_granted(words: tuple[str, str]) -> None:
    """Nor to somebody who is not there."""
    add_user("mia")

    assert run_zoochat("credits", "grant", *words).exit_code in (1, 2)
    assert run_zoochat("credits", "grant", "mia", "1").output == "mia has 1 credits now\n"


def test_a_store_that_cannot_be_used_is_said_in_a_line(tmp_path: Path) -> None:
    """Like everything else."""
    (tmp_path / "zoo.sqlite3").write_bytes(b"no database" * 100)

    result = run_zoochat("users", "list")

    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit | click.ClickException)
    assert "SQLITE_PATH: zoo.sqlite3: is not a database" in result.output
