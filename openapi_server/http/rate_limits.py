"""Rate limits: how many turns, open streams, logins and reads one caller and one address may have.

`x-rate-limit` beside an operation in `openapi.yaml` names its kind. A request beyond a limit is answered with 429
before its body is read. A caller is a login, else a cookie, a session token or a device, else the address. Of these
only a login cannot be invented. So an address has a limit of its own for all its other callers together; and a caller
who was never seen before counts as its address, too, so that nobody gets more by a new name for each request.

The headers are those of the IETF draft draft-ietf-httpapi-ratelimit-headers.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from limits import RateLimitItemPerMinute
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openapi_server.config import Settings
from openapi_server.http.authentication import read_bearer_token
from openapi_server.http.client_addresses import get_client_address, group_address
from openapi_server.http.error_handlers import make_error_response
from openapi_server.http.operation_table import load_operation_table
from openapi_server.http.rate_limit_storage import WindowCounters
from openapi_server.models.errors import Overloaded, RateLimited

if TYPE_CHECKING:
    from openapi_server.http.services import Services

ADMISSION_EXTENSION = "zoochat.admission"
WINDOW_S = 60
# Endings of the names of limits that a caller shares with others of its address.
NEW_CALLERS, WHOLE_ADDRESS = "-new", "-address"
# So many take 9 MB.
MAX_KNOWN_CALLERS = 100_000
# Requests with an `Idempotency-Key` or a `Last-Event-ID`, as a multiple of the turns: their bodies are read first.
REPEATS_FOR_EACH_TURN = 5
# How soon a caller with too many open streams may try again, in seconds: nobody knows when one of them ends.
STREAM_RETRY_S = 5
SESSION_COOKIE, DEVICE_COOKIE, LOGIN_DEVICE_COOKIE = "session_id", "device_id", "login_device"
# Values of the server's own cookies and tokens are at least so long.
MIN_SECRET_LENGTH = 22
_RESUME_PARAMETERS = frozenset({b"lastEventId", b"last_event_id"})
_REPEAT_PARAMETERS = _RESUME_PARAMETERS | {b"idempotencyKey"}
_CALLER_HEADERS = frozenset({b"authorization", b"cookie", b"x-device-id", b"x-session-token"})


class LimitKind(StrEnum):
    """The values of `x-rate-limit`."""

    TURNS = "turns"
    STREAMS = "streams"
    LOGINS = "logins"
    READS = "reads"
    # No value of `x-rate-limit`: requests for a turn that may be repeats of an earlier one.
    REPEATS = "repeats"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request. `key` and `address_key` are hashes.

    `is_user`: a login proves who it is. `is_new`: the caller has a name that has not started a turn yet.
    `login_key`: for whom logins count: a browser that has logged in before, else the address.
    """

    key: str
    address_key: str
    login_key: str = ""
    is_user: bool = False
    is_new: bool = False


@dataclass(frozen=True, slots=True)
class LimitState:
    """A limit that applies to a request, and what is left of it. `window_s` None: it limits what is open at once."""

    name: str
    quota: int
    remaining: int
    reset_s: int
    window_s: int | None = WINDOW_S

    @property
    def policy(self) -> str:
        """The item of `RateLimit-Policy`.

        >>> LimitState("turns", 60, 12, 30).policy, LimitState("streams", 20, 0, 5, None).policy
        ('"turns";q=60;w=60', '"streams";q=20;qu="concurrent-requests"')
        """
        unit = 'qu="concurrent-requests"' if self.window_s is None else f"w={self.window_s}"
        return f'"{self.name}";q={self.quota};{unit}'

    @property
    def state(self) -> str:
        """The item of `RateLimit`.

        >>> LimitState("turns", 60, 0, 30).state
        '"turns";r=0;t=30'
        """
        return f'"{self.name}";r={self.remaining};t={self.reset_s}'


class KnownCallers:
    """Who has started a turn: keys of callers, for `lifetime_s` to twice as long after the last turn.

    Two sets take turns: whoever is in the older one and is not seen again leaves with it. At most
    `MAX_KNOWN_CALLERS` are remembered; beyond that who was not seen for longest counts as new again.
    """

    def __init__(self, lifetime_s: float, monotonic: Callable[[], float]) -> None:
        self._lifetime_s = lifetime_s
        self._monotonic = monotonic
        self._newer: set[bytes] = set()
        self._older: set[bytes] = set()
        self._began_s = monotonic()

    def __contains__(self, key: str) -> bool:
        self._expire()
        short = bytes.fromhex(key)
        return short in self._newer or short in self._older

    def add(self, key: str) -> None:
        self._expire()
        short = bytes.fromhex(key)
        if short not in self._newer and len(self._newer) >= MAX_KNOWN_CALLERS // 2:
            self._begin_set(self._newer)
        self._newer.add(short)

    def _expire(self) -> None:
        age_s = self._monotonic() - self._began_s
        if age_s >= self._lifetime_s:
            self._begin_set(self._newer if age_s < 2 * self._lifetime_s else set())

    def _begin_set(self, older: set[bytes]) -> None:
        self._older, self._newer, self._began_s = older, set(), self._monotonic()


