"""Password hashes: argon2id (RFC 9106), computed off the event loop.

A check takes the same time for a name that does not exist, so nobody can find out who has an account.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
import unicodedata
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import structlog
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError
from argon2.low_level import ARGON2_VERSION

from openapi_server.models.errors import LoginsBusy, RateLimited

T = TypeVar("T")
MIN_LENGTH, MAX_LENGTH = 8, 128
# A hash takes 60 ms and 46 MiB. Two at a time leave a core for the turns, and bound the memory.
THREADS = 2
# How many logins may wait for a thread: one second's work from one address, two seconds' from all.
MAX_WAITING_OF_ADDRESS, MAX_WAITING = 32, 64

log = structlog.get_logger(__name__)


class WeakPassword(Exception):
    """A new password is too short or too long. The message names the limits."""


@dataclass(frozen=True, slots=True)
class PasswordCheck:
    """Whether the password was right. `new_hash` replaces a stored hash that has weaker parameters than ours."""

    is_right: bool
    new_hash: str | None = None


class LoginQueue:
    """Lets `THREADS` logins at a time have their passwords checked. The others wait; addresses take turns."""

    def __init__(self) -> None:
        self._free = THREADS
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @property
    def length(self) -> int:
        return sum(map(len, self._waiting.values()))

    @asynccontextmanager
    async def wait_for_place(self, address: str) -> AsyncIterator[None]:
        """Wait for the turn of one login. Who is cancelled leaves the queue.

        Raises `RateLimited` when too many of the address wait, and `LoginsBusy` when too many do in all.
        """
        await self._wait(address)
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, address: str) -> None:
        if self._free:
            self._free -= 1
            return
        if len(self._waiting.get(address, ())) >= MAX_WAITING_OF_ADDRESS:
            headers = {
                "RateLimit-Policy": f'"waiting-logins";q={MAX_WAITING_OF_ADDRESS};qu="concurrent-requests"',
                "RateLimit": '"waiting-logins";r=0;t=1',
            }
            detail = "Too many logins of this address are waiting. Try again in a second."
            raise RateLimited(detail, retry_after_s=1, headers=headers)
        if self.length >= MAX_WAITING:
            raise LoginsBusy("Try again in a few seconds.", retry_after_s=2)
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(address, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._leave(address, turn)
            else:
                # It was this login's turn at the same moment.
                self._pass_on()
            raise

    def _leave(self, address: str, turn: asyncio.Future[None]) -> None:
        self._waiting[address].remove(turn)
        if not self._waiting[address]:
            del self._waiting[address]

    def _pass_on(self) -> None:
        while self._waiting:
            address, turns = self._waiting.popitem(last=False)
            turn = turns.popleft()
            if turns:
                self._waiting[address] = turns
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


class Passwords:
    """Creates and checks password hashes, in threads of its own: close it."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher(time_cost=1, memory_cost=47_104, parallelism=1)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="passwords")
        self._dummy_hash = _make_dummy_hash(self._hasher)

    async def hash(self, password: str) -> str:
        """The hash of a new password. Raises `WeakPassword` when it is not between 8 and 128 characters long."""
        if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
            raise WeakPassword(f"a password has {MIN_LENGTH} to {MAX_LENGTH} characters")
        return await self._off_loop(lambda: self._hasher.hash(_normalize(password)))

    async def check(self, password_hash: str | None, password: str) -> PasswordCheck:
        """Check the password against the hash; None stands for a user who does not exist."""
        return await self._off_loop(lambda: self._check(password_hash, _normalize(password)))

    def needs_rehash(self, password_hash: str) -> bool:
        """Whether the hash has other parameters than those of new ones."""
        return self._hasher.check_needs_rehash(password_hash)

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
        return PasswordCheck(True, self._hasher.hash(password) if self.needs_rehash(stored) else None)

    async def _off_loop(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _make_dummy_hash(hasher: PasswordHasher) -> str:
    """Passwords for names that do not exist are checked against it, so that the answer takes as long.

    It is random, so no password has it, and nothing needs to be computed for it.
    """
    salt, digest = (
        base64.b64encode(secrets.token_bytes(length)).decode().rstrip("=")
        for length in (hasher.salt_len, hasher.hash_len)
    )
    costs = f"m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
    return f"$argon2id$v={ARGON2_VERSION}${costs}${salt}${digest}"


def _normalize(password: str) -> str:
    """NFKC: keyboards write the same letter differently, é as one code point or as two."""
    return unicodedata.normalize("NFKC", password)
