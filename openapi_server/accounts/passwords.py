"""Passwords: hashed with argon2id (RFC 9106), off the event loop; nobody learns from the time who has an account."""

from __future__ import annotations

import asyncio
import secrets
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import structlog
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

T = TypeVar("T")
MIN_LENGTH, MAX_LENGTH = 8, 128
# Each hash takes 46 MiB while it is made, and 60 ms: two at a time leave the turns a core and the machine its memory.
THREADS = 2

log = structlog.get_logger(__name__)


class WeakPassword(Exception):
    """A new password is too short or too long. The message says what would do."""


@dataclass(frozen=True, slots=True)
class PasswordCheck:
    """Whether the password was right; `new_hash` when it should be kept in a stronger form from now on."""

    is_right: bool
    new_hash: str | None = None


class Passwords:
    """Makes and checks password hashes. Close it, for it has threads."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher(time_cost=1, memory_cost=47_104, parallelism=1)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="passwords")
        # What a password is held against when there is no such user: the answer takes as long as any other.
        self._dummy_hash = self._hasher.hash(secrets.token_urlsafe())

    async def hash(self, password: str) -> str:
        """The hash of a new password. `WeakPassword` when it is not between 8 and 128 characters."""
        if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
            raise WeakPassword(f"a password has {MIN_LENGTH} to {MAX_LENGTH} characters")
        return await self._off_loop(lambda: self._hasher.hash(_normalize(password)))

    async def check(self, password_hash: str | None, password: str) -> PasswordCheck:
        """Hold the password against the hash; None is the hash of a user who does not exist."""
        return await self._off_loop(lambda: self._check(password_hash, _normalize(password)))

    def close(self) -> None:
        self._threads.shutdown()

    def _check(self, password_hash: str | None, password: str) -> PasswordCheck:
        kept = password_hash or self._dummy_hash
        try:
            self._hasher.verify(kept, password)
        except VerifyMismatchError:
            return PasswordCheck(False)
        except (InvalidHashError, VerificationError) as error:
            log.error("password_hash_unreadable", error=type(error).__name__)
            return PasswordCheck(False)
        if password_hash is None:
            return PasswordCheck(False)
        return PasswordCheck(True, self._hasher.hash(password) if self._hasher.check_needs_rehash(kept) else None)

    async def _off_loop(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _normalize(password: str) -> str:
    """Keyboards differ in how they write the same letter: é is one code point on some and two on others."""
    return unicodedata.normalize("NFKC", password)