class RateLimits:
    """The limits of this server. `counters` counts requests by the minute; open streams are counted here."""

    def __init__(
        self, settings: Settings, counters: WindowCounters, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        factor = settings.rate_limit_address_factor
        per_minute = {
            LimitKind.TURNS: settings.turn_limit,
            LimitKind.READS: settings.read_limit,
            LimitKind.REPEATS: settings.turn_limit * REPEATS_FOR_EACH_TURN,
            LimitKind.LOGINS: settings.rate_limit_logins,
        }
        self._items = {
            kind: RateLimitItemPerMinute(amount, namespace=kind) for kind, amount in per_minute.items() if amount
        }
        self._address_items = {
            kind: RateLimitItemPerMinute(per_minute[kind] * factor, namespace=kind)
            for kind in (LimitKind.TURNS, LimitKind.READS, LimitKind.REPEATS)
            if per_minute[kind]
        }
        self._stream_limit = settings.stream_limit
        self._address_stream_limit = settings.stream_limit * factor
        self._counters = counters
        self._open_streams: Counter[str] = Counter()
        self._open_count = 0
        # Nobody comes back with the name of a session that can no longer be continued.
        self._known_callers = KnownCallers(settings.session_ttl_s, monotonic)
        self._key = hashlib.blake2b(settings.signing_key.encode(), digest_size=32).digest()

    @property
    def open_stream_count(self) -> int:
        return self._open_count

    def applies_to(self, kind: LimitKind) -> bool:
        """Whether callers are told apart for requests of this kind. Without limits they still wait in turn."""
        if kind is LimitKind.STREAMS:
            return bool(self._stream_limit or LimitKind.READS in self._items)
        return kind is LimitKind.TURNS or kind in self._items

    async def admit(self, kind: LimitKind, caller: Caller, *, may_be_repeat: bool) -> Admission:
        """Count a request. Raises `RateLimited`, and then counts nothing. Close the admission with the answer.

        `may_be_repeat`: the request may join or resume a turn that it has started before. It counts as a turn only
        when it starts one: see `Admission.count_turn`.
        """
        admission = Admission(self, caller)
        if kind in (LimitKind.TURNS, LimitKind.STREAMS):
            admission.stream_keys, admission.states = self._open_stream(caller)
        try:
            if kind is LimitKind.TURNS and not may_be_repeat:
                await admission.count_turn()
            else:
                if kind is LimitKind.TURNS:
                    admission.states += await self.count(LimitKind.REPEATS, caller)
                admission.states += await self.count(
                    LimitKind.LOGINS if kind is LimitKind.LOGINS else LimitKind.READS, caller
                )
        except BaseException:
            admission.close()
            raise
        return admission

    async def count(self, kind: LimitKind, caller: Caller) -> list[LimitState]:
        """Count a request in the windows of its caller and of its address. Raises `RateLimited`."""
        item, address_item = self._items.get(kind), self._address_items.get(kind)
        if item is None:
            return []
        # A login proves nothing about its caller until it has succeeded.
        key = (caller.login_key or caller.address_key) if kind is LimitKind.LOGINS else caller.key
        names, windows = [kind.value], [(item, ("caller", key))]
        if caller.is_new and kind in (LimitKind.TURNS, LimitKind.REPEATS):
            names.append(f"{kind.value}{NEW_CALLERS}")
            windows.append((item, ("caller", caller.address_key)))
        if address_item is not None and not caller.is_user:
            names.append(f"{kind.value}{WHOLE_ADDRESS}")
            windows.append((address_item, ("address", caller.address_key)))
        counted = await self._counters.hit(windows)
        states = [
            # Whole seconds, and more than the wait: at its very end there is no room yet.
            LimitState(name, window.amount, window.remaining, math.floor(window.reset_s) + 1)
            for name, window in zip(names, counted.windows, strict=False)
        ]
        if not counted.is_allowed:
            raise _make_error(max(states, key=lambda state: (state.remaining <= 0, state.reset_s)))
        return states

    def _open_stream(self, caller: Caller) -> tuple[list[str], list[LimitState]]:
        if not self._stream_limit:
            return [], []
        limits = [("streams", f"caller/{caller.key}", self._stream_limit)]
        if caller.is_new:
            limits.append((f"streams{NEW_CALLERS}", f"caller/{caller.address_key}", self._stream_limit))
        if not caller.is_user:
            limits.append((f"streams{WHOLE_ADDRESS}", f"address/{caller.address_key}", self._address_stream_limit))
        states = [
            LimitState(name, limit, limit - self._open_streams[key] - 1, STREAM_RETRY_S, None)
            for name, key, limit in limits
        ]
        for state in states:
            if state.remaining < 0:
                raise _make_error(state)
        keys = [key for _, key, _ in limits]
        self._open_streams.update(keys)
        self._open_count += 1
        return keys, states

    def close_stream(self, keys: Iterable[str]) -> None:
        """A request that counted as an open stream has been answered, and the turn that it started has ended."""
        self._open_count -= 1
        for key in keys:
            self._open_streams[key] -= 1
            if not self._open_streams[key]:
                # No entry stays for a caller who has left.
                del self._open_streams[key]

    def remember(self, key: str) -> None:
        """This caller has started a turn: it is no new one any more."""
        self._known_callers.add(key)

    def identify(self, scope: Scope, find_username: Callable[[str], str | None]) -> Caller:
        """The caller of a request. `find_username`: the user of an access token, or None when it is not valid."""
        address = group_address(get_client_address(scope))
        address_key = self._hash(f"address\n{address}")
        headers = {name: value.decode("latin-1") for name, value in scope["headers"] if name in _CALLER_HEADERS}
        token = read_bearer_token(Headers(scope=scope)) if b"authorization" in headers else None
        username = find_username(token) if token else None
        if username is not None:
            return Caller(self._hash(f"user\n{username}"), address_key, is_user=True)
        name = _name_caller(headers)
        if name is None:
            return Caller(address_key, address_key)
        key = self._derive_key(*name, address_key)
        return Caller(key, address_key, is_new=key not in self._known_callers)

    def identify_login(self, scope: Scope, caller: Caller, find_device: Callable[[str], str | None]) -> Caller:
        """The caller of a login. `find_device`: the browser that an earlier login gave the cookie, or None.

        Such a browser is counted by itself, so that nobody at its address can use up its logins.
        """
        headers = Headers(scope=scope)
        cookie = cookie_parser(headers.get("cookie", "")).get(LOGIN_DEVICE_COOKIE, "")
        device = find_device(cookie) if cookie else None
        return replace(caller, login_key=self._hash(f"login device\n{device}")) if device else caller

    def remember_answer(self, caller: Caller, headers: Headers) -> None:
        """The answer to a new visitor's first turn gives it its name: the next request comes from no new caller."""
        given = [("cookie", value) for value in _read_cookies(headers, SESSION_COOKIE)]
        given += [("device-cookie", value) for value in _read_cookies(headers, DEVICE_COOKIE)]
        given += [("token", value) for value in headers.getlist("x-session-token")]
        for kind, value in given:
            self.remember(self._derive_key(kind, value, caller.address_key))

    def _derive_key(self, kind: str, value: str, address_key: str) -> str:
        return self._hash(f"{kind}\n{address_key}\n{value}")

    def _hash(self, text: str) -> str:
        """Keys have one length, and neither memory nor Redis holds addresses, names or cookies."""
        return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), key=self._key, digest_size=12).hexdigest()


