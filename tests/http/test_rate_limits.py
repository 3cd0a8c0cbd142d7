"""Rate limits without a server: which requests count as what, whose they are, and what is left."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import time_machine
from starlette.datastructures import MutableHeaders

from openapi_server.config import Settings
from openapi_server.http import rate_limits
from openapi_server.http.rate_limit_storage import BoundedMemoryStorage, WindowCounters
from openapi_server.http.rate_limits import Admission, Caller, LimitKind, RateLimits, find_kind
from openapi_server.models.errors import RateLimited
from openapi_server.spec import load_spec
from tests.conftest import make_settings
from tests.support.fakes import FakeClock

COOKIE = "c" * 22
STARTS_TURNS = {
    ("post", "/convo_turn_stream"),
    ("get", "/convo_turn_stream"),
    ("post", "/convo_turn"),
    ("post", "/api/v1/stream"),
    ("post", "/api/v1/stream/error"),
    ("post", "/chat/sessions/{sessionId}/stream"),
    ("post", "/chat/sessions/{sessionId}/messages"),
    ("post", "/chat"),
    ("post", "/chat/"),
    ("post", "/chat/stream"),
}
OPERATIONS = [
    (method, path, operation) for path, item in load_spec()["paths"].items() for method, operation in item.items()
]
NAMES = [f"{method} {path}" for method, path, _ in OPERATIONS]


def make_limits(**settings: int) -> RateLimits:
    made: Settings = make_settings(**{f"rate_limit_{name}": value for name, value in settings.items()})
    return RateLimits(made, WindowCounters(BoundedMemoryStorage(), FakeClock().monotonic))


def make_scope(address: str = "192.0.2.1", **headers: str) -> dict[str, Any]:
    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "client": (address, 1), "headers": named}


def identify(limits: RateLimits, address: str = "192.0.2.1", **headers: str) -> Caller:
    return limits.identify(make_scope(address, **headers), {"good-token": "mia"}.get)


async def admit(
    limits: RateLimits, caller: Caller, kind: LimitKind = LimitKind.TURNS, *, repeat: bool = False
) -> Admission:
    return await limits.admit(kind, caller, may_be_repeat=repeat)


async def count_admitted(limits: RateLimits, caller: Caller, kind: LimitKind = LimitKind.TURNS, tries: int = 40) -> int:
    """How many of the tries are let in; each is closed at once. After the first one nobody is new."""
    admitted = 0
    for _ in range(tries):
        try:
            (await admit(limits, caller, kind)).close()
        except RateLimited:
            continue
        admitted += 1
        caller = replace(caller, is_new=False)
    return admitted


async def find_wait_s(limits: RateLimits, caller: Caller) -> int:
    """The seconds of `Retry-After`; 0 when the turn is let in."""
    try:
        await admit(limits, caller)
    except RateLimited as error:
        return error.retry_after_s or -1
    return 0


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS, ids=NAMES)
def test_the_spec_names_the_limit_of_every_operation(method: str, path: str, operation: dict[str, Any]) -> None:
    """What starts a turn or sends a stream is marked, and every limited operation documents its 429."""
    kind = find_kind(method.upper(), path.replace("{", "").replace("}", ""))
    assert kind == operation.get("x-rate-limit", "reads")
    assert (kind is LimitKind.TURNS) == ((method, path) in STARTS_TURNS)
    streams = (
        "text/event-stream" in operation["responses"]["200"].get("content", {})
        if "200" in operation["responses"]
        else False
    )
    # The history of a session is short and ends by itself.
    assert not streams or kind in (LimitKind.TURNS, LimitKind.STREAMS) or path == "/convo_history"
    assert kind is LimitKind.NONE or "429" in operation["responses"]
    assert (kind is LimitKind.LOGINS) == path.endswith(("/auth/login", "/auth/refresh"))


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS, ids=NAMES)
def test_every_successful_answer_of_a_limited_operation_documents_its_headers(
    method: str, path: str, operation: dict[str, Any]
) -> None:
    if operation.get("x-rate-limit") == "none":
        return
    for status, response in operation["responses"].items():
        if "$ref" in response:
            response = load_spec()["components"]["responses"][response["$ref"].rpartition("/")[2]]
        if status.startswith("2") or status == "429":
            assert {"RateLimit", "RateLimit-Policy"} <= set(response["headers"]), status


def test_head_and_options_count_as_what_answers_them() -> None:
    """Monitoring may ask with HEAD; a preflight request costs next to nothing."""
    assert find_kind("HEAD", "/health") is LimitKind.NONE
    assert find_kind("GET", "/api/health") is LimitKind.NONE
    assert find_kind("HEAD", "/convo_turn/turn_1/stream") is LimitKind.STREAMS
    assert find_kind("OPTIONS", "/convo_turn") is LimitKind.NONE


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS, ids=NAMES)
def test_an_alias_has_the_limit_of_its_path(method: str, path: str, operation: dict[str, Any]) -> None:
    """Passwords are not guessed faster under `/api`."""
    alias = operation.get("x-alias", path).replace("{", "").replace("}", "")

    assert find_kind(method.upper(), alias) == operation.get("x-rate-limit", "reads")


@pytest.mark.parametrize("path", ["/nowhere", "//convo_turn", "/chat/stream/", "/" * 2000, "", "/chat/sessions//x/y"])
def test_what_no_operation_answers_is_a_read(path: str) -> None:
    assert find_kind("POST", path) is LimitKind.READS
    assert find_kind("BREW", "/chat") is LimitKind.READS


async def test_a_caller_is_a_login_then_a_cookie_a_token_a_device_and_then_the_address() -> None:
    """Whatever a client invents counts within its address; a wrong token names nobody."""
    limits = make_limits()
    login = identify(limits, authorization="Bearer good-token", cookie=f"session_id={COOKIE}")
    assert login.is_user
    assert login.key == identify(limits, "192.0.2.9", authorization="Bearer good-token").key
    cookie = identify(limits, cookie=f"session_id={COOKIE}", x_device_id="kiosk-7")
    token = identify(limits, x_session_token=COOKIE)
    device = identify(limits, x_device_id="kiosk-7")
    device_cookie = identify(limits, cookie=f"device_id={COOKIE}")
    nobody = identify(limits)
    assert len({caller.key for caller in (login, cookie, token, device, device_cookie, nobody)}) == 6
    assert {caller.address_key for caller in (login, cookie, token, device, device_cookie)} == {nobody.key}
    assert identify(limits, "192.0.2.9", x_device_id="kiosk-7").key != device.key
    for forged in ("Bearer forged", "Basic Zm9v", "Bearer ", "nonsense"):
        assert identify(limits, authorization=forged) == nobody
    assert identify(limits, cookie="session_id=short; device_id=") == nobody


async def test_each_caller_has_its_own_limit_and_the_address_a_higher_one() -> None:
    """Invented cookies share the address's limit, however many there are. A login has only its own."""
    with time_machine.travel(1_000_000_020, tick=False):
        limits = make_limits(turns=5, address_factor=3)
        assert await count_admitted(limits, identify(limits, cookie=f"session_id={COOKIE}")) == 5
        invented = [identify(limits, cookie=f"session_id={number:022}") for number in range(30)]
        assert [await count_admitted(limits, caller) for caller in invented] == [5, 5] + [0] * 28
        assert await count_admitted(limits, identify(limits)) == 0
        assert await count_admitted(limits, identify(limits, authorization="Bearer good-token")) == 5
        assert await count_admitted(limits, identify(limits, "192.0.2.2")) == 5


