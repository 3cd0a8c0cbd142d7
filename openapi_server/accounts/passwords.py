"""Password hashes: argon2id (RFC 9106), computed off the event loop.

A check takes the same time for a name that does not exist, so nobody can find out who has an account.
"""

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
# A hash takes 60 ms and 46 MiB. Two at a time leave a core for the turns, and bound the memory.
THREADS = 2

log = structlog.get_logger(__name__)


class WeakPassword(Exception):
    """A new password is too short or too long. The message names the limits."""


@dataclass(frozen=True, slots=True)
class PasswordCheck:
    """Whether the password was right. `new_hash` replaces a stored hash that has weaker parameters than ours."""

    is_right: bool
    new_hash: str | None = None


class Passwords:
    """Creates and checks password hashes, in threads of its own: close it."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher(time_cost=1, memory_cost=47_104, parallelism=1)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="passwords")
        self._submitted = 0
        # Passwords for names that do not exist are checked against this one, so that the answer takes as long.
        self._dummy_hash = self._hasher.hash(secrets.token_urlsafe())

    @property
    def waiting_count(self) -> int:
        """How many passwords wait to be hashed."""
        return max(0, self._submitted - THREADS)

    async def hash(self, password: str) -> str:
        """The hash of a new password. Raises `WeakPassword` when it is not between 8 and 128 characters long."""
        if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
            raise WeakPassword(f"a password has {MIN_LENGTH} to {MAX_LENGTH} characters")
        return await self._off_loop(lambda: self._hasher.hash(_normalize(password)))

    async def check(self, password_hash: str | None, password: str) -> PasswordCheck:
        """Check the password against the hash; None stands for a user who does not exist."""
        return await self._off_loop(lambda: self._check(password_hash, _normalize(password)))

    def close(self) -> None:
        self._threads.shutdown()

    def _check(self, password_hash: str | None, password: str) -> PasswordCheck:
        stored = password_hash or self._dummy_hash
        try:
            self._hasher.verify(stored, password)
        except VerifyMismatchError:
            return PasswordCheck(False)
        except (InvalidHashError, VerificationError) as error:
            log.error("password_hash_unreadable", error=type(error).__name__)
            return PasswordCheck(False)
        if password_hash is None:
            return PasswordCheck(False)
        return PasswordCheck(True, self._hasher.hash(password) if self._hasher.check_needs_rehash(stored) else None)

    async def _off_loop(self, work: Callable[[], T]) -> T:
        done = asyncio.get_running_loop().run_in_executor(self._threads, work)
        self._submitted += 1
        # Not in a `finally` here: the work of a caller that is cancelled goes on.
        done.add_done_callback(self._count_done)
        return await done

    def _count_done(self, _: object) -> None:
        self._submitted -= 1


def _normalize(password: str) -> str:
    """NFKC: keyboards write the same letter differently, é as one code point or as two."""
    return unicodedata.normalize("NFKC", password)