@dataclass(slots=True)
class Admission:
    """A request that was let in, with the limits that apply to it."""

    _limits: RateLimits
    caller: Caller
    states: list[LimitState] = field(default_factory=list)
    stream_keys: list[str] = field(default_factory=list)
    is_counted_as_turn: bool = False
    _holders: int = 1

    async def count_turn(self) -> None:
        """Count the request as a turn, unless it is counted already. Raises `RateLimited`."""
        if not self.is_counted_as_turn:
            self.states += await self._limits.count(LimitKind.TURNS, self.caller)
            self.is_counted_as_turn = True
            if not self.caller.is_user:
                self._limits.remember(self.caller.key)

    def keep_open(self) -> Callable[[], None]:
        """Let the request count as an open stream beyond its answer; call the result when that is over."""
        self._holders += 1
        return self.close

    def close(self) -> None:
        """The answer has ended, or what kept the stream open."""
        self._holders -= 1
        if self.stream_keys and not self._holders:
            self._limits.close_stream(self.stream_keys)
            self.stream_keys = []

    def add_headers(self, headers: MutableHeaders) -> None:
        """Tell what is left in the headers of a successful answer."""
        if self.is_counted_as_turn:
            self._limits.remember_answer(self.caller, headers)
        if self.states:
            headers["RateLimit-Policy"] = ", ".join(state.policy for state in self.states)
            headers["RateLimit"] = ", ".join(state.state for state in self.states)