async def test_a_new_name_for_each_request_brings_nothing() -> None:
    """New callers share the limit of one; whoever was there before is not concerned, nor is who got a cookie."""
    with time_machine.travel(1_000_000_020, tick=False):
        limits = make_limits(turns=5, streams=5, address_factor=100)
        known = identify(limits, x_device_id="kiosk-7")
        assert known.is_new
        await admit(limits, known)
        first = await admit(limits, identify(limits))
        answer = MutableHeaders(raw=[])
        answer["Set-Cookie"] = f"session_id={COOKIE}; HttpOnly; Path=/"
        first.add_headers(answer)
        admitted = 0
        for number in range(50):
            caller = identify(limits, cookie=f"session_id={number:022}")
            admitted += await count_admitted(limits, caller, tries=1)
        assert admitted == 3
        with pytest.raises(RateLimited) as refused:
            await admit(limits, identify(limits, x_device_id="new"))
        assert refused.value.headers["RateLimit"].startswith('"turns-new";r=0;t=')
        assert "New callers of this address" in refused.value.detail
        with pytest.raises(RateLimited):
            await admit(limits, identify(limits))
        assert await count_admitted(limits, identify(limits, cookie=f"session_id={COOKIE}")) == 5
        assert await count_admitted(limits, identify(limits, x_device_id="kiosk-7")) == 4
        assert await count_admitted(limits, identify(limits, "192.0.2.9")) == 5


