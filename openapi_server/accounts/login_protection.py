"""Protection of logins against guessing: wrong passwords lock the next attempts for a while, each time for longer.

Attempts are counted for one name from one address, for a name from everywhere, and for an address with any name. A
client that has logged in before is not counted with strangers, so that nobody can lock an account's owner out for good:
a browser is known by a signed cookie (the device cookies of the OWASP page "Slow Down Online Guessing Attacks with
Device Cookies"), any other client by its address. Counters are in memory; a restart forgets them.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from openapi_server.models.errors import LoginLocked

# Wrong passwords that cost nothing: of a name from one address (or device), of a name in all, of an address in all.
FREE_OF_CLIENT, FREE_OF_NAME, FREE_OF_ADDRESS = 5, 20, 30
# The next ones lock for 5 s, 10 s, 20 s and so on, up to five minutes.
FIRST_LOCK_S, LONGEST_LOCK_S = 5, 300
# Failures are forgotten when none is added for so long.
FORGET_S = 3600
# The counters that were not used for longest make room for new ones. So many take 20 MB.
MAX_COUNTERS, MAX_KNOWN_CLIENTS = 50_000, 20_000

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LoginClient:
    """Where a login comes from: its address, and the value of its device cookie if it has one."""

    address: str = ""
    device_cookie: str = ""


@dataclass(slots=True)
class _Counter:
    free: int
    failures: int = 0
    locked_until_s: float = 0
    used_s: float = 0

    def count(self, now_s: float) -> None:
        self.failures = 1 if now_s - self.used_s > FORGET_S else self.failures + 1
        self.used_s = now_s
        over = self.failures - self.free
        if over >= 0:
            # The exponent is bounded, or the number would grow beyond what a float can hold.
            self.locked_until_s = now_s + min(FIRST_LOCK_S * 2 ** min(over, 16), LONGEST_LOCK_S)

    def take_back(self, now_s: float, own_lock_s: float | None) -> None:
        """`own_lock_s`: until when it was locked once the attempt was counted. The lock of a later attempt stays."""
        self.failures = max(0, self.failures - 1)
        if self.locked_until_s == own_lock_s:
            self.locked_until_s = now_s


@dataclass(frozen=True, slots=True)
class LoginAttempt:
    """One login of a name. `own_keys` are the counters that a success resets; `address_key` the one that it does not.

    None stands for a client that is known and so not counted with the strangers of its address. `locks` are those of
    the counters when the attempt was counted.
    """

    own_keys: tuple[str, ...]
    address_key: str | None
    known_client: str
    locks: dict[str, float] = field(default_factory=dict)


class LoginProtection:
    """Counts wrong passwords. `key` signs device cookies; `monotonic` is in seconds."""

    def __init__(self, key: str, monotonic: Callable[[], float]) -> None:
        self._key = key.encode()
        self._monotonic = monotonic
        self._counters: OrderedDict[str, _Counter] = OrderedDict()
        self._known_clients: OrderedDict[str, None] = OrderedDict()
        # People type passwords into the field for the name: memory holds only hashes of what was typed.
        self._salt = secrets.token_bytes(32)

    def identify(self, username: str, client: LoginClient) -> LoginAttempt:
        """How an attempt of this client is counted. The name need not exist."""
        name, address = self._hash("name", username), self._hash("address", client.address)
        device = self._find_device(username, client.device_cookie)
        if device is not None:
            return LoginAttempt((self._hash("device", name, device),), None, "")
        pair = self._hash("client", name, address)
        if pair in self._known_clients:
            return LoginAttempt((pair,), address, pair)
        return LoginAttempt((pair, name), address, pair)

    def check(self, attempt: LoginAttempt) -> None:
        """Raises `LoginLocked` while one of the attempt's counters is locked."""
        now_s = self._monotonic()
        locked = [self._counters[key] for key in self._list_keys(attempt) if self._counters[key].locked_until_s > now_s]
        if not locked:
            return
        longest = max(locked, key=lambda counter: counter.locked_until_s)
        wait_s = math.ceil(longest.locked_until_s - now_s)
        headers = {
            "RateLimit-Policy": f'"wrong-passwords";q={longest.free};w={FORGET_S}',
            "RateLimit": f'"wrong-passwords";r=0;t={wait_s}',
        }
        detail = f"Try again in {wait_s} second{'' if wait_s == 1 else 's'}."
        raise LoginLocked(detail, retry_after_s=wait_s, headers=headers)

    def start(self, attempt: LoginAttempt) -> None:
        """Count the attempt as a wrong one, before its password is checked: many at once are counted one by one.

        Raises `LoginLocked`, and then counts nothing.
        """
        self.check(attempt)
        now_s = self._monotonic()
        counted = [*zip(attempt.own_keys, ("client", "name"), (FREE_OF_CLIENT, FREE_OF_NAME), strict=False)]
        if attempt.address_key is not None:
            counted.append((attempt.address_key, "address", FREE_OF_ADDRESS))
        for key, kind, free in counted:
            counter = self._counters.setdefault(key, _Counter(free))
            counter.count(now_s)
            attempt.locks[key] = counter.locked_until_s
            self._counters.move_to_end(key)
            if counter.failures == free + 1:
                log.warning("logins_locked", by=kind)
        while len(self._counters) > MAX_COUNTERS:
            self._counters.popitem(last=False)

    def record_success(self, attempt: LoginAttempt) -> None:
        """The password was right: forget the failures of this client and remember it.

        The address keeps its own: a guesser with an account would reset it after each guess.
        """
        for key in attempt.own_keys:
            self._counters.pop(key, None)
        self.take_back(attempt)
        if attempt.known_client:
            self._known_clients[attempt.known_client] = None
            self._known_clients.move_to_end(attempt.known_client)
            if len(self._known_clients) > MAX_KNOWN_CLIENTS:
                self._known_clients.popitem(last=False)

    def take_back(self, attempt: LoginAttempt) -> None:
        """Undo `start` for an attempt that was no guess."""
        for key in self._list_keys(attempt):
            self._counters[key].take_back(self._monotonic(), attempt.locks.get(key))

    def make_device_cookie(self, username: str, earlier_cookie: str = "") -> str:
        """The value of a cookie that makes its browser known for this name. A known browser stays the same device."""
        device = self.find_known_device(earlier_cookie) or secrets.token_urlsafe(16)
        return f"{device}.{self._sign('known device', device)}.{self._sign('login device', username, device)}"

    def find_known_device(self, cookie: str) -> str | None:
        """The device of a cookie that some login was given, whatever the name; None for an invented one."""
        device, _, rest = cookie.partition(".")
        return device if _is_equal(self._sign("known device", device), rest.partition(".")[0]) else None

    def _find_device(self, username: str, cookie: str) -> str | None:
        device, _, rest = cookie.partition(".")
        is_ours = _is_equal(self._sign("login device", username, device), rest.partition(".")[2])
        return device if is_ours else None

    def _sign(self, *parts: str) -> str:
        digest = hmac.new(self._key, "\n".join(parts).encode("utf-8", "replace"), hashlib.sha256)
        return base64.urlsafe_b64encode(digest.digest()).decode().rstrip("=")

    def _list_keys(self, attempt: LoginAttempt) -> list[str]:
        keys = [*attempt.own_keys, attempt.address_key]
        return [key for key in keys if key is not None and key in self._counters]

    def _hash(self, *parts: str) -> str:
        text = "\n".join(parts).encode("utf-8", "replace")
        return hashlib.blake2b(text, key=self._salt, digest_size=12).hexdigest()


def _is_equal(expected: str, given: str) -> bool:
    return hmac.compare_digest(expected.encode(), given.encode("utf-8", "replace"))
