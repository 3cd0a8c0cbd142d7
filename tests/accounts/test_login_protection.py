"""Wrong passwords lock logins: for how long, for whom, and what is forgotten."""

from __future__ import annotations

import pytest

from openapi_server.accounts import login_protection
from openapi_server.accounts.login_protection import (
    FREE_OF_ADDRESS,
    FREE_OF_CLIENT,
    FREE_OF_NAME,
    LONGEST_LOCK_S,
    MAX_COUNTERS,
    LoginClient,
    LoginProtection,
)
from openapi_server.models.errors import LoginLocked
from tests.support.fakes import FakeClock

KEY = "a key for tests of at least 32 bytes"
HOME, ELSEWHERE = LoginClient("192.0.2.1"), LoginClient("192.0.2.2")


class Door:
    """A protection with a clock, and somebody who tries."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.protection = LoginProtection(KEY, self.clock.monotonic)

    def guess(self, client: LoginClient = HOME, username: str = "mia") -> int:
        """0: a wrong password was tried. Otherwise it was refused; the seconds of `Retry-After`."""
        try:
            self.protection.start(self.protection.identify(username, client))
        except LoginLocked as error:
            return error.retry_after_s or -1
        return 0

    def count_tried(self, guesses: int, client: LoginClient = HOME, username: str = "mia") -> int:
        return [self.guess(client, username) for _ in range(guesses)].count(0)

    def log_in(self, client: LoginClient = HOME, username: str = "mia") -> LoginClient:
        """The right password; the client with its cookie."""
        attempt = self.protection.identify(username, client)
        self.protection.start(attempt)
        self.protection.record_success(attempt)
        return LoginClient(client.address, self.protection.make_device_cookie(username))


@pytest.fixture
def door() -> Door:
    return Door()


def test_each_wrong_password_locks_for_longer_up_to_a_bound(door: Door) -> None:
    """5 s, 10 s, 20 s, ... and never more than five minutes."""
    assert door.count_tried(FREE_OF_CLIENT) == FREE_OF_CLIENT
    waits = []
    for _ in range(40):
        waits.append(door.guess())
        assert door.guess() == waits[-1]
        door.clock.advance(waits[-1])
        assert door.guess() == 0
    assert waits[:7] == [5, 10, 20, 40, 80, 160, 300]
    assert max(waits) == LONGEST_LOCK_S


def test_a_refused_attempt_does_not_make_the_lock_longer(door: Door) -> None:
    assert door.count_tried(10_000) == FREE_OF_CLIENT
    assert door.guess() == 5


def test_the_right_password_forgets_the_wrong_ones(door: Door) -> None:
    """Of this client and name."""
    for _ in range(10):
        assert door.count_tried(FREE_OF_CLIENT - 1) == FREE_OF_CLIENT - 1
        door.log_in()
        door.clock.advance(3601)


def test_wrong_passwords_are_forgotten_after_an_hour(door: Door) -> None:
    door.count_tried(100)
    door.clock.advance(3601)
    assert door.count_tried(100) == FREE_OF_CLIENT


def test_a_name_is_locked_for_strangers_of_all_addresses(door: Door) -> None:
    """Not before some addresses have guessed; then for everybody who was never there."""
    tried = [door.count_tried(25, LoginClient(f"198.51.100.{n}")) for n in range(20)]
    assert sum(tried) == FREE_OF_NAME
    assert door.guess(HOME) > 0
    assert door.guess(HOME, "ben") == 0


@pytest.mark.parametrize("days", [0, 30])
def test_who_has_logged_in_before_is_not_locked_out_by_strangers(door: Door, days: int) -> None:
    """By the cookie, wherever; by the address, without one."""
    browser = door.log_in()
    door.clock.advance(days * 86_400)
    for number in range(100):
        door.count_tried(25, LoginClient(f"198.51.100.{number}"))
    assert door.guess(ELSEWHERE) > 0
    assert door.count_tried(25, HOME) == FREE_OF_CLIENT
    assert door.count_tried(25, LoginClient(ELSEWHERE.address, browser.device_cookie)) == FREE_OF_CLIENT
    # Each known client by itself: a known browser is not locked by guesses from its address.
    assert door.count_tried(1, LoginClient(HOME.address, door.protection.make_device_cookie("mia"))) == 1


@pytest.mark.parametrize(
    "cookie", ["", ".", "x.y", "x", "x.", ".x", "é.é", "a" * 10_000, "\udcff.\udcff", LoginProtection.__name__]
)
def test_a_forged_cookie_makes_nobody_known(door: Door, cookie: str) -> None:
    """Nor does one for another name or of another server."""
    other = LoginProtection(KEY + "!", door.clock.monotonic)
    forged = [cookie, door.protection.make_device_cookie("ben"), other.make_device_cookie("mia")]
    door.count_tried(25, ELSEWHERE)
    for value in forged:
        assert door.guess(LoginClient(ELSEWHERE.address, value)) > 0


def test_many_names_lock_their_address_only(door: Door) -> None:
    """A success in between does not reset the address: the guesser may have an account."""
    tried = 0
    for number in range(100):
        tried += door.count_tried(1, HOME, f"user{number}")
        if number % 5 == 0 and number < 25:
            door.log_in(HOME, "guesser")
    assert tried == FREE_OF_ADDRESS
    assert door.guess(ELSEWHERE, "user99") == 0
    browser = LoginClient(HOME.address, door.protection.make_device_cookie("mia"))
    assert door.guess(browser) == 0


def test_a_success_leaves_its_address_unlocked(door: Door) -> None:
    """Also at the very limit."""
    door.count_tried(FREE_OF_ADDRESS - 1, HOME, "")
    for number in range(FREE_OF_ADDRESS - FREE_OF_CLIENT - 1):
        door.count_tried(1, HOME, f"user{number}")
    door.clock.advance(LONGEST_LOCK_S)
    door.log_in(HOME, "mia")
    door.log_in(HOME, "ben")


def test_memory_is_bounded(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many names and addresses are invented."""
    monkeypatch.setattr(login_protection, "MAX_COUNTERS", 50)
    monkeypatch.setattr(login_protection, "MAX_KNOWN_CLIENTS", 10)
    for number in range(100):
        door.guess(LoginClient(f"10.0.0.{number}"), f"user{number}")
        door.log_in(LoginClient(f"10.0.1.{number}"), f"user{number}")
    assert len(door.protection._counters) <= 50
    assert len(door.protection._known_clients) == 10
    assert MAX_COUNTERS >= 10_000


def test_memory_holds_no_name_and_no_address(door: Door) -> None:
    """People type their passwords into the field for the name."""
    door.log_in(HOME, "hunter2")
    door.guess(HOME, "hunter2")
    held = f"{door.protection._counters} {door.protection._known_clients}"
    assert "hunter2" not in held
    assert HOME.address not in held


def test_a_login_of_ones_own_does_not_unlock_the_guesses_beside_it(door: Door) -> None:
    """Both are checked at the same time: the right password takes back its own attempt, not the lock of the guess."""
    tried = 0
    for number in range(200):
        own = door.protection.identify("guesser", HOME)
        try:
            door.protection.start(own)
        except LoginLocked:
            break
        tried += door.count_tried(1, username=f"visitor-{number}")
        door.protection.record_success(own)

    assert tried <= FREE_OF_ADDRESS
    assert door.guess(username="another") > 0


def test_an_own_login_that_was_counted_last_takes_its_lock_back(door: Door) -> None:
    """A right password never locks anybody."""
    for number in range(FREE_OF_ADDRESS - 1):
        assert door.guess(username=f"visitor-{number}") == 0
    door.log_in(username="anna")

    assert door.guess(username="another") == 0
