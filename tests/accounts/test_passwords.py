"""Passwords: argon2id, off the event loop, and the same time for everybody."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from argon2 import PasswordHasher

from openapi_server.accounts.passwords import PasswordCheck, Passwords, WeakPassword
from tests.support.fakes import CHEAP_HASHER


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    opened = Passwords(CHEAP_HASHER)
    yield opened
    opened.close()


class RecordingHasher(PasswordHasher):
    """A hasher that remembers what was held against which hash, and in which thread."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.verified: list[tuple[str | bytes, str]] = []
        self.hashed = 0

    def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
        self.hashed += 1
        return super().hash(password, salt=salt)

    def verify(self, hash: str | bytes, password: str | bytes) -> bool:  # type: ignore[override]
        self.verified.append((hash, threading.current_thread().name))
        return super().verify(hash, password)


async def test_a_password_is_right_or_wrong(passwords: Passwords) -> None:
    """To the letter; blanks count."""
    kept = await passwords.hash("roar roar")

    assert kept.startswith("$argon2id$")
    assert await passwords.check(kept, "roar roar") == PasswordCheck(True)
    assert await passwords.check(kept, "roar roar ") == PasswordCheck(False)
    assert await passwords.check(kept, "") == PasswordCheck(False)


async def test_a_letter_may_be_typed_in_two_ways(passwords: Passwords) -> None:
    """é is one code point on one keyboard and two on another."""
    kept = await passwords.hash("caf\u00e9-lion")

    assert await passwords.check(kept, "cafe\u0301-lion") == PasswordCheck(True)


@pytest.mark.parametrize("password", ["", "x" * 7, "x" * 129])
async def test_a_new_password_has_a_sensible_length(passwords: Passwords, password: str) -> None:
    """Eight to 128 characters."""
    with pytest.raises(WeakPassword, match="8 to 128"):
        await passwords.hash(password)


async def test_nobody_has_no_password_and_takes_as_long() -> None:
    """One hash is computed for a user who is not there, as for any other; and never on the event loop."""
    hasher = RecordingHasher()
    passwords = Passwords(hasher)
    assert hasher.hashed == 0, "a start computes none"
    kept = await passwords.hash("roar roar")

    assert await passwords.check(kept, "wrong one") == PasswordCheck(False)
    assert await passwords.check(None, "wrong one") == PasswordCheck(False)
    passwords.close()

    (known, thread), (unknown, _) = hasher.verified
    assert thread.startswith("passwords")
    assert str(known).split("$")[:4] == str(unknown).split("$")[:4], "another cost would be another time"


async def test_an_older_hash_is_made_anew(passwords: Passwords) -> None:
    """When the parameters change, the next login brings the stronger hash."""
    old = PasswordHasher(time_cost=2, memory_cost=8, parallelism=1).hash("roar roar")

    checked = await passwords.check(old, "roar roar")

    assert checked.is_right
    assert checked.new_hash is not None
    assert await passwords.check(checked.new_hash, "roar roar") == PasswordCheck(True)
    assert await passwords.check(old, "wrong one") == PasswordCheck(False)


@pytest.mark.parametrize("kept", ["", "not a hash", "$argon2id$v=19$m=8,t=1,p=1$x$y"])
async def test_an_unreadable_hash_lets_nobody_in(passwords: Passwords, kept: str) -> None:
    """A broken row is a wrong password, not an error of ours."""
    assert await passwords.check(kept, "roar roar") == PasswordCheck(False)
