"""Access tokens: valid is what this server has signed, until it expires, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from hypothesis import given
from hypothesis import strategies as st

from openapi_server.accounts.tokens import AccessClaims, AccessTokens, create_refresh_token, hash_refresh_token
from openapi_server.config import DEVELOPMENT_KEY
from openapi_server.models.errors import InvalidToken
from openapi_server.models.user import Login
from tests.accounts.forgery import forge_tokens, make_claims, sign_token

# A token's times are whole seconds.
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
LOGIN = Login("login_1", "ben", NOON, NOON + timedelta(days=30))
# These two are about the login behind the token: the store refuses them, see tests/api/test_accounts.py.
SIGNED_BY_US = {"sid of nobody", "sub of another"}
FORGED = {name: token for name, token in forge_tokens(LOGIN, NOON).items() if name not in SIGNED_BY_US}


@pytest.fixture(autouse=True)
def system_clock() -> Iterator[time_machine.Traveller]:
    """The system's clock stands still at noon until it is shifted: PyJWT asks it for the time."""
    with time_machine.travel(NOON, tick=False) as traveller:
        yield traveller


def tokens() -> AccessTokens:
    return AccessTokens(DEVELOPMENT_KEY, 900)


def test_a_token_says_whose_it_is() -> None:
    """The name, and the login that it came from; also when it is signed by hand."""
    assert tokens().verify(tokens().issue(LOGIN)) == AccessClaims("ben", "login_1")
    assert tokens().verify(sign_token(make_claims(LOGIN, NOON))) == AccessClaims("ben", "login_1")


@pytest.mark.parametrize("token", FORGED.values(), ids=FORGED)
def test_a_forged_token_is_refused(token: str) -> None:
    """RFC 8725: one algorithm, one type, every claim, and nothing is looked up for the token's sake."""
    with pytest.raises(InvalidToken):
        tokens().verify(token)


@given(st.text() | st.lists(st.text("abcXYZ012-_="), min_size=3, max_size=3).map(".".join))
def test_any_text_is_a_bad_token_and_no_error(token: str) -> None:
    """Whatever stands in the header."""
    with pytest.raises(InvalidToken):
        tokens().verify(token)


def test_a_token_is_valid_to_its_last_second(system_clock: time_machine.Traveller) -> None:
    """And no longer: there is no leeway."""
    token = tokens().issue(LOGIN)

    system_clock.shift(899.9)
    assert tokens().verify(token).username == "ben"
    system_clock.shift(0.1)
    with pytest.raises(InvalidToken):
        tokens().verify(token)


def test_a_clock_that_is_set_back_locks_nobody_out(system_clock: time_machine.Traveller) -> None:
    """Nor does a server whose clock is a little behind that of the one that issued the token."""
    token = tokens().issue(LOGIN)
    system_clock.shift(-5)

    assert tokens().verify(token).username == "ben"


def test_no_two_tokens_are_alike() -> None:
    """An access token has an id of its own, a refresh token 256 random bits; of that, the store has only the hash."""
    assert tokens().issue(LOGIN) != tokens().issue(LOGIN)
    refresh_tokens = {create_refresh_token() for _ in range(100)}
    assert len(refresh_tokens) == 100
    assert min(len(token) for token in refresh_tokens) == 43
    assert all(
        token not in hash_refresh_token(token) and len(hash_refresh_token(token)) == 64 for token in refresh_tokens
    )