class RateLimitMiddleware:
    """ASGI middleware: answers requests beyond a limit with 429, and tells the others what is left."""

    def __init__(self, app: ASGIApp, *, services: Services) -> None:
        self._app = app
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = find_kind(scope["method"], scope["path"]) if scope["type"] == "http" else LimitKind.NONE
        limits = self._services.rate_limits
        if not limits.applies_to(kind):
            await self._app(scope, receive, send)
            return
        caller = limits.identify(scope, self._services.accounts.find_username)
        if kind is LimitKind.LOGINS:
            caller = limits.identify_login(scope, caller, self._services.accounts.find_login_device)
        try:
            if kind is LimitKind.TURNS and not _is_resume(scope):
                # Before the message is read and counted.
                self._services.pending_turns.require_room(caller)
            admission = await limits.admit(kind, caller, may_be_repeat=_may_be_repeat(scope))
        except (Overloaded, RateLimited) as error:
            await make_error_response(error)(scope, receive, send)
            return
        scope.setdefault("extensions", {})[ADMISSION_EXTENSION] = admission

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] < 400:
                admission.add_headers(MutableHeaders(scope=message))
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        finally:
            admission.close()


def get_admission(scope: Scope) -> Admission | None:
    """How the request was let in; None when no limit applies to it."""
    admission: Admission | None = scope.get("extensions", {}).get(ADMISSION_EXTENSION)
    return admission


def find_kind(method: str, path: str) -> LimitKind:
    """The kind of a request. Whatever no operation answers is a read; preflight requests are not limited.

    >>> find_kind("POST", "/chat/sessions/sess_1/stream").value, find_kind("GET", "/chat/sessions/sess_1").value
    ('turns', 'reads')
    """
    if method == "OPTIONS":
        return LimitKind.NONE
    address = load_operation_table().find(path)
    operation = address.find_operation(method) if address is not None else None
    return LimitKind(operation.rate_limit) if operation is not None else LimitKind.READS


def _read_cookies(headers: Headers, name: str) -> list[str]:
    """The values that an answer sets for the cookie."""
    given = [value.partition(";")[0].partition("=") for value in headers.getlist("set-cookie")]
    return [value for found, _, value in given if found == name]


def _name_caller(headers: Mapping[bytes, str]) -> tuple[str, str] | None:
    """What a request without a login says about its caller. It counts within the address: otherwise a stranger could
    use up the limit of a device whose name is known."""
    if not headers:
        return None
    cookies = cookie_parser(headers[b"cookie"]) if b"cookie" in headers else {}
    for kind, value in (
        ("cookie", cookies.get(SESSION_COOKIE, "")),
        ("token", headers.get(b"x-session-token", "")),
        ("device", headers.get(b"x-device-id", "")),
        ("device-cookie", cookies.get(DEVICE_COOKIE, "")),
    ):
        if len(value) >= (1 if kind == "device" else MIN_SECRET_LENGTH):
            return kind, value
    return None


def _may_be_repeat(scope: Scope) -> bool:
    """Whether the request says which one it repeats, in a header, or in the query where there are no headers to set."""
    return _names_any(scope, _REPEAT_PARAMETERS, (b"idempotency-key", b"last-event-id"))


def _is_resume(scope: Scope) -> bool:
    """Whether the request says after which event it reads on."""
    return _names_any(scope, _RESUME_PARAMETERS, (b"last-event-id",))


def _names_any(scope: Scope, parameters: Container[bytes], headers: Container[bytes]) -> bool:
    in_query = any(part.partition(b"=")[0] in parameters for part in scope["query_string"].split(b"&"))
    return in_query or any(name in headers and value for name, value in scope["headers"])


def _make_error(state: LimitState) -> RateLimited:
    what, _, whose = state.name.partition("-")
    who = "This address" if whose == "address" else "New callers of this address" if whose else "You"
    unit = "streams open at once" if state.window_s is None else f"{what} a minute"
    seconds = "second" if state.reset_s == 1 else "seconds"
    spent = LimitState(state.name, state.quota, 0, state.reset_s, state.window_s)
    return RateLimited(
        f"{who} may have {state.quota} {unit}. Try again in {state.reset_s} {seconds}.",
        retry_after_s=state.reset_s,
        headers={"RateLimit-Policy": spent.policy, "RateLimit": spent.state},
    )