async def test_new_names_share_the_open_streams_of_one_caller() -> None:
    limits = make_limits(streams=3, address_factor=100)
    callers = [identify(limits, x_device_id=f"kiosk-{number}") for number in range(10)]
    admitted = []
    for caller in callers:
        try:
            admitted.append(await admit(limits, caller, LimitKind.STREAMS))
        except RateLimited as refused:
            policy = refused.headers["RateLimit-Policy"]
    assert len(admitted) == 3
    assert policy == '"streams-new";q=3;qu="concurrent-requests"'


async def test_the_callers_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were not seen for longest are new again."""
    monkeypatch.setattr(rate_limits, "MAX_KNOWN_CALLERS", 4)
    limits = make_limits(turns=100)
    for name in ("one", "two", "one", "three", "two", "four"):
        await admit(limits, identify(limits, x_device_id=name))
    names = ("one", "two", "three", "four")
    assert [identify(limits, x_device_id=name).is_new for name in names] == [True, False, False, False]


@pytest.mark.parametrize("callers", [1, 200])
async def test_a_caller_is_remembered_for_as_long_as_its_session_can_be_continued(callers: int) -> None:
    """And at most twice as long, so that memory does not grow with the visitors of a day."""
    clock = FakeClock()
    limits = RateLimits(
        make_settings(SESSION_TTL=100, rate_limit_turns=1000),
        WindowCounters(BoundedMemoryStorage(), clock.monotonic),
        clock.monotonic,
    )
    names = [f"kiosk-{number}" for number in range(callers)]
    clock.advance(50)
    for name in names:
        await admit(limits, identify(limits, x_device_id=name))
    clock.advance(99)
    assert not any(identify(limits, x_device_id=name).is_new for name in names)
    clock.advance(101)
    assert all(identify(limits, x_device_id=name).is_new for name in names)


async def test_a_caller_that_comes_back_stays_known() -> None:
    clock = FakeClock()
    limits = RateLimits(
        make_settings(SESSION_TTL=100, rate_limit_turns=1000),
        WindowCounters(BoundedMemoryStorage(), clock.monotonic),
        clock.monotonic,
    )
    for turn in range(20):
        caller = identify(limits, x_device_id="kiosk-7")
        assert caller.is_new == (turn == 0)
        await admit(limits, caller)
        clock.advance(90)


async def test_a_refused_request_does_not_use_up_the_limit_of_its_address() -> None:
    """One caller that goes on sending does not take the turns of the others behind its address."""
    with time_machine.travel(1_000_000_020, tick=False):
        limits = make_limits(turns=5, address_factor=3)
        assert await count_admitted(limits, identify(limits, x_device_id="noisy"), tries=500) == 5
        assert await count_admitted(limits, identify(limits, x_device_id="quiet")) == 5


@pytest.mark.parametrize("start_s", [0.0, 13.7, 59.9])
@pytest.mark.parametrize("quota", [1, 2, 7, 60])
async def test_after_retry_after_a_request_is_let_in(start_s: float, quota: int) -> None:
    """Wherever in the window the limit is reached, and again and again."""
    with time_machine.travel(1_000_000_020 + start_s, tick=False) as traveller:
        limits = make_limits(turns=quota)
        caller = identify(limits, x_device_id="kiosk-7")
        for _ in range(100):
            wait_s = await find_wait_s(limits, caller)
            assert 0 <= wait_s <= 61
            if wait_s:
                traveller.shift(wait_s)
                await admit(limits, caller)
            traveller.shift(0.05)


async def test_no_window_of_a_minute_has_more_than_the_limit_by_much() -> None:
    """A sliding window: a burst at its end does not double at the start of the next."""
    with time_machine.travel(1_000_000_020, tick=False) as traveller:
        limits = make_limits(turns=10)
        caller = identify(limits)
        times = []
        for step in range(600):
            if await count_admitted(limits, caller, tries=1):
                times.append(step * 0.5)
            traveller.shift(0.5)
    most = max(sum(start <= at < start + 60 for at in times) for start in times)
    assert 10 <= most <= 12
    assert len(times) >= 45


async def test_open_streams_are_counted_until_they_are_closed() -> None:
    """By caller and by address; closing twice counts once."""
    limits = make_limits(streams=2, address_factor=2)
    for number in range(3):
        (await admit(limits, identify(limits, x_device_id=f"kiosk-{number}"))).close()
    callers = [identify(limits, x_device_id=f"kiosk-{number}") for number in range(3)]
    first = await admit(limits, callers[0], LimitKind.STREAMS)
    second = await admit(limits, callers[0])
    with pytest.raises(RateLimited) as refused:
        await admit(limits, callers[0])
    assert refused.value.headers["RateLimit-Policy"] == '"streams";q=2;qu="concurrent-requests"'
    assert refused.value.headers["RateLimit"] == '"streams";r=0;t=5'
    others = [await admit(limits, callers[1], LimitKind.STREAMS), await admit(limits, callers[1], LimitKind.STREAMS)]
    with pytest.raises(RateLimited) as refused:
        await admit(limits, callers[2], LimitKind.STREAMS)
    assert refused.value.headers["RateLimit-Policy"].startswith('"streams-address";q=4')
    first.close()
    first.close()
    assert limits.open_stream_count == 3
    again = await admit(limits, callers[2], LimitKind.STREAMS)
    for admission in (second, *others, again):
        admission.close()
    assert limits.open_stream_count == 0
    assert not limits._open_streams


async def test_a_stream_that_a_window_refuses_is_not_open() -> None:
    limits = make_limits(streams=5, turns=1)
    caller = identify(limits)
    (await admit(limits, caller)).close()
    with pytest.raises(RateLimited):
        await admit(limits, caller)
    assert limits.open_stream_count == 0


async def test_a_possible_repeat_counts_as_a_turn_only_when_it_starts_one() -> None:
    """And then once."""
    with time_machine.travel(1_000_000_020, tick=False):
        limits = make_limits(turns=1, reads=100)
        caller = identify(limits)
        for _ in range(3):
            await admit(limits, caller, repeat=True)
        admission = await admit(limits, caller, repeat=True)
        await admission.count_turn()
        await admission.count_turn()
        late = await admit(limits, caller, repeat=True)
        with pytest.raises(RateLimited):
            await late.count_turn()


async def test_headers_tell_every_limit_that_applies() -> None:
    """RateLimit-Policy and RateLimit of the IETF draft."""
    with time_machine.travel(1_000_000_030, tick=False):
        limits = make_limits(turns=3, streams=2, address_factor=10)
        caller = identify(limits, x_device_id="kiosk-7")
        (await admit(limits, caller)).close()
        caller = identify(limits, x_device_id="kiosk-7")
        headers = MutableHeaders(raw=[])
        (await admit(limits, caller)).add_headers(headers)
    assert headers["RateLimit-Policy"] == (
        '"streams";q=2;qu="concurrent-requests", "streams-address";q=20;qu="concurrent-requests", '
        '"turns";q=3;w=60, "turns-address";q=30;w=60'
    )
    assert headers["RateLimit"] == (
        '"streams";r=1;t=5, "streams-address";r=19;t=5, "turns";r=1;t=51, "turns-address";r=28;t=51'
    )


@pytest.mark.parametrize("kind", list(LimitKind))
def test_without_limits_nothing_applies(kind: LimitKind) -> None:
    """The defaults of development, but for logins. For turns callers are told apart, for they wait in turn."""
    assert make_limits().applies_to(kind) == (kind in (LimitKind.LOGINS, LimitKind.TURNS))
    assert make_limits(logins=0).applies_to(kind) == (kind is LimitKind.TURNS)


async def test_logins_count_by_address_whatever_the_request_claims_to_be() -> None:
    """A cookie or a token of its own gives nobody more logins."""
    with time_machine.travel(1_000_000_020, tick=False):
        limits = make_limits(logins=4)
        callers = [identify(limits, x_device_id=f"kiosk-{number}") for number in range(4)]
        callers.append(identify(limits, authorization="Bearer good-token"))
        assert [await count_admitted(limits, caller, LimitKind.LOGINS, 3) for caller in callers] == [3, 1, 0, 0, 0]


async def test_requests_that_may_be_repeats_have_a_bound() -> None:
    """Their bodies are read before it is known whether they start a turn: five for each turn, by caller and address."""
    with time_machine.travel(1_000_000_020, tick=False):
        limits = make_limits(turns=2, streams=0)
        known = identify(limits, cookie=f"session_id={'k' * 22}")
        await limits.admit(LimitKind.TURNS, known, may_be_repeat=False)
        known = identify(limits, cookie=f"session_id={'k' * 22}")
        for _ in range(10):
            (await limits.admit(LimitKind.TURNS, known, may_be_repeat=True)).close()
        with pytest.raises(RateLimited, match="10 repeats a minute"):
            await limits.admit(LimitKind.TURNS, known, may_be_repeat=True)

        for number in range(10):
            new = identify(limits, x_device_id=f"kiosk-{number}")
            (await limits.admit(LimitKind.TURNS, new, may_be_repeat=True)).close()
        with pytest.raises(RateLimited, match="New callers of this address"):
            await limits.admit(LimitKind.TURNS, identify(limits, x_device_id="kiosk-x"), may_be_repeat=True)
        (await limits.admit(LimitKind.STREAMS, known, may_be_repeat=False)).close()
